"""Two-step predictions of a downstream metric: a law for a task's loss, then a curve from that loss to the metric.

Step 1 is fitted on one point a run (its last checkpoints averaged), step 2 on every checkpoint of the same runs (Bhagia
et al. 2024, arXiv:2412.04403: Chinchilla, then a sigmoid; Gadre et al. 2024, arXiv:2403.08540: over-training, then an
exponential). Both steps are resampled by run, with the same runs in both, and chained draw by draw: an interval that
resampled checkpoints, or the steps apart, would be far too narrow. What it does not hold: a wrong form. `one_step`
fits the metric from N and D directly, for comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.comparator.fit import Fit, fit, resample
from curate.comparator.fitting.estimators import Estimator, huber, least_squares
from curate.comparator.laws import Array, Inputs, Law, find_law
from curate.errors import MeasurementError

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Checkpoints:
    """Measurements of checkpoints, in order of training within each run: run (n,), losses (n,), metric (n,)."""

    run: npt.NDArray[np.str_]
    losses: Array
    metric: Array


@dataclass(frozen=True)
class Prediction:
    """Of the metric and of the loss on the way, at m points; intervals at `confidence`, NaN without draws."""

    metric: Array
    metric_low: Array
    metric_high: Array
    loss: Array
    loss_low: Array
    loss_high: Array
    confidence: float
    draws: int


@dataclass(frozen=True)
class TwoStep:
    """Both fits, and their parameters on the same resampled runs, (B, p) and (B, q)."""

    first: Fit
    second: Fit
    first_draws: Array
    second_draws: Array
    runs: int
    seed: int

    def predict(self, inputs: Inputs, *, confidence: float = 0.95) -> Prediction:
        """Metric and loss at inputs (m,) of the first law, with percentile intervals over resampled runs."""
        loss = self.first.predict(inputs)
        metric = self.second.predict({"loss": loss})
        losses = self.first.law.predict(self.first_draws, inputs)  # (B, m)
        metrics = np.stack(
            [
                self.second.law.predict(theta, {"loss": drawn})
                for theta, drawn in zip(self.second_draws, losses, strict=True)
            ]
            or [np.full_like(metric, np.nan)]
        )
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        loss_low, loss_high = np.quantile(losses, tails, axis=0) if len(losses) else np.full((2, len(loss)), np.nan)
        metric_low, metric_high = np.quantile(metrics, tails, axis=0)
        return Prediction(metric, metric_low, metric_high, loss, loss_low, loss_high, confidence, len(losses))


def smooth(checkpoints: Checkpoints, *, window: int = 1, skip_share: float = 0.0) -> Checkpoints:
    """Leave out the first `skip_share` of each run's checkpoints (rounded up), then replace each by the mean of itself
    and up to `window` - 1 before it.
    """
    if window < 1 or not 0 <= skip_share < 1:
        raise MeasurementError(f"A window of at least 1 and a share below 1, not {window} and {skip_share}.")
    kept: list[Checkpoints] = []
    for name in dict.fromkeys(checkpoints.run.tolist()):
        rows = np.flatnonzero(checkpoints.run == name)
        rows = rows[int(np.ceil(skip_share * len(rows))) :]
        kept.append(
            Checkpoints(
                checkpoints.run[rows],
                trailing_mean(checkpoints.losses[rows], window),
                trailing_mean(checkpoints.metric[rows], window),
            )
        )
    return Checkpoints(*(np.concatenate([getattr(c, f) for c in kept]) for f in ("run", "losses", "metric")))


def trailing_mean(values: npt.ArrayLike, window: int) -> Array:
    """Mean of each value and up to `window` - 1 before it, (n,) to (n,)."""
    totals = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    end = np.arange(1, len(totals))
    begin = np.maximum(end - window, 0)
    return (totals[end] - totals[begin]) / (end - begin)


def fit_two_step(
    inputs: Inputs,
    losses: npt.ArrayLike,
    runs: Sequence[str],
    checkpoints: Checkpoints,
    *,
    first: Law | str = "chinchilla",
    second: Law | str = "sigmoid",
    first_estimator: Estimator | None = None,
    second_estimator: Estimator | None = None,
    second_bounds: Bounds | None = None,
    anchors: Sequence[tuple[float, float]] = (),
    draws: int = 200,
    seed: int = 0,
) -> TwoStep:
    """Fit the loss (n,) of `runs` (n,) at inputs (n,), and the metric from the loss over `checkpoints` of these runs.

    `anchors` are points (loss, metric) that step 2 has to know besides the data, such as a perfect score at no loss;
    `second_bounds` narrows parameters of the second law. Step 1 is by Huber(1e-3) on log loss and step 2 by least
    squares unless told otherwise. `draws` resamplings by run give the intervals; 0 does without. Raises
    MeasurementError for checkpoints of a run that step 1 does not have.
    """
    first, second = (find_law(law) if isinstance(law, str) else law for law in (first, second))
    second = with_bounds(second, second_bounds or {})
    first_estimator, second_estimator = first_estimator or huber(1e-3), second_estimator or least_squares()
    names = np.asarray(runs)
    values = np.asarray(losses, dtype=float)
    if len(names) != len(values):
        raise MeasurementError(f"{len(names)} runs for {len(values)} losses: step 1 needs one name a loss.")
    if strangers := sorted(set(checkpoints.run.tolist()) - set(names.tolist())):
        raise MeasurementError(f"Checkpoints of run {strangers[0]!r}, of which step 1 has no loss; leave them out.")
    # a loss of no bits is outside what `fit` takes; for a curve in the loss itself a millionth of a bit is the same
    from_loss = np.concatenate([checkpoints.losses, [max(loss, 1e-6) for loss, _ in anchors]])
    metric = np.concatenate([checkpoints.metric, [value for _, value in anchors]])
    one = fit(first, inputs, values, estimator=first_estimator)
    two = fit(second, {"loss": from_loss}, metric, estimator=second_estimator)
    if not draws:
        return TwoStep(one, two, np.empty((0, len(one.theta))), np.empty((0, len(two.theta))), len(names), seed)
    distinct, of_run = np.unique(names, return_inverse=True)
    counts = _draw_runs(len(distinct), needed=len(first.parameters), draws=draws, seed=seed)
    of_checkpoint = np.searchsorted(distinct, checkpoints.run)
    always = np.ones((draws, len(anchors)))
    return TwoStep(
        first=one,
        second=two,
        first_draws=resample(one, inputs, values, weights=counts[:, of_run]),
        second_draws=resample(
            two, {"loss": from_loss}, metric, weights=np.concatenate([counts[:, of_checkpoint], always], axis=1)
        ),
        runs=len(distinct),
        seed=seed,
    )


def fit_one_step(
    inputs: Inputs,
    metric: npt.ArrayLike,
    *,
    law: Law | str = "one_step",
    estimator: Estimator | None = None,
    bounds: Bounds | None = None,
) -> Fit:
    """The metric (n,) from inputs (n,) without a loss on the way; least squares unless told otherwise."""
    found = with_bounds(find_law(law) if isinstance(law, str) else law, bounds or {})
    return fit(found, inputs, metric, estimator=estimator or least_squares())


def with_bounds(law: Law, bounds: Bounds) -> Law:
    """`law` with other bounds on some parameters; raises MeasurementError for an unknown name, and for a parameter
    with units in a law that is fitted in scaled coordinates.
    """
    if unknown := sorted(set(bounds) - set(law.names)):
        raise MeasurementError(f"Law {law.name!r} has no parameter {unknown[0]!r} to bound; it has {law.names}.")
    scaled = [p.name for p in law.parameters if p.name in bounds and (p.kind != "plain" or p.of is not None)]
    if law.centred and scaled:
        raise MeasurementError(f"Law {law.name!r}: {scaled[0]!r} has units that the fit rescales: no bounds for it.")
    narrowed = tuple(
        replace(p, lower=float(bounds[p.name][0]), upper=float(bounds[p.name][1])) if p.name in bounds else p
        for p in law.parameters
    )
    return replace(law, parameters=narrowed)


def _draw_runs(runs: int, *, needed: int, draws: int, seed: int) -> Array:
    """How often each run is drawn, (B, runs): with replacement, at least `needed` different ones in each draw."""
    if runs <= needed:
        raise MeasurementError(f"Resampling by run needs more than {needed} runs, not {runs}; pass draws=0.")
    rng = np.random.default_rng(seed)
    counts = np.zeros((draws, runs))
    for row in counts:
        while (row > 0).sum() < needed:
            row[:] = np.bincount(rng.integers(0, runs, runs), minlength=runs)
    return counts
