"""Claims about the generator: its parts, and that it makes the same bytes twice (beside ../shared/data only)."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY / ".." / "shared" / "data"
sys.path.insert(0, str(REPOSITORY))

from examples.sample import junk, sources  # noqa: E402
from examples.sample.copies import jaccard, scrape  # noqa: E402
from examples.sample.sources import parse_factbook, parse_markdown, parse_qa, parse_rst  # noqa: E402
from examples.sample.templates import TEMPLATES, Page, make_site, render  # noqa: E402

PROSE = tuple(
    (
        "p",
        f"However, sentence {i} of the text is about a large river. It flows through {i} towns because it must. "
        f"People use it often. The end of {i} comes.",
    )
    for i in range(40)
)


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.skipif(not (SHARED / "text").is_dir(), reason="needs ../shared/data/text")
@pytest.mark.slow
def test_the_generator_makes_the_same_bytes_twice(tmp_path: Path) -> None:
    for run, hash_seed in (("a", "1"), ("b", "2")):
        subprocess.run(
            [sys.executable, "-m", "examples.make_sample", "--shared", SHARED, "--out", tmp_path / run,
             "--scale", "0.02"],
            cwd=REPOSITORY, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert len(files_of(tmp_path / "a")) == 8 + 3 + 3


def test_markdown_becomes_blocks_without_markup() -> None:
    text = "# Title\n\nA *hard*\nwrapped [link](http://x.y) line.\n\n- one\n- two `x`\n\n```\ncode {}\n```\n"
    assert list(parse_markdown(text)) == [
        ("h", "Title"), ("p", "A hard wrapped link line."), ("li", "one"), ("li", "two x"), ("pre", "code {}"),
    ]  # fmt: skip


def test_a_pep_loses_its_header_and_its_copyright() -> None:
    text = "PEP: 1\nTitle: T\n\nAbstract\n========\n\nSee :pep:`8` and ``x``::\n\n    code\n\n"
    text += "Copyright\n=========\n\nPublic.\n"
    assert list(parse_rst(text)) == [("h", "Abstract"), ("p", "See PEP 8 and x:"), ("pre", "    code")]


def test_questions_and_facts_are_read() -> None:
    assert list(parse_qa("Q: why?\n\nBody.\n\nA: Because.\n\nMore.")) == [
        ("p", "Body."), ("h", "Answer"), ("p", "Because."), ("p", "More."),
    ]  # fmt: skip
    assert list(parse_factbook("Geography\n\nArea: 5 sq km\nCoast: 3 km")) == [
        ("h", "Geography"),
        ("p", "Area: 5 sq km. Coast: 3 km."),
    ]


def test_a_scraped_copy_is_near_but_not_equal() -> None:
    found = []
    for seed in range(20):
        copy = scrape(PROSE, Random(seed), strength=Random(seed).uniform(0.1, 1))
        found.append(jaccard(sources.blocks_text(PROSE), sources.blocks_text(copy)))
    assert max(found) < 1
    assert min(found) > 0.4


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_shows_title_text_and_credit(template: str) -> None:
    site = make_site(Random(1), "blog", 1)
    page = Page(
        "A & B",
        (("h", "Head"), ("p", "Text < text."), ("li", "item"), ("pre", "x = 1")),
        "/a.html",
        "2020-01-01",
        credit="<p>by C</p>",
    )
    html = render(site, page, template)
    for part in ("A &amp; B", "Text &lt; text.", "item", "x = 1", "<p>by C</p>"):
        assert part in html


@pytest.mark.parametrize("maker", [maker for maker, _ in junk.BLATANT.values()] + [junk.search_prose, junk.listicle])
def test_junk_is_made_of_its_seed_and_leaves_no_slot_open(maker: junk.Maker) -> None:
    assert maker(Random(5)) == maker(Random(5))
    assert maker(Random(5)) != maker(Random(6)) or maker is junk.stub
    for _, text in maker(Random(7))[1]:
        assert not re.search(r"<(topic|adj|noun|verb|who|when|place|number|company)>", text)


def test_no_work_plays_two_roles() -> None:
    a, b = (
        sources.Doc(f"id{i}", "books", "The same book", "t", "u", "en", "s", "public-domain", (("p", "x"),))
        for i in (1, 2)
    )
    assert sources.role_of(a) == sources.role_of(b)
