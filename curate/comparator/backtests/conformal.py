"""Does a band cover what it claims, and by how much must it be widened: binomial coverage and conformal scales.

A score is how far a held-out value lies from its prediction, in half-widths of the claimed band on that side: up to 1
is inside. The conformal scale is the quantile of the scores with the finite-sample correction (Papadopoulos et al.
2002; Lei et al. 2018, J. Am. Stat. Assoc. 113:1094); hold-outs that share a run are one cluster and weigh as one
(Dunn, Wasserman and Ramdas 2022, arXiv:1809.07441). It needs ceil(1 / (1 - nominal)) - 1 clusters, 19 for 95%: with
fewer it is not available, and says so. The guarantee is for exchangeable clusters; a longer horizon is not, so a
calibrated band is judged on hold-outs that came after those that set it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from curate.errors import MeasurementError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CoverageVerdict = Literal["covers", "covers, wider than need be", "does not cover", "too few to say"]
FEWEST_GROUPS = 5
FEWEST_CLUSTERS = 10  # fewer say nothing for a band, unless they already speak against it


@dataclass(frozen=True)
class Coverage:
    """How many of n held-out values lay inside a band of `nominal` coverage. The interval (Jeffreys, 95%) counts each
    of `clusters` once, or less where datasets differ.
    """

    nominal: float
    covered: int
    n: int
    clusters: int
    share: float
    """Covered share, clusters weighing alike; NaN without hold-outs."""
    low: float
    high: float

    verdict: CoverageVerdict

    def covers(self) -> bool | None:
        """False where the hold-outs contradict the claim, None where they are too few to say, else True."""
        return None if self.verdict == "too few to say" else self.verdict != "does not cover"

    def __str__(self) -> str:
        if not self.n:
            return f"the {self.nominal:.0%} band: no hold-outs"
        return (
            f"the {self.nominal:.0%} band held {self.covered} of {self.n}, {self.share:.2f} "
            f"[{self.low:.2f}, {self.high:.2f}] of {self.clusters} runs: {self.verdict}"
        )


@dataclass(frozen=True)
class ConformalScale:
    """By how much the half-widths of a band must be multiplied; `scale` is None where the hold-outs are too few."""

    nominal: float
    scale: float | None
    scores: int
    clusters: int
    needed: int

    def __str__(self) -> str:
        if self.scale is None:
            return f"not available: needs {self.needed} hold-outs of different runs, has {self.clusters}"
        return f"x{self.scale:.2f} (from {self.clusters} runs)"


def clusters_needed(nominal: float) -> int:
    """The smallest number of exchangeable scores of which one can exceed `nominal` of the next: 19 at 95%."""
    if not 0 < nominal < 1:
        raise MeasurementError(f"nominal is {nominal}; a band's coverage lies between 0 and 1.")
    return math.ceil(nominal / (1.0 - nominal) - 1e-9)


def coverage(
    inside: npt.ArrayLike, clusters: npt.ArrayLike, *, nominal: float, groups: npt.ArrayLike | None = None
) -> Coverage:
    """Judge a band by hold-outs: `inside` (n,) says whether each was covered, `clusters` (n,) which are one run.

    `groups` (n,) are the datasets, whose runs share the error of a fit: with five or more, the interval is widened by
    what their shares differ beyond chance.
    """
    held = np.asarray(inside, dtype=bool)
    labels = np.asarray(clusters)
    weight, count = cluster_weights(labels)
    if not count:
        return Coverage(nominal, 0, 0, 0, math.nan, 0.0, 1.0, "too few to say")
    share = float(weight[held].sum()) / count
    effective = count / (1.0 if groups is None else design_effect(held, weight, np.asarray(groups)))
    low, high = jeffreys(share, effective, tail=0.025)
    verdict: CoverageVerdict
    if high < nominal:
        verdict = "does not cover"
    elif count < FEWEST_CLUSTERS:
        verdict = "too few to say"
    else:
        verdict = "covers, wider than need be" if low > nominal else "covers"
    return Coverage(nominal, int(held.sum()), len(held), count, share, low, high, verdict)


def jeffreys(share: float, n: float, *, tail: float) -> tuple[float, float]:
    """Jeffreys' interval of a share seen in n draws with `tail` left out on either side; it ends at 0 or 1 where none
    or all hit.
    """
    hits = share * n  # fractions included
    low = float(betaincinv(hits + 0.5, n - hits + 0.5, tail)) if share > 0 else 0.0
    high = float(betaincinv(hits + 0.5, n - hits + 0.5, 1.0 - tail)) if share < 1 else 1.0
    return low, high


def design_effect(held: Bools, weight: Array, groups: npt.NDArray[np.generic]) -> float:
    """Variance of the covered share over groups, in units of what independent clusters would give; at least 1, and 1
    where there are fewer than FEWEST_GROUPS groups to tell.
    """
    index = np.unique(groups, return_inverse=True)[1].reshape(-1)
    size = np.bincount(index, weights=weight)
    hits = np.bincount(index, weights=weight * held)
    share = float(hits.sum() / size.sum())
    if len(size) < FEWEST_GROUPS or share in (0.0, 1.0):
        return 1.0
    between = float(((hits - share * size) ** 2).sum()) * len(size) / (len(size) - 1)
    return max(1.0, between / (size.sum() * share * (1.0 - share)))


def conformal_scale(scores: npt.ArrayLike, clusters: npt.ArrayLike, *, nominal: float) -> ConformalScale:
    """The scale at which a fresh cluster's value is covered with probability `nominal`, from scores (n,) >= 0."""
    values = np.asarray(scores, dtype=float)
    needed = clusters_needed(nominal)
    weight, count = cluster_weights(np.asarray(clusters))
    if count < needed:
        return ConformalScale(nominal, None, len(values), count, needed)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) >= nominal * (count + 1) - 1e-9
    return ConformalScale(nominal, float(values[order][np.argmax(reached)]), len(values), count, needed)


def rolling_scales(scores: Array, clusters: Ints, *, known_at: Array, asked_at: Array, nominal: float) -> Array:
    """For each prediction (n,) the scale that was available when it was made, NaN where none was.

    `asked_at` is the compute up to which its fit saw points, `known_at` the compute of the held-out value itself: a
    prediction may be calibrated only by values at or below its own cut, never by one beyond it, its own included.
    """
    out = np.full(len(scores), np.nan)
    for cut in np.unique(asked_at):
        past = known_at <= cut
        found = conformal_scale(scores[past], clusters[past], nominal=nominal)
        if found.scale is not None:
            out[asked_at == cut] = found.scale
    return out


def cluster_weights(clusters: npt.NDArray[np.generic]) -> tuple[Array, int]:
    """Weight (n,) of each member so that every cluster sums to one, and the number of clusters."""
    if not len(clusters):
        return np.zeros(0), 0
    _, index, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return 1.0 / sizes[index.reshape(-1)], len(sizes)
