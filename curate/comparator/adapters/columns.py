"""Measurements of ours, and any CSV or Parquet file with a column map.

Long tables have a metric and a value a row, as ours do. Wide ones, with one column a metric, need `metric:NAME=COLUMN`.
Without `value` and without such an entry, the error lists the columns that could be metrics.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.comparator.adapters.column_map import RUN, ColumnMap
from curate.comparator.adapters.files import read_rows, read_table, refuse_long
from curate.comparator.adapters.wide import IDENTITY, Runs
from curate.comparator.tables import HIGHER_IS_BETTER, LOWER_IS_BETTER, no_column
from curate.errors import MeasurementError
from curate.measurements import REQUIRED, SCHEMA


def read_long(path: Path, mapping: ColumnMap) -> pa.Table:
    """A table with SCHEMA's columns under our names (those it has), uncompleted and unchecked."""
    raw = read_table(path, text_columns=mapping.columns)
    for ours, theirs in (*mapping.columns.items(), *mapping.settings.items()):
        if theirs not in raw.column_names:
            raise MeasurementError(f"{path}: no column {theirs!r} (for {ours}); it has {', '.join(raw.column_names)}.")
    if mapping.their("value") not in raw.column_names and "value" not in mapping.constants:
        candidates = [c for c in raw.column_names if LOWER_IS_BETTER.search(c) or HIGHER_IS_BETTER.search(c)]
        hint = f"; of one column a metric say which, e.g. --columns metric:NAME={candidates[0]}" if candidates else ""
        raise no_column(path, "value", raw.column_names, hint)
    taken = {ours: raw[mapping.their(ours)] for ours in SCHEMA.names if mapping.their(ours) in raw.column_names}
    for ours, value in mapping.constants.items():
        taken[ours] = pa.array([value] * raw.num_rows, pa.string())
    for name in REQUIRED:
        if name not in taken:
            raise no_column(path, name, raw.column_names)
    if mapping.settings or mapping.constant_settings:
        refuse_long(path, raw.num_rows)
        taken["hyperparameters"] = merged_settings(raw, taken.get("hyperparameters"), mapping, path)
    return pa.table({name: as_schema_text(column) for name, column in taken.items()})


def as_schema_text(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Dictionary columns (pandas' categories) as what they stand for."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def merged_settings(
    raw: pa.Table, given: pa.ChunkedArray | pa.Array | None, mapping: ColumnMap, path: Path
) -> pa.Array:
    texts: list[str | None] = given.to_pylist() if given is not None else [None] * raw.num_rows
    columns = {name: raw[theirs].to_pylist() for name, theirs in mapping.settings.items()}
    out = []
    for number, text in enumerate(texts):
        try:
            settings: dict[str, Any] = dict(json.loads(text)) if text else {}
        except (ValueError, TypeError) as error:
            raise MeasurementError(f"{path}, row {number + 1}: hyperparameters is no JSON object: {error}.") from error
        settings |= {name: column[number] for name, column in columns.items() if column[number] is not None}
        settings |= mapping.constant_settings
        out.append(json.dumps(settings, sort_keys=True) if settings else None)
    return pa.array(out, pa.string())


def read_wide(path: Path, mapping: ColumnMap) -> Runs:
    """One run a row, the metrics of the column map."""
    rows = read_rows(path)
    wanted = [*mapping.columns.values(), *mapping.settings.values(), *(m.column for m in mapping.metrics)]
    missing = [name for name in wanted if name not in rows[0]]
    if missing:
        have = ", ".join(name for name in rows[0] if name != "_row")
        raise MeasurementError(f"{path}: no column {missing[0]!r}; it has {have}.")
    return Runs([run_of(row, mapping) for row in rows], mapping.metrics)


def run_of(row: dict[str, Any], mapping: ColumnMap) -> dict[str, Any]:
    """The columns of SCHEMA under our names, hyper-parameters together, and the metrics under theirs."""
    out: dict[str, Any] = {name: row[mapping.their(name)] for name in IDENTITY if mapping.their(name) in row}
    if mapping.settings:
        out["hyperparameters"] = {name: row[theirs] for name, theirs in mapping.settings.items()}
    name = row.get(mapping.their(RUN))
    return (
        out
        | {m.column: row.get(m.column) for m in mapping.metrics}
        | {
            "_row": row["_row"],
            RUN: (str(name),) if name not in (None, "") else (),
        }
    )
