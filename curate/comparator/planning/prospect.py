"""How sure a set of runs makes each pair of datasets.

Only differences on equal cells count, so what a pair knows at a scale depends on the harmonic mean of its two runs;
the error is that of design.py (tests hold the two together), for many designs at once and averaged over the noise that
the data leave possible. P(decided) counts decisions of the right sign only, at the critical value of the simultaneous
test of uncertainty.py; gaps have a prior, so that what is estimated by chance is not taken for what will be found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, owens_t
from scipy.stats import studentized_range

from curate.comparator.design import SAME_SIZE, Span, bend, gap_columns

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DEGREES = (2.0, 4.0, 8.0, 20.0, np.inf)
SIZES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of gaps, in units of sigma
# What `compare` asks of a gap over what known noise would, beyond Student's t: it has to learn how the noise and the
# gaps change with scale and allows for an outlier. Measured: 1.05 to 1.36, mean 1.2, over 7 ladders of 4 to 32 runs a
# dataset, 2 and 4 datasets, two sizes of change, 8 worlds each; the estimates' true error is that of known noise (1.0).
CAUTION = 1.2
NOTHING = 1e-9  # precision of a level that was not measured, in units of sigma^-2


@dataclass(frozen=True)
class NoiseCase:
    """One size of the noise that the data leave possible, with its weight; meanings as in uncertainty.Component."""

    weight: float
    rho: float
    lam: float
    kappa: float
    tau: float
    shape: float


@dataclass(frozen=True)
class GapModel:
    """What runs at each of S scales say about a pair's gap at the target, for m noise cases; units of sigma."""

    weights: Array  # (m,)
    gram: Array  # (m, S, 3, 3): X' A^-1 X of one run of each dataset
    ones: Array  # (m, S, 3): X' A^-1 1
    total: Array  # (m, S): 1' A^-1 1
    lam: Array  # (m,)
    prior: Array  # (m, 3, 3)
    target: Array  # (m, 3)
    sizes: tuple[Ints, ...]  # scales of one model size, whose misfit is common

    def variance(self, runs: Array) -> Array:
        """Variance of the gap (n,) in units of sigma^2 for effective runs (n, S): harmonic means of the two
        datasets.
        """
        precision = np.einsum("ns,msij->nmij", runs, self.gram)
        for size in self.sizes:
            ones = np.einsum("ns,msi->nmi", runs[:, size], self.ones[:, size])
            total = runs[:, size] @ self.total[:, size].T
            common = self.lam / (1.0 + self.lam * total)
            precision -= common[..., None, None] * ones[..., :, None] * ones[..., None, :]
        precision = 0.5 * precision + self.prior
        solved = np.linalg.solve(precision, np.broadcast_to(self.target[..., None], (*precision.shape[:3], 1)))
        return np.einsum("mi,nmi->nm", self.target, solved[..., 0]) @ self.weights


def gap_model(
    cells: Sequence[tuple[float, tuple[float, ...]]],
    cases: Sequence[NoiseCase],
    *,
    sizes: Array,
    at: tuple[float, float],
    span: Span,
    compute: tuple[float, float] | None = None,
) -> GapModel:
    """For scales given as (params, budgets of a run's branches), read at `at` = (params, tokens).

    `sizes` (S,): place of each scale on the axis along which the noise grows by kappa; `span` is what tau refers to.
    With `compute`, gaps change along N D alone, tau over (lowest, highest) of it: the comparator's form for tables too
    small for two slopes.
    """
    shapes = sorted({case.shape for case in cases})
    columns = {
        (s, shape): columns_at(np.full(len(budgets), params), np.array(budgets), span, compute, shape)
        for s, (params, budgets) in enumerate(cells)
        for shape in shapes
    }
    m, count = len(cases), len(cells)
    gram, ones, total = np.zeros((m, count, 3, 3)), np.zeros((m, count, 3)), np.zeros((m, count))
    for i, case in enumerate(cases):
        own = max(1.0 - case.rho, 1e-9)
        for s, (_, budgets) in enumerate(cells):
            x, b = columns[s, case.shape], len(budgets)
            variance = own * np.exp(2.0 * case.kappa * sizes[s])
            shared = case.rho / (own + b * case.rho)
            summed = x.sum(axis=0)
            gram[i, s] = (x.T @ x - shared * np.outer(summed, summed)) / variance
            ones[i, s] = (1.0 - b * shared) * summed / variance
            total[i, s] = b * (1.0 - b * shared) / variance
    params = np.array([cell[0] for cell in cells])
    prior = np.array([np.diag([NOTHING, case.tau**-2, case.tau**-2]) for case in cases])
    point = np.array([at[0]]), np.array([at[1]])
    weights = np.array([case.weight for case in cases])
    return GapModel(
        weights=weights / weights.sum(),
        gram=gram,
        ones=ones,
        total=total,
        lam=np.array([case.lam for case in cases]),
        prior=prior,
        target=np.stack([columns_at(*point, span, compute, case.shape)[0] for case in cases]),
        sizes=tuple(np.flatnonzero(np.abs(np.log(params / n)) <= SAME_SIZE) for n in distinct(params)),
    )


def columns_at(params: Array, tokens: Array, span: Span, compute: tuple[float, float] | None, shape: float) -> Array:
    """Level and two slopes (b, 3); the second is idle where gaps change with compute alone."""
    if compute is None:
        return gap_columns(params, tokens, span, shape)
    return np.column_stack([np.ones_like(params), bend(params * tokens, *compute, shape), np.zeros_like(params)])


def distinct(params: Array) -> list[float]:
    out: list[float] = []
    for value in np.sort(params).tolist():
        if not out or np.log(value / out[-1]) > SAME_SIZE:
            out.append(value)
    return out


def right_and_decided(
    gap: tuple[Array, Array], estimate: tuple[Array, Array], covariance: Array, threshold: Array
) -> Array:
    """P(the estimate passes +-threshold with the gap's own sign), for gap and estimate (mean, variance) jointly
    normal.
    """
    sd, gap_sd = (np.sqrt(np.maximum(variance, 1e-300)) for variance in (estimate[1], gap[1]))
    correlation = np.clip(covariance / (sd * gap_sd), 0.0, 1.0 - 1e-9)
    above = both_below((estimate[0] - threshold) / sd, gap[0] / gap_sd, correlation)
    below = both_below((-estimate[0] - threshold) / sd, -gap[0] / gap_sd, correlation)
    return np.clip(above + below, 0.0, 1.0)


def both_below(h: Array, k: Array, correlation: Array) -> Array:
    """P(X < h, Y < k) of standard normals (Owen 1956, Annals of Mathematical Statistics 27:1075)."""
    h, k = (np.where(np.abs(v) < 1e-12, 1e-12, v) for v in np.broadcast_arrays(h, k))  # the formula divides by both
    root = np.sqrt(1.0 - correlation**2)
    out = (
        0.5 * (ndtr(h) + ndtr(k)) - owens_t(h, (k / h - correlation) / root) - owens_t(k, (h / k - correlation) / root)
    )
    return out - 0.5 * (h * k < 0)


def either_side(mean: Array, variance: Array, threshold: Array) -> Array:
    """P(|x| > threshold) of a normal x."""
    sd = np.sqrt(np.maximum(variance, 1e-300))
    return np.asarray(ndtr((mean - threshold) / sd) + ndtr((-mean - threshold) / sd))


@lru_cache(maxsize=64)
def tukey(datasets: int, confidence: float) -> Array:
    """Two-sided critical value of all pairs of so many datasets together at each of DEGREES (studentized range)."""
    return np.array([float(studentized_range.ppf(confidence, datasets, d)) / np.sqrt(2.0) for d in DEGREES])


def critical_value(pairs: Array, confidence: float, degrees: Array) -> Array:
    """Critical value (n,) of so many pairs together, by the studentized range: interpolated in 1 / degrees and in the
    logarithm of the pairs, between the numbers of datasets that have so many.
    """
    # datasets with k (k - 1) / 2 pairs: 2, 3, 4, 6, 9, ... up to the pairs asked for
    known = [2]
    while known[-1] * (known[-1] - 1) / 2 < pairs.max():
        known.append(max(known[-1] + 1, round(1.5 * known[-1])))
    where = [1.0 / d for d in DEGREES]
    of_datasets = np.array(
        [np.interp(1.0 / np.maximum(degrees, 1.0), where[::-1], tukey(k, confidence)[::-1]) for k in known]
    )
    place = np.interp(np.log(pairs), [np.log(k * (k - 1) / 2) for k in known], np.arange(len(known)))
    below = np.minimum(place.astype(int), len(known) - 1)
    above, row = np.minimum(below + 1, len(known) - 1), np.arange(len(pairs))
    share = place - below
    return np.asarray((1.0 - share) * of_datasets[below, row] + share * of_datasets[above, row])


def gap_sizes(mean: Array, variance: Array, sigma: float, datasets: int) -> tuple[Array, Array]:
    """(standard deviations that gaps between datasets may have, their weights), from the gaps (pairs,) as estimated.

    Log-uniform beforehand over SIZES times sigma; the likelihood is that of the spread of the datasets' estimates, all
    taken as equally precise. Without it, gaps that are estimates of nothing look as if a few more runs would decide
    them: over 40 worlds with gaps of .7 sigma a flat prior promised .47 and .33 were decided.
    """
    spread = float((mean**2).sum()) / datasets  # sum of squares about the mean: half the mean square gap, K - 1 times
    total = (sigma * np.array(SIZES)) ** 2 + float(np.median(variance))
    logs = -0.5 * (datasets - 1) * np.log(total) - spread / total
    weights = np.exp(logs - logs.max())
    weights = np.where(weights > 0.02 * weights.max(), weights, 0.0)
    kept = weights > 0
    return sigma * np.array(SIZES)[kept], weights[kept] / weights.sum()


@dataclass(frozen=True)
class Prospect:
    """What is known about every pair now, and how runs would change it; gaps in the metric's unit.

    `variance` (pairs,) is that of the estimate now, `calibration` what it is over what the model makes of the runs
    done, times sigma^2. Gaps have a normal prior with one of the standard deviations `sizes`; where nothing was
    measured (`known` False) it stands alone, about `mean`.
    """

    model: GapModel
    done: Array  # (datasets, S) runs done
    couples: Ints  # (pairs, 2)
    mean: Array  # (pairs,)
    variance: Array  # (pairs,)
    calibration: Array  # (pairs,)
    sizes: tuple[Array, Array]  # standard deviations of gaps, their weights
    weights: Array  # (pairs,): what each pair's decision counts
    degrees: float  # of freedom of the noise now
    confidence: float
    known: bool

    def decided(self, runs: Array) -> Array:
        """P(decided, rightly) of every pair (n, pairs) once `runs` (n, datasets, S), those done included, are
        there.

        The critical value is that of the pairs which the step-down test will still have before it: their number is
        that expected at the critical value of all.
        """
        error = self.error(runs)
        degrees = self.degrees + (runs - self.done).sum(axis=(1, 2))
        degrees = degrees - (0.0 if self.known else self.spent(runs))
        caution = 1.0 if self.known else CAUTION  # a calibration to real draws has it already
        futures = [(weight, *self.future(size, error**2)) for size, weight in zip(*self.sizes, strict=True)]
        count = len(self.couples)
        threshold = caution * critical_value(np.full(len(error), count), self.confidence, degrees)[:, None] * error
        passes = sum(w * either_side(mean, variance, threshold) for w, _, (mean, variance), _ in futures)
        still = np.maximum(count - passes.sum(axis=1), 1.0)
        threshold = caution * critical_value(still, self.confidence, degrees)[:, None] * error
        out = sum(w * right_and_decided(gap, est, covariance, threshold) for w, gap, est, covariance in futures)
        return out if self.known else np.where(degrees[:, None] >= 1.0, out, 0.0)

    def future(self, size: float, after: Array) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
        """(mean, variance) of the gaps and of their later estimates, whose variance about the gap is `after`
        (n, pairs), and covariance; gaps have standard deviation `size` beforehand.
        """
        if not self.known:
            variance = np.full_like(after, size**2)
            return (self.mean, variance), (self.mean, variance + after), variance
        held = size**2 / (size**2 + self.variance)  # what the prior leaves of an estimate
        gap = held * self.mean, held * self.variance
        learnt = np.maximum(1.0 - after / self.variance, 0.0)  # weight of the new runs in the later estimate
        mean = self.mean * (1.0 - learnt * (1.0 - held))
        return gap, (mean, learnt**2 * gap[1] + learnt * after), learnt * gap[1]

    def spent(self, runs: Array) -> Array:
        """Degrees of freedom (n,) that cell levels and dataset levels take: one a scale used and one a dataset but
        the first.
        """
        scales = (runs.sum(axis=1) > 0).sum(axis=1)
        datasets = (runs.sum(axis=2) > 0).sum(axis=1)
        return np.asarray(scales + np.maximum(datasets - 1, 0), dtype=float)

    def error(self, runs: Array) -> Array:
        """Standard error of every pair's gap (n, pairs); huge where runs cannot tell."""
        alike = np.unique(runs.transpose(1, 0, 2).reshape(runs.shape[1], -1), axis=0, return_inverse=True)[1]
        kinds = np.sort(alike.reshape(-1)[self.couples], axis=1)  # datasets of one design share their errors
        kept, where = np.unique(kinds, axis=0, return_index=True, return_inverse=True)[1:]
        first, second = runs[:, self.couples[kept, 0]], runs[:, self.couples[kept, 1]]
        total = first + second
        effective = np.where(total > 0, 2.0 * first * second / np.where(total > 0, total, 1.0), 0.0)
        variance = self.model.variance(effective.reshape(-1, effective.shape[-1])).reshape(effective.shape[:2])
        return np.sqrt(variance[:, where.reshape(-1)] * self.calibration)

    def worth_of(self, new: Array) -> float:
        """`worth` of new runs (datasets, S)."""
        return float(self.worth((self.done + new)[None])[0])

    def worth(self, runs: Array) -> Array:
        """What is maximised: the weighted mean of P(decided), (n,)."""
        return self.decided(runs) @ self.weights
