"""Two-step predictions: smoothing, both steps on the same runs, intervals by run, anchors and bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.comparator.chains import (
    Checkpoints,
    TwoStep,
    fit_one_step,
    fit_two_step,
    smooth,
    trailing_mean,
    with_bounds,
)
from curate.comparator.fitting.estimators import huber
from curate.comparator.laws import find_law
from curate.errors import MeasurementError

LAW, CURVE = find_law("chinchilla"), find_law("sigmoid")
LAW_TRUTH = {"E": 0.5, "A": 40.0, "B": 100.0, "alpha": 0.25, "beta": 0.25}
CURVE_TRUTH = {"a": -0.7, "x0": 0.9, "k": 6.0, "b": 1.0}
TARGET = {"params": np.array([7e9]), "tokens": np.array([4e12])}
ANCHORS = [(0.0, 1.0)]
BOUNDS = {"a": (-1.0, 0.0), "b": (0.0, 1.0)}


def theta(law: object, truth: dict[str, float]) -> np.ndarray:
    return np.array([truth[n] for n in law.names])  # type: ignore[attr-defined]


def true_metric() -> float:
    loss = LAW.predict(theta(LAW, LAW_TRUTH), TARGET)
    return float(CURVE.predict(theta(CURVE, CURVE_TRUTH), {"loss": loss})[0])


def world(seed: int, *, noise: float = 0.005) -> tuple[dict[str, np.ndarray], np.ndarray, list[str], Checkpoints]:
    """16 runs of 12 checkpoints; each run has its own error, which its checkpoints share."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(2e8, 1.3e9, 4), 4)
    tokens = params * np.tile([20.0, 40.0, 100.0, 200.0], 4)
    runs = [f"run{i}" for i in range(16)]
    losses, metric, final = [], [], []
    for n, d in zip(params, tokens, strict=True):
        own = rng.normal(0, [noise, 0.01])
        seen = d * np.linspace(0.2, 1.0, 12)
        loss = LAW.predict(theta(LAW, LAW_TRUTH), {"params": np.full(12, n), "tokens": seen}) * np.exp(own[0])
        losses.append(loss + 0.001 * rng.standard_normal(12))
        shown = CURVE.predict(theta(CURVE, CURVE_TRUTH), {"loss": losses[-1]})
        metric.append(shown + own[1] + 0.003 * rng.standard_normal(12))
        final.append(losses[-1][-3:].mean())
    checkpoints = Checkpoints(np.repeat(runs, 12), np.concatenate(losses), np.concatenate(metric))
    return {"params": params, "tokens": tokens}, np.array(final), runs, checkpoints


def chained(number: int, **how: object) -> TwoStep:
    inputs, losses, runs, checkpoints = world(number)
    return fit_two_step(
        inputs, losses, runs, smooth(checkpoints, window=3, skip_share=0.1),
        anchors=ANCHORS, second_bounds=BOUNDS, **{"draws": 0, **how},  # type: ignore[arg-type]
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.integers(1, 6))
def test_trailing_means_are_what_a_loop_gives(values: list[float], window: int) -> None:
    slow = [np.mean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    assert trailing_mean(values, window) == pytest.approx(slow, abs=1e-9)


def test_smoothing_stays_within_a_run_and_leaves_out_the_first_checkpoints() -> None:
    raw = Checkpoints(np.array(["a", "b", "a", "a", "b"]), np.array([1.0, 10, 2, 3, 20]), np.array([0.0, 5, 0, 3, 7]))
    kept = smooth(raw, window=2, skip_share=0.3)
    assert kept.run.tolist() == ["a", "a", "b"]  # one of three and, rounded up, one of two
    assert kept.losses.tolist() == [2.0, 2.5, 20.0]
    assert kept.metric.tolist() == [0.0, 1.5, 7.0]
    with pytest.raises(MeasurementError, match="window"):
        smooth(raw, window=0)


def test_the_known_chain_is_predicted_a_hundred_times_beyond_its_runs() -> None:
    errors = [chained(seed).predict(TARGET).metric[0] / true_metric() - 1 for seed in range(6)]
    assert np.abs(errors).mean() < 0.03


def test_intervals_by_run_hold_the_truth() -> None:
    """Eight worlds whose runs have errors that their checkpoints share, predicted 500 times beyond their compute.
    Over 60 such worlds all 60 were held by 95% intervals .08 wide: five parameters on 16 runs make them wide.
    """
    held = []
    for seed in range(8):
        predicted = chained(seed, draws=80, seed=seed).predict(TARGET)
        held.append(bool(predicted.metric_low[0] <= true_metric() <= predicted.metric_high[0]))
        assert predicted.metric_low[0] < predicted.metric[0] < predicted.metric_high[0]
        assert predicted.loss_low[0] < predicted.loss[0] < predicted.loss_high[0]
    assert sum(held) >= 6


def test_both_steps_are_drawn_on_the_same_runs_and_the_seed_decides() -> None:
    one, same, other = chained(0, draws=40, seed=3), chained(0, draws=40, seed=3), chained(0, draws=40, seed=4)
    assert np.array_equal(one.first_draws, same.first_draws) and np.array_equal(one.second_draws, same.second_draws)
    assert not np.array_equal(one.first_draws, other.first_draws)
    assert one.first_draws.shape == (40, 5) and one.second_draws.shape == (40, 4)
    assert one.runs == 16 and one.seed == 3


def test_without_draws_there_is_no_interval() -> None:
    predicted = chained(0).predict(TARGET)
    assert predicted.draws == 0
    assert np.isnan(predicted.metric_low).all() and np.isnan(predicted.loss_high).all()
    assert np.isfinite(predicted.metric).all()


def test_an_anchor_and_bounds_keep_the_ceiling_where_it_belongs() -> None:
    inputs, losses, runs, checkpoints = world(1)
    free = fit_two_step(inputs, losses, runs, checkpoints, draws=0)
    held = fit_two_step(inputs, losses, runs, checkpoints, anchors=ANCHORS, second_bounds=BOUNDS, draws=0)
    at_no_loss = [float(c.second.predict({"loss": np.array([1e-6])})[0]) for c in (free, held)]
    assert abs(at_no_loss[1] - 1.0) < 0.02
    assert abs(at_no_loss[1] - 1.0) < abs(at_no_loss[0] - 1.0)


def test_an_exponential_second_step_and_another_first_law_work_alike() -> None:
    inputs, losses, runs, checkpoints = world(2)
    errors = Checkpoints(checkpoints.run, checkpoints.losses, 1 - checkpoints.metric)
    found = fit_two_step(
        inputs, losses, runs, errors, first="overtraining", second="exponential",
        second_estimator=huber(0.01, space="linear"), draws=0,
    )  # fmt: skip
    assert found.first.law.name == "overtraining" and found.second.law.name == "exponential"
    assert 0 < found.predict(TARGET).metric[0] < 1


def test_one_step_fits_the_metric_itself() -> None:
    inputs, losses, _, _ = world(0)
    metric = CURVE.predict(theta(CURVE, CURVE_TRUTH), {"loss": losses})
    found = fit_one_step(inputs, metric)
    assert np.abs(found.predict(inputs) - metric).max() < 0.02
    assert found.estimator.name == "least squares"


def test_mistakes_get_one_sentence() -> None:
    inputs, losses, runs, checkpoints = world(0)
    stranger = Checkpoints(
        np.append(checkpoints.run, "ghost"), np.append(checkpoints.losses, 1.0), np.append(checkpoints.metric, 0.5)
    )
    with pytest.raises(MeasurementError, match="Checkpoints of run 'ghost'"):
        fit_two_step(inputs, losses, runs, stranger)
    with pytest.raises(MeasurementError, match="15 runs for 16 losses"):
        fit_two_step(inputs, losses, runs[:-1], checkpoints)
    with pytest.raises(MeasurementError, match="no parameter 'c' to bound"):
        with_bounds(CURVE, {"c": (0.0, 1.0)})
    with pytest.raises(MeasurementError, match="'E' has units"):
        with_bounds(LAW, {"E": (0.0, 1.0)})
    with pytest.raises(MeasurementError, match="needs more than 5 runs, not 1"):
        fit_two_step(
            inputs,
            losses,
            ["run0"] * 16,
            Checkpoints(np.array(["run0"] * 5), np.linspace(1, 2, 5), np.linspace(0.3, 0.5, 5)),
        )
