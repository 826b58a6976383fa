"""From what is known to a plan: the search, the alternatives that it is held against, and what the reader must know."""

from collections.abc import Sequence

import numpy as np

from curate.comparator.planning.allocation import groups_of, members, one_scale, search, uniform
from curate.comparator.planning.outlook import NOT_FOR_SALE, State, bounds_of
from curate.comparator.planning.planned import Alternative, Goal, Plan, PlannedPair, PlannedRuns
from curate.comparator.planning.prospect import Array, Prospect
from curate.comparator.uncertainty import interval
from curate.comparator.verdict import Estimate
from curate.comparator.wording import flops as in_words
from curate.comparator.wording import share

UNLIMITED = 1e6  # seeds
BUDGETS = (0.5, 2.0, 4.0)  # times the budget, for which the best plan's P(decided) is told too
SETTLED = 0.97


def lay_out(
    state: State,
    active: Sequence[int],
    budget: float,
    max_seeds: int,
    *,
    goal: Goal,
    seed: int,
    new: Array | None = None,
    other_budgets: Sequence[float] = BUDGETS,
) -> Plan:
    """Search (unless `new` is given), and tell what it decides beside the alternatives."""
    prospect, bounds = state.prospect, bounds_of(state, budget, max_seeds)
    racing = len(active) >= 2
    others, budgets = [], []
    if new is None:
        new = np.zeros_like(prospect.done)
        if racing:
            rivals = {"a uniform ladder": uniform(prospect, bounds, active)}
            for s in np.flatnonzero(state.costs < NOT_FOR_SALE):
                rivals[f"{state.scales[s].name} alone"] = one_scale(prospect, bounds, active, int(s))
            rivals = {name: runs for name, runs in rivals.items() if runs.any()}
            groups = groups_of(prospect, active)
            new = search(prospect, bounds, groups, tuple(rivals.values()))
            others = [alternative(state, name, runs) for name, runs in rivals.items()]
            for factor in other_budgets:
                # of the group that was chosen, and of all
                few = list(dict.fromkeys([groups[0], tuple(np.flatnonzero(new.any(axis=1)).tolist()) or groups[0]]))
                other = search(prospect, bounds_of(state, factor * budget, max_seeds), few, (new,))
                budgets.append((factor * budget, prospect.worth_of(other)))
            budgets = sorted([*budgets, (budget, prospect.worth_of(new))]) if budgets else []
    after = prospect.decided((prospect.done + new)[None])[0]
    errors = prospect.error((prospect.done + new)[None])[0]
    before = decided_now(prospect)
    pairs = [
        PlannedPair(
            state.names[a], state.names[b], gap_now(state, i), float(before[i]), float(after[i]), float(errors[i])
        )
        for i, (a, b) in enumerate(prospect.couples.tolist())
        if not active or (a in active and b in active)
    ]
    weights = prospect.weights
    p_before = float(before @ weights)
    p_after = float(after @ weights) if new.any() else p_before
    best_alone = sorted((o for o in others if o.name.endswith(" alone")), key=lambda o: -o.p_after)[:2]
    notes = [*state.notes, *(cautions(state, active, p_after, new) if racing else ())]
    if racing and not new.any():
        notes.append(cannot_buy(state, active, budget, max_seeds, p_before))
    return Plan(
        metric=state.metric,
        datasets=state.names,
        target_flops=state.target_flops,
        budget_flops=budget,
        flops=cost_of(state, new),
        goal=goal,
        runs=tuple(runs_of(state, new)),
        pairs=tuple(pairs),
        p_before=p_before,
        p_after=p_after,
        alternatives=tuple([o for o in others if not o.name.endswith(" alone")] + best_alone),
        by_budget=tuple(budgets),
        dropped=(),
        notes=tuple(notes),
        noise_sd=state.sigma,
        confidence=prospect.confidence,
        look=1,
        looks=1,
        source=state.source,
        seed=seed,
    )


def decided_now(prospect: Prospect) -> Array:
    """P(decided rightly) with no more runs: nothing where nothing was measured."""
    return prospect.decided(prospect.done[None])[0] if prospect.known else np.zeros(len(prospect.couples))


def gap_now(state: State, pair: int) -> Estimate | None:
    if state.samples is None:
        return state.gap
    first, second = state.prospect.couples[pair]
    low, high = interval(state.samples[:, second] - state.samples[:, first], 0.95)
    return Estimate(float(state.prospect.mean[pair]), float(low), float(high))


def alternative(state: State, name: str, new: Array) -> Alternative:
    return Alternative(name, int(new.sum()), cost_of(state, new), state.prospect.worth_of(new))


def cost_of(state: State, new: Array) -> float:
    """FLOPs of new runs (datasets, S)."""
    return float(new.sum(axis=0) @ np.where(new.any(axis=0), state.costs, 0.0))


def runs_of(state: State, new: Array) -> list[PlannedRuns]:
    """Rows of the table: datasets with the same number of new seeds at a scale together, cheap scales first."""
    out = []
    for s in np.argsort(state.costs, kind="stable"):
        for seeds in sorted(set(new[:, s].tolist()) - {0.0}):
            which = np.flatnonzero(new[:, s] == seeds)
            scale = state.scales[s]
            names = tuple(state.names[d] for d in which)
            cost = seeds * len(which) * float(state.costs[s])
            out.append(
                PlannedRuns(scale.name, scale.params, scale.tokens, scale.branch_tokens, names, int(seeds), cost)
            )
    return out


def cautions(state: State, active: Sequence[int], p_after: float, new: Array) -> list[str]:
    """What a reader who would take a short cut has to know."""
    prospect = state.prospect
    member = members(prospect, active)
    stuck = []
    for s in np.flatnonzero(state.costs < NOT_FOR_SALE):
        endless = prospect.done.copy()
        endless[:, s] += UNLIMITED * member
        limit = float(prospect.worth(endless[None])[0])
        if limit < 0.5 and limit < p_after - 0.02:
            stuck.append(f"{state.scales[s].name} {share(limit)}")
    notes = []
    if stuck:
        notes.append(
            "One scale alone cannot decide at the target, however many seeds, because how gaps change with scale stays "
            f"unknown; P with unlimited seeds: {', '.join(stuck)}."
        )
    used = (prospect.done + new)[list(active)].max(axis=0)
    if new.any() and used.max() < 2:
        notes.append(
            "No scale gets a second seed of any dataset: the noise will be known only from how well smooth gaps fit. "
            "Two seeds of every dataset at the smallest scale cost little and measure it."
        )
    return notes


def cannot_buy(state: State, active: Sequence[int], budget: float, max_seeds: int, p_before: float) -> str:
    if p_before > SETTLED:
        return (
            f"Nothing to buy: the measurements at hand decide (P {share(p_before)} at {state.prospect.confidence:.4g})."
        )
    cheapest = len(active) * float(state.costs.min())
    if cheapest > budget:
        return (
            f"The budget of {in_words(budget)} FLOPs does not pay one run of each of {len(active)} datasets at the "
            f"cheapest scale ({in_words(cheapest)})."
        )
    return (
        f"No affordable runs (up to {max_seeds} seeds a scale) make a decision likelier: raise max_seeds, or add a "
        "scale nearer the target."
    )
