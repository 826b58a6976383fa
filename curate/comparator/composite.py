"""A score over several tasks, weighted by how much signal each has been measured to carry.

A task's noise is the variance of one run over seeds (runs of one dataset, cell and settings; where there are fewer than
REPLICATES, what a two-way layout of dataset and cell leaves, an upper bound: weights made from two or three repeated
runs pick the tasks in which these happen to agree). Its signal is the variance between datasets on a
cell beyond what noise gives. Standardised tasks are weighted by reliability, signal / (signal + noise), as in
classical test theory (Lord and Novick 1968, ch. 3; the ratio also tells which benchmarks order small models as large
ones: Heineman et al. 2025, "Signal and Noise"). Tasks near chance have no weight. Weights come from the table that is
then compared and favour tasks that happen to differ: tests/comparator/test_composite.py measures what that costs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.comparator.matching import all_settings
from curate.comparator.points import cell_numbers, joined
from curate.comparator.tables import numbers, replace
from curate.comparator.uncertainty import Array, Ints
from curate.comparator.verdict import Composite, TaskWeight
from curate.errors import MeasurementError

COMPOSITE = "composite"
NEAR_CHANCE = 0.02  # of the way from chance to perfect
CHANCE_ERRORS = 2.0  # or as many standard errors
REPLICATES = 10  # degrees of freedom from which repeated runs measure the noise of a task
SCATTER = 3.0  # by simulation: 1 leaves 4 and 6% of equal worlds decided (2 and 4 datasets, 8 tasks), 3 leaves 2 and 3%
WHOLE = 0.9  # a task measured on a smaller share of the points is left out, rather than the points
RULE = (
    "{what}; weight = reliability / standard deviation on a cell, reliability = signal / (signal + noise), signal = "
    "variance between datasets on a cell beyond noise, noise = variance of one run; tasks near chance weigh nothing"
)
POINT = ("run_id", "dataset", "scale", "params", "tokens", "flops", "hyperparameters", "procedure", "cooled_down")


@dataclass(frozen=True)
class Tasks:
    """n points that have every one of k tasks, and where they stand."""

    names: tuple[str, ...]
    lower: npt.NDArray[np.bool_]  # (k,)
    chance: Array  # (k,), NaN = unknown
    values: Array  # (n, k), as measured
    dataset: Ints
    cell: Ints
    group: Ints  # dataset, cell and settings: rows of one group are replicates

    @property
    def shares(self) -> bool:
        """Whether all are shares of which more is better."""
        return not self.lower.any() and bool(((self.values >= 0) & (self.values <= 1)).all())

    @property
    def above_chance(self) -> Array:
        """(n, k): 0 at chance, 1 perfect; NaN where chance is unknown."""
        return progress(self.values, self.chance, self.lower)

    @property
    def scored(self) -> Array:
        """(n, k): what is averaged: above chance, where it is known, for shares; else the values."""
        if not self.shares:
            return self.values
        above = self.above_chance
        return np.where(np.isnan(above), self.values, above)


def progress(values: Array, chance: Array, lower: npt.NDArray[np.bool_]) -> Array:
    """How far from chance (0) to perfect (1): perfect is 0 for a loss or an error, 1 for a share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(lower, (chance - values) / chance, (values - chance) / (1.0 - chance)))


def near_chance(best: float, error: float) -> bool:
    """Whether a task whose best cell lies `best` of the way from chance to perfect says anything."""
    return best < max(NEAR_CHANCE, CHANCE_ERRORS * error)


def is_composite(metric: str) -> bool:
    """`composite`, or `composite:accuracy` for the tasks `accuracy/*`."""
    return metric.partition(":")[0] == COMPOSITE


def composite_rows(table: pa.Table, metric: str, notes: list[str]) -> tuple[pa.Table, Composite]:
    """One row a point with the composite of its tasks, and how it was made. Raises MeasurementError where no two tasks
    are measured together.
    """
    names = chosen_tasks(table, metric)
    rows_of_point = points_with_tasks(table, names)
    names, whole = complete_points(rows_of_point, names, notes)
    tasks = make_tasks(table, names, whole)
    weights, composite = weigh(tasks, metric)
    if tasks.shares or tasks.lower.all():
        scored = tasks.scored @ weights
    else:
        signed = np.where(tasks.lower, -tasks.values, tasks.values)
        scored = (signed - signed.mean(axis=0)) @ weights
    first = [rows[names[0]] for rows in whole]
    out = table.take(pa.array(first))
    out = replace(out, "value", scored)
    out = replace(out, "metric", [metric] * len(first))
    out = replace(out, "error", [None] * len(first))
    out = replace(out, "chance", [0.0 if tasks.shares else None] * len(first))
    out = replace(out, "lower_is_better", [bool(tasks.lower.all())] * len(first))
    of_point: dict[tuple[object, ...], list[int]] = {(i,): list(rows.values()) for i, rows in enumerate(whole)}
    out = replace(out, "evaluation", joined(table, of_point, "evaluation"))
    notes.append(f"{metric} is a weighted mean of {len(names)} tasks: {heaviest(composite)}")
    return out, composite


def heaviest(composite: Composite) -> str:
    """`hellaswag .21, piqa .18, ...; 3 near chance weigh nothing`."""
    ordered = sorted(composite.tasks, key=lambda t: -abs(t.weight))
    total = sum(abs(t.weight * t.scale_sd) for t in ordered) or 1.0
    ordered.sort(key=lambda t: -abs(t.weight * t.scale_sd))
    said = ", ".join(f"{t.name} {abs(t.weight * t.scale_sd) / total:.2f}".replace(" 0.", " .") for t in ordered[:4])
    near = sum(t.near_chance for t in ordered)
    return said + (" ..." if len(ordered) > 4 else "") + (f"; {near} near chance weigh nothing" if near else "")


def chosen_tasks(table: pa.Table, metric: str) -> list[str]:
    """The metrics `family/*` of `composite:family`; of `composite` all with a slash, or all where none has."""
    present = sorted(set(table["metric"].to_pylist()))
    family = metric.partition(":")[2]
    if family:
        names = [n for n in present if n.startswith(family + "/")]
    else:
        names = [n for n in present if "/" in n] or present
    if len(names) < 2:
        raise MeasurementError(
            f"{metric}: a composite needs two tasks or more{f' named {family}/...' if family else ''}; the table has "
            f"{', '.join(present[:12])}{' ...' if len(present) > 12 else ''}."
        )
    return names


def points_with_tasks(table: pa.Table, names: list[str]) -> list[dict[str, int]]:
    """Row numbers by task, point by point."""
    wanted = set(names)
    found: dict[tuple[object, ...], dict[str, int]] = {}
    keys = zip(*(table[c].to_pylist() for c in POINT), strict=True)
    for row, (name, key) in enumerate(zip(table["metric"].to_pylist(), keys, strict=True)):
        if name in wanted and found.setdefault(key, {}).setdefault(name, row) != row:
            raise MeasurementError(
                f"Run {key[0]!r} has two values of {name} at one budget, of two evaluations: a composite cannot choose "
                "between them. Keep one."
            )
    return list(found.values())


def complete_points(
    points: list[dict[str, int]], names: list[str], notes: list[str]
) -> tuple[list[str], list[dict[str, int]]]:
    """Tasks that most points have, and the points that have them all; what is left out is noted."""
    share = {name: sum(name in point for point in points) / len(points) for name in names}
    kept = [name for name in names if share[name] >= WHOLE]
    if len(kept) < 2:
        raise MeasurementError(f"No two of {', '.join(names[:8])} are measured on the same {WHOLE:.0%} of the points.")
    if len(kept) < len(names):
        left = [n for n in names if n not in kept]
        notes.append(f"left out of the composite, being measured on too few points: {', '.join(left)}")
    whole = [{n: point[n] for n in kept} for point in points if all(n in point for n in kept)]
    if len(whole) < len(points):
        notes.append(f"{len(points) - len(whole)} points lack a task of the composite and were left out")
    return kept, whole


def make_tasks(table: pa.Table, names: list[str], whole: list[dict[str, int]]) -> Tasks:
    rows = np.array([[point[n] for n in names] for point in whole])
    first = table.take(pa.array(rows[:, 0]))
    value, chance = numbers(table, "value"), numbers(table, "chance")
    lower = np.array(table["lower_is_better"].to_pylist())
    datasets = first["dataset"].to_pylist()
    cell = cell_numbers(first)
    keys = [f"{d}\0{c}\0{s}" for d, c, s in zip(datasets, cell.tolist(), all_settings(first), strict=True)]
    return Tasks(
        names=tuple(names),
        lower=lower[rows[0]].astype(bool),
        chance=np.array([float(np.nanmedian(c)) if (~np.isnan(c)).any() else np.nan for c in chance[rows].T]),
        values=value[rows],
        dataset=np.unique(datasets, return_inverse=True)[1].astype(np.int64),
        cell=cell,
        group=np.unique(keys, return_inverse=True)[1].astype(np.int64),
    )


def weigh(tasks: Tasks, metric: str) -> tuple[Array, Composite]:
    """Weights (k,) of the values (of what is above chance, for shares), summing to one for shares and losses."""
    scored = tasks.scored
    noise, measured = noise_variance(scored, tasks)
    signal = signal_variance(scored, tasks, noise)
    best, error = best_cell(tasks, np.sqrt(noise))
    near = np.array([not np.isnan(b) and near_chance(float(b), float(e)) for b, e in zip(best, error, strict=True)])
    spread = np.sqrt(np.maximum(signal + noise, 1e-300))
    ratio = shrunk_ratio(signal / np.maximum(noise, 1e-300), ~near, datasets=len(np.unique(tasks.dataset)))
    reliability = np.where(near, 0.0, ratio / (1.0 + ratio))
    if not reliability.any():  # nothing tells datasets apart: every task that can, equally
        reliability = np.where(near, 0.0, 1.0) if not near.all() else np.ones(len(near))
    weights = reliability / spread
    one_way = tasks.shares or bool(tasks.lower.all())
    weights = weights / (weights.sum() if one_way else reliability.sum())
    what = (
        "mean of what tasks score above chance"
        if tasks.shares
        else "mean of losses"
        if tasks.lower.all()
        else "mean of standardised tasks, higher is better"
    )
    rows = tuple(
        TaskWeight(
            name=name,
            weight=float(weights[i]),
            signal=float(signal[i]),
            noise=float(noise[i]) if measured else None,
            near_chance=bool(near[i]),
            lower_is_better=bool(tasks.lower[i]),
            chance=None if np.isnan(tasks.chance[i]) else float(tasks.chance[i]),
            scale_sd=float(spread[i]),
        )
        for i, name in enumerate(tasks.names)
    )
    rule = RULE.format(what=what)
    if not measured:
        rule += "; too few runs were repeated: noise is what dataset + cell leave, an upper bound"
    return weights, Composite(metric, rows, rule)


def shrunk_ratio(ratio: Array, counted: npt.NDArray[np.bool_], *, datasets: int) -> Array:
    """Signal over noise (k,), drawn together as far as its differences between tasks are what so few datasets give by
    chance (James and Stein 1961): the variance of a variance over d datasets is 2 / (d - 1) of its square. Equal
    datasets differ on some tasks more than on others too: unshrunk weights called 6 and 7% of equal worlds decided.
    """
    mean = float(ratio[counted].mean()) if counted.any() else 0.0
    spread = float(ratio[counted].var()) if counted.sum() > 1 else 0.0
    by_chance = SCATTER * 2.0 * mean**2 / (datasets - 1)
    keep = max(0.0, 1.0 - by_chance / spread) if spread > 0 else 0.0
    return np.maximum(mean + keep * (ratio - mean), 0.0)


def noise_variance(scored: Array, tasks: Tasks) -> tuple[Array, bool]:
    """Variance of one run (k,), and whether replicates measured it."""
    counts = np.bincount(tasks.group)
    spare = int((counts - 1).sum())
    if spare >= REPLICATES:
        means = np.stack([np.bincount(tasks.group, column) / counts for column in scored.T], axis=1)
        return ((scored - means[tasks.group]) ** 2).sum(axis=0) / spare, True
    design = np.hstack(
        [np.eye(tasks.cell.max() + 1)[tasks.cell], np.eye(tasks.dataset.max() + 1)[tasks.dataset][:, 1:]]
    )
    left = scored - design @ np.linalg.lstsq(design, scored, rcond=None)[0]
    spare = len(scored) - int(np.linalg.matrix_rank(design))
    return (left**2).sum(axis=0) / max(spare, 1), False


def signal_variance(scored: Array, tasks: Tasks, noise: Array) -> Array:
    """Variance between the datasets' means on a cell beyond noise, pooled over cells (k,)."""
    between, expected, spare = np.zeros(scored.shape[1]), np.zeros(scored.shape[1]), 0
    for cell in np.unique(tasks.cell):
        here = tasks.cell == cell
        present = np.unique(tasks.dataset[here])
        if len(present) < 2:
            continue
        means = np.stack([scored[here & (tasks.dataset == d)].mean(axis=0) for d in present])
        runs = np.array([(here & (tasks.dataset == d)).sum() for d in present])
        between += ((means - means.mean(axis=0)) ** 2).sum(axis=0)
        expected += noise * float((1.0 / runs).mean()) * (len(present) - 1)
        spare += len(present) - 1
    return np.maximum(between - expected, 0.0) / max(spare, 1)


def best_cell(tasks: Tasks, noise_sd: Array) -> tuple[Array, Array]:
    """The best cell's mean above chance (k,), NaN where chance is unknown, and its standard error."""
    above = tasks.above_chance
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.abs(np.where(tasks.lower, tasks.chance, 1.0 - tasks.chance))
        sd = noise_sd if tasks.shares else noise_sd / unit
    means = np.stack([above[tasks.cell == c].mean(axis=0) for c in np.unique(tasks.cell)])
    runs = np.array([(tasks.cell == c).sum() for c in np.unique(tasks.cell)])
    top = np.argmax(np.where(np.isnan(means), -np.inf, means), axis=0)
    return means[top, np.arange(means.shape[1])], sd / np.sqrt(runs[top])
