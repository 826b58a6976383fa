"""Profile likelihood of one parameter of a fitted law: how well the data know it, or that they do not.

The parameter is held at values outwards from its estimate and the others are fitted again at each; the rise of the
objective becomes chi-squared in likelihood.py. An end that never rises far enough within a factor of 1,000, or before
the law's own bound, is open, and the outcome says so by name: a published constant with an open end is a bound, not an
estimate. One profile costs about 40 fits from starts around the last one.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from curate.comparator.fit import Fit, checked_weights, fit, objective_as_published
from curate.comparator.fitting.likelihood import dispersion, residuals_at
from curate.comparator.laws import Array, Inputs, Law
from curate.comparator.laws.law import power_of
from curate.comparator.verdict import Check
from curate.errors import MeasurementError

Outcome = Literal["identified", "lower bound only", "upper bound only", "not identified"]
REACH = 1e3  # an end not found within this factor of the estimate is open
FIRST_STEP, STEP_GROWTH = 1.02, 1.6  # of the search outwards, in log units of the parameter
BISECTIONS = 14
LAST_FACTORS = (0.6, 1.0, 1.7)  # starts around the last point of a profile, in each searched parameter


@dataclass(frozen=True)
class Profile:
    """`low` and `high` at `confidence`; an open end is None. `values` (m,) rising, `rise` (m,): chi-squared units.

    With one end open the other is a one-sided limit at the same confidence. `estimate` is where the profile is lowest,
    which is not the fit's own value if the fit had not found the optimum.
    """

    parameter: str
    law: str
    estimator: str
    estimate: float
    fitted: float
    low: float | None
    high: float | None
    confidence: float
    outcome: Outcome
    values: Array
    rise: Array
    objective: Array

    @property
    def identified(self) -> bool:
        return self.outcome == "identified"

    @property
    def check(self) -> Check | None:
        """The warning that belongs to an open end, None for an identified parameter."""
        if self.identified:
            return None
        return Check(
            "flat_profile",
            "warning",
            str(self),
            f"Quote the bound, not a value; runs in which {self.parameter} matters more would close the interval.",
        )

    def __str__(self) -> str:
        name, percent = f"{self.parameter} of law {self.law!r}", f"{self.confidence:.0%}"
        if self.low is not None and self.high is not None:
            return f"{name}: {self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}] ({percent} profile)"
        if self.low is not None:
            return f"{name} is not identified: the data give a lower bound only, {self.low:.3g} ({percent})"
        if self.high is not None:
            return f"{name} is not identified: the data give an upper bound only, {self.high:.3g} ({percent})"
        return f"{name} is not identified: no value from {self.values[0]:.3g} to {self.values[-1]:.3g} is excluded"


def profile(
    found: Fit,
    inputs: Inputs,
    losses: npt.ArrayLike,
    parameter: str,
    *,
    weights: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    reach: float = REACH,
) -> Profile:
    """Profile `parameter` of the fit `found`, made from losses (n,) at inputs (n,).

    Parameters that the law holds (`Law.fix`) stay where they are. Raises MeasurementError for a parameter that the law
    does not have or holds.
    """
    free = [name for name, moves in zip(found.law.names, found.law.free, strict=True) if moves]
    if parameter not in free:
        raise MeasurementError(f"Law {found.law.name!r} has no free parameter {parameter!r}; free: {', '.join(free)}.")
    values = np.asarray(losses, dtype=float)
    data = _Data(found, inputs, values, parameter, checked_weights(weights, len(values)))
    index = found.law.names.index(parameter)
    start = float(found.theta[index])
    known = {start: data.refit(start, found.theta)} if start else {}
    limits = _limits(data, start, reach)
    residuals = residuals_at(found.law, found.theta, inputs, values, found.estimator)
    unit = dispersion(residuals, found.estimator, free=len(free), weights=data.weights)
    spare = int((data.weights > 0).sum()) - len(free)
    two_sided, one_sided = (unit * student.ppf(q, spare) ** 2 / 2 for q in ((1 + confidence) / 2, confidence))
    for _ in range(3):  # again where the profile went below the fit: the fit was not at the optimum
        best = min(known.values(), key=lambda step: step.objective).objective if known else np.inf
        for limit in limits:
            _walk(data, known, limit, best + two_sided)
        lowest = min(known.values(), key=lambda step: step.objective)
        if lowest.objective >= best - 0.01 * unit:
            break
    best = lowest.objective
    ends = [_crossing(data, known, lowest.value, side, best + two_sided) for side in (-1, 1)]
    if (ends[0] is None) != (ends[1] is None):
        ends = [
            None if end is None else _crossing(data, known, lowest.value, side, best + one_sided)
            for end, side in zip(ends, (-1, 1), strict=True)
        ]
    outcomes: dict[tuple[bool, bool], Outcome] = {
        (True, True): "identified",
        (True, False): "lower bound only",
        (False, True): "upper bound only",
        (False, False): "not identified",
    }
    values = np.array(sorted(known))
    objective = np.array([known[v].objective for v in values])
    return Profile(
        parameter=parameter,
        law=found.law.name,
        estimator=found.estimator.name,
        estimate=lowest.value,
        fitted=start,
        low=ends[0],
        high=ends[1],
        confidence=confidence,
        outcome=outcomes[ends[0] is not None, ends[1] is not None],
        values=values,
        rise=2 * (objective - best) / unit,
        objective=objective,
    )


@dataclass(frozen=True)
class _Step:
    """The fit with the parameter held at `value`: all parameters and the objective as papers print it."""

    value: float
    theta: Array
    objective: float


@dataclass(frozen=True)
class _Data:
    """Everything that a fit at another held value needs."""

    found: Fit
    inputs: Inputs
    losses: Array
    parameter: str
    weights: Array

    def refit(self, value: float, near: Array) -> _Step:
        law, estimator = near_law(self.found.law.fix({self.parameter: value}), near), self.found.estimator
        if not law.free.any():
            theta = np.array(near, dtype=float)
            theta[law.names.index(self.parameter)] = value
            there = residuals_at(law, theta, self.inputs, self.losses, estimator)
            return _Step(value, theta, objective_as_published(there, self.weights, estimator))
        again = fit(law, self.inputs, self.losses, estimator=estimator, weights=self.weights)
        return _Step(value, again.theta, again.certificate.objective)


def near_law(law: Law, theta: Array) -> Law:
    """`law`, with something held, whose starts lie around `theta` (p,) instead of over its whole grid."""
    around = [
        replace(p, grid=tuple(sorted({float(np.clip(value * f, p.lower, p.upper)) for f in factors})))
        for p, value in zip(law.parameters, theta, strict=True)
        for factors in [(1.0,) if p.name in law.linear else LAST_FACTORS]
    ]
    return replace(law, parameters=tuple(around), linear=())


def _limits(data: _Data, start: float, reach: float) -> tuple[float, float]:
    """Lowest and highest value to try: `reach` either way of the estimate, or of what the parameter's units make of a
    typical loss where it is estimated smaller; within the bounds of a parameter that has no units.
    """
    law = data.found.law
    parameter = law.parameters[law.names.index(data.parameter)]
    usual = 1.0 if parameter.kind == "plain" else float(np.median(np.abs(data.losses)))
    if parameter.of is not None:
        name, power = parameter.of
        usual *= float(np.median(data.inputs[name])) ** power_of(power, data.found.parameters)
    low, high = (abs(start) or usual / reach) / reach, max(abs(start) * reach, usual)
    if start < 0:
        low, high = -high, -low
    if parameter.kind == "plain" and parameter.of is None:
        low, high = max(low, parameter.lower), min(high, parameter.upper)
    return low, high


def _walk(data: _Data, known: dict[float, _Step], limit: float, above: float) -> None:
    """Steps that grow from the lowest known value towards `limit`, until the objective is above `above`."""
    if not known:
        known[limit] = data.refit(limit, data.found.theta)
    at = min(known.values(), key=lambda step: step.objective)
    side = 1 if limit > at.value else -1
    step = np.log(FIRST_STEP)
    while at.objective <= above and at.value != limit:
        sign = np.sign(at.value) or 1.0
        value = float(at.value * np.exp(side * sign * step))
        value = min(value, limit) if side > 0 else max(value, limit)
        if value not in known:
            known[value] = data.refit(value, at.theta)
        at = known[value]
        step *= STEP_GROWTH


def _crossing(data: _Data, known: dict[float, _Step], lowest: float, side: int, above: float) -> float | None:
    """Where the profile passes `above` on one side of its lowest value, by bisection in the parameter's logarithm."""
    outwards = sorted((v for v in known if (v - lowest) * side > 0), key=lambda v: side * v)
    beyond = next((v for v in outwards if known[v].objective > above), None)
    if beyond is None:
        return None
    inside = max((v for v in (lowest, *outwards) if (beyond - v) * side > 0), key=lambda v: side * v)
    for _ in range(BISECTIONS):
        middle = float(np.copysign(np.sqrt(inside * beyond), beyond)) if inside * beyond > 0 else (inside + beyond) / 2
        if middle in (inside, beyond) or abs(np.log(abs(beyond / inside))) < 1e-3:
            break
        known[middle] = data.refit(middle, known[inside].theta)
        if known[middle].objective > above:
            beyond = middle
        else:
            inside = middle
    return float((inside + beyond) / 2)
