"""Optima of isoFLOP curves: exact where the curve is known, rejected where there is none, each answered for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.comparator.isoflop import (
    IsoFlop,
    Optimum,
    find_optima,
    fit_optimum_law,
    group_curves,
)
from curate.errors import MeasurementError

E, A, B, ALPHA, BETA = 1.8, 480.0, 2100.0, 0.35, 0.37


def chinchilla(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return E + A * params**-ALPHA + B * tokens**-BETA


def ladder(levels: np.ndarray, *, sizes: int, width: float, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Compute and params of isoFLOP curves around the law's own optimum, `width` natural logs wide."""
    best = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (levels / 6) ** (BETA / (ALPHA + BETA))
    around = np.exp(np.linspace(-width / 2, width / 2, sizes) + shift)
    return np.repeat(levels, sizes), (best[:, None] * around).ravel()


LEVELS = np.logspace(17, 20, 7)


def test_the_exponent_of_a_known_law_comes_back() -> None:
    flops, params = ladder(LEVELS, sizes=12, width=4.0, shift=0.13)
    curves = group_curves(flops, params, chinchilla(params, flops / 6 / params))
    optima = find_optima(curves)
    found = fit_optimum_law(optima)
    assert found.exponent.value == pytest.approx(BETA / (ALPHA + BETA), abs=1e-3)
    assert found.exponent.low < found.exponent.value < found.exponent.high
    tokens = fit_optimum_law(find_optima(curves, along="tokens"), quantity="tokens")
    assert tokens.exponent.value == pytest.approx(ALPHA / (ALPHA + BETA), abs=1e-3)
    assert found.predict(LEVELS) * tokens.predict(LEVELS) * 6 == pytest.approx(LEVELS, rel=0.02)
    assert "7 levels" in str(found)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(0.02, 0.5), st.integers(4, 12))
def test_a_parabola_is_found_exactly_by_both_methods_where_it_is_one(at: float, depth: float, sizes: int) -> None:
    x = np.linspace(-2.0, 2.0, sizes)
    curve = IsoFlop(1e18, np.exp(x), np.exp(-x), 3.0 + depth * (x - at) ** 2)
    (vertex,) = find_optima([curve], method="quadratic")
    assert np.log(vertex.params) == pytest.approx(at, abs=1e-8)
    assert vertex.loss == pytest.approx(3.0, rel=1e-8)
    (near,) = find_optima([curve])
    gap = x[1] - x[0]
    assert abs(np.log(near.params) - at) < 0.12 * gap + 0.02  # a local cubic of log loss, not of loss


def test_akima_minimum_agrees_with_a_dense_grid() -> None:
    from scipy.interpolate import Akima1DInterpolator

    rng = np.random.default_rng(3)
    for _ in range(30):
        x = np.sort(rng.uniform(0, 6, 9))
        loss = np.exp(0.1 * (x - 3) ** 2 + 0.05 * rng.standard_normal(9))
        (found,) = find_optima([IsoFlop(1e18, np.exp(x), np.exp(-x), loss)])
        grid = np.linspace(x[0], x[-1], 200_001)
        values = Akima1DInterpolator(x, np.log(loss))(grid)
        assert values.min() - 1e-6 < np.log(found.loss) <= values.min() + 1e-12
        assert np.log(found.params) == pytest.approx(grid[values.argmin()], abs=1e-4)


@pytest.mark.parametrize(("side", "word"), [(-3.0, "smallest"), (3.0, "largest")])
def test_a_minimum_at_the_edge_is_no_minimum_but_stays_in_the_list(side: float, word: str) -> None:
    flops, params = ladder(LEVELS, sizes=9, width=3.0)
    flops2, params2 = ladder(np.array([1e21]), sizes=9, width=3.0, shift=-side)
    flops, params = np.concatenate([flops, flops2]), np.concatenate([params, params2])
    optima = find_optima(group_curves(flops, params, chinchilla(params, flops / 6 / params)))
    assert len(optima) == 8
    assert optima[-1].rejected is not None and word in optima[-1].rejected
    found = fit_optimum_law(optima)
    assert len(found.used) == 7 and found.rejected == (optima[-1],)
    (check,) = [c for c in found.checks if c.name == "isoflop_minimum"]
    assert "1e+21" in check.message and word in check.message
    assert "1 left out" in str(found)


def test_a_curve_without_an_edge_minimum_gives_no_warning() -> None:
    flops, params = ladder(LEVELS, sizes=9, width=3.0)
    found = fit_optimum_law(find_optima(group_curves(flops, params, chinchilla(params, flops / 6 / params))))
    assert found.checks == ()


def test_a_short_span_of_compute_is_said() -> None:
    flops, params = ladder(np.logspace(18, 19, 4), sizes=9, width=3.0)
    found = fit_optimum_law(find_optima(group_curves(flops, params, chinchilla(params, flops / 6 / params))))
    assert [c.name for c in found.checks] == ["isoflop_span"]


def test_a_curve_too_flat_for_its_noise_is_rejected_and_a_steep_one_is_not() -> None:
    flops, params = ladder(np.array([1e18]), sizes=9, width=3.0)
    curves = group_curves(flops, params, chinchilla(params, flops / 6 / params))
    assert find_optima(curves, noise_sd=0.0005)[0].rejected is None
    reason = find_optima(curves, noise_sd=0.1)[0].rejected
    assert reason is not None and ("flat" in reason or "edge" in reason)


def test_spreads_are_those_of_repeated_experiments() -> None:
    flops, params = ladder(np.array([1e18]), sizes=9, width=3.0, shift=0.1)
    (curve,) = group_curves(flops, params, chinchilla(params, flops / 6 / params))
    rng = np.random.default_rng(5)
    noise = 0.003
    repeated = [
        find_optima([IsoFlop(c.flops, c.params, c.tokens, c.losses * np.exp(noise * rng.standard_normal(9)))])[0]
        for c in [curve] * 400
    ]
    true = np.std([np.log(o.params) for o in repeated if o.rejected is None])
    claimed = find_optima([curve], noise_sd=noise, seed=1)[0].spread
    floor = 3.0 / 8 / 3
    assert true > floor  # else the test would only see the floor
    assert claimed == pytest.approx(true, rel=0.2)


def test_weights_come_from_spreads_and_a_wild_level_with_a_large_one_hardly_counts() -> None:
    optima = [Optimum(10.0**k, 10.0 ** (0.5 * k), 1.0, 3.0, 0.1, 9) for k in range(17, 22)]
    wild = [*optima, Optimum(1e22, 1e20, 1.0, 3.0, 10.0, 9)]
    assert fit_optimum_law(wild).exponent.value == pytest.approx(0.5, abs=0.01)
    assert fit_optimum_law(wild, weighted=False).exponent.value > 1.0
    same = np.polyfit(np.log([o.flops for o in wild]), np.log([o.params for o in wild]), 1, w=[10] * 5 + [0.1])[0]
    assert fit_optimum_law(wild).exponent.value == pytest.approx(same, rel=1e-9)


def test_the_interval_covers_the_true_exponent_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    worlds = 400
    for _ in range(worlds):
        optima = [
            Optimum(10.0**k, float(np.exp(0.5 * k * np.log(10) + 0.2 * rng.standard_normal())), 1.0, 3.0, 0.2, 9)
            for k in np.linspace(17, 20, 7)
        ]
        interval = fit_optimum_law(optima).exponent
        covered += interval.low < 0.5 < interval.high
    assert 0.92 < covered / worlds < 0.98


def test_seeds_of_one_size_are_averaged_and_levels_within_two_percent_are_one() -> None:
    curves = group_curves([1e18, 1.01e18, 1e18, 1e18, 2e18], [10, 10, 20, 40, 10], [3.0, 3.2, 2.9, 3.0, 2.8])
    assert [len(c.params) for c in curves] == [3, 1]
    assert curves[0].losses[0] == pytest.approx(3.1)
    assert find_optima(curves)[1].rejected == "1 sizes, and a minimum needs 3"


def test_bad_points_and_too_few_curves_get_one_sentence() -> None:
    with pytest.raises(MeasurementError, match="positive losses; point 1 has"):
        group_curves([1e18, 1e18], [1e6, 2e6], [3.0, -1.0])
    with pytest.raises(MeasurementError, match="one value a point"):
        group_curves([1e18, 1e18], [1e6], [3.0])
    curves = group_curves([1e18] * 4, [1e6, 2e6, 4e6, 8e6], [3.0, 2.9, 2.8, 2.7])
    with pytest.raises(MeasurementError, match=r"minimum inside, not 0.*largest size"):
        fit_optimum_law(find_optima(curves))
    with pytest.raises(MeasurementError, match="2 spreads for 1 optima"):
        fit_optimum_law(find_optima(curves), spreads=[1.0, 2.0])


def test_a_parabola_that_opens_downwards_is_rejected() -> None:
    x = np.linspace(-2, 2, 7)
    (found,) = find_optima([IsoFlop(1e18, np.exp(x), np.exp(-x), 3.0 - 0.1 * x**2)], method="quadratic")
    assert found.rejected == "its parabola opens downwards"
