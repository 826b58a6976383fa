"""A published fit looked at again: is what was printed the optimum of the objective that was named?

Errors that published fits have had are named when found: weights that grow with the points' errors, an optimiser that
never left its start, parameters that are not the optimum (a better one is given), an optimum at a bound, a printed
objective that is not that of the parameters. How far the claim lies from the optimum is judged as evidence
(likelihood.py): inside the joint 95% region it is a warning, outside severe. Printed parameters are rounded, so an
excess of the objective below `TOLERANCE` is not held against them. The search for a better optimum begins at the
claim too: what is called better is never worse than it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.comparator.fit import Fit, checked_weights, fit, for_groups, objective_as_published
from curate.comparator.fitting.descent import Problem, Scale, gradient_norm
from curate.comparator.fitting.estimators import Estimator, huber
from curate.comparator.fitting.likelihood import dispersion, residuals_at
from curate.comparator.laws import Array, Inputs, Law
from curate.comparator.verdict import Check
from curate.errors import MeasurementError

TOLERANCE = 1e-4  # relative excess of the objective that rounding may leave
ROUNDING = 1e-12  # of a loss: residuals that arithmetic leaves where points lie on the law
UNMOVED = 1e-6  # relative change of every parameter
INVERTED = 0.3  # rank correlation of weights with errors


@dataclass(frozen=True)
class Audit:
    """Claimed parameters against the optimum that was found; objectives as papers print them.

    `gradient_norm` is the scaled slope at the claim (0 at an optimum), `moved` the largest relative change from the
    start where that is known, `rise` twice the excess over its dispersion: chi-squared in the free parameters.
    """

    claimed: dict[str, float]
    objective: float
    gradient_norm: float
    moved: float | None
    rise: float
    best: Fit
    checks: tuple[Check, ...]

    @property
    def excess(self) -> float:
        """By how much the objective lies above the best one, relatively."""
        lowest = self.best.certificate.objective
        return self.objective / lowest - 1.0 if lowest > 0 else float(np.inf if self.objective > 0 else 0.0)

    @property
    def sound(self) -> bool:
        return not self.checks

    def __str__(self) -> str:
        if self.sound:
            return f"The claimed parameters are the optimum of {self.best.estimator.name}."
        return "\n".join(f"{c.severity}: {c.name}: {c.message} {c.remedy}" for c in self.checks)


def audit(
    law: Law,
    inputs: Inputs,
    losses: npt.ArrayLike,
    claim: Mapping[str, float],
    *,
    estimator: Estimator | None = None,
    weights: npt.ArrayLike | None = None,
    errors: npt.ArrayLike | None = None,
    start: Mapping[str, float] | None = None,
    printed_objective: float | None = None,
) -> Audit:
    """Look at a `claim` on the free parameters of `law` (natural units), fitted to losses (n,) at inputs (n,).

    `errors` (n,) are the points' own, to see whether `weights` (n,) follow them; inverted weights are not used.
    `start` is where the optimiser began and `printed_objective` what was printed for the claim, where they are known.
    """
    estimator = estimator or huber()
    law = for_groups(law, inputs)
    values = np.asarray(losses, dtype=float)
    share = given = checked_weights(weights, len(values))
    checks = []
    if errors is not None and rank_correlation(share, checked_errors(errors, len(values))) > INVERTED:
        share = np.ones(len(values))
        checks.append(
            Check(
                "inverted_weights",
                "severe",
                "The weights grow with the points' errors: the least certain points count most.",
                "Divide by the squared error; a routine that asks for sigma wants the error itself, not a weight.",
            )
        )
    theta = claimed_values(law, claim)
    best = fit(law, inputs, values, estimator=estimator, weights=share)
    residuals = residuals_at(law, theta, inputs, values, estimator)
    objective = objective_as_published(residuals, share, estimator)
    if objective < best.certificate.objective:  # the claim lies in a valley that our starts have missed
        best = fit(begun_at(law, theta), inputs, values, estimator=estimator, weights=share)
    lowest = best.certificate.objective
    free = int(law.free.sum())
    rise = float("nan")
    if (share > 0).sum() > free:
        unit = dispersion(best.residuals, estimator, free=free, weights=share)
        rise = max(2.0 * (objective - lowest) / max(unit, 1e-300), 0.0)
    moved = None
    if start is not None:
        begun = claimed_values(law, start)
        moved = float((np.abs(theta - begun) / np.where(begun == 0, 1.0, np.abs(begun)))[law.free].max(initial=0.0))
        if moved < UNMOVED:
            checks.append(
                Check(
                    "unmoved_start",
                    "severe",
                    "The claimed parameters are the optimiser's start: it never moved.",
                    "Rescale the objective; a tiny one looks converged to default tolerances.",
                )
            )
    rounding = ROUNDING * (1.0 if estimator.logarithmic else float(np.abs(values).mean()))
    if objective > lowest * (1.0 + TOLERANCE) + objective_as_published(
        np.full(len(values), rounding), share, estimator
    ):
        checks.append(not_the_optimum(best, objective, rise, free))
    if best.certificate.at_bound:
        checks.append(
            Check(
                "at_bound",
                "warning",
                f"At the optimum {', '.join(best.certificate.at_bound)} lies at a bound.",
                "Do not read the parameters by themselves; take a law without it.",
            )
        )
    as_claimed = objective_as_published(residuals, given, estimator)  # under their weights, inverted or not
    if printed_objective is not None and abs(printed_objective - as_claimed) > TOLERANCE * as_claimed:
        checks.append(
            Check(
                "another_objective",
                "warning",
                f"{estimator.name} of the claimed parameters is {as_claimed:.6g}, not the printed "
                f"{printed_objective:.6g}.",
                "Look for another estimator, other points, or a sum printed as a mean.",
            )
        )
    problem = Problem(law, columns(law, inputs), targets(values, estimator), share[None], estimator.logarithmic)
    size = float(np.sqrt(np.mean(residuals**2)))
    unit = estimator.delta if 0 < estimator.delta < np.inf else max(size, 1e-12)
    slope = gradient_norm(problem, theta[None], Scale(unit, bool(np.isfinite(estimator.delta))))[0]
    claimed = dict(zip(law.names, theta.tolist(), strict=True))
    return Audit(claimed, objective, float(slope), moved, rise, best, tuple(checks))


def not_the_optimum(best: Fit, objective: float, rise: float, free: int) -> Check:
    """The check of a claim whose objective is not the lowest, by how much it matters."""
    from scipy.stats import chi2

    better = ", ".join(f"{name} {value:.6g}" for name, value in best.parameters.items())
    lowest = best.certificate.objective
    said = f"{best.estimator.name} is {objective:.6g} at the claimed parameters and {lowest:.6g} at {better}"
    if rise < chi2.ppf(0.95, free):
        return Check(
            "not_the_optimum",
            "warning",
            f"{said}; these points can hardly tell the two apart.",
            "Give the profile of each parameter instead of one value.",
        )
    return Check(
        "not_the_optimum",
        "severe",
        f"{said}; the claim lies outside the joint 95% region of the optimum.",
        "Do not use the claimed parameters: fit again from many starts.",
    )


def claimed_values(law: Law, claim: Mapping[str, float]) -> Array:
    """The claim as parameters (p,); what `fix` holds need not be named."""
    if unknown := sorted(set(claim) - set(law.names)):
        raise MeasurementError(f"The claim names {unknown[0]!r}; law {law.name!r} has {', '.join(law.names)}.")
    held = {p.name: p.lower for p in law.parameters if p.lower == p.upper}
    if missing := [name for name in law.names if name not in claim and name not in held]:
        raise MeasurementError(f"The claim lacks {', '.join(missing)} of law {law.name!r}.")
    return np.array([claim.get(name, held.get(name, np.nan)) for name in law.names], dtype=float)


def begun_at(law: Law, theta: Array) -> Law:
    """`law` in natural units with `theta` (p,) as its only start."""
    only = tuple(replace(p, grid=(float(v),)) for p, v in zip(law.parameters, theta, strict=True))
    return replace(law, parameters=only, linear=(), centred=False)


def checked_errors(errors: npt.ArrayLike, count: int) -> Array:
    found = np.asarray(errors, dtype=float)
    if found.shape != (count,) or not (np.isfinite(found).all() and (found >= 0).all()):
        raise MeasurementError(f"The points' errors must be {count} finite numbers, none negative.")
    return found


def columns(law: Law, inputs: Inputs) -> dict[str, Array]:
    return {name: np.asarray(inputs[name], dtype=float) for name in law.inputs}


def targets(values: Array, estimator: Estimator) -> Array:
    return (np.log(values) if estimator.logarithmic else values)[None]


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's; 0 where one of them does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
