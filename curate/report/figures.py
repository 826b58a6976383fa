"""The figures of a report, each a function from values to SVG: laws with bands, gaps, loss curves, histograms.

Compute is in FLOPs on a log axis, the metric in its own units, training loss in nats a token. Every dataset keeps one
colour and one marker on the whole page (`Style`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.report.axes import Axis, axis_over
from curate.report.markup import Html, shortened
from curate.report.numbers import brief, compact, count, digits, estimate, power_of_ten
from curate.report.svg import Chart, colour, marker

if TYPE_CHECKING:
    from curate.comparator.verdict import MetricResult, Pair, Point

COMPUTE = "training compute C (FLOPs)"
MOST_POINTS = 3000
"""Points drawn in one figure; of more, evenly chosen ones are drawn."""
BINS_OF_CURVE = 100
"""Places on a loss curve; the losses between two of them are averaged."""
MOST_CURVES = 400
"""Loss curves drawn in one panel."""
SHOWN_RANGE = 200
"""Loss curves are drawn over this ratio of tokens up to the longest run; before that all of them only fall."""
KEPT, PARTLY, LOST = "#7d93ab", "#efb78f", "#D55E00"


@dataclass(frozen=True)
class Style:
    """How a dataset looks: its place in the legend, colour and marker."""

    number: int
    colour: str
    marker: str


def styles(names: Sequence[str]) -> dict[str, Style]:
    """One style for each name, in the order given."""
    return {name: Style(number, colour(number), marker(number)) for number, name in enumerate(dict.fromkeys(names))}


def metric_label(metric: str) -> str:
    """`bits per byte, wiki` for `bits_per_byte/wiki`."""
    return shortened(metric.replace("_", " ").replace("/", ", "), 60)


def direction(lower_is_better: bool) -> str:
    """Which end of the axis is good."""
    return "lower is better" if lower_is_better else "higher is better"


def law_figure(result: "MetricResult", *, law: str, at: Sequence[float], looks: dict[str, Style]) -> Html:
    """Points and laws with their bands over compute; dashed where a law goes beyond its own points."""
    fits = [fit for fit in result.fits if fit.law == law] or list(result.fits)[: len(result.datasets)]
    xs = [point.flops for point in result.points] + [flops for fit in fits for flops in fit.loss_curve.flops]
    ys = [point.value for point in result.points] + [value for fit in fits for value in fit.loss_curve.median]
    label = f"{metric_label(result.metric)} ({direction(result.lower_is_better)})"
    x, y = axis_over([*xs, *at], COMPUTE, log=True, margin=0.03), axis_over(ys, label, log=True, margin=0.08)
    chart = Chart(x, y, width=1116, height=470)
    chart.span(result.span.low, result.span.high)
    for flops in at:
        chart.vertical(flops, label=f"C = {power_of_ten(flops)}")
    for fit in fits:
        look, curve = looks[fit.dataset], fit.loss_curve
        chart.band(curve.flops, curve.low, curve.high, look.colour, series=look.number)
        own = [point.flops for point in result.points if point.dataset == fit.dataset]
        _law_line(chart, curve, own, look)
    for point in _thinned(result.points):
        look = looks[point.dataset]
        chart.point(
            point.flops, point.value, look.colour, shape=look.marker, hint=_point_hint(point), series=look.number
        )
    return chart.render()


def _law_line(chart: Chart, curve: Any, measured: Sequence[float], look: Style) -> None:
    flops = np.asarray(curve.flops, dtype=float)
    if not len(flops) or not measured:
        return
    inside = (flops >= min(measured) * 0.999) & (flops <= max(measured) * 1.001)
    first, last = (int(np.argmax(inside)), int(len(flops) - np.argmax(inside[::-1]))) if inside.any() else (0, 0)
    for start, end, dash in ((0, first + 1, "6 4"), (first, last, None), (max(0, last - 1), len(flops), "6 4")):
        chart.line(curve.flops[start:end], curve.median[start:end], look.colour, dash=dash, series=look.number)


def _point_hint(point: "Point") -> str:
    return (
        f"{shortened(point.dataset, 60)}\n{digits(point.value, 5)} at C = {power_of_ten(point.flops, 3)} FLOPs\n"
        f"N = {compact(point.params)}, D = {compact(point.tokens)} tokens, scale {shortened(point.scale or '–', 30)}\n"
        f"seed {'–' if point.seed is None else point.seed}, run {shortened(point.run_id, 20)}"
    )


def _thinned(points: Sequence["Point"]) -> Sequence["Point"]:
    if len(points) <= MOST_POINTS:
        return points
    return [points[place] for place in np.linspace(0, len(points) - 1, MOST_POINTS).astype(int)]


def advantage_of_cell(gap: Any, lower_is_better: bool) -> tuple[float, float, float]:
    """A cell's gap (first - second as measured) as low, value, high of how much better the first is."""
    if lower_is_better:
        return -gap.high, -gap.value, -gap.low
    return gap.low, gap.value, gap.high


def gap_figure(pair: "Pair", result: "MetricResult", *, at: Sequence[float], looks: dict[str, Style]) -> Html:
    """How much better the first of a pair is over compute: curve, band, cells that both have, zero line, crossing."""
    look, curve = looks[pair.first], pair.gap_curve
    cells = [(cell, advantage_of_cell(cell.gap, result.lower_is_better)) for cell in pair.cells]
    shown = [flops for flops in at if pair.span.extrapolation(flops) <= 1000]
    xs = [*curve.flops, *(cell.flops for cell, _ in cells), *shown, pair.span.low, pair.span.high]
    ys = [0.0, *curve.median, *(value for _, ends in cells for value in ends)]
    ys += [
        value
        for flops, low, high in zip(curve.flops, curve.low, curve.high, strict=True)
        if pair.span.low <= flops <= pair.span.high
        for value in (low, high)
    ]
    x = axis_over(xs, COMPUTE, log=True, margin=0.03)
    y = axis_over(ys, f"advantage in {metric_label(result.metric)}", margin=0.06, ticks_wanted=5)
    title = f"{shortened(pair.first, 28)} over {shortened(pair.second, 28)}"
    chart = Chart(x, y, width=548, height=320, title=title, left=70)
    chart.span(pair.span.low, pair.span.high)
    if pair.crossing.at is not None and pair.crossing.p_none < 0.5:
        found = pair.crossing.at
        chart.span(found.low, found.high, "#E69F00", opacity=0.14)
        chart.vertical(found.value, "#8a5f00", dash=None, label="lead changes")
    for flops in shown:
        chart.vertical(flops)
    chart.band(curve.flops, curve.low, curve.high, look.colour)
    own = [cell.flops for cell, _ in cells] or [pair.span.low, pair.span.high]
    _law_line(chart, curve, own, Style(look.number, look.colour, look.marker))
    chart.horizontal(0.0, width=1.4)
    for cell, (low, value, high) in cells:
        hint = (
            f"{shortened(pair.first, 40)} − {shortened(pair.second, 40)} as measured: {estimate(cell.gap)}\n"
            f"N = {compact(cell.params)}, D = {compact(cell.tokens)} tokens, C = {power_of_ten(cell.flops, 3)}\n"
            f"runs {cell.runs_first} and {cell.runs_second}"
        )
        chart.point(cell.flops, value, look.colour, shape=look.marker, hint=hint, low=low, high=high)
    return chart.render()


def loss_curve_figures(curves: pa.Table | None, *, looks: dict[str, Style]) -> list[Html]:
    """A panel a scale, smallest first: training loss over tokens, trunks solid and decay branches thin."""
    if curves is None or not curves.num_rows:
        return []
    scales = curves.group_by("scale").aggregate([("tokens", "max")]).sort_by([("tokens_max", "ascending")])
    return [
        _loss_panel(curves.filter(pc.equal(curves["scale"], scale)), str(scale), looks)
        for scale in scales["scale"].to_pylist()
        if scale is not None
    ]


def _loss_panel(curves: pa.Table, scale: str, looks: dict[str, Style]) -> Html:
    keys = ["run_id", "dataset", "seed", "phase"]
    lines = []
    for group in _groups(curves, keys)[:MOST_CURVES]:
        tokens, losses = _averaged(group["tokens"], group["loss"])
        lines.append((group, tokens, losses))
    shown = np.concatenate([losses[tokens >= tokens[-1] / SHOWN_RANGE] for _, tokens, losses in lines if len(tokens)])
    low, high = (float(shown.min()), float(np.quantile(shown, 0.98))) if len(shown) else (1.0, 2.0)
    y = axis_over([low, high], "training loss (nats/token)", log=True, ticks_wanted=5)
    longest = max((float(tokens[-1]) for _, tokens, _ in lines if len(tokens)), default=1.0)
    x = axis_over([longest / SHOWN_RANGE, longest], "training tokens", log=True, margin=0.02)
    chart = Chart(x, y, width=548, height=290, title=f"scale {shortened(scale, 40)}")
    for group, tokens, losses in lines:
        look = looks.get(group["dataset"])
        if look is None:
            continue
        branch = group["phase"] != "trunk"
        hint = f"{shortened(group['dataset'], 60)}\n{shortened(group['phase'], 40)}, seed {group['seed']}"
        chart.line(
            tokens.tolist(),
            losses.tolist(),
            look.colour,
            width=1.3,
            dash="4 2" if branch else None,
            opacity=0.8,
            series=look.number,
            hint=f"{hint}, run {shortened(group['run_id'], 20)}",
        )
    return chart.render()


def _groups(curves: pa.Table, keys: list[str]) -> list[dict[str, Any]]:
    """One entry a line: its keys, and tokens and losses as arrays in order of tokens."""
    table = curves.select([*keys, "tokens", "loss"]).sort_by([(key, "ascending") for key in [*keys, "tokens"]])
    if not table.num_rows:
        return []
    columns = [table[key].combine_chunks() for key in keys]
    new = np.ones(table.num_rows, dtype=bool)
    new[1:] = False
    for column in columns:
        codes = column.dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
        new[1:] |= codes[1:] != codes[:-1]
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], table.num_rows)
    tokens = table["tokens"].to_numpy().astype(float)
    losses = table["loss"].to_numpy().astype(float)
    return [
        {key: column[start].as_py() for key, column in zip(keys, columns, strict=True)}
        | {"tokens": tokens[start:end], "loss": losses[start:end]}
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _averaged(tokens: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over BINS_OF_CURVE ranges of equal ratio of tokens; what cannot be drawn is left out."""
    usable = np.isfinite(losses) & (losses > 0) & (tokens > 0)
    tokens, losses = tokens[usable], losses[usable]
    if len(tokens) <= BINS_OF_CURVE:
        return tokens, losses
    place = np.log(tokens / tokens[0]) / (math.log(tokens[-1] / tokens[0]) or 1.0) * (BINS_OF_CURVE - 1)
    bins = np.floor(place).astype(int)
    counts = np.bincount(bins, minlength=BINS_OF_CURVE)
    held = counts > 0
    return (
        (np.bincount(bins, tokens, BINS_OF_CURVE)[held] / counts[held]),
        (np.bincount(bins, losses, BINS_OF_CURVE)[held] / counts[held]),
    )


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
