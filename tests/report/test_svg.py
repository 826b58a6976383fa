"""Charts: values land where they belong, and what cannot be drawn is left out."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report.axes import Axis, axis_over
from curate.report.svg import Chart, bar_of, dots_of, interval_of

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def test_ends_of_an_axis_lie_at_its_ends() -> None:
    for log in (False, True):
        axis = Axis(2.0, 200.0, log=log)
        assert [axis.place(2.0), axis.place(200.0)] == [0.0, 1.0]
    assert Axis(2.0, 200.0, log=True).place(20.0) == pytest.approx(0.5)


@given(st.lists(FLOATS, max_size=6), st.booleans())
def test_an_axis_holds_every_finite_value(values: list[float], log: bool) -> None:
    axis = axis_over(values, "x", log=log)
    assert axis.low < axis.high
    assert not axis.log or axis.low > 0
    for value in values:
        if math.isfinite(value) and abs(value) <= 1e100:
            place = axis.place(value)
            assert place is not None and -1e-6 <= place <= 1 + 1e-6


@given(st.floats(1e-6, 1e18), st.floats(1.02, 1e9), st.booleans())
def test_ticks_are_few_and_inside(low: float, ratio: float, log: bool) -> None:
    axis = Axis(low, low * ratio, log=log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 14
    assert len({label for _, label in ticks}) == len(ticks)
    assert all(low * 0.99 <= value <= low * ratio * 1.01 for value, _ in ticks)


@given(st.lists(st.tuples(FLOATS, FLOATS), max_size=8), st.booleans())
def test_any_values_give_a_drawing_without_absurd_numbers(points: list[tuple[float, float]], log: bool) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    chart = Chart(axis_over(xs, "x", log=log), axis_over(ys, "y"), title="</svg><script>")
    for x, y in points:
        chart.bar(x, y, y, "#000", hint="<b>")
        chart.vertical(x, label="a & b")
    drawn = chart.render() + dots_of(ys, axis_over(ys, "y"), "#000")
    ElementTree.fromstring(f"<p>{drawn}</p>")
    assert not re.search(r"\b(nan|inf)\b", drawn)
    assert all(abs(float(number)) < 1e5 for number in re.findall(r'(?<=[ "ML])-?\d+\.\d+', drawn))


def test_dots_stand_where_the_values_are_and_nowhere_else() -> None:
    drawn = ElementTree.fromstring(dots_of([0.0, 5.0, math.nan, 99.0], Axis(0.0, 10.0), "#111", width=100))
    assert len([part for part in drawn if part.tag == "path"]) == 2


def test_bars_fill_their_share() -> None:
    drawn = ElementTree.fromstring(bar_of([(0.5, "#111", "half"), (0.25, "#222", "")], width=200))
    assert [float(part.get("width", 0)) for part in drawn] == [200, 100, 50]
    assert drawn[1][0].text == "half"


def test_intervals_that_leave_the_axis_end_at_its_ends() -> None:
    drawn = ElementTree.fromstring(interval_of(-math.inf, 0.5, 9.0, Axis(-1, 1), "#111", width=100))
    assert drawn is not None
    line = ElementTree.fromstring(interval_of(-5, 0.5, 9.0, Axis(-1, 1), "#111", width=100))[1]
    assert (float(line.get("x1", -1)), float(line.get("x2", -1))) == (0, 100)
