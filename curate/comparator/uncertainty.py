"""How sure: a noise model for runs with branches, its posterior from few seeds, and the bootstrap by run drawn from it.

Resampling runs is degenerate where a cell holds one run, so the bootstrap is parametric: whole runs are drawn with a
noise whose size is itself uncertain. A value is its linear predictor plus a part common to one (dataset, scale) (what
the model misses), a part common to the branches of one run (the seed) and a part of the branch's own, with variances
lambda : rho : 1 - rho, times sigma exp(kappa x size). Sigma has Jeffreys' prior and is integrated exactly, which gives
Student's t; rho, lambda, kappa and tau, the prior size of a gap's change over the ladder, lie on a grid weighted by the
restricted likelihood (Harville 1974, Biometrika 61:383; Box and Tiao 1973, ch. 5). Replicated seeds and residuals of
every dataset and scale are thereby pooled. Shrinking the change (tau) narrows intervals of datasets that differ by a
constant by a third; priors were set by simulation (tests/comparator/test_calibration.py), which measures what it costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Share of the seed noise that the branches of one run have in common. Equal weights on steps of the logarithm of
# 1 + 3 rho / (1 - rho): Jeffreys' prior of the variance ratio for three branches a run (Box and Tiao 1973, sec. 5.2).
# A flat one under-covers where rho is high.
RHO_GRID = (0.0, 0.28, 0.55, 0.75, 0.87, 0.94, 0.97)
# Variance of what the smooth gap misses, in units of the seed noise: usually little, seldom as much as the noise.
LAMBDA_GRID = (0.0, 0.25, 1.0)
LAMBDA_PRIOR = (0.7, 0.2, 0.1)
# Where no cell has two seeds the seed noise shows only in what it shares with misfit: expect more of it.
LAMBDA_PRIOR_ONE_SEED = (0.4, 0.3, 0.3)
# Log ratio of the noise at the largest size to that at the smallest: replicated seeds are mostly at the smallest.
KAPPA_GRID = (-0.8, 0.0, 0.8)
KAPPA_PRIOR = (0.25, 0.5, 0.25)
# Standard deviation, in units of sigma, of how much a gap changes over the ladder: hardly, a few times, anything.
TAU_GRID = (1.0, 4.0, 16.0)


@dataclass(frozen=True)
class Layout:
    """Which run and which (dataset, scale) block each of n values belongs to, int64 (n,); `size` (n,) is the scale's
    place from -.5 to .5.
    """

    run: Ints
    block: Ints
    size: Array

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> "Layout":
        return Layout(self.run[rows], self.block[rows], self.size[rows])


@dataclass(frozen=True)
class Component:
    """One point of the grid: the generalised least-squares solution there and its posterior weight."""

    rho: float
    lam: float
    kappa: float
    tau: float
    design: int
    weight: float
    coefficients: Array  # (p,)
    covariance: Array  # (p, p), in units of sigma squared
    squares: float  # weighted residual sum of squares = dof * sigma^2


@dataclass(frozen=True)
class Posterior:
    """Mixture over the grid; `dof` residual degrees of freedom. `columns` (n, m) and `designs` (lists of column
    numbers) are the data's.
    """

    components: tuple[Component, ...]
    dof: int
    columns: Array
    designs: tuple[Ints, ...]
    layout: Layout
    shrink: Array  # (p, p): prior precision of the coefficients at tau = 1, in units of sigma^-2

    def mean(self, name: str) -> float:
        return float(sum(c.weight * getattr(c, name) for c in self.components))

    @property
    def sigma(self) -> float:
        """Posterior-typical standard deviation of one value over seeds, run and branch parts together, at a middling
        size.
        """
        return float(np.sqrt(sum(c.weight * c.squares for c in self.components) / self.dof))


@dataclass(frozen=True)
class Draws:
    """B draws: the grid point, sigma, the coefficients, and the noise of every value of the full layout."""

    component: Ints  # (B,)
    sigma: Array  # (B,)
    coefficients: Array  # (B, p)
    noise: Array  # (B, n_all)


@dataclass(frozen=True)
class Blocks:
    """The (dataset, scale) blocks of a layout, grouped by how their values fall into runs: pattern (m,), row numbers
    (blocks, m).
    """

    layout: Layout
    groups: tuple[tuple[Ints, Ints], ...]

    def solve(self, columns: Array, *, rho: float, lam: float, kappa: float) -> tuple[Array, float]:
        """Inverse noise covariance (sigma = 1) times columns (n, k), and the covariance's log determinant."""
        out = np.empty_like(columns)
        variance = np.exp(2.0 * kappa * self.layout.size)
        log_det = float(np.log(variance).sum())
        for pattern, rows in self.groups:
            same_run = pattern[:, None] == pattern[None, :]
            covariance = lam + rho * same_run + (1.0 - rho) * np.eye(len(pattern))
            out[rows] = np.linalg.inv(covariance) @ columns[rows]
            log_det += len(rows) * float(np.linalg.slogdet(covariance)[1])
        return out / variance[:, None], log_det


def replicated(layout: Layout) -> bool:
    """Whether any (dataset, scale) has branches of one run and another run: a seed of its own."""
    pairs = np.unique(np.column_stack([layout.block, layout.run]), axis=0)
    return len(pairs) > len(np.unique(pairs[:, 0]))


def find_blocks(layout: Layout) -> Blocks:
    order = np.lexsort((layout.run, layout.block))
    groups: dict[tuple[int, ...], list[Ints]] = {}
    for rows in np.split(order, np.flatnonzero(np.diff(layout.block[order])) + 1):
        pattern = tuple(np.unique(layout.run[rows], return_inverse=True)[1].tolist())
        groups.setdefault(pattern, []).append(rows)
    return Blocks(layout, tuple((np.array(p, dtype=np.int64), np.stack(rows)) for p, rows in groups.items()))


def fit_noise(
    values: Array,
    columns: Array,
    designs: Sequence[Ints],
    layout: Layout,
    *,
    shrink: Array | None = None,
) -> Posterior:
    """Posterior over the grid, the designs and the linear coefficients, for values (n,).

    A design is a choice of p of the columns (n, m), of full rank with n > p; designs count equally beforehand, so
    columns that take each other's place must be scaled alike. `shrink` (p, p) is the prior precision of the
    coefficients at tau = 1 in units of sigma^-2; rows of zeros leave a coefficient free.
    """
    n, p = len(values), len(designs[0])
    if n <= p:
        raise ValueError(f"{n} values and {p} coefficients leave nothing to estimate the noise from")
    shrink = np.zeros((p, p)) if shrink is None else shrink
    shrunk = int(np.linalg.matrix_rank(shrink))
    dof = n - p + shrunk
    blocks = find_blocks(layout)
    branches = len(np.unique(layout.run)) < n
    rhos = RHO_GRID if branches else (0.0,)  # one branch a run: the two parts cannot be told apart
    size_known = np.ptp(layout.size) > 0
    kappas, kappa_prior = (KAPPA_GRID, KAPPA_PRIOR) if size_known else ((0.0,), (1.0,))
    taus = TAU_GRID if shrunk else (np.inf,)
    lambdas = list(zip(LAMBDA_GRID, LAMBDA_PRIOR if replicated(layout) else LAMBDA_PRIOR_ONE_SEED, strict=True))
    data = np.column_stack([values, columns])
    chosen = np.array([[0, *(np.asarray(d) + 1)] for d in designs])  # (designs, 1 + p)
    variances = np.exp(2.0 * np.outer(kappas, layout.size))  # (kappas, n)
    shrinks = np.stack([shrink / tau**2 for tau in taus])[:, None]  # (taus, 1, p, p)
    found: list[Component] = []
    logs: list[float] = []
    for (lam, lam_prior), rho in product(lambdas, rhos):
        solved, log_det = blocks.solve(data, rho=rho, lam=lam, kappa=0.0)
        grams = np.stack([data.T @ (solved / v[:, None]) for v in variances])[:, chosen[:, :, None], chosen[:, None, :]]
        grams = grams[:, None]  # (kappas, 1, designs, 1 + p, 1 + p)
        precision = grams[..., 1:, 1:] + shrinks  # (kappas, taus, designs, p, p)
        inverse = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        moment = grams[..., 1:, 0]
        coefficients = (inverse @ moment[..., None])[..., 0]
        total = grams[..., 0, 0]
        squares = np.maximum(total - (coefficients * moment).sum(axis=-1), 1e-14 * total + 1e-300)
        volume = log_det + np.linalg.slogdet(precision)[1] + dof * np.log(squares)
        volume += np.log(variances).sum(axis=1)[:, None, None]
        if shrunk:
            volume += 2.0 * shrunk * np.log(taus)[:, None]
        logs += (np.log(lam_prior * np.array(kappa_prior))[:, None, None] - 0.5 * volume).ravel().tolist()
        found += [
            Component(
                rho, lam, kappas[k], taus[t], d, 0.0, coefficients[k, t, d], inverse[k, t, d], float(squares[k, t, d])
            )
            for k, t, d in np.ndindex(squares.shape)
        ]
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    components = tuple(weighted(c, float(w)) for c, w in zip(found, weights, strict=True))
    return Posterior(components, dof, columns, tuple(np.asarray(d) for d in designs), layout, shrink)


def weighted(c: Component, weight: float) -> Component:
    return Component(c.rho, c.lam, c.kappa, c.tau, c.design, weight, c.coefficients, c.covariance, c.squares)


def draw(posterior: Posterior, full: Layout, rows: npt.NDArray[np.bool_], *, count: int, seed: int) -> Draws:
    """`count` bootstraps by run. The noise covers every value of `full`; `rows` are those that the posterior was
    fitted on.

    Coefficients are the estimate plus what the drawn noise (and a draw from the prior where they are shrunk) does to
    it: the laws refitted to the same noise go with the same gap.
    """
    rng = np.random.default_rng(seed)
    weights = np.array([c.weight for c in posterior.components])
    component = np.sort(rng.choice(len(weights), size=count, p=weights / weights.sum()))
    squares, rho, lam, kappa = (
        np.array([getattr(c, name) for c in posterior.components])[component]
        for name in ("squares", "rho", "lam", "kappa")
    )
    sigma = np.sqrt(squares / rng.chisquare(posterior.dof, size=count))
    of_run = rng.standard_normal((count, int(full.run.max()) + 1))[:, full.run]
    of_block = rng.standard_normal((count, int(full.block.max()) + 1))[:, full.block]
    own = rng.standard_normal((count, len(full.run)))
    parts = np.sqrt(lam)[:, None] * of_block + np.sqrt(rho)[:, None] * of_run + np.sqrt(1.0 - rho)[:, None] * own
    noise = sigma[:, None] * np.exp(kappa[:, None] * full.size) * parts
    values, vectors = np.linalg.eigh(posterior.shrink)
    root = vectors * np.sqrt(np.maximum(values, 0.0))  # shrink = root @ root.T
    from_prior = sigma[:, None] * (rng.standard_normal((count, len(root))) @ root.T)
    coefficients = np.empty((count, len(root)))
    blocks = find_blocks(posterior.layout)
    fitted_noise = noise[:, rows]
    solved: dict[tuple[float, float, float], Array] = {}
    for index in np.unique(component):
        mine = component == index
        c = posterior.components[index]
        key = (c.rho, c.lam, c.kappa)
        if key not in solved:
            solved[key] = blocks.solve(posterior.columns, rho=c.rho, lam=c.lam, kappa=c.kappa)[0]
        push = fitted_noise[mine] @ solved[key][:, posterior.designs[c.design]] + from_prior[mine] / c.tau
        coefficients[mine] = c.coefficients + push @ c.covariance
    return Draws(component, sigma, coefficients, noise)


def interval(samples: Array, confidence: float) -> tuple[Array, Array]:
    """Equal-tailed interval over the first axis."""
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def decided_pairs(gaps: Array, samples: Array, *, confidence: float) -> tuple[npt.NDArray[np.bool_], float]:
    """Which of the gaps (pairs,) differ from zero, all decisions together wrong with probability at most 1 -
    confidence.

    Step-down maximum test on the bootstrap (Westfall and Young 1993; Romano and Wolf 2005): a gap counts as decided
    when it exceeds, in its own standard errors, the quantile of the largest deviation among all gaps not yet decided;
    two-sided. samples (B, pairs). Also returns the last critical value.
    """
    spread = samples.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    deviations = np.abs(samples - samples.mean(axis=0)) / spread
    strength = np.abs(gaps) / spread
    decided = np.zeros(len(gaps), dtype=bool)
    critical = float(np.quantile(deviations.max(axis=1), confidence))
    while True:
        fresh = ~decided & (strength > critical)
        if not fresh.any():
            return decided, critical
        decided |= fresh
        if decided.all():
            return decided, critical
        critical = float(np.quantile(deviations[:, ~decided].max(axis=1), confidence))
