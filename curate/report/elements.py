"""What the sections of the page are made of: tables and their cells, a dataset's name with its mark, the legend."""

from collections.abc import Iterable, Sequence

from curate.report.figures import Style
from curate.report.markup import Html, shortened, tag
from curate.report.svg import key


def cell(*content: object) -> Html:
    """A cell of text."""
    return tag("td", *content)


def number(*shown: object, sort: float | None = None) -> Html:
    """A cell set to the right; a sortable table compares `sort` instead of what is shown."""
    return tag("td.number", *shown, attributes={"data-sort": None if sort is None else repr(float(sort))})


def head(*content: object) -> Html:
    """The first cell of a row that names it."""
    return tag("th.left", *content)


def row(*cells: object) -> Html:
    """A row of a table."""
    return tag("tr", *cells)


def aside(*content: object) -> Html:
    """Small grey words."""
    return tag("span.aside", *content)


def note(*words: object) -> Html:
    """A grey paragraph that explains what follows."""
    return tag("p.note", *words)


def code(text: object, most: int = 400) -> Html:
    """A fingerprint, an id, a parameter."""
    return tag("code", shortened(text, most))


def table(
    heads: Sequence[object],
    rows: Iterable[Html],
    *,
    caption: object = None,
    numeric: Iterable[int] = (),
    sortable: bool = False,
) -> Html:
    """A table; the columns numbered in `numeric` are set to the right."""
    right = set(numeric)
    top = [tag("th.number" if place in right else "th", title) for place, title in enumerate(heads)]
    shown = tag("table.sortable" if sortable else "table",
        tag("caption", caption) if caption else None,
        tag("thead", row(top)),
        tag("tbody", rows))  # fmt: skip
    return tag("div.wide", shown)


def folded(title: object, *content: object, is_open: bool = False) -> Html:
    """A title that unfolds its content."""
    return tag("details", tag("summary", title), *content, attributes={"open": True} if is_open else None)


def name_of(dataset: str, looks: dict[str, Style]) -> Html:
    """The dataset's name beside its line and marker."""
    look = looks.get(dataset)
    return tag("span.name", key(look.marker, look.colour) if look else None, " ", shortened(dataset, 60))


def legend(looks: dict[str, Style]) -> Html:
    """Every dataset with its line and marker; a press hides or shows it in all figures."""
    return tag("div.legend", [_entry(name, look) for name, look in looks.items()])


def _entry(name: str, look: Style) -> Html:
    pressed = {"data-toggle": look.number, "aria-pressed": "true", "title": "hide or show in the figures"}
    mark = key(look.marker, look.colour)
    return tag("button.entry", mark, " ", shortened(name, 60), attributes={"type": "button"} | pressed)
