"""Compute-optimal sizes from isoFLOP curves: N*(C) and D*(C), and their power laws.

A curve holds the losses of several model sizes at one compute. Its minimum is found in log N, either on an Akima
interpolant of log loss through every point (Porian et al. 2024, arXiv:2406.19146, sec. 2.2; local, so that a far point
cannot move it) or as the vertex of a parabola over the points (Hoffmann et al. 2022, arXiv:2203.15556, approach 2;
smooth, but a wide or skewed curve moves it: .06 in the exponent on Porian's runs). A minimum at the edge of a curve is
no minimum: it is kept in the list with its reason, and left out of the power law. N* = G C^a is log-linear least
squares, weighted by each optimum's own spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.interpolate import Akima1DInterpolator
from scipy.stats import t as student

from curate.comparator.laws import Array
from curate.comparator.verdict import Check, Estimate
from curate.errors import MeasurementError

Method = Literal["akima", "quadratic"]
Quantity = Literal["params", "tokens", "loss"]
FLOPS_PER_PARAM_TOKEN = 6.0  # C = 6 N D, where the curve does not bring its own tokens
SPACING_SHARE = 1.0 / 3.0  # least spread of an optimum, in mean gaps between neighbouring sizes (Porian 2024, code)
FLAT_SHARE = 0.5  # draws whose minima cover more of the curve's width than this: too flat to read
GRID = 1000  # points over a curve on which the draws' minima are looked for


@dataclass(frozen=True)
class IsoFlop:
    """One curve: compute, and sizes (k,) rising, with their tokens (k,) and losses (k,); replicates are averaged."""

    flops: float
    params: Array
    tokens: Array
    losses: Array


@dataclass(frozen=True)
class Optimum:
    """The minimum of a curve. `spread`: standard deviation of log size; `rejected`: why it enters no power law."""

    flops: float
    params: float
    tokens: float
    loss: float
    spread: float
    points: int
    rejected: str | None = None


@dataclass(frozen=True)
class OptimumLaw:
    """quantity = coefficient C^exponent: the exponent with its t interval, and which optima it rests on."""

    quantity: Quantity
    coefficient: float
    exponent: Estimate
    r_squared: float
    used: tuple[Optimum, ...]
    rejected: tuple[Optimum, ...]
    weighted: bool
    confidence: float

    def predict(self, flops: npt.ArrayLike) -> Array:
        """The quantity at compute (n,)."""
        return self.coefficient * np.asarray(flops, dtype=float) ** self.exponent.value

    @property
    def checks(self) -> tuple[Check, ...]:
        """A warning for every curve left out, and one for a power law that rests on too little compute."""
        found = [
            Check(
                "isoflop_minimum",
                "warning",
                f"The isoFLOP curve at {optimum.flops:.3g} FLOPs is left out: {optimum.rejected}.",
                "Add sizes beyond that edge at this compute, or leave the level out of the claim.",
            )
            for optimum in self.rejected
        ]
        decades = np.log10(self.used[-1].flops / self.used[0].flops)
        if decades < 1.5:
            found.append(
                Check(
                    "isoflop_span",
                    "warning",
                    f"The exponent {self.exponent.value:.3f} rests on {decades:.2f} decades of compute.",
                    "Add levels until they span at least 1.5 decades.",
                )
            )
        return tuple(found)

    def __str__(self) -> str:
        e = self.exponent
        symbol = {"params": "N*", "tokens": "D*", "loss": "L*"}[self.quantity]
        left_out = f", {len(self.rejected)} left out" if self.rejected else ""
        return (
            f"{symbol} = {self.coefficient:.4g} C^{e.value:.4f} [{e.low:.4f}, {e.high:.4f}] "
            f"({self.confidence:.0%}, {len(self.used)} levels{left_out})"
        )


def group_curves(
    flops: npt.ArrayLike,
    params: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    tokens: npt.ArrayLike | None = None,
    tolerance: float = 0.02,
) -> tuple[IsoFlop, ...]:
    """Curves by compute, rising, from points (n,): computes within `tolerance` (relative) of their neighbour are one
    level.

    Tokens default to C / 6N. Points of one size on one level are averaged. Raises MeasurementError for a value that
    is not positive and finite.
    """
    names = ("flops", "params", "losses", "tokens")
    compute, size, loss = (np.asarray(v, dtype=float).ravel() for v in (flops, params, losses))
    if not len(compute) == len(size) == len(loss):
        raise MeasurementError(
            f"IsoFLOP curves need one value a point: {len(compute)} flops, {len(size)} params, {len(loss)} losses."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = compute / (FLOPS_PER_PARAM_TOKEN * size) if tokens is None else np.asarray(tokens, dtype=float).ravel()
    for name, values in zip(names, (compute, size, loss, seen), strict=True):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            raise MeasurementError(
                f"IsoFLOP curves need positive {name}; point {int(wrong[0])} has {values[wrong[0]]!r}: "
                "correct it or leave the point out."
            )
    order = np.argsort(compute, kind="stable")
    level = np.concatenate([[0], np.cumsum(np.diff(np.log(compute[order])) > np.log1p(tolerance))])
    curves = []
    for index in range(int(level[-1]) + 1 if len(order) else 0):
        rows = order[level == index]
        sizes, which = np.unique(size[rows], return_inverse=True)
        count = np.bincount(which)
        curves.append(
            IsoFlop(
                flops=float(np.exp(np.log(compute[rows]).mean())),
                params=sizes,
                tokens=np.bincount(which, seen[rows]) / count,
                losses=np.bincount(which, loss[rows]) / count,
            )
        )
    return tuple(curves)


def find_optima(
    curves: Sequence[IsoFlop],
    *,
    method: Method = "akima",
    along: Literal["params", "tokens"] = "params",
    within: float | None = None,
    noise_sd: float = 0.0,
    draws: int = 400,
    seed: int = 0,
) -> tuple[Optimum, ...]:
    """The minimum of each curve, every curve answered for.

    `along` is the axis in whose logarithm the minimum is looked for. `within` (quadratic only) keeps the points whose
    size is within that factor of the lowest one. `noise_sd` is the standard deviation of log loss between seeds: with
    it the minima of `draws` noisy copies give each optimum's spread, which is never less than a third of the mean gap
    between sizes.
    """
    rng = np.random.default_rng(seed)
    return tuple(_optimum(c, method, along, within, noise_sd, draws, rng) for c in curves)


def _optimum(
    curve: IsoFlop,
    method: Method,
    along: Literal["params", "tokens"],
    within: float | None,
    noise_sd: float,
    draws: int,
    rng: np.random.Generator,
) -> Optimum:
    axis = np.log(getattr(curve, along))
    order = np.argsort(axis)
    x, logs = axis[order], np.log(curve.losses[order])
    nothing = Optimum(curve.flops, np.nan, np.nan, np.nan, np.nan, len(x))
    if method == "quadratic" and within is not None:
        near = np.abs(x - x[np.argmin(logs)]) <= np.log(within) * (1 + 1e-12)
        x, logs = x[near], logs[near]
    if len(x) < 3:
        return _reject(nothing, f"{len(x)} sizes, and a minimum needs 3")
    at, low, edge = _akima_minimum(x, logs) if method == "akima" else _vertex(x, logs)
    spread, covered, lost = _spread(x, logs, method, noise_sd, draws, rng)
    optimum = _at(curve, along, at, low, max(spread, SPACING_SHARE * (x[-1] - x[0]) / (len(x) - 1)))
    if edge is not None:
        return _reject(optimum, edge)
    if lost > 0.5:
        return _reject(optimum, f"{lost:.0%} of the draws of its noise have their minimum at an edge")
    if covered > FLAT_SHARE:
        return _reject(optimum, f"too flat to read: its noise moves the minimum over {covered:.0%} of its width")
    return optimum


def _reject(optimum: Optimum, reason: str) -> Optimum:
    return replace(optimum, rejected=reason)


def _at(curve: IsoFlop, along: Literal["params", "tokens"], at: float, low: float, spread: float) -> Optimum:
    """The optimum at log size (or log tokens) `at`, the other quantity interpolated along the curve."""
    other = "tokens" if along == "params" else "params"
    x, y = np.log(getattr(curve, along)), np.log(getattr(curve, other))
    order = np.argsort(x)
    found = {along: float(np.exp(at)), other: float(np.exp(np.interp(at, x[order], y[order])))}
    return Optimum(curve.flops, found["params"], found["tokens"], float(np.exp(low)), float(spread), len(x))


def _akima_minimum(x: Array, logs: Array) -> tuple[float, float, str | None]:
    """Where the interpolant is lowest, exactly (roots of its slope), its value, and the edge it lies on if it does."""
    curve = Akima1DInterpolator(x, logs)
    turning = curve.derivative().roots(discontinuity=False, extrapolate=False)
    turning = turning[np.isfinite(turning) & (turning > x[0]) & (turning < x[-1])]
    places = np.concatenate([turning, x[[0, -1]]])
    values = curve(places)
    best = int(np.argmin(values))
    edge = (
        None
        if best < len(turning)
        else "its minimum lies at its edge, " + ("the smallest size" if best == len(turning) else "the largest size")
    )
    return float(places[best]), float(values[best]), edge


def _vertex(x: Array, logs: Array) -> tuple[float, float, str | None]:
    """Vertex of the least-squares parabola of loss over log size; a reason where it has none inside the curve."""
    centre = x.mean()
    curvature, slope, level = np.polyfit(x - centre, np.exp(logs), 2)
    if curvature <= 0:
        return float(x[np.argmin(logs)]), float(logs.min()), "its parabola opens downwards"
    at = float(centre - slope / (2 * curvature))
    value = float(level - slope**2 / (4 * curvature))
    if not x[0] < at < x[-1]:
        inside = float(np.clip(at, x[0], x[-1]))
        return inside, float(logs.min()), "the vertex of its parabola lies outside its sizes"
    return at, float(np.log(max(value, 1e-300))), None


def _spread(
    x: Array, logs: Array, method: Method, noise_sd: float, draws: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Of the minima of noisy copies: standard deviation, central 95% as a share of the curve's width, share at edges.

    As Porian's code does, the spread grows by draws / draws with a minimum inside.
    """
    if noise_sd <= 0:
        return 0.0, 0.0, 0.0
    noisy = logs[:, None] + noise_sd * rng.standard_normal((len(x), draws))
    if method == "akima":
        grid = np.linspace(x[0], x[-1], GRID)
        lowest = np.argmin(Akima1DInterpolator(x, noisy)(grid), axis=0)
        at, inside = grid[lowest], (lowest > 0) & (lowest < GRID - 1)
    else:
        centre = x.mean()
        curvature, slope, _ = np.polyfit(x - centre, np.exp(noisy), 2)
        at = centre - slope / (2 * np.where(curvature > 0, curvature, np.nan))
        inside = (at > x[0]) & (at < x[-1])
    if inside.sum() < 2:
        return float("inf"), 1.0, 1.0
    kept = at[inside]
    low, high = np.quantile(kept, [0.025, 0.975])
    return float(kept.std() / inside.mean()), float((high - low) / (x[-1] - x[0])), float(1 - inside.mean())


def fit_optimum_law(
    optima: Sequence[Optimum],
    *,
    quantity: Quantity = "params",
    spreads: npt.ArrayLike | None = None,
    weighted: bool = True,
    confidence: float = 0.95,
) -> OptimumLaw:
    """Power law of the accepted optima: log quantity on log C, weighted by 1 / spread^2.

    `spreads` (one standard deviation of log quantity for each of `optima`) overrides the optima's own. Spreads, never
    weights, go in: weights that grew with the error are how one published fit went wrong. The interval is Student's t
    on n - 2 degrees of freedom from the scatter about the line. Raises MeasurementError below three accepted optima.
    """
    given = np.array([o.spread for o in optima]) if spreads is None else np.asarray(spreads, dtype=float)
    if len(given) != len(optima):
        raise MeasurementError(f"{len(given)} spreads for {len(optima)} optima: give one for each, rejected ones too.")
    rows = [i for i in sorted(range(len(optima)), key=lambda i: optima[i].flops) if optima[i].rejected is None]
    if len(rows) < 3:
        reasons = "; ".join(f"{o.flops:.3g} FLOPs: {o.rejected}" for o in optima if o.rejected)
        raise MeasurementError(
            f"A power law of the optimum needs 3 isoFLOP curves with a minimum inside, not {len(rows)}. {reasons}"
        )
    used = tuple(optima[i] for i in rows)
    sd = given[rows] if weighted else np.ones(len(rows))
    if not (np.isfinite(sd).all() and (sd > 0).all()):
        raise MeasurementError("Every accepted optimum needs a positive spread; pass weighted=False to do without.")
    x = np.log([o.flops for o in used])
    y = np.log([getattr(o, quantity) for o in used])
    share = sd**-2 / (sd**-2).sum()
    x_mean, y_mean = share @ x, share @ y
    spread_x = share @ (x - x_mean) ** 2
    slope = float(share @ ((x - x_mean) * (y - y_mean)) / spread_x)
    scatter = float(share @ (y - y_mean - slope * (x - x_mean)) ** 2)
    error = np.sqrt(scatter / (len(x) - 2) / spread_x)
    half = float(student.ppf(0.5 + confidence / 2, len(x) - 2) * error)
    return OptimumLaw(
        quantity=quantity,
        coefficient=float(np.exp(y_mean - slope * x_mean)),
        exponent=Estimate(slope, slope - half, slope + half),
        r_squared=float(1 - scatter / (share @ (y - y_mean) ** 2)),
        used=used,
        rejected=tuple(o for o in optima if o.rejected is not None),
        weighted=weighted,
        confidence=confidence,
    )
