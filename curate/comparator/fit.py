"""Fitting a law: an estimator by name, many starts and many bootstraps as one batch, and a certificate of what came
out.

Starts cover the box of the searched parameters, with the linear ones solved inside (starts.py); all are polished
(descent.py) in scaled coordinates under a rescaled objective. The certificate says whether the best converged, how
far it moved, what ended at a bound, which other optima there are, how many starts agree, and which parameters the
points do not identify: published fits have failed by each of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.comparator.fitting.certificate import certify
from curate.comparator.fitting.descent import FLOOR, Problem, Scale, Solution, descend
from curate.comparator.fitting.estimators import Estimator, huber, least_absolute, least_squares, log_least_squares
from curate.comparator.fitting.starts import separable_starts
from curate.comparator.laws import Array, Inputs, Law
from curate.comparator.verdict import Certificate
from curate.errors import MeasurementError

__all__ = [
    "Estimator",
    "Fit",
    "fit",
    "huber",
    "law_inputs",
    "least_absolute",
    "least_squares",
    "log_least_squares",
    "refit",
    "resample",
]

MAX_ITERATIONS = 300
PASSING_ITERATIONS, LAST_ITERATIONS = 40, 5000
TOLERANCE = 1e-11  # of the predicted decrease, relative to 1 + objective
BOOTSTRAP_ITERATIONS, BOOTSTRAP_TOLERANCE = 80, 1e-8
SAME_UNIT = {"unique_tokens": "tokens"}  # scaled together: a law may divide the one by the other


@dataclass(frozen=True)
class Fit:
    """A fitted law: parameters in natural units, and what the optimiser can show for them."""

    law: Law
    estimator: Estimator
    theta: Array  # (p,)
    certificate: Certificate
    residuals: Array  # (n,), log prediction - log loss, or prediction - loss for an estimator in linear space

    @property
    def parameters(self) -> dict[str, float]:
        return dict(zip(self.law.names, self.theta.tolist(), strict=True))

    def predict(self, inputs: Inputs) -> Array:
        """Losses at inputs (n,)."""
        return self.law.predict(self.theta, inputs)


@dataclass(frozen=True)
class Scaled:
    """Inputs over their geometric means and the loss unit: the coordinates in which every fit runs."""

    inputs: dict[str, Array]
    centre: dict[str, float]
    loss_unit: float


def fit(
    law: Law,
    inputs: Inputs,
    losses: npt.ArrayLike,
    *,
    estimator: Estimator | None = None,
    weights: npt.ArrayLike | None = None,
) -> Fit:
    """Fit `law` to losses (n,) at inputs (n,) from every start of its grid; the best optimum with its certificate.

    `weights` (n,) >= 0 multiply each point's share of the objective. Raises MeasurementError where an input is missing
    or not positive, where a loss cannot be fitted, or where points are fewer than parameters.
    """
    estimator = estimator or huber()
    law = for_groups(law, inputs)
    values = np.asarray(losses, dtype=float)
    share = checked_weights(weights, len(values))
    if (share > 0).sum() < law.free.sum():
        raise MeasurementError(
            f"Law {law.name!r} has {law.free.sum()} parameters and {(share > 0).sum()} points: add points or take a "
            "law with fewer."
        )
    scaled = scale(law, inputs, values, logarithmic=estimator.logarithmic)
    relative = values / scaled.loss_unit
    targets = np.log(relative) if estimator.logarithmic else relative
    problem = Problem(law, scaled.inputs, targets[None], share[None], estimator.logarithmic)
    starts = separable_starts(law, scaled.inputs, relative, weights=share, logarithmic=estimator.logarithmic)
    scales = residual_scales(estimator, problem, starts, loss_unit=scaled.loss_unit)
    origin = starts
    if estimator.delta > 0 and len(scales) > 1:  # from afar and from near: together they find more of the optima
        origin = np.concatenate([starts, starts])
        starts = np.concatenate([starts, come_down(problem, starts, scales[:-1])])
        scales = scales[-1:]
    found = through(problem, starts, scales, iterations=MAX_ITERATIONS, tolerance=TOLERANCE)
    best = int(np.argmin(found.objective))
    found = insist(problem, found, scales[-1], best=best)
    theta = found.theta[best]
    residuals = problem.residuals(theta[None])[0] * (1.0 if estimator.logarithmic else scaled.loss_unit)
    certificate = certify(
        problem, found, best=best, moved=float(np.abs(theta - origin[best])[law.free].max(initial=0.0)),
        published=published_unit(estimator, scales[-1], scaled.loss_unit),
        objective=objective_as_published(residuals, share, estimator),
    )  # fmt: skip
    natural = law.restore(theta, centre=scaled.centre, loss_unit=scaled.loss_unit)
    return Fit(law, estimator, natural, certificate, residuals)


def refit(found: Fit, inputs: Inputs, samples: Array, *, weights: Array | None = None) -> Array:
    """Parameters (B, p) in natural units of the same law fitted to samples (B, n) of the losses, each started at
    `found`; `weights` (n,) or (B, n).
    """
    samples = np.asarray(samples, dtype=float)
    if found.estimator.logarithmic:
        typical = np.exp(np.log(np.maximum(samples, FLOOR)).mean(axis=0))
        samples = np.maximum(samples, 1e-6 * float(np.exp(np.log(typical).mean())))
    else:
        typical = samples.mean(axis=0)
    return _follow(found, inputs, samples, typical, weights)


def resample(found: Fit, inputs: Inputs, losses: npt.ArrayLike, *, weights: Array) -> Array:
    """Parameters (B, p) in natural units of the same law fitted to the losses (n,) under weights (B, n), each started
    at `found`: a case bootstrap has the counts of its draw as weights, the same for all points of a run.
    """
    values = np.asarray(losses, dtype=float)
    return _follow(found, inputs, values[None], values, weights)


def _follow(found: Fit, inputs: Inputs, samples: Array, typical: Array, weights: npt.ArrayLike | None) -> Array:
    law, estimator = found.law, found.estimator
    scaled = scale(law, inputs, typical, logarithmic=estimator.logarithmic)
    share = np.ones((1, len(typical))) if weights is None else np.atleast_2d(np.asarray(weights, dtype=float))
    if share.shape[1] != len(typical) or not (np.isfinite(share).all() and (share >= 0).all()):
        raise MeasurementError(f"Weights must be finite, not negative, and of shape (B, {len(typical)}).")
    start = np.clip(law.reduce(found.theta, centre=scaled.centre, loss_unit=scaled.loss_unit), law.lower, law.upper)
    relative = samples / scaled.loss_unit
    targets = np.log(relative) if estimator.logarithmic else relative
    problem = Problem(law, scaled.inputs, targets, share, estimator.logarithmic)
    starts = np.tile(start, (max(len(samples), len(share)), 1))
    scales = residual_scales(estimator, problem, starts, loss_unit=scaled.loss_unit)
    scales = scales[-1:] if estimator.delta > 0 else scales  # the start is near: stay in its basin
    ends = through(problem, starts, scales, iterations=BOOTSTRAP_ITERATIONS, tolerance=BOOTSTRAP_TOLERANCE)
    return law.restore(ends.theta, centre=scaled.centre, loss_unit=scaled.loss_unit)


def for_groups(law: Law, inputs: Inputs) -> Law:
    """A pooled law with as many parameters as `inputs["group"]` names datasets; any other law as it is."""
    if law.by_group is None or "group" not in inputs:
        return law
    group = np.asarray(inputs["group"])
    groups = np.unique(group)
    if not np.array_equal(groups, np.arange(len(groups))):
        raise MeasurementError(f"Law {law.name!r} needs datasets numbered 0, 1, ... in 'group', not {groups.tolist()}.")
    return law if law.terms and max(t.group or 0 for t in law.terms) + 1 == len(groups) else law.by_group(len(groups))


def checked_weights(weights: npt.ArrayLike | None, count: int) -> Array:
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=float)
    if share.shape != (count,) or not (np.isfinite(share).all() and (share >= 0).all() and share.any()):
        raise MeasurementError(f"Weights must be {count} finite numbers, none negative and not all 0.")
    return share


def scale(law: Law, inputs: Inputs, values: Array, *, logarithmic: bool = True) -> Scaled:
    """Centre the inputs that `law` needs; raises MeasurementError where an input, or under a logarithm a loss, is not
    positive and finite.
    """
    columns: dict[str, Array] = {}
    for name in law.inputs:
        column = np.asarray(inputs[name], dtype=float) if name in inputs else np.array([np.nan])
        if not np.isfinite(column).all() or not (name in law.labels or (column > 0).all()):
            raise MeasurementError(f"Law {law.name!r} needs a positive {name!r} for every point.")
        if column.shape != values.shape:
            raise MeasurementError(
                f"Law {law.name!r}: {name!r} has {len(column)} values and the loss {len(values)}; give one a point."
            )
        columns[name] = column
    if not np.isfinite(values).all() or (logarithmic and (values <= 0).any()):
        raise MeasurementError(
            f"Law {law.name!r} is fitted on log loss: every value must be positive and finite."
            if logarithmic
            else f"Law {law.name!r}: every value must be finite."
        )
    centre = dict.fromkeys(columns, 1.0)
    unit = 1.0
    if law.centred:
        for name in columns:
            like = SAME_UNIT.get(name, name)
            if name not in law.labels:
                centre[name] = float(np.exp(np.log(columns[like if like in columns else name]).mean()))
        positive = values > 0
        unit = float(np.exp(np.log(values[positive]).mean())) if positive.any() else 1.0
    return Scaled({n: c / centre[n] for n, c in columns.items()}, centre, unit)


ABSOLUTE_STEPS = 7  # decades below the typical residual at which absolute values stand in for Huber's function
SMALLEST_UNIT = 1e-10
WIDER = 3.0  # a threshold so far below the residuals is nearly that of absolute values: come down to it


def residual_scales(estimator: Estimator, problem: Problem, starts: Array, *, loss_unit: float) -> list[Scale]:
    """The units of residuals to go through: the threshold, from the residuals' own size down where it is far below;
    that size under least squares; a falling series of thresholds for absolute values.
    """
    threshold = estimator.delta if estimator.logarithmic else estimator.delta / loss_unit
    residuals = problem.residuals(starts)
    sizes = np.sqrt((problem.weights * residuals**2).sum(axis=1) / problem.weights.sum(axis=1))
    typical = max(float(np.min(sizes[np.isfinite(sizes)], initial=1.0)), SMALLEST_UNIT)
    if np.isinf(estimator.delta):
        return [Scale(typical, False)]
    if threshold > 0:
        wider = [Scale(typical, True)] if typical > WIDER * threshold else []
        return [*wider, Scale(threshold, True)]
    return [Scale(typical * 10.0**-step, True) for step in range(ABSOLUTE_STEPS)]


def through(problem: Problem, starts: Array, scales: list[Scale], *, iterations: int, tolerance: float) -> Solution:
    """Descend under each scale in turn, each from where the one before ended; only the last has to converge."""
    starts = come_down(problem, starts, scales[:-1])
    return descend(problem, starts, scales[-1], iterations=iterations, tolerance=tolerance)


def come_down(problem: Problem, starts: Array, scales: list[Scale]) -> Array:
    """Where a short descent under each scale in turn leads from the starts."""
    for passing in scales:
        starts = descend(problem, starts, passing, iterations=PASSING_ITERATIONS, tolerance=1e-6).theta
    return starts


def insist(problem: Problem, found: Solution, scale: Scale, *, best: int) -> Solution:
    """The same with the best element taken on where its valley is so flat that it has not converged yet."""
    if found.converged[best]:
        return found
    row = problem.rows(np.array([best]))
    more = descend(row, found.theta[[best]], scale, iterations=LAST_ITERATIONS, tolerance=TOLERANCE)
    theta, objective, norm = (v.copy() for v in (found.theta, found.objective, found.gradient_norm))
    converged = found.converged.copy()
    theta[best], objective[best] = more.theta[0], more.objective[0]
    norm[best], converged[best] = more.gradient_norm[0], more.converged[0]
    return Solution(theta, objective, norm, converged)


def published_unit(estimator: Estimator, scale: Scale, loss_unit: float) -> float:
    """What an objective in scaled residuals is multiplied by to be as papers print it."""
    unit = scale.unit if estimator.logarithmic else scale.unit * loss_unit
    return unit if estimator.delta == 0 else unit * unit


def objective_as_published(residuals: Array, weights: Array, estimator: Estimator) -> float:
    """Sum of huber_delta(residual), of half squares or of absolute values, in the losses' units or in logs."""
    size = np.abs(residuals)
    if estimator.delta == 0:
        return float((weights * size).sum())
    delta = estimator.delta
    each = 0.5 * size * size
    if np.isfinite(delta):
        each = np.where(size <= delta, each, delta * (size - 0.5 * delta))
    return float((weights * each).sum())


def law_inputs(law: Law, columns: Mapping[str, Array]) -> dict[str, Array] | None:
    """The inputs of `law` from columns of the points, or None where one of them is missing somewhere."""
    chosen = {name: columns[name] for name in law.inputs if name in columns}
    complete = len(chosen) == len(law.inputs) and all(np.isfinite(v).all() for v in chosen.values())
    return chosen if complete else None
