"""Figures: what is drawn is what was measured."""

import dataclasses
import math
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from curate.report.figures import (
    KEPT,
    LOST,
    PARTLY,
    advantage_of_cell,
    gap_figure,
    histogram_figure,
    law_figure,
    loss_curve_figures,
    metric_label,
    styles,
)

LOOKS = styles(["raw", "heuristics", "full"])


def _drawn(figure: str, kind: str, **wanted: str) -> list[ElementTree.Element]:
    return [
        part
        for part in ElementTree.fromstring(figure).iter(kind)
        if all(part.get(name.replace("_", "-")) == value for name, value in wanted.items())
    ]


def test_every_measured_point_has_a_marker_with_its_run(verdict: Any) -> None:
    figure = law_figure(verdict.headline, law="power", at=[1e14], looks=LOOKS)
    points = _drawn(figure, "path", **{"class": "point"})
    assert len(points) == len(verdict.points) > 50
    hints = " ".join(point[0].text or "" for point in points)
    for point in verdict.points:
        assert point.run_id in hints
    assert "seed 2" in hints and "D = 1.00M tokens" in hints


def test_laws_have_bands_and_are_dashed_beyond_their_points(verdict: Any) -> None:
    figure = law_figure(verdict.headline, law="power", at=[1e16], looks=LOOKS)
    assert len(_drawn(figure, "path", **{"class": "band"})) == 3
    dashed = [line for line in _drawn(figure, "path", fill="none") if line.get("stroke-dasharray")]
    solid = [line for line in _drawn(figure, "path", fill="none") if not line.get("stroke-dasharray")]
    assert len(solid) == 3 and len(dashed) >= 3


def test_a_gap_is_turned_so_that_up_is_better() -> None:
    from curate.comparator.verdict import Estimate

    gap = Estimate(-0.1, -0.2, 0.05)  # first - second, loss: the first is better
    assert advantage_of_cell(gap, lower_is_better=True) == (-0.05, 0.1, 0.2)
    assert advantage_of_cell(gap, lower_is_better=False) == (-0.2, -0.1, 0.05)


def test_cells_of_the_better_dataset_lie_above_the_zero_line(verdict: Any) -> None:
    pair = verdict.pair("full", "raw")
    figure = gap_figure(pair, verdict.headline, at=verdict.at, looks=LOOKS)
    zero = next(line for line in _drawn(figure, "line", stroke="#333"))
    points = _drawn(figure, "path", **{"class": "point"})
    assert len(points) == len(pair.cells)
    heights = [float(str(point.get("d")).split()[1].split("L")[0].split("a")[0]) for point in points]
    first_is_full = pair.first == "full"
    assert all((height < float(str(zero.get("y1")))) == first_is_full for height in heights)


def test_a_curve_that_ran_away_leaves_the_rest_readable(verdict: Any) -> None:
    fits = list(verdict.fits)
    curve = fits[0].loss_curve
    count = len(curve.flops)
    wild = dataclasses.replace(curve, high=(math.inf,) * count, low=(-1e300,) * count, median=(math.nan,) * count)
    fits[0] = dataclasses.replace(fits[0], loss_curve=wild)
    broken = dataclasses.replace(verdict.headline, fits=tuple(fits))
    figure = law_figure(broken, law="power", at=[1e14], looks=LOOKS)
    assert len(_drawn(figure, "path", **{"class": "point"})) == len(verdict.points)


def test_loss_curves_have_a_panel_a_scale_and_a_line_a_phase(curves: pa.Table) -> None:
    panels = loss_curve_figures(curves, looks=LOOKS)
    assert len(panels) == 4
    for panel in panels:
        lines = _drawn(panel, "path", fill="none")
        assert len(lines) == 3 * 3
        assert len([line for line in lines if line.get("stroke-dasharray")]) == 3 * 2
        assert max(len(str(line.get("d")).split("L")) for line in lines) <= 100
    assert "scale 0.2M" in panels[0] and "scale 3M" in panels[-1]
    assert loss_curve_figures(None, looks=LOOKS) == []
    assert loss_curve_figures(curves.slice(0, 0), looks=LOOKS) == []


def test_a_diverged_run_does_not_hide_the_others(curves: pa.Table) -> None:
    losses = curves["loss"].to_pylist()
    losses[5:300] = [math.nan, math.inf, 1e30] * 98 + [0.0]
    place = curves.column_names.index("loss")
    panels = loss_curve_figures(curves.set_column(place, "loss", pa.array(losses)), looks=LOOKS)
    assert len(panels) == 4
    for panel in panels:
        ElementTree.fromstring(panel)


@pytest.mark.parametrize(
    ("at_least", "at_most", "fills"),
    [
        (0.5, None, [LOST, LOST, LOST, KEPT, KEPT, KEPT]),
        (
            None,
            0.5,
            [KEPT, KEPT, KEPT, PARTLY, LOST, LOST],
        ),  # a value of .5 is in the bin that begins there, and passes
        (0.6, None, [LOST, LOST, LOST, PARTLY, KEPT, KEPT]),
        (None, 0.0, [KEPT, PARTLY, LOST, LOST, LOST, LOST]),
        (1.0, None, [LOST, LOST, LOST, LOST, PARTLY, KEPT]),  # the last bin holds its end
        (None, None, [KEPT] * 6),
    ],
)
def test_bars_are_coloured_by_what_the_rule_does(at_least: float, at_most: float, fills: list[str]) -> None:
    histogram = {"signal": "s", "low": 0.0, "high": 1.0, "at_least": at_least, "at_most": at_most, "counts": [5] * 6}
    bars = _drawn(histogram_figure("rule", histogram), "rect")
    found = [bar.get("fill") for bar in bars if bar.get("fill") in (KEPT, PARTLY, LOST)]
    assert found == fills


def test_empty_bins_have_no_bar_and_single_documents_have_one() -> None:
    histogram = {
        "signal": "s",
        "low": 0.0,
        "high": 1.0,
        "at_least": None,
        "at_most": None,
        "counts": [0, 1, 0, 1000, 0],
    }
    bars = [bar for bar in _drawn(histogram_figure("rule", histogram), "rect") if bar.get("fill") == KEPT]
    assert [bar[0].text for bar in bars] == ["0 to 0.333: 1 documents", "0.667 to 1.00: 1,000 documents"]


def test_metrics_read_as_words() -> None:
    assert metric_label("bits_per_byte/wiki") == "bits per byte, wiki"
