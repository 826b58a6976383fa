"""Markup: whatever text goes in comes out as text, and nothing of it is read as markup."""

import json
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report.markup import Html, data_block, escape, join, legible, shortened, tag, visible


class _Reader(HTMLParser):
    """Tags and text as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


NASTY = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("<>&\"'/!-= \x00\x1b\u202e\ud800\ufeff")), max_size=60
)


@given(NASTY, NASTY)
def test_any_text_stays_text_in_content_and_in_attributes(content: str, value: str) -> None:
    read = _Reader(tag("p", content, attributes={"title": value}))
    assert read.tags == [("p", {"title": visible(value)})]
    assert read.text == visible(content)


@given(NASTY)
def test_no_unseen_character_survives(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")  # no lone surrogate
    kinds = {unicodedata.category(sign) for sign in shown if sign not in "\n\t"}
    assert not kinds & {"Cc", "Cs"}
    assert not set(shown) & set("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def test_what_is_hidden_is_shown_by_name() -> None:
    assert visible("a\u202eb\x00c\ud800\r\nd\re") == "a⟨U+202E⟩b⟨U+0000⟩c\ufffd\nd\ne"


def test_joiners_of_scripts_and_emoji_stay() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467 می\u200cخواهم"
    assert visible(family) == family


@given(st.recursive(NASTY, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3)))
def test_data_blocks_hold_any_value_and_cannot_be_left(value: object) -> None:
    block = data_block("x", value)
    content = block.removeprefix('<script type="application/json" id="x">').removesuffix("</script>")
    assert not set("<>&") & set(content)
    assert json.loads(content) == value


def test_data_blocks_refuse_numbers_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        data_block("x", float("nan"))


def test_only_html_goes_in_as_it_is() -> None:
    assert tag("td.a.b", "<i>", None, [Html("<b>1</b>"), 2]) == '<td class="a b">&lt;i&gt;<b>1</b>2</td>'
    assert join(["<", Html("<br/>")], ", ") == "&lt;, <br/>"
    assert escape("'\"") == "&#x27;&quot;"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"
    assert len(legible("x" * 500 + " y")) == 62
    assert len(tag("p", "x" * 10_000)) < 2100
