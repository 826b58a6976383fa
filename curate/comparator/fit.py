"""Fitting a law: Huber loss on log residuals, many starts and many bootstraps as one batch, and a certificate of what
came out.

The objective is sum_i huber((log prediction_i - log loss_i) / delta), of order one whatever the losses' units; with
an infinite delta it is log least squares. Starts come from a grid over the non-linear parameters with the linear ones
solved for under non-negativity (variable projection, Golub and Pereyra 1973); all of them are polished by a projected
Levenberg-Marquardt on the Huber loss's own curvature, batched over starts or bootstraps. Published objectives at
delta 1e-3 stop early under default tolerances because they are 1e-3 of a unit deep: hence the scaling, and the
certificate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
import numpy.typing as npt

from curate.comparator.laws import Array, Inputs, Law
from curate.comparator.verdict import Certificate
from curate.errors import MeasurementError

MAX_ITERATIONS = 200
TOLERANCE = 1e-10  # of the predicted decrease, relative to 1 + objective
BASIN = 1e-5  # optima whose objectives differ by more (relatively) count as distinct


@dataclass(frozen=True)
class Estimator:
    """Huber on log loss with threshold `delta` (in units of log loss, about relative error); infinite = log least
    squares.
    """

    delta: float = 1e-3

    @property
    def name(self) -> str:
        return f"Huber({self.delta:.3g}) on log loss" if np.isfinite(self.delta) else "least squares on log loss"


@dataclass(frozen=True)
class Fit:
    """A fitted law: parameters in natural units, and what the optimiser can show for them."""

    law: Law
    estimator: Estimator
    theta: Array  # (p,)
    certificate: Certificate
    residuals: Array  # (n,), log prediction - log loss

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


def fit(law: Law, inputs: Inputs, losses: npt.ArrayLike, *, estimator: Estimator | None = None) -> Fit:
    """Fit `law` to losses (n,) > 0 at inputs (n,) > 0 from every start of its grid; the best optimum with its
    certificate.
    """
    estimator = estimator or Estimator()
    values = np.asarray(losses, dtype=float)
    scaled = scale(law, inputs, values)
    logs = np.log(values / scaled.loss_unit)
    starts = separable_starts(law, scaled.inputs, logs)
    batch = np.broadcast_to(logs, (len(starts), len(logs)))
    ends, objective, gradient, converged = minimise(law, scaled.inputs, batch, starts, delta=estimator.delta)
    best = int(np.argmin(objective))
    theta = ends[best]
    certificate = Certificate(
        converged=bool(converged[best]),
        gradient_norm=float(gradient[best]),
        moved=float(np.abs(theta - starts[best]).max()),
        at_bound=bound_names(law, theta),
        distinct_optima=count_distinct(objective[converged] if converged.any() else objective),
        condition=condition(law, scaled.inputs, theta),
        starts=len(starts),
        objective=objective_as_published(float(objective[best]), estimator.delta),
    )
    residuals = np.log(law.predict(theta, scaled.inputs)) - logs
    natural = law.restore(theta, centre=scaled.centre, loss_unit=scaled.loss_unit)
    return Fit(law, estimator, natural, certificate, residuals)


def refit(found: Fit, inputs: Inputs, samples: Array) -> Array:
    """Parameters (B, p) in natural units of the same law fitted to samples (B, n) of the losses, each started at
    `found`.
    """
    law = found.law
    scaled = scale(law, inputs, np.exp(np.log(np.maximum(samples, 1e-12)).mean(axis=0)))
    start = np.clip(law.reduce(found.theta, centre=scaled.centre, loss_unit=scaled.loss_unit), law.lower, law.upper)
    logs = np.log(np.maximum(samples, 1e-6 * scaled.loss_unit) / scaled.loss_unit)
    starts = np.broadcast_to(start, (len(samples), len(start)))
    ends = minimise(law, scaled.inputs, logs, starts, delta=found.estimator.delta, iterations=60, tolerance=1e-7)[0]
    return law.restore(ends, centre=scaled.centre, loss_unit=scaled.loss_unit)


def scale(law: Law, inputs: Inputs, values: Array) -> Scaled:
    """Centre the inputs that `law` needs; raises MeasurementError where an input or a loss is not positive and
    finite.
    """
    for name in law.inputs:
        if name not in inputs or not (np.isfinite(inputs[name]).all() and (inputs[name] > 0).all()):
            raise MeasurementError(f"Law {law.name!r} needs a positive {name!r} for every point.")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise MeasurementError(f"Law {law.name!r} is fitted on log loss: every value must be positive and finite.")
    centre = {n: float(np.exp(np.log(inputs[n]).mean())) if law.centred else 1.0 for n in law.inputs}
    unit = float(np.exp(np.log(values).mean()))
    return Scaled({n: np.asarray(inputs[n], dtype=float) / centre[n] for n in law.inputs}, centre, unit)


def separable_starts(law: Law, inputs: Inputs, logs: Array) -> Array:
    """Starts (s, p): the grid of the searched parameters, each with the linear ones at their weighted non-negative
    optimum.
    """
    searched = [i for i, p in enumerate(law.parameters) if p.name not in law.linear]
    solved = [i for i, p in enumerate(law.parameters) if p.name in law.linear]
    for i in searched:
        if not law.parameters[i].grid:
            raise MeasurementError(f"Law {law.name!r}: give parameter {law.parameters[i].name!r} a grid of starts.")
    grid = np.array(list(product(*(law.parameters[i].grid for i in searched)))).reshape(-1, len(searched))
    starts = np.ones((len(grid), len(law.parameters)))
    starts[:, searched] = grid
    if not solved:
        return starts
    # relative errors stand for log errors: weight each row by 1 / loss
    basis = law.jacobian(starts, inputs)[:, :, solved] / np.exp(logs)[None, :, None]
    best_error = np.full(len(grid), np.inf)
    subsets = chain.from_iterable(combinations(range(len(solved)), k) for k in range(1, len(solved) + 1))
    for subset in subsets:  # non-negative least squares by enumerating which amplitudes are in: at most a handful
        columns = basis[:, :, list(subset)]
        gram = np.einsum("snk,snl->skl", columns, columns) + 1e-10 * np.eye(len(subset))
        solution = np.linalg.solve(gram, columns.sum(axis=1)[..., None])[..., 0]
        error = ((np.einsum("snk,sk->sn", columns, solution) - 1.0) ** 2).sum(axis=1)
        better = (solution > 0).all(axis=1) & (error < best_error)
        best_error[better] = error[better]
        chosen = np.zeros((len(grid), len(solved)))
        chosen[:, list(subset)] = solution
        starts[np.ix_(better, solved)] = chosen[better]
    # an amplitude at exactly zero leaves its exponent without a gradient: start just inside
    starts[:, solved] = np.maximum(starts[:, solved], 1e-3)
    return np.clip(starts, law.lower, law.upper)


def minimise(
    law: Law,
    inputs: Inputs,
    logs: Array,
    starts: Array,
    *,
    delta: float,
    iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
) -> tuple[Array, Array, Array, npt.NDArray[np.bool_]]:
    """Projected Levenberg-Marquardt over a batch: logs (B, n), starts (B, p) inside the bounds.

    Returns parameters (B, p), objectives (B,), scaled projected gradient norms (B,), converged (B,). Finished
    elements leave the batch.
    """
    unit = delta if np.isfinite(delta) else 1.0
    huber = np.isfinite(delta)
    theta = np.array(starts, dtype=float)
    damping = np.full(len(theta), 1e-3)
    objective = cost(log_residuals(law, inputs, logs, theta) / unit, huber)
    gradient_norm = np.full(len(theta), np.inf)
    converged = np.zeros(len(theta), dtype=bool)
    active = np.arange(len(theta))
    for _ in range(iterations):
        at = theta[active]
        gradient, hessian, majorant = curvature(law, inputs, logs[active], at, unit, huber)
        blocked = ((at <= law.lower) & (gradient > 0)) | ((at >= law.upper) & (gradient < 0))
        gradient = np.where(blocked, 0.0, gradient)
        diagonal = np.diagonal(majorant, axis1=1, axis2=2) + 1e-12
        gradient_norm[active] = np.abs(gradient / np.sqrt(diagonal)).max(axis=1)
        system = np.where(blocked[:, :, None] | blocked[:, None, :], 0.0, hessian)
        index = np.arange(system.shape[1])
        system[:, index, index] += damping[active, None] * diagonal + np.where(blocked, 1.0, 0.0) + 1e-12
        step = -np.linalg.solve(system, gradient[..., None])[..., 0]
        proposal = np.clip(at + step, law.lower, law.upper)
        trial = cost(log_residuals(law, inputs, logs[active], proposal) / unit, huber)
        improved = trial < objective[active]
        decrease = objective[active] - trial
        small_step = np.abs((proposal - at) * gradient).sum(axis=1) <= tolerance * (1.0 + objective[active])
        theta[active[improved]] = proposal[improved]
        objective[active[improved]] = trial[improved]
        damping[active] = np.where(improved, damping[active] * 0.2, damping[active] * 6.0).clip(1e-12, 1e12)
        # no predicted decrease left: at the optimum; a huge damping with none either means rounding is the limit
        finished = small_step & (~improved | (decrease <= tolerance * (1.0 + objective[active])))
        converged[active[finished]] = True
        stuck = ~improved & (damping[active] >= 1e12)
        converged[active[stuck]] = gradient_norm[active[stuck]] < 1e-3
        active = active[~(finished | stuck)]
        if not len(active):
            break
    return theta, objective, gradient_norm, converged


def log_residuals(law: Law, inputs: Inputs, logs: Array, theta: Array) -> Array:
    return np.log(np.maximum(law.predict(theta, inputs), 1e-12)) - logs


def cost(u: Array, huber: bool) -> Array:
    """Sum over points of the Huber function with threshold one, or half squares; u (B, n) -> (B,)."""
    if not huber:
        return 0.5 * (u * u).sum(axis=1)
    size = np.abs(u)
    return np.where(size <= 1.0, 0.5 * size * size, size - 0.5).sum(axis=1)


def curvature(
    law: Law, inputs: Inputs, logs: Array, theta: Array, unit: float, huber: bool
) -> tuple[Array, Array, Array]:
    """Gradient (B, p), Gauss-Newton curvature of the Huber cost (B, p, p) and its reweighted majorant, which scales
    the damping.
    """
    prediction = np.maximum(law.predict(theta, inputs), 1e-12)
    u = (np.log(prediction) - logs) / unit
    jacobian = law.jacobian(theta, inputs) / (prediction * unit)[..., None]
    transposed = np.swapaxes(jacobian, 1, 2)
    if not huber:
        full = transposed @ jacobian
        return (transposed @ u[..., None])[..., 0], full, full
    inside = (np.abs(u) <= 1.0).astype(float)
    gradient = (transposed @ np.clip(u, -1.0, 1.0)[..., None])[..., 0]
    majorant = transposed @ (jacobian / np.maximum(np.abs(u), 1.0)[..., None])
    return gradient, transposed @ (jacobian * inside[..., None]), majorant


def objective_as_published(scaled: float, delta: float) -> float:
    """Sum of huber_delta(residual) in log-loss units, as papers print it."""
    return scaled * delta * delta if np.isfinite(delta) else scaled


def bound_names(law: Law, theta: Array) -> tuple[str, ...]:
    near = np.isclose(theta, law.lower, rtol=1e-6, atol=1e-9) | np.isclose(theta, law.upper, rtol=1e-6)
    return tuple(name for name, at in zip(law.names, near, strict=True) if at)


def count_distinct(objectives: Array) -> int:
    """How many different optima the starts ended in, by objective."""
    ordered = np.sort(objectives)
    return 1 + int((np.diff(ordered) > BASIN * (1.0 + ordered[:-1])).sum())


def condition(law: Law, inputs: Inputs, theta: Array) -> float:
    """Condition number of the log-loss Jacobian with columns of unit length; infinite where a parameter has no
    effect.
    """
    jacobian = law.jacobian(theta, inputs) / law.predict(theta, inputs)[:, None]
    length = np.linalg.norm(jacobian, axis=0)
    if (length == 0).any():
        return float("inf")
    return float(np.linalg.cond(jacobian / length))


def law_inputs(law: Law, columns: Mapping[str, Array]) -> dict[str, Array] | None:
    """The inputs of `law` from columns of the points, or None where one of them is missing somewhere."""
    chosen = {name: columns[name] for name in law.inputs if name in columns}
    complete = len(chosen) == len(law.inputs) and all(np.isfinite(v).all() for v in chosen.values())
    return chosen if complete else None
