"""Planning: which runs to do for a budget, batch after batch, and how small a ladder may be.

`plan` takes measurements or a stated Pilot, `next_batch` also drops what is clearly worse, `smallest_ladder` needs no
pilot. All use the noise model and the gap's posterior of gaps.py, the error of design.py and the search of
allocation.py. All datasets are compared at one target compute; cost is 6 N D and the cool-down of branches. The chance
to be decided leaves out that the noise estimated by then will differ from today's: see tests/comparator/test_plan.py
for stated against realised shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from curate.comparator.planning.allocation import smallest
from curate.comparator.planning.outlook import State, believe, bounds_of, couples_of, learn, weights_of
from curate.comparator.planning.planned import CandidateScale, Dropped, Goal, Pilot, Plan
from curate.comparator.planning.proposal import lay_out
from curate.comparator.planning.prospect import Prospect
from curate.comparator.uncertainty import decided_pairs
from curate.comparator.verdict import Estimate
from curate.comparator.wording import flops as in_words
from curate.comparator.wording import share
from curate.errors import MeasurementError


def plan(
    measurements: pa.Table | Pilot,
    *,
    budget_flops: float,
    scales: Sequence[CandidateScale] | None = None,
    target_flops: float | None = None,
    metric: str | None = None,
    datasets: int | Sequence[str] = 2,
    max_seeds: int = 8,
    goal: Goal = "order",
    confidence: float = 0.95,
    bootstraps: int = 1000,
    seed: int = 0,
) -> Plan:
    """The runs that, within `budget_flops`, make it likeliest that the datasets' order at `target_flops` is decided.

    From a table, noise and gaps are what it says and `datasets` is ignored; from a Pilot they are what is stated.
    `scales` are those that may be run, by default the table's own; `target_flops` is by default the compute of the
    largest of `scales`, or without them the largest that all datasets reach, as in `compare`. `max_seeds` bounds the
    runs of one dataset at one scale, those done included; `metric` is by default the only one. `goal` "order" counts
    all pairs alike, "best" those that may hold the best dataset. Raises MeasurementError for what cannot be planned.
    """
    refuse(budget_flops, max_seeds, confidence, target_flops, goal)
    if isinstance(measurements, Pilot):
        names = name_datasets(datasets)
        if not scales:
            raise MeasurementError(
                "A plan from a Pilot needs scales: CandidateScale(name, params, tokens), one or more."
            )
        state = believe(measurements, names, scales, target_flops, confidence)
    else:
        state = learn(measurements, metric, scales, target_flops, confidence, goal, bootstraps, seed)
    active = tuple(range(len(state.names)))
    return lay_out(state, active, budget_flops, max_seeds, goal=goal, seed=seed)


def next_batch(
    measurements: pa.Table,
    *,
    budget_flops: float,
    previous: Plan | Mapping[str, Any] | None = None,
    looks: int = 4,
    scales: Sequence[CandidateScale] | None = None,
    target_flops: float | None = None,
    metric: str | None = None,
    max_seeds: int = 8,
    goal: Goal = "best",
    confidence: float = 0.95,
    bootstraps: int = 2000,
    seed: int = 0,
) -> Plan:
    """Look at all measurements so far, drop what is clearly worse, and spend `budget_flops` on what is undecided.

    The data are judged `looks` times in all, the last time included; pass the last plan (or its `to_dict()`) as
    `previous`. Look l of L tests all pairs left together at alpha (l^2 - (l - 1)^2) / L^2 (a power family of alpha
    spending, Jennison and Turnbull 2000, sec. 7.2; added up by Bonferroni, so true whatever the looks share): with
    alpha = 1 - `confidence`, that any dataset is ever dropped wrongly has probability alpha at most. Goal "best" drops
    a dataset that is decidedly worse than another one, "order" one that is decided against all others. A dropped
    dataset stays dropped. The last look plans no runs.
    """
    refuse(budget_flops, max_seeds, confidence, target_flops, goal)
    look, gone = what_was(previous, looks)
    state = learn(measurements, metric, scales, target_flops, confidence, goal, bootstraps, seed, without=gone)
    level = 1.0 - spending(look, looks, 1.0 - confidence)
    dropped = (*gone.values(), *clearly_worse(state, level, look, goal))
    out = {d.dataset for d in dropped}
    active = tuple(i for i, name in enumerate(state.names) if name not in out)
    later = 1.0 - spending(min(look + 1, looks), looks, 1.0 - confidence)
    state = replace(state, prospect=only(state, active, goal, later))
    racing = active if look < looks else ()
    found = lay_out(state, racing, budget_flops, max_seeds, goal=goal, seed=seed, other_budgets=())
    notes = list(found.notes)
    if len(active) == 1:
        notes.insert(0, f"{state.names[active[0]]} is the best of all; nothing is left to decide.")
    elif look == looks:
        notes.insert(0, f"The last of {looks} looks: {len(active)} datasets are not told apart and stay tied.")
    return replace(
        found,
        datasets=(*(d for d in gone), *state.names),
        dropped=dropped,
        notes=tuple(notes),
        confidence=level,
        look=look,
        looks=looks,
    )


def smallest_ladder(
    scales: Sequence[CandidateScale],
    *,
    pilot: Pilot,
    gap: float,
    power: float = 0.8,
    target_flops: float | None = None,
    datasets: int | Sequence[str] = 2,
    max_seeds: int = 8,
    confidence: float = 0.95,
) -> Plan:
    """The cheapest runs of equal numbers for every dataset that decide a gap of `gap` at the target with probability
    `power`.

    `pilot` states noise and how far gaps change over the ladder; `gap` is one pair's, tested together with all pairs
    of `datasets`. Where no ladder of up to `max_seeds` reaches it, the plan is the surest one and says so.
    """
    refuse(1.0, max_seeds, confidence, target_flops, "order")
    if not (np.isfinite(gap) and gap > 0):
        raise MeasurementError(f"gap is {gap}; it must be positive, in the metric's unit.")
    if not 0 < power < 1:
        raise MeasurementError(f"power is {power}; it is a probability between 0 and 1.")
    state = believe(pilot, name_datasets(datasets), scales, target_flops, confidence)
    pairs = len(state.prospect.couples)
    fixed = replace(state.prospect, mean=np.full(pairs, gap), sizes=(np.array([1e-6 * gap]), np.ones(1)))
    state = replace(state, prospect=fixed, gap=Estimate(gap, gap, gap), source=f"a gap of {gap:g}; {state.source}")
    new = smallest(fixed, bounds_of(state, np.inf, max_seeds), power)
    active = tuple(range(len(state.names)))
    found = lay_out(state, active, float(new.sum(axis=0) @ state.costs), max_seeds, goal="order", seed=0, new=new)
    if found.p_after < power:
        most = (
            f"No ladder of up to {max_seeds} seeds a scale decides a gap of {gap:g} with P {share(power)}: the surest"
        )
        return replace(
            found, notes=(f"{most} reaches {share(found.p_after)}. Add a scale nearer the target.", *found.notes)
        )
    return found


def refuse(budget: float, max_seeds: int, confidence: float, target: float | None, goal: str) -> None:
    if not (np.isfinite(budget) and budget > 0):
        raise MeasurementError(f"budget_flops is {budget}; it must be a positive number of FLOPs.")
    if not 1 <= max_seeds <= 64:
        raise MeasurementError(f"max_seeds is {max_seeds}; it must be from 1 to 64.")
    if not 0.5 < confidence < 1:
        raise MeasurementError(f"confidence is {confidence}; it must lie between .5 and 1.")
    if target is not None and not (np.isfinite(target) and target > 0):
        raise MeasurementError(f"target_flops is {target}; it must be a positive number of FLOPs.")
    if goal not in ("order", "best"):
        raise MeasurementError(f"goal is {goal!r}; it is 'order' (all pairs) or 'best'.")


def name_datasets(datasets: int | Sequence[str]) -> tuple[str, ...]:
    names = tuple(f"dataset {i + 1}" for i in range(datasets)) if isinstance(datasets, int) else tuple(datasets)
    if len(names) < 2 or len(set(names)) < len(names):
        raise MeasurementError(f"A plan needs two or more datasets with names of their own, not {names}.")
    return names


def spending(look: int, looks: int, alpha: float) -> float:
    """The part of alpha that look number `look` (from 1) of `looks` may use."""
    return alpha * (look**2 - (look - 1) ** 2) / looks**2


def what_was(previous: Plan | Mapping[str, Any] | None, looks: int) -> tuple[int, dict[str, Dropped]]:
    """(number of this look, datasets already dropped)."""
    if not 1 <= looks <= 100:
        raise MeasurementError(f"looks is {looks}; it must be from 1 to 100.")
    if previous is None:
        return 1, {}
    if isinstance(previous, Plan):
        before, planned, dropped = previous.look, previous.looks, previous.dropped
    else:
        try:
            before, planned = int(previous["look"]), int(previous["looks"])
            dropped = tuple(Dropped(**gone) for gone in previous["dropped"])
        except (KeyError, TypeError, ValueError) as error:
            raise MeasurementError(f"previous: this is no plan ({error}); pass a Plan or its to_dict().") from error
    if planned != looks:
        raise MeasurementError(
            f"looks is {looks}, but the plan before was for {planned}: their number is fixed at first."
        )
    if before >= looks:
        raise MeasurementError(
            f"All {looks} looks are spent: another one would raise the chance of a false drop. Use `compare` on what "
            "is left, or plan more looks from the start."
        )
    return before + 1, {gone.dataset: gone for gone in dropped}


def clearly_worse(state: State, level: float, look: int, goal: Goal) -> list[Dropped]:
    """Datasets that this look puts aside, all pairs tested together at `level`."""
    prospect, samples = state.prospect, state.samples
    assert samples is not None
    first, second = prospect.couples.T
    decided, _ = decided_pairs(prospect.mean, samples[:, second] - samples[:, first], confidence=level)
    count = len(state.names)
    beats = np.zeros((count, count), dtype=bool)
    lead = np.zeros((count, count))
    for (a, b), gap, sure in zip(prospect.couples.tolist(), prospect.mean, decided, strict=True):
        better, worse = (a, b) if gap > 0 else (b, a)
        beats[better, worse] = sure
        lead[better, worse] = abs(gap)
    out = []
    for d in range(count):
        winners = np.flatnonzero(beats[:, d])
        if goal == "best":
            gone = len(winners) > 0
            rival = int(winners[lead[winners, d].argmax()]) if gone else d
            why = f"decidedly worse than {state.names[rival]}"
        else:
            gone = bool((beats[:, d] | beats[d])[np.arange(count) != d].all())
            rival = int(np.argmax(np.where(np.arange(count) == d, -np.inf, -np.maximum(lead[:, d], lead[d]))))
            why = f"decided against all others, {state.names[rival]} the nearest"
        if gone:
            p = float(np.mean(samples[:, rival] < samples[:, d]))
            p = float((p * len(samples) + 0.5) / (len(samples) + 1))
            p = p if goal == "best" or beats[rival, d] else 1.0 - p
            reason = f"{why} at {in_words(state.target_flops)} FLOPs (P {share(p)}, all pairs together at {level:.4g})"
            out.append(Dropped(state.names[d], state.names[rival], p, look, reason))
    return out


def only(state: State, active: Sequence[int], goal: Goal, confidence: float) -> Prospect:
    """The prospect with nothing at stake for pairs of datasets out of the race."""
    assert state.samples is not None
    both = np.asarray(np.isin(state.prospect.couples, active).all(axis=1))
    weights = np.zeros(len(both))
    if both.any():
        inside = weights_of(state.samples[:, list(active)], couples_of(len(active)), goal)
        weights[both] = inside
    return replace(state.prospect, weights=weights, confidence=confidence)
