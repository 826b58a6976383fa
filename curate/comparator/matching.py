"""Which runs may be compared: the confound guard. What differs between runs besides the dataset is named, never pooled.

`procedure`, `evaluation`, `flops_convention` and `tokenizer` must agree over the whole table (or be tied to the cell,
as a ladder's own settings are). Hyper-parameters must agree between datasets on one cell (N, D):
from cell to cell a tuned ladder changes them. By default (`pool="matched"`) a cell keeps the settings that most of
its datasets share and the other runs are left out and counted; where fewer than three datasets have such runs, the
others are kept and the comparison is severely confounded. `pool="all"` keeps every run and says so.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from curate.comparator.points import cell_numbers, hyperparameters
from curate.comparator.verdict import Check, Excluded
from curate.errors import MismatchError

Pool = Literal["matched", "all"]
MUST_AGREE = {
    "procedure": "train all datasets under one procedure",
    "evaluation": "evaluate all models on the same held-out sets and metric version",
    "flops_convention": "give all FLOPs under one convention",
    "tokenizer": "tokenise all datasets alike, or measure bits per byte",
}
# What names or follows from a run rather than tunes it. `model_config` is a name for a shape that N fixes already.
# A warm-up or a decay tunes, whatever it is counted in: a long warm-up alone moves the exponent of N*(C) from .60 to
# .71 (Porian et al. 2024, figure 1).
IGNORED_HYPERPARAMETERS = re.compile(
    r"(?!.*(warm|decay|cool))("
    r"(.*_)?(seed|steps?|budget|path|run|run_id|run_name|dataset|dataset_name|time|model_config)"
    r"|((train|training|num|total)_)?tokens|.*_steps?_.*|.*path.*|.*budget.*|time.*|.*seconds)",
    re.I,
)
NOT_STATED = "not stated"
MAY_BE_UNKNOWN = ("tokenizer",)  # few tables state it: what is not said is taken to be the usual
FEWEST_MATCHED = 3  # datasets with settings in common: among fewer, a dataset of other settings stays, confounded
MAY_LEAVE = 0.2  # share of the datasets that a field may leave out; beyond it the table is refused
Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Guarded:
    """Rows that may be compared, and what became of the others."""

    table: pa.Table
    checks: tuple[Check, ...]
    excluded: tuple[Excluded, ...]


def tuned(name: str) -> bool:
    """Whether a hyper-parameter of this name can move a result."""
    return IGNORED_HYPERPARAMETERS.fullmatch(name) is None


def hyperparameter_settings(table: pa.Table) -> list[Settings]:
    """Each row's hyper-parameters that can move a result, sorted; what some rows name and others do not is not
    stated.
    """
    rows = hyperparameters(table)
    names = sorted({name for row in rows for name in row if tuned(name)})
    made: dict[int, Settings] = {}  # rows share their parsed dictionary
    return [made.setdefault(id(row), tuple((n, shown(row.get(n))) for n in names)) for row in rows]


def stated(table: pa.Table, field: str) -> list[str | None]:
    """A field's values; what may be unknown is filled in with the commonest."""
    values: list[str | None] = table[field].to_pylist()
    known = Counter(v for v in values if v is not None)
    if field not in MAY_BE_UNKNOWN or not known:
        return values
    usual = min(known, key=lambda v: (-known[v], v))
    return [usual if v is None else v for v in values]


def all_settings(table: pa.Table) -> list[Settings]:
    """Hyper-parameters and the fields that must agree."""
    fields = [(name, stated(table, name)) for name in MUST_AGREE if table[name].null_count < table.num_rows]
    rows = enumerate(hyperparameter_settings(table))
    return [(*tuned_row, *((name, shown(values[i])) for name, values in fields)) for i, tuned_row in rows]


def shown(value: object) -> str:
    if value is None or value == "":
        return NOT_STATED
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def differing(settings: Sequence[Settings]) -> tuple[str, ...]:
    """Names that take more than one value."""
    values: dict[str, set[str]] = {}
    for row in settings:
        for name, value in row:
            values.setdefault(name, set()).add(value)
    return tuple(sorted(name for name, seen in values.items() if len(seen) > 1))


def most_shared(datasets: Sequence[str], settings: Sequence[Settings]) -> Settings:
    """The settings that most datasets have; then those of most runs; then the first in the alphabet."""
    names: dict[Settings, set[str]] = {}
    for name, row in zip(datasets, settings, strict=True):
        names.setdefault(row, set()).add(name)
    runs = Counter(settings)
    return min(names, key=lambda s: (-len(names[s]), -runs[s], s))


def guard(table: pa.Table, metric: str, *, pool: Pool) -> Guarded:
    """Rows that may be compared; MismatchError where no setting covers the datasets and pooling was not asked for."""
    checks: list[Check] = []
    excluded: list[Excluded] = []
    for field, remedy in MUST_AGREE.items():
        table = _one_value(table, metric, field, remedy, pool, checks, excluded)
    one_fingerprint(table)
    if pool == "matched":
        table = _matched(table, metric, checks, excluded)
    return Guarded(table, tuple(checks), tuple(excluded))


def _one_value(
    table: pa.Table,
    metric: str,
    field: str,
    remedy: str,
    pool: Pool,
    checks: list[Check],
    excluded: list[Excluded],
) -> pa.Table:
    names, values = table["dataset"].to_pylist(), stated(table, field)
    unknown = table[field].null_count
    if unknown and values[0] is not None and field in MAY_BE_UNKNOWN:
        checks.append(
            Check(
                f"{field}_not_stated",
                "note",
                f"{metric}: {unknown} measurements do not state their {field}; taken to be that of most.",
                f"State the {field} of every run.",
            )
        )
    groups: dict[str | None, set[str]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(value, set()).add(name)
    if len(groups) == 1:
        return table
    of_cell: dict[int, set[str | None]] = {}
    for cell, value in zip(cell_numbers(table).tolist(), values, strict=True):
        of_cell.setdefault(cell, set()).add(value)
    sizes = ", ".join(str(v) if v is not None else NOT_STATED for v in list(groups)[:4])
    shared = all(len(seen) > 1 for seen in groups.values())  # no value is one dataset's own
    if shared and len(of_cell) > 1 and all(len(seen) == 1 for seen in of_cell.values()):
        checks.append(
            Check(
                f"{field}_varies",
                "warning",
                f"{metric}: {field} changes from cell to cell ({sizes}), though it is one on each.",
                f"Gaps on one cell are fair; trends over compute mix {field} and scale: {remedy}.",
            )
        )
        return table
    if pool == "all":
        checks.append(
            Check(
                f"mixed_{field}",
                "severe",
                f"{metric}: measurements of different {field} ({sizes}) were pooled, as asked.",
                f"Read no gap as the datasets' before you {remedy}.",
            )
        )
        return table
    everyone = set(names)
    whole = [value for value, seen in groups.items() if seen == everyone]
    severity: Literal["severe", "warning"] = "severe"
    if not whole:  # then of nearly all datasets: the others cannot be compared at all
        severity = "warning"
        whole = [v for v, seen in groups.items() if len(everyone - seen) <= MAY_LEAVE * len(everyone)]
    if not whole:
        listed = "; ".join(f"{value}: {', '.join(sorted(seen)[:6])}" for value, seen in list(groups.items())[:4])
        raise MismatchError(
            f"{metric}: the datasets differ in {field} ({listed}) and cannot be compared; {remedy} "
            '(--pool all, pool="all" in Python, compares them all the same, with a severe warning).'
        )
    best = max(whole, key=lambda v: (values.count(v), str(v)))
    keep = [v == best for v in values]
    left = keep.count(False)
    checks.append(
        Check(
            f"mixed_{field}",
            severity,
            f"{metric}: {measurements(left)} in {field} from the {keep.count(True)} "
            f"compared ({best}) and {'was' if left == 1 else 'were'} left out.",
            f"Compare what was left out by itself, or {remedy}.",
        )
    )
    reason = f"{field} is not {best}, which the others share"
    excluded.append(Excluded(metric, left, reason, _named(names, keep)))
    return table.filter(pa.array(keep))


def measurements(count: int) -> str:
    """`1 measurement differs`, `31 measurements differ`."""
    return "1 measurement differs" if count == 1 else f"{count} measurements differ"


def _named(names: Sequence[str], keep: Sequence[bool]) -> tuple[str, ...]:
    return tuple(sorted({name for name, kept in zip(names, keep, strict=True) if not kept}))


def _matched(table: pa.Table, metric: str, checks: list[Check], excluded: list[Excluded]) -> pa.Table:
    """Per cell the hyper-parameters that most datasets share. A dataset that has them nowhere is left out where
    FEWEST_MATCHED others remain, else it stays as it is.
    """
    names, settings, cells = table["dataset"].to_pylist(), hyperparameter_settings(table), cell_numbers(table)
    keep = np.ones(len(names), dtype=bool)
    for cell in np.unique(cells):
        rows = np.flatnonzero(cells == cell).tolist()
        wanted = most_shared([names[r] for r in rows], [settings[r] for r in rows])
        keep[rows] = [settings[r] == wanted for r in rows]
    remain = {name for name, kept in zip(names, keep, strict=True) if kept}
    if len(remain) < FEWEST_MATCHED:
        keep |= ~np.isin(names, sorted(remain))
    if not keep.all():
        out, affected = int((~keep).sum()), _named(names, keep.tolist())
        why = ", ".join(_differing_on_cells(cells, settings))
        checks.append(
            Check(
                "unmatched",
                "warning",
                f"{metric}: {out} measurement{'s' * (out > 1)} of {len(affected)} dataset{'s' * (len(affected) > 1)} "
                f"{'differ' if out > 1 else 'differs'} in {why} from the settings that most datasets share on their "
                f"cell, and {'were' if out > 1 else 'was'} left out.",
                'See them scale by scale; --pool all (pool="all") compares everything, confounded.',
            )
        )
        reason = f"{why} not as most datasets have it on the same cell (N, D)"
        excluded.append(Excluded(metric, out, reason, affected))
    return table.filter(pa.array(keep))


def _differing_on_cells(cells: np.ndarray, settings: Sequence[Settings]) -> tuple[str, ...]:
    found: set[str] = set()
    for cell in np.unique(cells):
        found |= set(differing([settings[r] for r in np.flatnonzero(cells == cell).tolist()]))
    return tuple(sorted(found))


def confounded(table: pa.Table) -> list[Check]:
    """A hyper-parameter that differs between datasets on the same cell is confounded with the dataset."""
    names, settings, cells = table["dataset"].to_pylist(), hyperparameter_settings(table), cell_numbers(table).tolist()
    values: dict[tuple[int, str], dict[str, set[str]]] = {}
    for cell, dataset, row in zip(cells, names, settings, strict=True):
        for name, value in row:
            values.setdefault((cell, name), {}).setdefault(dataset, set()).add(value)
    found: dict[str, str] = {}
    for (_, name), of_dataset in values.items():
        if len({frozenset(v) for v in of_dataset.values()}) > 1:
            found.setdefault(name, "; ".join(f"{d} {', '.join(sorted(v))}" for d, v in sorted(of_dataset.items())[:4]))
    return [
        Check(
            "hyperparameters",
            "severe",
            f"{name} differs between datasets on the same cell ({listed}): it is confounded with the dataset.",
            "Train all datasets with one procedure, or compare only runs that agree.",
        )
        for name, listed in found.items()
    ]


def one_fingerprint(table: pa.Table) -> None:
    """MismatchError where one name stands for two datasets."""
    seen: dict[str, str | None] = {}
    for name, value in zip(table["dataset"].to_pylist(), table["dataset_fingerprint"].to_pylist(), strict=True):
        if seen.setdefault(name, value) != value:
            raise MismatchError(
                f"Dataset {name!r} stands for two datasets: dataset_fingerprint {seen[name]} and {value}; "
                "give them two names."
            )
