"""The gap between datasets as a function of compute: paired on equal cells, smooth across them.

Points of several N and D at one compute lie off any single L(C), but two datasets on one cell are off by the same
amount. So every cell has a level of its own, common to all datasets, and a dataset's advantage over the first is
level + slope_N h(N) + slope_D h(D), read along the ladder's own trajectory of D/N. h is a power, from the logarithm
(exponent 0) to quick saturation (.8): the form that differences of Chinchilla laws take; shapes are mixed by
likelihood. Simulated on 3 datasets x 4 sizes x 3 branches (tests/comparator/worlds.py): a gap that is linear in log C
alone covers .85 of the truth at a noise of .03 bits per byte and .27 at .01 where datasets differ in the tokens'
term; log C and log(D/N) .97 and .80; this form .97 and .93 to .98. Differences of separately fitted laws are half as
wide again in the span. Datasets that share no cells are left to those differences (method "laws").
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.comparator.points import Points
from curate.comparator.uncertainty import Array, Component, Draws, Ints, Posterior, draw, find_blocks, fit_noise

# Exponents of N and D: 0 is the logarithm; published fits have .2 to .7 (Hoffmann et al. 2022, McLeish et al. 2025).
SHAPES = (0.0, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class Gaps:
    """The posterior gap model of `members` (dataset numbers, sharing cells) and its draws.

    `terms`: 3 for level and slopes in N and D, 2 for level and a slope in C, 1 for a level.
    """

    points: Points
    members: tuple[int, ...]
    rows: npt.NDArray[np.bool_]
    terms: int
    low_flops: float
    high_flops: float
    posterior: Posterior
    draws: Draws
    cells: int

    def advantage(self, flops: npt.ArrayLike) -> tuple[Array, Array]:
        """Badness of each member minus that of the first at compute (m,): estimate (m, k) and draws (B, m, k)."""
        flops = np.atleast_1d(np.asarray(flops, dtype=float))
        k = len(self.members) - 1
        bases = [self.basis(flops, shape) for shape in SHAPES]
        per_draw = np.stack(bases)[np.array([c.design for c in self.posterior.components])[self.draws.component]]
        free = self.draws.coefficients[:, self.cells :].reshape(-1, k, self.terms)
        sampled = np.zeros((len(free), len(flops), k + 1))
        sampled[:, :, 1:] = np.einsum("bmt,bkt->bmk", per_draw, free)
        estimate = np.zeros((len(flops), k + 1))
        for found in self.posterior.components:
            coefficients = found.coefficients[self.cells :].reshape(k, self.terms)
            estimate[:, 1:] += found.weight * bases[found.design] @ coefficients.T
        return estimate, sampled

    def basis_at(self, picked: Ints, shape: float) -> Array:
        """Columns (m, terms) at measured points."""
        points, rows = self.points, self.rows
        columns = [np.ones(len(picked))]
        if self.terms == 3:
            columns += [bend(v[picked], *ends(v[rows]), shape) for v in (points.params, points.tokens)]
        elif self.terms == 2:
            columns.append(bend(points.flops[picked], self.low_flops, self.high_flops, shape))
        return np.column_stack(columns)

    def basis(self, flops: Array, shape: float) -> Array:
        """Columns (m, terms) at compute (m,), on the ladder's own trajectory."""
        columns = [np.ones_like(flops)]
        if self.terms == 3:
            place, rows, points = self.points.on_trajectory(flops), self.rows, self.points
            columns.append(bend(place["params"], *ends(points.params[rows]), shape))
            columns.append(bend(place["tokens"], *ends(points.tokens[rows]), shape))
        elif self.terms == 2:
            columns.append(bend(flops, self.low_flops, self.high_flops, shape))
        return np.column_stack(columns)


def ends(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def bend(flops: Array, low: float, high: float, shape: float) -> Array:
    """0 at `high`, -1 at `low`: log C for shape 0, else C^-shape, so that its coefficient is the change of the gap
    over the span.
    """
    if high <= low:
        return np.zeros_like(flops)
    if shape == 0.0:
        return np.log(flops / high) / np.log(high / low)
    return ((flops / high) ** -shape - 1.0) / (1.0 - (low / high) ** -shape)


def connected(points: Points) -> tuple[int, ...]:
    """The largest set of datasets that hang together through shared cells."""
    group: dict[int, set[int]] = {d: {d} for d in np.unique(points.dataset).tolist()}
    for cell in np.unique(points.cell):
        here: list[int] = np.unique(points.dataset[points.cell == cell]).tolist()
        union: set[int] = set().union(*(group[d] for d in here))
        for d in union:
            group[d] = union
    largest = max(group.values(), key=size_then_first)
    return tuple(sorted(largest))


def size_then_first(group: set[int]) -> tuple[int, int]:
    return len(group), -min(group)


def pair_gaps(points: Points, *, bootstraps: int, seed: int) -> Gaps | None:
    """The gap model of all datasets that share cells; None where none do, or where nothing is left to estimate the
    noise from.
    """
    members = connected(points)
    if len(members) < 2:
        return None
    rows = np.isin(points.dataset, members)
    together = [
        c for c in np.unique(points.cell[rows]) if len(np.unique(points.dataset[rows & (points.cell == c)])) > 1
    ]
    rows &= np.isin(points.cell, together)
    members = tuple(np.unique(points.dataset[rows]).tolist())
    low, high = float(points.flops[rows].min()), float(points.flops[rows].max())
    for terms in (3, 2, 1) if points.trajectory is not None else (2, 1):
        columns, choices = design_columns(points, rows, members, terms, low, high)
        spare = int(rows.sum()) - len(choices[0])
        if spare >= (2 if terms > 1 else 1) and all(np.linalg.matrix_rank(columns[:, c]) == len(c) for c in choices):
            shrink = slope_precision(len(choices[0]), len(members), terms)
            posterior = fit_noise(points.bad[rows], columns, choices, points.layout.take(rows), shrink=shrink)
            draws = draw(posterior, points.layout, rows, count=bootstraps, seed=seed)
            return Gaps(points, members, rows, terms, low, high, posterior, draws, len(together))
    return None


def design_columns(
    points: Points, rows: npt.NDArray[np.bool_], members: tuple[int, ...], terms: int, low: float, high: float
) -> tuple[Array, list[Ints]]:
    """Columns: cell levels, then for each member but the first its level, a slope for every shape, and z; and each
    shape's choice of them.
    """
    number = np.unique(points.cell[rows], return_inverse=True)[1]
    cells = int(number.max()) + 1
    flops = points.flops[rows]
    if terms == 3:
        families = [
            [bend(values[rows], *ends(values[rows]), shape) for shape in SHAPES]
            for values in (points.params, points.tokens)
        ]
    else:
        families = [[bend(flops, low, high, shape) for shape in SHAPES]]
    own = np.column_stack([np.ones_like(flops), *(column for family in families for column in family)])
    columns = [np.eye(cells)[number]] + [own * (points.dataset[rows] == m)[:, None] for m in members[1:]]
    choices = []
    for index in range(len(SHAPES)):
        of_member = np.array([0, 1 + index, 1 + len(SHAPES) + index])[:terms]
        starts = cells + own.shape[1] * np.arange(len(members) - 1)
        choices.append(np.concatenate([np.arange(cells), (starts[:, None] + of_member).ravel()]))
    return np.column_stack(columns), choices


def slope_precision(coefficients: int, members: int, terms: int) -> Array:
    """Prior precision of the slopes: differences between any two datasets have variance tau^2, whichever dataset
    stands first.
    """
    out = np.zeros((coefficients, coefficients))
    start = coefficients - (members - 1) * terms
    for term in range(1, terms):
        at = start + term + terms * np.arange(members - 1)
        out[np.ix_(at, at)] = 2.0 * (np.eye(members - 1) - 1.0 / members)
    return out


def noise_without_pairs(points: Points, *, bootstraps: int, seed: int) -> tuple[Posterior, Draws] | None:
    """Noise where no cells are shared: from what a smooth curve of each dataset on its own leaves, and from
    replicates.
    """
    x = np.log(points.flops / np.exp(np.log(points.flops).mean()))
    for degree in (3, 2, 1):
        columns = [x**power for power in range(degree)] + ([points.z] if np.ptp(points.z) > 1e-6 else [])
        own = np.column_stack(columns)
        blocks = np.column_stack([own * (points.dataset == d)[:, None] for d in np.unique(points.dataset)])
        if len(points) - blocks.shape[1] >= 2 and np.linalg.matrix_rank(blocks) == blocks.shape[1]:
            posterior = fit_noise(points.bad, blocks, [np.arange(blocks.shape[1])], points.layout)
            every = np.ones(len(points), dtype=bool)
            return posterior, draw(posterior, points.layout, every, count=bootstraps, seed=seed)
    return None


def error_with_more_runs(gaps: Gaps, pair: tuple[int, int], flops: float, block: int, runs: int) -> float:
    """Standard error of the pair's gap at `flops`, with the typical noise, after `runs` more runs of each at the
    scale of `block`.

    `block` numbers a (dataset, scale) block of the first of the pair; the new runs repeat the budgets that it has
    there.
    """
    points = gaps.points
    rows = gaps.rows & np.isin(points.dataset, pair)
    shared = np.intersect1d(
        points.cell[rows & (points.dataset == pair[0])], points.cell[rows & (points.dataset == pair[1])]
    )
    rows &= np.isin(points.cell, shared)
    index: list[int] = np.flatnonzero(rows).tolist()
    run: list[int] = points.run[rows].tolist()
    cells_here = np.unique(points.cell[rows & (points.block == block)])
    fresh = int(points.run.max()) + 1
    for member in pair:
        mine = rows & (points.dataset == member)
        template = [int(np.flatnonzero(mine & (points.cell == cell))[0]) for cell in cells_here]
        for _ in range(runs):
            index += template
            run += [fresh] * len(template)
            fresh += 1
    picked = np.array(index)
    layout = replace(points.layout.take(picked), run=np.array(run))
    number = np.unique(points.cell[picked], return_inverse=True)[1]
    second = (points.dataset[picked] == pair[1]).astype(float)
    shape = SHAPES[heaviest(gaps.posterior).design]
    own = gaps.basis_at(picked, shape)
    columns = np.column_stack([np.eye(number.max() + 1)[number], own * second[:, None]])
    mean = gaps.posterior.mean
    solved, _ = find_blocks(layout).solve(columns, rho=mean("rho"), lam=mean("lam"), kappa=mean("kappa"))
    gram = columns.T @ solved + slope_precision(columns.shape[1], 2, gaps.terms) / mean("tau") ** 2
    target = np.zeros(columns.shape[1])
    target[-gaps.terms :] = gaps.basis(np.array([flops]), shape)[0]
    solution = np.linalg.lstsq(gram, target, rcond=None)[0]
    variance = float(target @ solution)
    return gaps.posterior.sigma * max(variance, 0.0) ** 0.5


def heaviest(posterior: Posterior) -> Component:
    return max(posterior.components, key=lambda c: c.weight)


def cell_differences(points: Points, first: int, second: int) -> list[tuple[Ints, Ints]]:
    """Row numbers (of first, of second) on every cell that both have, in the order of compute."""
    shared = np.intersect1d(points.cell[points.dataset == first], points.cell[points.dataset == second])
    pairs = [
        (
            np.flatnonzero((points.cell == cell) & (points.dataset == first)),
            np.flatnonzero((points.cell == cell) & (points.dataset == second)),
        )
        for cell in shared
    ]
    return sorted(pairs, key=lambda rows: float(points.flops[int(rows[0][0])]))
