"""The search for the runs that make pairs surest within a budget, or reach a stated chance most cheaply.

Runs are counted as (datasets, scales). First every design on a coarse grid of seeds, for each group of datasets, then
single exchanges while they help: P is flat where little is known, and steps by gain alone would not leave the start.
Within .005 of the best of all designs on random ladders of three scales (tests/comparator/test_plan.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from curate.comparator.planning.prospect import Array, Prospect

MOST_DESIGNS = 1024  # of one group of datasets, before single exchanges
MOST_SCALES = 10  # 2^10 = MOST_DESIGNS
MOST_GROUPS = 8
MOST_IN_PAIRS = 6  # datasets of a group whose pairs may get runs of their own
SMALLEST_GAIN = 1e-5
STARTS = 3  # of every group, from which exchanges set out


@dataclass(frozen=True)
class Bounds:
    """What a search may spend: FLOPs of one run at each scale (S,), the budget, the most runs of a dataset at a
    scale.
    """

    costs: Array
    budget: float
    max_seeds: int


def search(prospect: Prospect, bounds: Bounds, groups: Sequence[Sequence[int]], known: Sequence[Array] = ()) -> Array:
    """New runs (datasets, S) within the bounds that make the weighted mean of P(decided) largest: of one of the
    groups of datasets, or one of `known` where that is affordable and better.
    """
    best, score = np.zeros_like(prospect.done), prospect.worth_of(np.zeros_like(prospect.done))
    starts = [(new, np.flatnonzero(new.any(axis=1)).tolist()) for new in known if affordable(bounds, new)]
    for group in groups:
        designs = coarse_designs(bounds, room(prospect, bounds, group), len(group))
        member = members(prospect, group)[:, None]
        scores = prospect.worth(prospect.done + member * designs[:, None, :])
        starts += [(member * designs[i], list(group)) for i in np.argsort(-scores, kind="stable")[:STARTS]]
    ranked = sorted(starts, key=lambda start: -prospect.worth_of(start[0]))
    for start, group in ranked[: 2 * STARTS]:
        if len(group) >= 2:
            found = exchange(prospect, bounds, group, start)
            value = prospect.worth_of(found)
            if value > score + SMALLEST_GAIN:
                best, score = found, value
    return best


def affordable(bounds: Bounds, new: Array) -> bool:
    return float(new.sum(axis=0) @ bounds.costs) <= bounds.budget * (1 + 1e-9)


def members(prospect: Prospect, group: Sequence[int]) -> Array:
    """1 for datasets of the group, 0 for the others."""
    out = np.zeros(len(prospect.done))
    out[list(group)] = 1.0
    return out


def room(prospect: Prospect, bounds: Bounds, group: Sequence[int]) -> Array:
    """How many more seeds (S,) every dataset of the group may have at each scale."""
    return np.maximum(bounds.max_seeds - prospect.done[list(group)].max(axis=0), 0.0).astype(float)


def coarse_designs(bounds: Bounds, most: Array, datasets: int) -> Array:
    """All affordable combinations (n, S) of seeds on a grid that doubles where a finer one would be too many."""
    afford = np.minimum(np.floor(bounds.budget / (datasets * bounds.costs) + 1e-9), most).astype(int)
    levels = [list(range(int(a) + 1)) for a in afford]
    while np.prod([float(len(own)) for own in levels]) > MOST_DESIGNS:
        longest = max(range(len(levels)), key=lambda s: len(levels[s]))
        if len(levels[longest]) <= 2:
            break
        own = levels[longest]
        levels[longest] = sorted({own[0], own[-1], *own[2:-1:2]})
    designs = np.array(list(product(*levels)), dtype=float)
    return designs[datasets * designs @ bounds.costs <= bounds.budget * (1 + 1e-9)]


def groups_of(prospect: Prospect, active: Sequence[int]) -> list[tuple[int, ...]]:
    """Groups of datasets that a batch may go to: all active ones, then those left when the most settled is put aside,
    and so on down to the two least settled.
    """
    left = sorted(active)
    if not prospect.known:
        return [tuple(left)] if len(left) >= 2 else []  # all alike
    open_now = ((1.0 - prospect.decided(prospect.done[None])[0]) * prospect.weights).tolist()
    couples = prospect.couples.tolist()
    groups = []
    while len(left) >= 2:
        groups.append(tuple(left))
        pairs_of = dict.fromkeys(left, 0.0)
        for still_open, (a, b) in zip(open_now, couples, strict=True):
            if a in pairs_of and b in pairs_of:
                pairs_of[a] += still_open
                pairs_of[b] += still_open
        left.remove(min(left, key=lambda d: (pairs_of[d], -d)))
    if len(groups) <= MOST_GROUPS:
        return groups
    picked = np.unique(np.round(np.linspace(0, len(groups) - 1, MOST_GROUPS)).astype(int))
    return [groups[i] for i in picked]


def exchange(prospect: Prospect, bounds: Bounds, group: Sequence[int], new: Array) -> Array:
    """Steps of the group (seeds more at one scale, or fewer there and more elsewhere) and of single pairs of it (more),
    while P rises.
    """
    scales = np.flatnonzero(bounds.costs <= bounds.budget).tolist()
    if not scales:
        return new
    more = [step_of(new, group, s, k) for s in scales for k in (1.0, 2.0, 4.0)]
    fewer = [step_of(new, group, s, -k) for s in scales for k in (1.0, 2.0)]
    steps = more + [up + down for up in more for down in fewer]
    if prospect.known and 2 < len(group) <= MOST_IN_PAIRS:
        steps += [step_of(new, pair, s, k) for pair in combinations(group, 2) for s in scales for k in (1.0, 2.0)]
    every = np.array(steps)
    score = prospect.worth_of(new)
    while True:
        tried = new + every
        seeds = prospect.done + tried
        fits = (tried >= 0).all(axis=(1, 2)) & (np.where(tried > 0, seeds, 0.0).max(axis=(1, 2)) <= bounds.max_seeds)
        fits &= (tried.sum(axis=1) @ bounds.costs) <= bounds.budget * (1 + 1e-9)
        if not fits.any():
            return new
        values = prospect.worth(seeds[fits])
        if values.max() <= score + SMALLEST_GAIN:
            return new
        new, score = tried[fits][int(values.argmax())], float(values.max())


def step_of(new: Array, datasets: Sequence[int], scale: int, seeds: float) -> Array:
    out = np.zeros_like(new)
    out[list(datasets), scale] = seeds
    return out


def smallest(prospect: Prospect, bounds: Bounds, power: float) -> Array:
    """The cheapest new runs (datasets, S), as many of every dataset, with which the weighted mean of P(decided)
    reaches `power`; the surest ones where none does.
    """
    group = tuple(range(len(prospect.done)))
    designs = coarse_designs(bounds, room(prospect, bounds, group), len(group))
    scores = prospect.worth(prospect.done + np.repeat(designs[:, None], len(group), axis=1))
    if scores.max() < power:
        return np.repeat(designs[int(scores.argmax())][None], len(group), axis=0)
    enough = designs[scores >= power]
    order = np.argsort(enough @ bounds.costs, kind="stable")[:8]
    cheapest = min((cheaper(prospect, bounds, power, enough[i]) for i in order), key=lambda d: float(d @ bounds.costs))
    return np.repeat(cheapest[None], len(group), axis=0)


def cheaper(prospect: Prospect, bounds: Bounds, power: float, design: Array) -> Array:
    """Take seeds away, or trade them for cheaper ones, while `power` is reached; design (S,)."""
    count = len(design)
    moves = (
        [np.array(v) for v in product((-1.0, 0.0, 1.0), repeat=count)] if count <= 6 else list(pairwise_moves(count))
    )
    moves_array = np.array([m for m in moves if m @ bounds.costs < 0])
    while True:
        tried = design + moves_array
        tried = tried[(tried >= 0).all(axis=1) & (tried <= bounds.max_seeds).all(axis=1)]
        if not len(tried):
            return design
        good = prospect.worth(prospect.done + np.repeat(tried[:, None], len(prospect.done), axis=1)) >= power
        if not good.any():
            return design
        design = min(tried[good], key=lambda d: float(d @ bounds.costs))


def pairwise_moves(count: int) -> Array:
    """One seed less at a scale, with or without one more at another."""
    one = np.eye(count)
    return np.concatenate([-one, *(one[i] - one for i in range(count))])


def uniform(prospect: Prospect, bounds: Bounds, active: Sequence[int]) -> Array:
    """The same number of seeds of every active dataset at every scale; dear scales are left out where the budget ends
    before the first round.
    """
    member = members(prospect, active)
    most = room(prospect, bounds, active)
    order = np.argsort(bounds.costs, kind="stable")
    for count in range(len(order), 0, -1):
        used = order[:count]
        seeds = np.floor(bounds.budget / (len(active) * bounds.costs[used].sum()) + 1e-9)
        if seeds >= 1:
            own = np.zeros(len(order))
            own[used] = np.minimum(seeds, most[used])
            return member[:, None] * own
    return np.zeros_like(prospect.done)


def one_scale(prospect: Prospect, bounds: Bounds, active: Sequence[int], scale: int) -> Array:
    """The whole budget on one scale."""
    member = members(prospect, active)
    own = np.zeros(len(bounds.costs))
    afford = np.floor(bounds.budget / (len(active) * bounds.costs[scale]) + 1e-9)
    own[scale] = min(afford, float(room(prospect, bounds, active)[scale]))
    return member[:, None] * own
