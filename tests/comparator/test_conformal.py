"""Bands judged and widened: the finite-sample quantile, clusters, rolling use of the past, verdicts in words."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.comparator.backtests.conformal import (
    clusters_needed,
    conformal_scale,
    coverage,
    design_effect,
    rolling_scales,
)
from curate.errors import MeasurementError

SCORES = st.lists(st.floats(0.0, 50.0), min_size=19, max_size=60)


def rank_reference(scores: list[float], nominal: float) -> float:
    """The textbook split-conformal quantile: the ceil(nominal (n + 1))-th smallest."""
    return sorted(scores)[math.ceil(nominal * (len(scores) + 1) - 1e-9) - 1]


@given(SCORES, st.sampled_from([0.5, 0.8, 0.9, 0.95]))
@settings(max_examples=150, deadline=None)
def test_without_clusters_the_scale_is_the_textbook_quantile(scores: list[float], nominal: float) -> None:
    found = conformal_scale(scores, range(len(scores)), nominal=nominal)
    assert found.scale == rank_reference(scores, nominal)


@given(SCORES, st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_predicting_a_run_from_several_cuts_does_not_make_it_several_runs(scores: list[float], times: int) -> None:
    once = conformal_scale(scores, range(len(scores)), nominal=0.9)
    many = conformal_scale(np.repeat(scores, times), np.repeat(range(len(scores)), times), nominal=0.9)
    assert many.scale == once.scale
    assert many.clusters == len(scores)
    inside = np.array(scores) <= 1.0
    judged, again = (coverage(np.repeat(inside, k), np.repeat(range(len(scores)), k), nominal=0.9) for k in (1, times))
    assert (judged.low, judged.high) == pytest.approx((again.low, again.high))


def test_eighteen_hold_outs_give_no_95_percent_band_and_say_so() -> None:
    few = conformal_scale(np.ones(18), range(18), nominal=0.95)
    assert few.scale is None
    assert str(few) == "not available: needs 19 hold-outs of different runs, has 18"
    assert conformal_scale(np.ones(19), range(19), nominal=0.95).scale == 1.0
    assert [clusters_needed(n) for n in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


def test_a_calibrated_band_covers_a_fresh_value_as_often_as_it_claims() -> None:
    # 2,000 worlds of 39 exponential scores, seed 0: the share of fresh scores inside is .95 for exchangeable scores
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(2000, 40))
    inside = [row[39] <= (conformal_scale(row[:39], range(39), nominal=0.95).scale or 0.0) for row in draws]
    assert 0.94 <= np.mean(inside) <= 0.965


def test_a_scale_knows_nothing_that_came_after_its_cut() -> None:
    rng = np.random.default_rng(1)
    asked = np.repeat([1.0, 2.0, 3.0, 4.0], 30)
    known = asked + rng.uniform(0.01, 2.0, size=120)  # every hold-out lies beyond its own cut
    scores, runs = rng.exponential(size=120), rng.integers(0, 60, size=120)
    before = rolling_scales(scores, runs, known_at=known, asked_at=asked, nominal=0.8)
    for cut in (2.0, 3.0, 4.0):
        later = known > cut
        spoiled = np.where(later, scores * 1000.0, scores)
        after = rolling_scales(spoiled, runs, known_at=known, asked_at=asked, nominal=0.8)
        assert np.array_equal(before[asked <= cut], after[asked <= cut], equal_nan=True)
    assert np.isnan(before[asked == 1.0]).all()  # nothing came before the first cut
    assert not np.isnan(before[asked == 4.0]).any()


@pytest.mark.parametrize(
    ("covered", "n", "verdict", "covers"),
    [
        (95, 100, "covers", True),
        (80, 100, "does not cover", False),
        (100, 100, "covers, wider than need be", True),
        (3, 3, "too few to say", None),
        (9, 9, "too few to say", None),
        (0, 2, "does not cover", False),
        (0, 0, "too few to say", None),
    ],
)
def test_the_verdict_is_as_sure_as_its_hold_outs(covered: int, n: int, verdict: str, covers: bool | None) -> None:
    found = coverage(np.arange(n) < covered, np.arange(n), nominal=0.95)
    assert (found.verdict, found.covers()) == (verdict, covers)
    assert found.verdict in str(found) or not n


def test_where_whole_datasets_are_missed_runs_do_not_count_as_independent() -> None:
    dataset = np.repeat(np.arange(8), 10)
    by_dataset = dataset >= 1  # one dataset is missed with all of its runs
    scattered = np.arange(80) % 8 >= 1
    runs = np.arange(80)
    assert design_effect(by_dataset, np.ones(80), dataset) > 5
    assert design_effect(scattered, np.ones(80), dataset) == pytest.approx(1.0, abs=0.5)
    together, apart = (coverage(i, runs, nominal=0.95, groups=dataset) for i in (by_dataset, scattered))
    assert together.share == apart.share
    assert together.high > apart.high and together.low < apart.low
    assert apart.covers() is False and together.covers() is True


def test_a_nominal_coverage_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(MeasurementError, match="nominal is 95"):
        conformal_scale(np.ones(30), range(30), nominal=95)
