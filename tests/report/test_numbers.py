"""Numbers as people read them."""

import math

import pytest

from curate.report import numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (7, "7"), (999.4, "999"), (1234, "1.23k"), (1e6, "1.00M"), (2.5e9, "2.50G"), (999_999, "1.00M"),
     (-5200, "−5.20k"), (0.0123, "0.0123"), (None, "–"), (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_compact_numbers_have_three_digits(value: float | None, shown: str) -> None:
    assert numbers.compact(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.23456, "1.235"), (0.00012345, "0.0001234"), (1e-7, "1e-7"), (0, "0"), (-2.5, "−2.500"), (math.inf, "∞"),
     (math.nan, "–")],
)  # fmt: skip
def test_digits_are_significant_figures(value: float, shown: str) -> None:
    assert numbers.digits(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.65, "0.65"), (50.0, "50"), (1000, "1k"), (100_000, "100k"), (0.5, "0.5")]
)
def test_thresholds_have_no_idle_zeros(value: float, shown: str) -> None:
    assert numbers.brief(value) == shown


def test_compute_is_a_power_of_ten() -> None:
    assert numbers.power_of_ten(1e14) == "1e14"
    assert numbers.power_of_ten(1.34e14) == "1.3e14"
    assert numbers.power_of_ten(9.96e14) == "1e15"


def test_no_finite_sample_shows_certainty() -> None:
    assert [numbers.probability(p) for p in (1.0, 0.971, 0.5, 0.0)] == [">.99", ".97", ".50", "<.01"]


def test_signs_sizes_shares_and_times() -> None:
    assert [numbers.signed(value) for value in (0.5, -0.5, 0)] == ["+0.500", "−0.500", "0"]
    assert [numbers.size(value) for value in (12, 28_600_000)] == ["12 B", "28.6 MB"]
    assert [numbers.share(part, 1000) for part in (0, 0.1, 123)] == ["0.0%", "<0.1%", "12.3%"]
    assert numbers.share(1, 0) == "–"
    assert [numbers.duration(value) for value in (0.44, 59, 200, 7500)] == ["0.4 s", "59 s", "3 min 20 s", "2 h 05 min"]
    assert numbers.interval(-1, 2) == "[−1.00, 2.00]"
