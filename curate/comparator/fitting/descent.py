"""From starts to optima: projected Levenberg-Marquardt on the Huber cost's own curvature, over a batch of starts or
bootstraps.

Laws that are sums of power terms run compiled (solver.py), all others as numpy batches (`by_batch`); the steps are the
same. Residuals are divided by a unit (the Huber threshold, or their own size under least squares), so that the cost is
of order n whatever the units of the losses: published objectives at delta 1e-3 stop early under default tolerances
because they are 1e-3 of a unit deep.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.comparator.laws import Array, Inputs, Law
from curate.comparator.laws.power_sums import argument

FLOOR = 1e-12  # of a prediction under a logarithm, as in solver.py


@dataclass(frozen=True)
class Problem:
    """What is fitted: targets and weights (B, n), or (1, n) where they are the same for the whole batch."""

    law: Law
    inputs: Inputs
    targets: Array  # logs of losses where `logarithmic`
    weights: Array
    logarithmic: bool

    def residuals(self, theta: Array) -> Array:
        """(B, n), at parameters (B, p)."""
        prediction = self.law.predict(theta, self.inputs)
        return (np.log(np.maximum(prediction, FLOOR)) if self.logarithmic else prediction) - self.targets

    def rows(self, chosen: npt.NDArray[np.intp]) -> "Problem":
        """The problem of these elements of the batch."""
        targets = self.targets[chosen] if len(self.targets) > 1 else self.targets
        weights = self.weights[chosen] if len(self.weights) > 1 else self.weights
        return Problem(self.law, self.inputs, targets, weights, self.logarithmic)


@dataclass(frozen=True)
class Scale:
    """The unit of residuals, and whether the cost is Huber's with its threshold there or half squares."""

    unit: float
    huber: bool


@dataclass(frozen=True)
class Solution:
    """Parameters (B, p), objectives (B,), scaled projected gradient norms (B,), converged (B,)."""

    theta: Array
    objective: Array
    gradient_norm: Array
    converged: npt.NDArray[np.bool_]


def descend(problem: Problem, starts: Array, scale: Scale, *, iterations: int, tolerance: float) -> Solution:
    """Minimise from every start (B, p) inside the bounds; `tolerance` is of the predicted decrease, relative to 1 +
    objective.
    """
    if problem.law.terms:
        return by_terms(problem, starts, scale, iterations=iterations, tolerance=tolerance)
    return by_batch(problem, starts, scale, iterations=iterations, tolerance=tolerance)


def by_terms(problem: Problem, starts: Array, scale: Scale, *, iterations: int, tolerance: float) -> Solution:
    """The compiled solver on a law's power terms."""
    from curate.comparator.fitting.solver import polish  # numba is loaded when something is fitted

    law, n = problem.law, problem.targets.shape[1]
    place = {name: i for i, name in enumerate(law.names)}
    roles = np.array(
        [[-1 if name is None else place[name] for name in (t.amplitude, t.exponent, t.shift)] for t in law.terms]
    )
    sign = np.array([1.0 if t.rising else -1.0 for t in law.terms])
    x = np.stack([np.ones(n) if t.of is None else argument(t, problem.inputs) for t in law.terms])
    present = np.stack(
        [np.ones(n) if t.group is None else (problem.inputs["group"] == t.group).astype(float) for t in law.terms]
    )
    found = polish(
        roles, sign, x, np.log(x), present,
        np.ascontiguousarray(problem.targets), np.ascontiguousarray(problem.weights), np.ascontiguousarray(starts),
        law.lower, law.upper, scale.unit, scale.huber, problem.logarithmic, iterations, tolerance,
    )  # fmt: skip
    return Solution(*found)


def by_batch(problem: Problem, starts: Array, scale: Scale, *, iterations: int, tolerance: float) -> Solution:
    """The same steps in numpy for any law, all elements at once; finished ones leave the batch."""
    with np.errstate(all="ignore"):  # a step too far overflows: its cost is then infinite and the step is not taken
        return _by_batch(problem, starts, scale, iterations=iterations, tolerance=tolerance)


def _by_batch(problem: Problem, starts: Array, scale: Scale, *, iterations: int, tolerance: float) -> Solution:
    law = problem.law
    theta = np.array(starts, dtype=float)
    damping = np.full(len(theta), 1e-3)
    objective = cost(problem, theta, scale)
    norm = np.full(len(theta), np.inf)
    converged = np.zeros(len(theta), dtype=bool)
    active = np.arange(len(theta))
    for _ in range(iterations):
        at, here = theta[active], problem.rows(active)
        gradient, hessian, diagonal = curvature(here, at, scale)
        blocked = outward(law, at, gradient)
        gradient = np.where(blocked, 0.0, gradient)
        norm[active] = np.abs(gradient / np.sqrt(diagonal)).max(axis=1)
        system = np.where(blocked[:, :, None] | blocked[:, None, :], 0.0, hessian)
        index = np.arange(system.shape[1])
        system[:, index, index] += damping[active, None] * diagonal + np.where(blocked, 1.0, 0.0) + 1e-12
        step = -np.linalg.solve(system, gradient[..., None])[..., 0]
        proposal = np.clip(at + step, law.lower, law.upper)
        trial = cost(here, proposal, scale)
        improved = trial < objective[active]
        decrease = objective[active] - trial
        limit = tolerance * (1.0 + objective[active])
        predicted = np.abs(((proposal - at) * gradient).sum(axis=1))
        theta[active[improved]] = proposal[improved]
        objective[active[improved]] = trial[improved]
        damping[active] = np.where(improved, damping[active] * 0.2, damping[active] * 6.0).clip(1e-12, 1e12)
        # no predicted decrease left: at the optimum; a huge damping with none either means rounding is the limit
        finished = (predicted <= limit) & (~improved | (decrease <= limit))
        converged[active[finished]] = True
        stuck = ~improved & (damping[active] >= 1e12) & ~finished
        converged[active[stuck]] = norm[active[stuck]] < 1e-3
        active = active[~(finished | stuck)]
        if not len(active):
            break
    return Solution(theta, objective, gradient_norm(problem, theta, scale), converged)


def gradient_norm(problem: Problem, theta: Array, scale: Scale) -> Array:
    """The largest slope of the cost along a parameter, over the root of its curvature there: (B,); 0 at an optimum.
    Parameters at a bound that the slope pushes against do not count.
    """
    gradient, _, diagonal = curvature(problem, theta, scale)
    inward = np.where(outward(problem.law, theta, gradient), 0.0, gradient)
    return np.abs(inward / np.sqrt(diagonal)).max(axis=1)


def outward(law: Law, theta: Array, gradient: Array) -> npt.NDArray[np.bool_]:
    """(B, p): parameters at a bound that the descent pushes against."""
    return ((theta <= law.lower) & (gradient > 0)) | ((theta >= law.upper) & (gradient < 0))


def cost(problem: Problem, theta: Array, scale: Scale) -> Array:
    """Weighted sum over points of the Huber function of residuals over their unit, or of half squares: (B,)."""
    u = problem.residuals(theta) / scale.unit
    size = np.abs(u)
    each = np.where(size <= 1.0, 0.5 * size * size, size - 0.5) if scale.huber else 0.5 * u * u
    total = (problem.weights * each).sum(axis=1)
    return np.where(np.isfinite(total), total, np.inf)


def curvature(problem: Problem, theta: Array, scale: Scale) -> tuple[Array, Array, Array]:
    """Gradient (B, p), Gauss-Newton curvature of the cost (B, p, p), and the diagonal (B, p) of its reweighted
    majorant, which scales the damping.
    """
    prediction = problem.law.predict(theta, problem.inputs)
    jacobian = problem.law.jacobian(theta, problem.inputs) / scale.unit
    if problem.logarithmic:
        floored = np.maximum(prediction, FLOOR)
        jacobian = jacobian / floored[..., None]
        u = (np.log(floored) - problem.targets) / scale.unit
    else:
        u = (prediction - problem.targets) / scale.unit
    weights = np.broadcast_to(problem.weights, u.shape)
    transposed = np.swapaxes(jacobian, 1, 2)
    if not scale.huber:
        full = transposed @ (jacobian * weights[..., None])
        gradient = (transposed @ (weights * u)[..., None])[..., 0]
        return gradient, full, np.diagonal(full, axis1=1, axis2=2) + 1e-12
    gradient = (transposed @ (weights * np.clip(u, -1.0, 1.0))[..., None])[..., 0]
    inside = weights * (np.abs(u) <= 1.0)
    diagonal = np.einsum("bn,bnp->bp", weights / np.maximum(np.abs(u), 1.0), jacobian**2) + 1e-12
    return gradient, transposed @ (jacobian * inside[..., None]), diagonal
