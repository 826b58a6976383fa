"""Interactive figures: what is drawn is what was measured, plotly knows every field of it, and names stay text."""

import dataclasses
import json
import math
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.comparator.verdict import Curve, Estimate, Heatmap, TaskCell
from curate.report.labels import label, plain
from curate.report.looks import metric_label, shown_names, styles
from curate.report.plots import Plot, advantage_of_cell, gap_plot, gaps_in_order, law_plot, turned
from curate.report.ranking_plots import pair_plot, ranking_plot, task_plot
from curate.report.training_plots import loss_curve_plots

LOOKS = styles(["raw", "heuristics", "full"])


def valid(plot: Plot) -> go.Figure:
    """Plotly's own check of every name and value; JSON without NaN."""
    json.dumps(plot.to_dict(), allow_nan=False)
    return go.Figure(plot.to_dict())


def markers(plot: Plot) -> list[dict[str, Any]]:
    return [trace for trace in plot.data if trace.get("mode") == "markers"]


def test_every_measured_point_has_a_marker_with_its_run(verdict: Any) -> None:
    plot = law_plot(verdict.headline, law="power", at=[1e14], looks=LOOKS)
    valid(plot)
    drawn = {
        (trace["name"], x, y, about[4])
        for trace in markers(plot)
        for x, y, about in zip(trace["x"], trace["y"], trace["customdata"], strict=True)
    }
    wanted = {(p.dataset, plain(p.flops, 5), plain(p.value), p.run_id) for p in verdict.points}
    assert drawn == wanted and len(drawn) > 50


def test_laws_have_bands_and_are_dashed_beyond_their_points(verdict: Any) -> None:
    plot = law_plot(verdict.headline, law="power", at=[1e16], looks=LOOKS)
    bands = [trace for trace in plot.data if trace.get("fill") == "toself"]
    solid = [t for t in plot.data if t.get("mode") == "lines" and not t.get("fill") and "dash" not in t["line"]]
    dashed = [t for t in plot.data if t.get("mode") == "lines" and t["line"].get("dash") == "dash"]
    assert len(bands) == len(solid) == len(dashed) == 3
    last_point = max(point.flops for point in verdict.points)
    for inner, outer in zip(solid, dashed, strict=True):
        assert max(inner["x"]) <= last_point * 1.01
        assert max(x for x in outer["x"] if x is not None) > 5 * last_point
        assert inner["x"][-1] in outer["x"]  # no gap between the two


def test_every_trace_of_the_laws_can_be_hidden_by_its_dataset(verdict: Any) -> None:
    plot = law_plot(verdict.headline, law="power", at=[], looks=LOOKS)
    assert {trace["meta"]["series"] for trace in plot.data} == {0, 1, 2}
    assert all("series" in trace["meta"] for trace in plot.data)


def test_a_curve_that_ran_away_leaves_the_rest_readable(verdict: Any) -> None:
    fits = list(verdict.fits)
    curve = fits[0].loss_curve
    count = len(curve.flops)
    wild = dataclasses.replace(curve, high=(math.inf,) * count, low=(-1e300,) * count, median=(math.nan,) * count)
    fits[0] = dataclasses.replace(fits[0], loss_curve=wild)
    broken = dataclasses.replace(verdict.headline, fits=tuple(fits))
    plot = law_plot(broken, law="power", at=[1e14], looks=LOOKS)
    valid(plot)
    low, high = plot.layout["yaxis"]["range"]
    assert high - low < 1  # decades: the wild curve did not stretch the axis
    assert sum(len(trace["x"]) for trace in markers(plot)) == len(verdict.points)


def test_a_gap_is_turned_so_that_up_is_better() -> None:
    gap = Estimate(-0.1, -0.2, 0.05)  # first - second, loss: the first is better
    assert advantage_of_cell(gap, lower_is_better=True) == (-0.05, 0.1, 0.2)
    assert advantage_of_cell(gap, lower_is_better=False) == (-0.2, -0.1, 0.05)


def test_a_pair_turned_twice_is_itself_and_once_its_mirror(verdict: Any) -> None:
    pair = verdict.pairs[0]
    assert turned(turned(pair)) == pair
    mirror = turned(pair)
    assert (mirror.first, mirror.second) == (pair.second, pair.first)
    assert mirror.gap_curve.high == tuple(-low for low in pair.gap_curve.low)
    assert all(a.gap.value == -b.gap.value for a, b in zip(mirror.cells, pair.cells, strict=True))


def test_pairs_stand_with_the_leader_first_and_neighbours_before_the_rest(verdict: Any) -> None:
    pairs = gaps_in_order(verdict.headline, ["full", "heuristics", "raw"])
    assert [(p.first, p.second) for p in pairs] == [("full", "heuristics"), ("heuristics", "raw"), ("full", "raw")]


def test_cells_of_the_better_dataset_lie_above_the_zero_line(verdict: Any) -> None:
    (pair,) = [p for p in gaps_in_order(verdict.headline, ["full", "heuristics", "raw"]) if p.second == "raw"][:1]
    plot = gap_plot(pair, verdict.headline, at=verdict.at, looks=LOOKS)
    valid(plot)
    (cells,) = markers(plot)
    assert len(cells["y"]) == len(pair.cells) and all(y > 0 for y in cells["y"])
    assert len(plot.data) == 4


def test_a_pair_without_a_curve_still_has_its_four_traces(verdict: Any) -> None:
    bare = dataclasses.replace(verdict.pairs[0], gap_curve=Curve((), (), (), ()), cells=())
    plot = gap_plot(bare, verdict.headline, at=(), looks=LOOKS)
    valid(plot)
    assert len(plot.data) == 4


def test_the_ranking_has_a_step_for_each_compute_and_starts_at_the_one_asked_for(verdict: Any) -> None:
    plot = ranking_plot(verdict.headline, at=1e14, confidence=0.95, looks=LOOKS)
    figure = valid(plot)
    (slider,) = plot.layout["sliders"]
    assert len(slider["steps"]) >= len(verdict.headline.ranking_curve) > 20
    assert slider["steps"][slider["active"]]["label"] == "1e14"
    assert any("beyond the span" in step["label"] for step in slider["steps"])
    assert list(figure.layout.yaxis.ticktext) == ["full  1", "heuristics  2", "raw  3"]
    order = verdict.headline.rankings[0].order
    assert plot.data[0]["x"] == [plain(ranked.advantage.value) for ranked in order]
    for step in slider["steps"]:
        change, layout, traces = step["args"]
        assert len(change["x"][0]) == len(layout["yaxis.ticktext"]) == 3 and traces == [0, 1]


def test_who_beats_whom_is_the_complement_across_the_diagonal(verdict: Any) -> None:
    plot = pair_plot(verdict.headline, place=0, order=["full", "heuristics", "raw"], looks=LOOKS)
    valid(plot)
    shares = plot.data[0]["z"]
    for y in range(3):
        assert shares[y][y] is None
        for x in range(3):
            assert x == y or shares[y][x] + shares[x][y] == pytest.approx(1, abs=1e-3)
    assert shares[0][2] > 0.9
    decided = [c.decided for pair in verdict.pairs for c in pair.comparisons[:1]]
    assert len(plot.data[1]["x"]) == 2 * sum(decided)  # above and below the diagonal


def test_the_task_map_shows_each_cell_at_its_place() -> None:
    cells = tuple(
        TaskCell(task, dataset, Estimate(gain, gain - 1, gain + 1), abs(gain) > 1)
        for task, dataset, gain in (("t1", "a", 2.5), ("t1", "b", -0.5), ("t2", "a", -4.0), ("t2", "b", 0.0))
    )
    plot, full = task_plot(
        Heatmap(1e14, ("t1", "t2"), ("a", "b"), cells, "units"), order=["b", "a"], looks=styles(["a", "b"])
    )
    valid(plot)
    assert plot.data[0]["z"] == [[-0.5, 2.5], [0.0, -4.0]]
    assert [int(x) for x in plot.data[1]["x"]] == [1, 1] and sorted(plot.data[1]["y"]) == [0, 1]
    assert full >= 3 and plot.data[0]["zmin"] == -full


def test_a_task_or_a_dataset_without_a_cell_stays_empty() -> None:
    cell = TaskCell("t1", "a", Estimate(math.nan, -math.inf, math.inf), False)
    plot, _ = task_plot(Heatmap(1e14, ("t1", "t2"), ("a", "b"), (cell,), "units"), order=[], looks=styles(["a", "b"]))
    valid(plot)
    assert plot.data[0]["z"] == [[None, None], [None, None]]


def test_loss_curves_have_a_figure_a_scale_and_a_line_a_phase(curves: pa.Table) -> None:
    plots = loss_curve_plots(curves, looks=LOOKS)
    assert len(plots) == 4
    for plot in plots:
        valid(plot)
        assert len(plot.data) == 3 * 3
        assert len([trace for trace in plot.data if trace["line"]["dash"] != "solid"]) == 3 * 2
        assert max(len(trace["x"]) for trace in plot.data) <= 100
    assert [plots[0].layout["title"]["text"], plots[-1].layout["title"]["text"]] == ["scale 0.2M", "scale 3M"]
    assert loss_curve_plots(None, looks=LOOKS) == []
    assert loss_curve_plots(curves.slice(0, 0), looks=LOOKS) == []


def test_a_diverged_run_does_not_hide_the_others(curves: pa.Table) -> None:
    losses = curves["loss"].to_pylist()
    losses[5:300] = [math.nan, math.inf, 1e30] * 98 + [0.0]
    place = curves.column_names.index("loss")
    plots = loss_curve_plots(curves.set_column(place, "loss", pa.array(losses)), looks=LOOKS)
    assert len(plots) == 4
    for plot in plots:
        valid(plot)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("a & b &lt;", "a &amp; b &amp;lt;"),
        ("%{y} $x^2$", "&#37;{y} &#36;x^2&#36;"),
        ("one\ntwo", "one two"),
        ("x" * 200, "x" * 59 + "…"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("بيانات 2", "\u2068بيانات 2\u2069"),
    ],
)
def test_plotly_finds_no_markup_template_or_formula_in_a_name(text: str, drawn: str) -> None:
    assert label(text) == drawn


def test_metrics_read_as_words() -> None:
    assert metric_label("bits_per_byte/wiki") == "bits per byte, wiki"


def test_twenty_four_datasets_look_different() -> None:
    looks = styles([str(number) for number in range(24)])
    assert len({(look.colour, look.marker) for look in looks.values()}) == 24


@given(st.lists(st.text("ab_", max_size=60), unique=True, max_size=12))
def test_names_that_are_cut_stay_different(names: list[str]) -> None:
    shown = shown_names(names)
    assert len(set(shown.values())) == len(names)
    assert all(len(text) <= 40 for text in shown.values())
    assert all(shown[name] == name for name in names if len(name) <= 34)


def test_long_names_show_where_they_differ() -> None:
    ends = "_shard3_OH_eli5_vs_rw_v2_bigram_200k_train_0.1"
    first, second = (
        f"cc_v4_resiliparse_rw_v2_bff_minngram20_10{ends}",
        f"cc_v4_resiliparse_rw_v2_bff_minngram20_32{ends}",
    )
    shown = shown_names([first, second, "raw"])
    assert "20_10" in shown[first] and "20_32" in shown[second] and shown["raw"] == "raw"
