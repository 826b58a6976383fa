"""Decision accuracy: of all pairs of datasets, the share whose order at a small scale is the order at the target.

Ties count half, so that accuracy = (1 + Kendall's tau-a) / 2. The interval resamples datasets, not pairs (28 pairs of
8 datasets are not 28 observations); where all pairs agree that has no spread, and Jeffreys' interval for n // 2
disjoint pairs stands in. Simulated over 1,000 worlds each of 5, 8, 15 and 25 datasets with normal values at a true
accuracy of .5, .8, .9 and .955, the 95% interval holds .95 to 1.00 of the truths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.comparator.backtests.conformal import jeffreys
from curate.comparator.verdict import to_plain
from curate.errors import MeasurementError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Share of pairs ordered as at the target, with its interval over datasets; `regret` is what is lost at the
    target by taking the dataset that ranks first.
    """

    value: float
    low: float
    high: float
    confidence: float
    datasets: int
    pairs: int
    ties: int
    picked: tuple[str, ...]
    best: tuple[str, ...]
    regret: float
    left_out: tuple[str, ...]
    """Datasets that only one of the two has."""
    interval: str
    """How the interval was made."""
    kendall: float
    """Kendall's tau-a, ties counted as agreement neither way: 2 value - 1."""

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = to_plain(self)
        return plain

    def __str__(self) -> str:
        return (
            f"{self.value:.3f} [{self.low:.2f}, {self.high:.2f}] of {self.pairs} pairs ({self.datasets} datasets), "
            f"picks {' = '.join(self.picked)}, best is {' = '.join(self.best)}"
        )


def decision_accuracy(
    small: Mapping[str, float],
    target: Mapping[str, float],
    *,
    lower_is_better: bool,
    small_lower_is_better: bool | None = None,
    confidence: float = 0.95,
    bootstraps: int = 2000,
    seed: int = 0,
) -> Accuracy:
    """How often `small` orders two datasets as `target` does. `small_lower_is_better` differs where one metric stands
    for another (a loss ranking for an accuracy). Raises MeasurementError for fewer than two datasets in common.
    """
    same = lower_is_better if small_lower_is_better is None else small_lower_is_better
    return accuracy_of(
        [small],
        target,
        small_sign=-1.0 if same else 1.0,
        target_sign=-1.0 if lower_is_better else 1.0,
        confidence=confidence,
        bootstraps=bootstraps,
        seed=seed,
    )


def accuracy_of(
    attempts: Sequence[Mapping[str, float]],
    target: Mapping[str, float],
    *,
    small_sign: float,
    target_sign: float,
    confidence: float,
    bootstraps: int,
    seed: int,
) -> Accuracy:
    """The mean decision accuracy of several attempts (one a seed) at ranking the same datasets."""
    names = [n for n in target if all(n in a for a in attempts)]
    left_out = sorted({n for m in (*attempts, target) for n in m} - set(names))
    if len(names) < 2:
        raise MeasurementError(
            f"decision accuracy needs two datasets measured at both scales; there are {len(names)} "
            f"(only at one of them: {', '.join(left_out) or 'none'})."
        )
    small = small_sign * np.array([[a[n] for n in names] for a in attempts], dtype=float)
    final = target_sign * np.array([target[n] for n in names], dtype=float)
    if not (np.isfinite(small).all() and np.isfinite(final).all()):
        raise MeasurementError("decision accuracy: a value is not finite; leave its dataset out.")
    order = np.sign(small[:, :, None] - small[:, None, :]) * np.sign(final[:, None] - final[None, :])
    agree = (0.5 * (1.0 + order)).mean(axis=0)
    upper = np.triu_indices(len(names), 1)
    value = float(agree[upper].mean())
    low, high, how = dataset_interval(agree, value, confidence=confidence, bootstraps=bootstraps, seed=seed)
    mean_small = small.mean(axis=0)
    first = np.flatnonzero(mean_small == mean_small.max())
    return Accuracy(
        value=value,
        low=low,
        high=high,
        confidence=confidence,
        datasets=len(names),
        pairs=len(upper[0]),
        ties=int((order == 0).any(axis=0)[upper].sum()),
        picked=tuple(names[i] for i in first),
        best=tuple(names[i] for i in np.flatnonzero(final == final.max())),
        regret=float(final.max() - final[first].mean()),
        left_out=tuple(left_out),
        interval=how,
        kendall=2.0 * value - 1.0,
    )


def dataset_interval(
    agree: Array, value: float, *, confidence: float, bootstraps: int, seed: int
) -> tuple[float, float, str]:
    """Interval of the mean of `agree` (n, n) over pairs of different datasets, datasets drawn with replacement."""
    n = len(agree)
    tail = (1.0 - confidence) / 2.0
    if value in (0.0, 1.0):
        pairs = n // 2
        low, high = jeffreys(value, pairs, tail=tail)
        return low, high, f"Jeffreys, {pairs} disjoint pairs (all pairs agree: a bootstrap has no spread)"
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=bootstraps).astype(float)
    off = agree * (1.0 - np.eye(n))
    pairs_drawn = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)  # a dataset drawn twice is no pair
    drawn = np.einsum("bi,ij,bj->b", counts, off, counts, optimize=True)[pairs_drawn > 0]
    low, high = np.quantile(drawn / pairs_drawn[pairs_drawn > 0], [tail, 1.0 - tail])
    return min(float(low), value), max(float(high), value), f"bootstrap over datasets ({bootstraps}, seed {seed})"
