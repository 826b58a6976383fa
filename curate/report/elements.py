"""What the sections of the page are made of: tables and their cells, a dataset's name with its mark, the legend."""

from collections.abc import Iterable, Mapping, Sequence

from curate.report.looks import SHOWN, Style
from curate.report.markup import Html, legible, middled, shortened, tag
from curate.report.numbers import count, digits, estimate
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


ROWS_AT_ONCE = 24
"""Rows of a table that stand open; a longer one scrolls in itself."""


def scrolling(drawn: Html, rows: Sequence[Html]) -> Html:
    """A table, in a box that scrolls where it has many rows."""
    return tag("div.tall", drawn) if len(rows) > ROWS_AT_ONCE else drawn


def name_of(dataset: str, looks: dict[str, Style]) -> Html:
    """The dataset's name beside its line and marker; where it is cut, the whole of it at the pointer."""
    look = looks.get(dataset)
    if look is None:
        return tag("span.name", middled(dataset, SHOWN))
    return tag("span.name", key(look.marker, look.colour), " ", look.shown, attributes=_whole(dataset, look))


def _whole(dataset: str, look: Style) -> dict[str, object]:
    return {"title": shortened(dataset, 400)} if look.shown != dataset else {}


LEADING = 8
"""Datasets that figures show at first; of more, the legend adds whichever one wants."""


def legend(looks: dict[str, Style], best_first: Sequence[str]) -> Html:
    """Every dataset with its line and marker; a press hides or shows it in the figures, a double press shows it alone.

    Of many, those that lead the ranking are shown at first.
    """
    names = [*(name for name in best_first if name in looks), *(name for name in looks if name not in best_first)]
    leading = set(names[:LEADING])
    entries = [_entry(name, looks[name], name in leading) for name in names]
    if len(names) <= LEADING:
        return tag("div.legend", entries)
    said = tag("span.aside", f"{LEADING} of {len(names)} datasets are shown in the curves:")
    return tag("div.legend", said, _shown("best", f"best {LEADING}"), _shown("all", "all"), entries)


def _shown(what: str, words: str) -> Html:
    return tag("button.small", words, attributes={"type": "button", "data-show": what})


def _entry(name: str, look: Style, leads: bool) -> Html:
    pressed: dict[str, object] = {"data-toggle": look.number, "data-leading": leads or None}
    pressed |= {"aria-pressed": "true" if leads else "false"}
    words = "hide or show in the figures; a double press shows it alone"
    told = {"type": "button", "title": words if look.shown == name else f"{shortened(name, 400)}\n{words}"}
    mark = key(look.marker, look.colour)
    return tag("button.entry", mark, tag("span", look.shown), attributes=told | pressed)


def rows_table(rows: Sequence[Mapping[str, object]]) -> Html:
    """A table of plain rows (a back-test's, a plan's): their keys are its heads, numbers stand to the right."""
    heads = list(dict.fromkeys(name for each in rows for name in each))
    numeric = [place for place, name in enumerate(heads) if any(_is_number(each.get(name)) for each in rows)]
    body = [
        row([(number if place in numeric else cell)(_told(each.get(name))) for place, name in enumerate(heads)])
        for each in rows
    ]
    return table([shortened(name.replace("_", " "), 60) for name in heads], body, numeric=numeric)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _told(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value) if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return digits(value, 3)
    if all(hasattr(value, part) for part in ("value", "low", "high")):
        return estimate(value)
    if isinstance(value, tuple | list):
        return legible(", ".join(_told(each) for each in value), 300)
    return legible(value, 300)
