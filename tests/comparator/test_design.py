"""The planned error of a gap: what the gap model of measured runs with the same noise says."""

import numpy as np
import pytest

from curate.comparator.design import PlannedCell, gap_error
from curate.errors import MeasurementError

TRAJECTORY = (np.log(20.0), 0.0)
NOISE = {"sigma": 0.03, "rho": 0.0, "lam": 0.0, "tau": 4.0, "trajectory": TRAJECTORY}
SIZES = (1e6, 4e6, 16e6)
SPAN = ((1e6, 16e6), (2e7, 32e7))


def on_ladder(runs: float, sizes: tuple[float, ...] = SIZES) -> list[PlannedCell]:
    return [PlannedCell(n, 20 * n, runs) for n in sizes]


def compute(params: float) -> float:
    return 6 * params * 20 * params


def test_a_gap_that_does_not_change_has_the_error_of_a_mean() -> None:
    error = gap_error(on_ladder(2), **{**NOISE, "tau": 1e-6}, flops=compute(16e6), span=SPAN)
    assert error == pytest.approx(0.03 * np.sqrt(2 / 6), rel=1e-6)


def test_a_free_slope_has_the_error_of_a_regression_line() -> None:
    """Along one D/N, N and D change together: two slopes of prior sd tau are one of sd sqrt(2) tau."""
    x = np.column_stack([np.ones(3), [-1.0, -0.5, 0.0]])
    wanted = 0.03 * np.sqrt(2 * np.linalg.inv(x.T @ x)[0, 0])
    assert gap_error(on_ladder(1), **{**NOISE, "tau": 1e4}, flops=compute(16e6), span=SPAN) == pytest.approx(wanted)
    assert gap_error(on_ladder(1), **{**NOISE, "tau": np.inf}, flops=compute(16e6), span=SPAN) == pytest.approx(wanted)


def test_the_planned_error_is_that_of_simulated_runs() -> None:
    """Draw the gap from its prior and the runs with their noise, predict the target by the best linear rule of the
    true covariances; its mean square error is the planned one.
    """
    rng = np.random.default_rng(0)
    sigma, rho, lam, tau, runs = 0.5, 0.7, 0.3, 2.0, 2
    budgets = (5e6, 1e7, 2e7)
    design = [PlannedCell(n, budgets, runs) for n in (1e6, 4e6)]
    n = np.repeat([1e6, 4e6], 3)
    d = np.tile(budgets, 2)
    bends = np.column_stack([np.log(n / 4e6) / np.log(4), np.log(d / 2e7) / np.log(4)])
    flops = 6 * 4e6 * 2e7
    worlds = 40_000
    slopes = rng.standard_normal((worlds, 2)) * tau * sigma
    level = rng.standard_normal(worlds) * 30
    gap = level[:, None] + slopes @ bends.T
    noise = np.zeros((worlds, 6))
    for _ in range(2):  # of both datasets
        noise += np.repeat(rng.standard_normal((worlds, 2)), 3, axis=1) * np.sqrt(lam) * sigma
        for _ in range(runs):
            common = np.repeat(rng.standard_normal((worlds, 2)), 3, axis=1) * np.sqrt(rho)
            own = rng.standard_normal((worlds, 6)) * np.sqrt(1 - rho)
            noise += (common + own) * sigma / runs
    seen = gap + noise
    weights = np.linalg.lstsq(np.column_stack([np.ones(worlds), seen]), level, rcond=None)[0]
    error = np.std(level - np.column_stack([np.ones(worlds), seen]) @ weights)
    planned = gap_error(
        design,
        sigma=sigma,
        rho=rho,
        lam=lam,
        tau=tau,
        flops=flops,
        trajectory=(float(np.log(2e7 / 4e6)), 0.0),
        span=((1e6, 4e6), (5e6, 2e7)),
    )
    assert planned == pytest.approx(error, rel=0.02)


def test_more_runs_and_wider_ladders_help_and_one_scale_is_blind_far_away() -> None:
    far = {"flops": compute(256e6), "span": ((1e6, 256e6), (2e7, 512e7))}
    one_scale = gap_error([PlannedCell(16e6, 32e7, 100)], **NOISE, **far)
    ladder = gap_error(on_ladder(1), **NOISE, **far)
    assert gap_error(on_ladder(2), **NOISE, **far) < ladder
    assert gap_error([*on_ladder(1), PlannedCell(64e6, 128e7, 1)], **NOISE, **far) < ladder
    assert one_scale > 0.03 * 4.0 * np.sqrt(2) * 0.49  # half of the span unseen: runs do not help
    assert gap_error([PlannedCell(16e6, 32e7, 1)], **{**NOISE, "tau": np.inf}, **far) == np.inf
    assert gap_error([], **NOISE, **far) == np.inf
    assert gap_error(on_ladder(0), **NOISE, **far) == np.inf


def test_misfit_is_not_averaged_away_by_seeds() -> None:
    one_size = {"flops": compute(16e6), "span": SPAN}
    error = gap_error([PlannedCell(16e6, 32e7, 1e6)], **{**NOISE, "lam": 0.25}, **one_size)
    assert error == pytest.approx(0.03 * np.sqrt(2 * 0.25), rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sigma": 0.0}, "sigma is 0.0; it must be positive"),
        ({"rho": 1.5}, "rho is 1.5; it must be a share"),
        ({"lam": -1.0}, "lam is -1.0; it must be zero or more"),
        ({"tau": 0.0}, "tau is 0.0"),
        ({"flops": -1.0}, "flops is -1.0"),
    ],
)
def test_impossible_noise_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        gap_error(on_ladder(1), **{**NOISE, "flops": 1e15, **wrong})  # type: ignore[arg-type]


def test_an_impossible_entry_is_named() -> None:
    with pytest.raises(MeasurementError, match=r"entry 2: params -1\.0"):
        gap_error([*on_ladder(1)[:1], PlannedCell(-1.0, 1e6)], **NOISE, flops=1e15)
