"""Histograms of signals as inline SVG: documents by the value that a rule looks at, with the rule's threshold."""

from typing import Any

from curate.report.axes import Axis
from curate.report.looks import KEPT, LOST, PARTLY
from curate.report.markup import Html
from curate.report.numbers import brief, count, digits
from curate.report.svg import Chart


def histogram_figure(rule: str, histogram: dict[str, Any], *, width: float = 358, height: float = 200) -> Html:
    """Documents by signal, the rule's threshold as a line; the losing side is coloured."""
    low, high, counts = float(histogram["low"]), float(histogram["high"]), histogram["counts"]
    bins = len(counts) - 2
    step = (high - low) / bins if high > low else 1.0
    outside = 1.5 * step
    edges = [(low - outside - step, low - outside)]
    edges += [(low + number * step, low + (number + 1) * step) for number in range(bins)]
    edges += [(high + outside, high + outside + step)]
    most = max(counts, default=0)
    x = Axis(low - outside - 1.5 * step, high + outside + 1.5 * step, histogram["signal"], ticks_wanted=5)
    y = Axis(0.5, max(2, most) * 1.8, "documents", log=True, ticks_wanted=4, counts=True)
    chart = Chart(x, y, width=width, height=height, title=rule, left=58)
    names = ["below the range", *[""] * bins, "above the range"]
    for (start, end), number, name in zip(edges, counts, names, strict=True):
        where = name or f"{digits(start, 3)} to {digits(end, 3)}"
        fill = _fill(histogram, start, end, is_last=end >= high)
        chart.bar(start, end, number, fill, base=0.5, hint=f"{where}: {count(number)} documents")
    for bound, word in ((histogram["at_least"], "≥"), (histogram["at_most"], "≤")):
        if bound is not None:
            chart.vertical(min(max(bound, x.low), x.high), "#222", dash=None, label=f"{word} {brief(bound)}")
    return chart.render()


def _fill(histogram: dict[str, Any], start: float, end: float, *, is_last: bool) -> str:
    """The colour of a bin: all of it kept, all of it lost, or the bound inside. The last bin holds its end, too."""
    low, high = histogram["at_least"], histogram["at_most"]
    if (low is not None and (end < low or (end == low and not is_last))) or (high is not None and start > high):
        return LOST
    if (low is not None and start < low) or (high is not None and high < end):
        return PARTLY
    return KEPT
