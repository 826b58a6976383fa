"""The best learning rate of a sweep: a parabola in the logarithm of the rate, with the error that the seeds give it.

Losses near their minimum are quadratic in log rate over about a decade; further out they are not, so that only points
within 5% of the best mean (and the best point's neighbours) are fitted, each weighted by its number of seeds. The error
is that of the parabola's vertex by the delta method, with the variance pooled over seeds within each rate. Pure.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from curate.errors import TrainingError

NEAR = 0.05
"""Losses within this part of the best one lie on the parabola."""


@dataclass(frozen=True)
class Point:
    """One training of a sweep."""

    learning_rate: float
    """Peak."""
    seed: int
    """Of weights and order."""
    loss: float
    """Mean bits per byte; infinite where it diverged."""


@dataclass(frozen=True)
class Valley:
    """What a sweep says."""

    learning_rate: float
    """Where the parabola is lowest, or the best rate tried where there is no parabola."""
    log_error: float
    """Standard error of its natural logarithm; infinite where the sweep does not settle it."""
    loss: float
    """At that rate."""
    sigma: float
    """Standard deviation of one training over seeds; NaN with one seed."""
    curvature: float
    """0 without a parabola; else loss = loss at the optimum + curvature x (log rate - log optimum)^2."""
    edge: int
    """-1 or 1 when the best rate tried is the smallest or the largest, else 0."""
    rates: tuple[float, ...]
    """Rates tried, rising."""
    means: tuple[float, ...]
    """Mean loss of each."""

    def given_up(self, learning_rate: float) -> float:
        """Part of the best loss that another rate gives up: read from the parabola near the optimum, between the
        measured means further out (in log rate), and infinite beyond the rates tried."""
        by_parabola = self.curvature * math.log(learning_rate / self.learning_rate) ** 2 / self.loss
        diverged = [rate for rate, mean in zip(self.rates, self.means, strict=True) if math.isinf(mean)]
        if any(self.learning_rate < rate <= learning_rate for rate in diverged):
            return math.inf
        if self.curvature and by_parabola <= NEAR:
            return by_parabola
        if not self.rates[0] <= learning_rate <= self.rates[-1]:
            return math.inf
        return float(np.interp(math.log(learning_rate), np.log(self.rates), self.means)) / self.loss - 1


def find_valley(points: Iterable[Point]) -> Valley:
    """Fit the sweep `points`. Raises TrainingError when fewer than two rates ended with a finite loss."""
    by_rate: dict[float, list[float]] = defaultdict(list)
    for point in points:
        by_rate[point.learning_rate].append(point.loss)
    rates = np.array(sorted(by_rate))
    means = np.array([float(np.mean(by_rate[rate])) for rate in rates])
    counts = np.array([len(by_rate[rate]) for rate in rates])
    finite = np.isfinite(means)
    if finite.sum() < 2:
        raise TrainingError(
            f"{int((~finite).sum())} of {len(rates)} learning rates of the sweep diverged; sweep lower ones."
        )
    best = int(np.argmin(means))
    edge = int(best == np.flatnonzero(finite)[-1] and best == len(rates) - 1) - int(best == 0)
    sigma = _pooled_deviation([by_rate[rate] for rate in rates[finite]])

    near = finite & (means <= means[best] * (1 + NEAR))
    near[max(0, best - 1) : best + 2] |= finite[max(0, best - 1) : best + 2]
    x, y, weights = np.log(rates[near] / rates[best]), means[near], counts[near]
    optimum, log_error, loss, curvature = float(rates[best]), math.inf, float(means[best]), 0.0
    if near.sum() >= 3:
        design = np.stack([np.ones_like(x), x, x**2], axis=1)
        normal = np.linalg.inv(design.T @ (design * weights[:, None]))
        level, slope, bend = normal @ (design.T @ (y * weights))
        vertex = -slope / (2 * bend) if bend > 0 else math.nan
        if bend > 0 and x[0] <= vertex <= x[-1]:
            gradient = np.array([0.0, -1 / (2 * bend), slope / (2 * bend**2)])
            residual = y - design @ np.array([level, slope, bend])
            spare = len(x) - 3
            misfit = math.sqrt(float(weights @ residual**2) / spare) if spare else 0.0
            noise = max(0.0 if math.isnan(sigma) else sigma, misfit)  # a parabola that fits badly is uncertain, too
            error = noise * math.sqrt(gradient @ normal @ gradient)
            optimum, log_error = float(rates[best] * math.exp(vertex)), error if noise else math.inf
            loss, curvature = float(level + slope * vertex + bend * vertex**2), float(bend)
    return Valley(optimum, log_error, loss, sigma, curvature, edge, tuple(rates.tolist()), tuple(means.tolist()))


def _pooled_deviation(groups: list[list[float]]) -> float:
    """Standard deviation within groups; NaN when no group has two values."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.sum((np.array(group) - np.mean(group)) ** 2)) for group in groups)
    return math.sqrt(squares / freedom) if freedom else math.nan
