"""Runs that are copies of one another: the same values to the last digit under two run ids.

A copy counted as a second run makes noise look small. Two runs on one cell are taken for copies where all metrics that
they share are equal and hold at least DIGITS significant digits together; rounded scores that happen to agree stay. A
copy of a run of the same dataset is left out; two datasets with one and the same run are named, as either may be right.
"""

import numpy as np
import pyarrow as pa

from curate.comparator.points import cell_numbers
from curate.comparator.verdict import Check, Excluded
from curate.comparator.wording import listed, shortened

DIGITS = 10
Key = tuple[int, tuple[tuple[str, float], ...]]


def drop_copies(table: pa.Table, checks: list[Check], excluded: list[Excluded]) -> pa.Table:
    """Rows without copies of a run within a dataset; both kinds of copies are told in checks."""
    rows_of: dict[tuple[str, str, int], list[int]] = {}
    ids, datasets = table["run_id"].to_pylist(), table["dataset"].to_pylist()
    cells, metrics, values = cell_numbers(table).tolist(), table["metric"].to_pylist(), table["value"].to_pylist()
    for row, key in enumerate(zip(datasets, ids, cells, strict=True)):
        rows_of.setdefault(key, []).append(row)
    same: dict[Key, list[tuple[str, str, int]]] = {}
    for key, rows in rows_of.items():
        measured = tuple(sorted({metrics[r]: values[r] for r in rows}.items()))
        if sum(significant(value) for _, value in measured) >= DIGITS:
            same.setdefault((key[2], measured), []).append(key)
    copies, shared = [], []
    for keys in same.values():
        first: dict[str, tuple[str, str, int]] = {}
        for key in keys:
            if first.setdefault(key[0], key) is not key:
                copies.append((key, first[key[0]]))
        if len(first) > 1:
            shared.append(list(first))
    if shared:
        said = listed([" = ".join(shortened(n) for n in names) for names in shared])
        checks.append(
            Check(
                "same_run_twice",
                "warning",
                f"The same values to the last digit stand under different datasets: {said}.",
                "One of the names is wrong, or both are one dataset: compare one of them.",
            )
        )
    if not copies:
        return table
    said = listed([f"{key[1]} = {kept[1]} ({shortened(key[0])})" for key, kept in copies])
    out = [row for key, _ in copies for row in rows_of[key]]
    whose = tuple(sorted({key[0] for key, _ in copies}))
    excluded.append(Excluded("*", len(out), "copies of a run, value by value", whose))
    checks.append(
        Check(
            "copied_run",
            "warning",
            f"{len(copies)} run{'s are copies' if len(copies) > 1 else ' is a copy'} of another of the same dataset, "
            f"value by value, and left out: {said}.",
            "Drop them from the table; a copy is no second seed.",
        )
    )
    keep = np.ones(table.num_rows, dtype=bool)
    keep[out] = False
    return table.filter(pa.array(keep))


def significant(value: float) -> int:
    """Digits that a value is written with, without leading and trailing zeros."""
    digits = f"{value:.17g}" if float(f"{value:.15g}") != value else f"{value:.15g}"
    return len(digits.partition("e")[0].replace(".", "").replace("-", "").strip("0"))
