"""Predictions of measured points from fits that saw less compute: the raw material of back-tests.

A cut C_k splits every dataset's runs: a run counts as past when all of its points lie at or below C_k, and its points
beyond C_k are held out otherwise. A run that straddles the cut gives nothing to the fit (its branches share their
seed with the point to be predicted). Everything that a prediction uses, its noise and its band included, comes from
the past of its own dataset: nothing is pooled over cuts, nor taken from the gap model, which has seen all points.

The claimed band is that of one further run: bootstraps by run of the fitted law, with Student-sized residual noise
shared by the branches of a run as far as the residuals say, plus the noise of the new run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.comparator.fit import Estimator, Fit, fit, law_inputs, log_least_squares, refit
from curate.comparator.fitting.likelihood import residuals_at
from curate.comparator.laws import Law
from curate.comparator.points import Points, levels

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOST_CUTS, FEWEST_CUTS, MOST_FITS = 10, 4, 100  # many datasets say as much at few cuts: fits a law, about
FEWEST_CELLS = 3  # of a dataset below a cut: the fewest for two parameters and a residual
DISTINCT_LEVELS = 3  # of each of several inputs: two do not tell an exponent from an offset
APART = 0.1  # several inputs must vary by so much (log) apart from each other: at D = 20 N they are one
HUBER_EFFICIENT = 1.345  # as curves.py: 95% efficient under normal noise (Huber 1981, sec. 4.3)
SMALLEST_DELTA = 1e-4
WORST_NOISE = 3.0  # bound of a drawn log residual, against Student's tails at one degree of freedom
NEW_RUNS = 8  # noises of the new run for each bootstrap


@dataclass(frozen=True)
class HeldOut:
    """m predictions of one law in badness (lower is better), each of a point beyond its fit."""

    law: Law
    row: Ints  # (m,) number of the point
    cut: Array  # (m,) compute up to which its fit saw points
    seen: Array  # (m,) compute of the dearest point that the fit saw
    predicted: Array
    low: Array
    high: Array
    actual: Array
    flops: Array

    def __len__(self) -> int:
        return len(self.row)

    @property
    def horizon(self) -> Array:
        """Factor by which the point lies beyond what the fit saw."""
        return self.flops / self.seen

    @property
    def log_error(self) -> Array:
        return np.log(self.predicted) - np.log(self.actual)

    @property
    def score(self) -> Array:
        """Distance from the prediction in half-widths of the band on that side, in logs: at most 1 inside."""
        return band_score(self.predicted, self.low, self.high, self.actual)

    def take(self, rows: Bools | Ints) -> "HeldOut":
        columns = ("row", "cut", "seen", "predicted", "low", "high", "actual", "flops")
        return replace(self, **{c: getattr(self, c)[rows] for c in columns})


@dataclass(frozen=True)
class Band:
    """A law carried to m places: the prediction, and the claimed band of one further run there; all in badness."""

    predicted: Array
    low: Array
    high: Array
    seen: float
    """Compute of the dearest point of the fit."""


def band_score(predicted: Array, low: Array, high: Array, actual: Array) -> Array:
    over = np.log(actual / predicted)
    half = np.where(over > 0, np.log(high / predicted), np.log(predicted / low))
    return np.abs(over) / np.maximum(half, 1e-300)


def widen(predicted: Array, low: Array, high: Array, scale: npt.ArrayLike) -> tuple[Array, Array]:
    """The band with its logarithmic half-widths times `scale`."""
    by = np.asarray(scale, dtype=float)
    return predicted * (low / predicted) ** by, predicted * (high / predicted) ** by


def select(points: Points, rows: Bools) -> Points:
    """The points of `rows` only; numbers of datasets, runs and cells stay, and so does the ladder's trajectory (its
    design, not its results).
    """
    where = np.flatnonzero(rows)
    return replace(
        points,
        dataset=points.dataset[where],
        run=points.run[where],
        block=points.block[where],
        cell=points.cell[where],
        params=points.params[where],
        tokens=points.tokens[where],
        unique_tokens=points.unique_tokens[where],
        flops=points.flops[where],
        value=points.value[where],
        scale=tuple(points.scale[i] for i in where),
        run_id=tuple(points.run_id[i] for i in where),
        seed=tuple(points.seed[i] for i in where),
    )


def choose_cuts(points: Points, *, most: int | None = None) -> tuple[float, ...]:
    """Computes to cut at: every level at which runs end, below which a dataset has three cells or more and beyond
    which points lie; thinned evenly in log compute to `most` (by default 10, down to 4 where there are many datasets).
    """
    if most is None:
        most = int(np.clip(MOST_FITS // len(np.unique(points.dataset)), FEWEST_CUTS, MOST_CUTS))
    ends = dearest_of_run(points)
    level = levels(ends)
    tops = np.array([ends[level == k].max() for k in np.unique(level)])
    tops = tops[tops < points.flops.max() * (1 - 1e-6)]
    pasts = (up_to(points, top) for top in tops)
    tops = tops[[any_dataset_has(points, past, FEWEST_CELLS) for past in pasts]]
    if len(tops) > most > 0:
        tops = tops[evenly(tops, most)]
    return tuple(float(c) for c in tops)


def evenly(flops: Array, most: int) -> Ints:
    """Numbers of at most `most` of these rising computes, evenly in log compute, the first and the last among them."""
    logs = np.log(flops)
    wanted = np.linspace(logs[0], logs[-1], most)
    return np.unique(np.abs(logs[None, :] - wanted[:, None]).argmin(axis=1))


def any_dataset_has(points: Points, rows: Bools, cells: int) -> bool:
    pairs = np.unique(np.column_stack([points.dataset[rows], points.cell[rows]]), axis=0)
    return bool(len(pairs)) and int(np.bincount(pairs[:, 0]).max()) >= cells


def dearest_of_run(points: Points) -> Array:
    """For every point the compute of its run's dearest one."""
    dearest = np.zeros(int(points.run.max()) + 1)
    np.maximum.at(dearest, points.run, points.flops)
    return dearest[points.run]


def up_to(points: Points, flops: float) -> Bools:
    """Points of runs that lie wholly at or below `flops`."""
    return np.asarray(dearest_of_run(points) <= flops * (1 + 1e-6))


def enough_points(points: Points, law: Law, rows: Bools) -> bool:
    """Whether `law` can be fitted to `rows` with a residual to spare: more cells than parameters, several levels of
    each of several inputs, which vary apart, and positive badness.
    """
    if len(np.unique(points.cell[rows])) <= len(law.parameters) or (points.bad[rows] <= 0).any():
        return False
    inputs = law_inputs(law, points.columns(rows))
    if inputs is None:
        return False
    if len(inputs) == 1:
        return True
    logs = np.log(np.column_stack(list(inputs.values())))
    apart = np.linalg.svd(logs - logs.mean(axis=0), compute_uv=False)[-1] / np.sqrt(len(logs))
    return bool(apart >= APART) and all(len(np.unique(levels(v))) >= DISTINCT_LEVELS for v in inputs.values())


def fit_law(points: Points, law: Law, rows: Bools, *, estimator: Estimator | None = None) -> Fit:
    """`law` on the points of `rows`; by default Huber's loss at the threshold that the residuals themselves give."""
    inputs = law_inputs(law, points.columns(rows))
    assert inputs is not None, "enough_points comes first"
    bad = points.bad[rows]
    if estimator is not None:
        return fit(law, inputs, bad, estimator=estimator)
    first = fit(law, inputs, bad, estimator=log_least_squares())
    middle = float(np.median(np.abs(first.residuals))) * 1.4826 * np.sqrt(len(bad) / (len(bad) - len(law.parameters)))
    robust = replace(first, estimator=Estimator(max(HUBER_EFFICIENT * middle, SMALLEST_DELTA)))
    # from the least-squares optimum, not from all starts again: hundreds of fits are made and none is shown
    theta = refit(robust, inputs, bad[None, :])[0]
    return replace(robust, theta=theta, residuals=residuals_at(law, theta, inputs, bad, robust.estimator))


def carry_on(
    points: Points,
    law: Law,
    past: Bools,
    places: dict[str, Array],
    *,
    estimator: Estimator | None,
    bootstraps: int,
    confidence: float,
    rng: np.random.Generator,
) -> Band:
    """Fit `law` to the points of `past` (one dataset's) and carry it to `places`, inputs of shape (m,)."""
    found = fit_law(points, law, past, estimator=estimator)
    inputs = law_inputs(law, points.columns(past))
    assert inputs is not None
    run = np.unique(points.run[past], return_inverse=True)[1].reshape(-1)
    spread, shared, spare = residual_noise(found.residuals, run, len(law.parameters))
    sd = spread * np.sqrt(spare / rng.chisquare(spare, size=bootstraps))
    common = rng.standard_normal((bootstraps, int(run.max()) + 1))[:, run]
    own = rng.standard_normal((bootstraps, len(run)))
    noise = sd[:, None] * (np.sqrt(shared) * common + np.sqrt(1.0 - shared) * own)
    samples = found.predict(inputs) * np.exp(np.clip(noise, -WORST_NOISE, WORST_NOISE))
    drawn = np.log(np.maximum(law.predict(refit(found, inputs, samples), places), 1e-12))
    new = sd[:, None, None] * rng.standard_normal((bootstraps, NEW_RUNS, 1))
    ahead = (drawn[:, None, :] + new).reshape(bootstraps * NEW_RUNS, -1)
    predicted = np.maximum(found.predict(places), 1e-12)
    low, high = np.exp(np.quantile(ahead, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0))
    # a band holds its own prediction, even where the bootstraps lean to one side
    low, high = np.minimum(low, predicted * (1 - 1e-9)), np.maximum(high, predicted * (1 + 1e-9))
    return Band(predicted, low, high, float(points.flops[past].max()))


def residual_noise(residuals: Array, run: Ints, parameters: int) -> tuple[float, float, float]:
    """(standard deviation, share common to the branches of a run, degrees of freedom) of log residuals (n,)."""
    n, runs = len(residuals), int(run.max()) + 1
    spread = float(np.sqrt((residuals**2).sum() / (n - parameters)))
    same = run[:, None] == run[None, :]
    np.fill_diagonal(same, False)
    if not same.any() or spread == 0:
        return max(spread, 1e-9), 0.0, float(n - parameters)
    products = (residuals[:, None] * residuals[None, :])[same]
    shared = float(np.clip(products.mean() / np.mean(residuals**2), 0.0, 0.95))
    # branches that share their noise are not each a degree of freedom
    spare = (1.0 - shared) * (n - parameters) + shared * max(runs - parameters, 1)
    return spread, shared, max(spare, 1.0)


def hold_out(
    points: Points,
    law: Law,
    *,
    cuts: Sequence[float],
    estimator: Estimator | None = None,
    bootstraps: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> HeldOut:
    """Fit `law` to each dataset's past at every cut and predict all of its points beyond; empty where nothing can be.

    The seed of a fit depends on the dataset's number and the cut only: another cut or dataset moves no other number.
    """
    parts: list[tuple[Ints, float, Band]] = []
    for cut in cuts:
        whole = up_to(points, cut)
        for dataset in np.unique(points.dataset):
            mine = points.dataset == dataset
            past, beyond = mine & whole, mine & (points.flops > cut * (1 + 1e-6)) & (points.bad > 0)
            places = law_inputs(law, points.columns(beyond))
            if not beyond.any() or places is None or not enough_points(points, law, past):
                continue
            rng = np.random.default_rng([seed, int(dataset), round(abs(np.log(cut)) * 1e6)])
            band = carry_on(
                points,
                law,
                past,
                places,
                estimator=estimator,
                bootstraps=bootstraps,
                confidence=confidence,
                rng=rng,
            )
            parts.append((np.flatnonzero(beyond), cut, band))
    row: Ints = np.concatenate([np.zeros(0, dtype=np.int64), *(r for r, _, _ in parts)])

    def joined(columns: list[Array]) -> Array:
        return np.concatenate([np.zeros(0), *columns])

    return HeldOut(
        law=law,
        row=row,
        cut=joined([np.full(len(r), cut) for r, cut, _ in parts]),
        seen=joined([np.full(len(r), b.seen) for r, _, b in parts]),
        predicted=joined([b.predicted for _, _, b in parts]),
        low=joined([b.low for _, _, b in parts]),
        high=joined([b.high for _, _, b in parts]),
        actual=points.bad[row],
        flops=points.flops[row],
    )
