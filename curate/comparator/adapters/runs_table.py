"""What a run was: evaluation and logging tools know a model's name, not its dataset, params or tokens.

That comes from constants (one value for all rows) or from a table of runs: CSV or Parquet with a column `run` (the name
of the run, the model or the results file) and any columns of the measurements: dataset, scale, params, tokens, seed
..., or hyperparameters.NAME. A run without a row there, or without a dataset in the end, is an error, not a guess.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.comparator.adapters.column_map import RUN, SETTING, ColumnMap
from curate.comparator.adapters.files import read_rows
from curate.comparator.adapters.wide import IDENTITY, Row, Runs, place_of
from curate.errors import MeasurementError


def identify(runs: Runs, mapping: ColumnMap, *, where: str) -> Runs:
    """`runs` with dataset, params, tokens ... from the table of runs and the constants filled in."""
    known = read_runs_table(Path(mapping.runs_table)) if mapping.runs_table else {}
    used: set[str] = set()
    rows = []
    for number, row in enumerate(runs.rows, start=1):
        names: Sequence[str] = row.get(RUN) or ()
        filled = dict(row)
        if known:
            found = next((name for name in names if name in known), None)
            if found is None:
                raise MeasurementError(
                    f"{where}, {place_of(row, number)}: no row of {mapping.runs_table} has run = "
                    f"{' or '.join(repr(name) for name in names[:3]) or 'its name'}."
                )
            used.add(found)
            merge(filled, known[found], f"{where}, {place_of(row, number)}", str(mapping.runs_table))
        filled |= mapping.constants
        if mapping.constant_settings:
            filled["hyperparameters"] = {**as_settings(filled), **mapping.constant_settings}
        if not filled.get("dataset"):
            raise MeasurementError(
                f"{where}, {place_of(row, number)}: nothing says which dataset {names[0] if names else 'the model'!r} "
                "was trained on; give --set dataset=NAME, or --set runs_table=FILE with the columns run, dataset, "
                "params, tokens."
            )
        filled.setdefault("run_id", names[0] if names else None)
        rows.append(filled)
    notes = list(runs.notes)
    unused = [name for name in known if name not in used]
    if unused:
        notes.append(f"{mapping.runs_table}: {len(unused)} runs have no results here: {', '.join(unused[:5])}")
    return Runs(rows, runs.metrics, notes)


def merge(row: dict[str, Any], given: Row, where: str, table: str) -> None:
    """Fill `row` from the table of runs; what both say must agree."""
    for name, value in given.items():
        if name == "hyperparameters":
            row[name] = {**as_settings(row), **value}
        elif row.get(name) in (None, ""):
            row[name] = value
        elif str(row[name]) != str(value) and not same_number(row[name], value):
            raise MeasurementError(f"{where}: {name} is {row[name]} in the results, {value} in {table}.")


def same_number(one: Any, other: Any) -> bool:
    try:
        return abs(float(one) - float(other)) <= 1e-6 * abs(float(other))
    except (TypeError, ValueError):
        return False


def as_settings(row: Row) -> dict[str, Any]:
    settings = row.get("hyperparameters")
    return dict(settings) if isinstance(settings, dict) else {}


def read_runs_table(path: Path) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for row in read_rows(path):
        run = row.get(RUN)
        if run in (None, ""):
            raise MeasurementError(f"{path}, row {row['_row']}: column 'run' is missing or empty; it names the run.")
        if str(run) in out:
            raise MeasurementError(f"{path}, row {row['_row']}: run {run!r} has a row already.")
        given = {name: row[name] for name in IDENTITY if row.get(name) not in (None, "")}
        settings = {k.removeprefix(SETTING): v for k, v in row.items() if k.startswith(SETTING) and v not in (None, "")}
        unknown = [k for k in row if k not in (*IDENTITY, RUN, "_row") and not k.startswith(SETTING)]
        if unknown:
            raise MeasurementError(
                f"{path}: column {unknown[0]!r} is no column of the measurements; call it hyperparameters.{unknown[0]} "
                "if it is a setting of the training."
            )
        out[str(run)] = given | ({"hyperparameters": settings} if settings else {})
    return out
