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

    @property
    def figure(self) -> str:
        """The value as people read it."""
        return "" if self.value is None else digits(self.value, 4)


def document_lines(shown: Shown) -> Text:
    """Two lines: value, id and address; the text."""
    where = f"{shown.id}  {shown.url}".rstrip()
    return Text.assemble(
        f"{shown.figure:>9}  ",
        plain(where, 120, "dim"),
        "\n           ",
        Text(one_line(shown.text, TERMINAL_CHARS)),
    )


def documents_table(title: object, documents: Iterable[Shown], *, is_open: bool = False) -> Html:
    """A table that folds, a row a document."""
    rows = [
        row(
            number(shown.figure, sort=shown.value),
            head(code(shown.id, 80)),
            cell(shortened(shown.url, 200)),
            cell(shortened(shown.text, PAGE_CHARS)),
        )
        for shown in documents
    ]
    return folded(title, table(("value", "id", "URL", "text"), rows, numeric=(0,)), is_open=is_open)
