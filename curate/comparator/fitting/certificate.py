"""What an optimiser can show for its result: convergence, optima and starts that agree, bounds, conditioning, and the
parameters that the points do not identify.

All of it is in the fit's scaled coordinates, where a parameter of order one is the rule, and costs one Jacobian and
one singular value decomposition.
"""

import numpy as np
import numpy.typing as npt

from curate.comparator.fitting.descent import FLOOR, Problem, Solution
from curate.comparator.laws import Array, Inputs, Law
from curate.comparator.verdict import Certificate

BASIN = 1e-5  # optima whose objectives differ by more (relatively) count as distinct
SHOWN_OPTIMA = 8


def certify(
    problem: Problem, found: Solution, *, best: int, moved: float, published: float, objective: float
) -> Certificate:
    """What the optimiser can show: see the fields of `Certificate`."""
    law, theta = problem.law, found.theta[best]
    ended = found.objective[found.converged] if found.converged.any() else found.objective
    optima, counts = distinct(ended)
    return Certificate(
        converged=bool(found.converged[best]),
        gradient_norm=float(found.gradient_norm[best]),
        moved=moved,
        at_bound=bound_names(law, theta),
        distinct_optima=len(optima),
        condition=condition(law, problem.inputs, theta),
        starts=len(found.theta),
        objective=objective,
        unidentified=unidentified(problem, theta),
        optima=tuple(float(v) * published for v in optima[:SHOWN_OPTIMA]),
        agreeing_starts=int(counts[0]),
    )


def bound_names(law: Law, theta: Array) -> tuple[str, ...]:
    """Parameters that ended at a bound; those held by `fix` are not meant."""
    near = np.isclose(theta, law.lower, rtol=1e-6, atol=1e-9) | np.isclose(theta, law.upper, rtol=1e-6)
    return tuple(name for name, at in zip(law.names, near & law.free, strict=True) if at)


def distinct(objectives: Array) -> tuple[Array, npt.NDArray[np.intp]]:
    """The different optima that the starts ended in, by objective, best first, and how many starts each has."""
    ordered = np.sort(objectives)
    first = np.concatenate([[True], np.diff(ordered) > BASIN * (1.0 + ordered[:-1])])
    return ordered[first], np.diff(np.append(np.flatnonzero(first), len(ordered)))


def condition(law: Law, inputs: Inputs, theta: Array) -> float:
    """Condition number of the log-loss Jacobian with columns of unit length; infinite where a parameter has no
    effect.
    """
    prediction = np.maximum(np.abs(law.predict(theta, inputs)), FLOOR)
    jacobian = (law.jacobian(theta, inputs) / prediction[:, None])[:, law.free]
    length = np.linalg.norm(jacobian, axis=0)
    if not np.isfinite(length).all() or (length == 0).any():
        return float("inf")
    return float(np.linalg.cond(jacobian / length))


def unidentified(problem: Problem, theta: Array) -> tuple[str, ...]:
    """Parameters that cannot be told from 0: no effect at all, or less than two standard errors away from it.

    The errors are those of least squares from the Jacobian, with the scatter of the residuals as noise (1.4826 times
    their median size, or their standard deviation where that is less); the location of a sigmoid has no natural 0 and
    is named only without effect. A flat profile can hide a bound that this does not see: profile.py looks.
    """
    law = problem.law
    free = np.flatnonzero(law.free & ~np.isin(law.names, bound_names(law, theta)))
    weights = np.sqrt(problem.weights[0])
    jacobian = law.jacobian(theta, problem.inputs)[:, free]
    if problem.logarithmic:
        jacobian = jacobian / np.maximum(law.predict(theta, problem.inputs), FLOOR)[:, None]
    jacobian = jacobian * weights[:, None]
    residuals = (problem.residuals(theta[None])[0] * weights)[weights > 0]
    spare = max(len(residuals) - len(free), 1)
    noise = min(float(np.sqrt((residuals**2).sum() / spare)), 1.4826 * float(np.median(np.abs(residuals))))
    length = np.linalg.norm(jacobian, axis=0)
    dead = ~(np.isfinite(length) & (length > 0))
    errors = np.full(len(free), np.inf)
    if (~dead).any():
        _, singular, rows = np.linalg.svd(jacobian[:, ~dead] / length[~dead], full_matrices=False)
        spread = np.sqrt(((rows / np.maximum(singular, 1e-12)[:, None]) ** 2).sum(axis=0))
        errors[~dead] = noise * spread / length[~dead]
    centreless = np.array([np.isneginf(law.lower[i]) for i in free], dtype=bool)
    lost = dead | (~centreless & (2.0 * errors > np.abs(theta[free])))
    return tuple(law.names[i] for i in free[lost])
