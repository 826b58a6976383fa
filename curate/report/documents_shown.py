"""Documents beside the value of a rule, on the terminal and on a page; all of it is data and is made harmless."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.text import Text

from curate.report.elements import cell, code, folded, head, number, row, table
from curate.report.markup import Html, shortened
from curate.report.numbers import digits
from curate.report.terminal import one_line, plain

TERMINAL_CHARS = 240
PAGE_CHARS = 600


@dataclass(frozen=True)
class Shown:
    """A document to be shown."""

    value: float | None
    """Of the rule; None: it has none."""
    id: str
    url: str
    text: str
    """Its beginning."""
    survivor: str = ""
    """Of a duplicate: id of the document that was kept in its place; `value` is the similarity to it."""
    survivor_text: str = ""
    """Its beginning, or where it is."""

    @property
    def figure(self) -> str:
        """The value as people read it."""
        return "" if self.value is None else digits(self.value, 4)


def document_lines(shown: Shown) -> Text:
    """Two lines: value, id and address; the text. Of a duplicate two more, of what was kept."""
    where = f"{shown.id}  {shown.url}".rstrip()
    return Text.assemble(
        *_two_lines(shown.figure, where, shown.text),
        *(("\n", *_two_lines("kept", shown.survivor, shown.survivor_text)) if shown.survivor else ()),
    )


def _two_lines(before: str, where: str, text: str) -> tuple[str | Text, ...]:
    return f"{before:>9}  ", plain(where, 120, "dim"), "\n           ", Text(one_line(text, TERMINAL_CHARS))


def documents_table(title: object, documents: Iterable[Shown], *, is_open: bool = False) -> Html:
    """A table that folds, a row a document."""
    shown = list(documents)
    pairs = any(each.survivor for each in shown)
    heads = ("similarity" if pairs else "value", "id", "URL", "text", *(("kept instead", "its text") if pairs else ()))
    rows = [
        row(
            number(each.figure, sort=each.value),
            head(code(each.id, 80)),
            cell(shortened(each.url, 200)),
            cell(shortened(each.text, PAGE_CHARS)),
            [head(code(each.survivor, 80)), cell(shortened(each.survivor_text, PAGE_CHARS))] if pairs else None,
        )
        for each in shown
    ]
    return folded(title, table(heads, rows, numeric=(0,)), is_open=is_open)
