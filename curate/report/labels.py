"""Text for plotly's figures. Plotly reads `<b>`, `<a href>`, entities, `%{...}` and `$TeX$` in what it draws; so text
from data goes in with these signs as entities, visible, on one line, and never into a template of ours.

Right-to-left names are isolated: the numbers beside them keep their order.
"""

import unicodedata
from collections.abc import Iterable

from curate.report.axes import drawable
from curate.report.markup import shortened, visible

ISOLATE, END = "\u2068", "\u2069"
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "%": "&#37;", "$": "&#36;"})


def label(text: object, most: int = 60) -> str:
    """`text` as plotly draws it literally, at most `most` characters of it."""
    shown = shortened(visible(shortened(text, 4 * most)).replace("\n", " "), most)
    turned = any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in shown)
    escaped = shown.translate(_ENTITIES)
    return f"{ISOLATE}{escaped}{END}" if turned else escaped


def plain(value: float | None, figures: int = 6) -> float | None:
    """`value` as JSON takes it, with so many digits; None for what no axis can hold."""
    if value is None or not drawable(value):
        return None
    return float(f"{value:.{figures}g}")


def plains(values: Iterable[float | None], figures: int = 6) -> list[float | None]:
    """`plain` of each."""
    return [plain(value, figures) for value in values]
