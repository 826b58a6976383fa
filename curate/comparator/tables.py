"""Measurements from anywhere: CSV or Parquet with the column names of `curate.measurements.SCHEMA`, completed and
checked.

Needed are dataset, metric, value, and flops or params with tokens. What is missing is filled in and said (schema
metadata `notes`); what is wrong (NaN, negative losses, percentages, duplicates ...) is one MeasurementError with the
row's number, counted from 1 without the header. Without `run_id` every row of one dataset, params, tokens and seed
counts as a run of its own, not as a branch.
"""

import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from curate.errors import MeasurementError
from curate.measurements import REQUIRED, SCHEMA

LOWER_IS_BETTER = re.compile(r"bits_per_byte|bpb|loss|nll|cross_entropy|perplexity|ppl|\berr(or)?\b|error", re.I)
HIGHER_IS_BETTER = re.compile(r"acc|exact_match|f1|score|core|rank|bleu|rouge|recall|precision|auc|pass@", re.I)
NOTES_KEY = b"notes"
MAX_POINTS = 20_000
Column = npt.NDArray[np.float64]


def read_results(path: str | Path) -> pa.Table:
    """A measurements table from a CSV or Parquet file; raises MeasurementError naming file, column and row."""
    path = Path(path)
    if not path.exists():
        raise MeasurementError(f"{path}: there is no such file.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            raw = pq.read_table(path)
        else:
            strings = {f.name: pa.string() for f in SCHEMA if pa.types.is_string(f.type)}
            raw = pacsv.read_csv(
                path, convert_options=pacsv.ConvertOptions(column_types=strings, strings_can_be_null=True)
            )
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeDecodeError) as error:
        raise MeasurementError(f"{path}: cannot be read as {path.suffix or 'CSV'}: {error}") from error
    return complete(raw, where=str(path))


def notes_of(table: pa.Table) -> tuple[str, ...]:
    """What `complete` filled in."""
    stored = (table.schema.metadata or {}).get(NOTES_KEY)
    return tuple(json.loads(stored)) if stored else ()


def complete(raw: pa.Table, *, where: str = "measurements") -> pa.Table:
    """`raw` with every column of SCHEMA, checked; notes of what was filled in are in the schema's metadata."""
    if NOTES_KEY in (raw.schema.metadata or {}):
        return raw  # has been through here
    for name in REQUIRED:
        if name not in raw.column_names:
            raise MeasurementError(f"{where}: no column {name!r}; a measurements table has {', '.join(SCHEMA.names)}.")
    if not raw.num_rows:
        raise MeasurementError(f"{where}: holds no rows; a comparison needs measurements of at least two datasets.")
    table = cast_columns(raw, where)
    notes: list[str] = []
    require_text(table, where)
    refuse_curves(table, where)
    value = numbers(table, "value")
    refuse_rows(~np.isfinite(value), table, where, "value", "is not a finite number; leave the row out or repair it")
    for name in ("params", "params_non_embedding", "tokens", "unique_tokens", "flops"):
        column = numbers(table, name)
        refuse_rows(~(np.isnan(column) | (column > 0)), table, where, name, "must be positive")
        refuse_rows(np.isinf(column), table, where, name, "must be finite")
    table = fill_compute(table, where, notes)
    table = fill_direction(table, where, notes)
    check_units(table, where)
    table = fill_runs(table, where, notes)
    refuse_duplicates(table, where)
    return table.select(SCHEMA.names).replace_schema_metadata({NOTES_KEY: json.dumps(notes).encode()})


def cast_columns(raw: pa.Table, where: str) -> pa.Table:
    columns = {}
    for field in SCHEMA:
        if field.name not in raw.column_names:
            columns[field.name] = pa.nulls(raw.num_rows, field.type)
            continue
        try:
            columns[field.name] = raw[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            bad = first_uncastable(raw[field.name], field.type)
            raise MeasurementError(f"{where}: column {field.name!r} must hold {field.type}; {bad or error}.") from error
    return pa.table(columns)


def first_uncastable(column: pa.ChunkedArray, to: pa.DataType) -> str:
    for row, value in enumerate(column.to_pylist(), start=1):
        try:
            pa.array([value], type=column.type).cast(to)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return f"row {row} has {str(value)[:60]!r}"
    return ""


def numbers(table: pa.Table, name: str) -> Column:
    """A numeric column as float64, null as NaN."""
    return np.asarray(pc.fill_null(table[name].cast(pa.float64()), float("nan")).to_numpy(), dtype=float)


def refuse_rows(bad: npt.NDArray[np.bool_], table: pa.Table, where: str, column: str, why: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        more = f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""
        raise MeasurementError(f"{where}, row {row + 1}: {column} {table[column][row].as_py()!r} {why}{more}.")


def require_text(table: pa.Table, where: str) -> None:
    for name in ("dataset", "metric"):
        empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(table[name]), ""), True).to_numpy()
        refuse_rows(empty, table, where, name, "is empty")


def refuse_curves(table: pa.Table, where: str) -> None:
    """Training curves are not measurements: more cooled-down points than any ladder has are refused before work is
    put into them.
    """
    counts = table.filter(pc.fill_null(table["cooled_down"], True))["metric"].value_counts()
    for entry in counts.to_pylist():
        if entry["counts"] > MAX_POINTS:
            raise MeasurementError(
                f"{where}: {entry['values']} has {entry['counts']:,} points; at most {MAX_POINTS:,} are compared. "
                "Keep the cooled-down end of each run, not its curve."
            )


def replace(table: pa.Table, name: str, values: pa.Array | list[object]) -> pa.Table:
    return table.set_column(
        table.schema.get_field_index(name), SCHEMA.field(name), [pa.array(values, SCHEMA.field(name).type)]
    )


def fill_compute(table: pa.Table, where: str, notes: list[str]) -> pa.Table:
    params, tokens, flops = (numbers(table, n) for n in ("params", "tokens", "flops"))
    missing = np.isnan(flops)
    refuse_rows(
        missing & (np.isnan(params) | np.isnan(tokens)),
        table,
        where,
        "flops",
        "is missing, and so is params or tokens: give flops, or both of the others",
    )
    if missing.any():
        convention = np.array(table["flops_convention"].to_pylist(), dtype=object)
        given = set(convention[missing].tolist()) - {None, "6ND"}
        if given:
            raise MeasurementError(
                f"{where}: flops_convention is {given.pop()!r} where flops is empty; give the flops."
            )
        table = replace(table, "flops", np.where(missing, 6.0 * params * tokens, flops))
        convention[missing] = "6ND"
        table = replace(table, "flops_convention", convention.tolist())
        notes.append(f"flops of {int(missing.sum())} rows filled in as 6 x params x tokens")
    return table


def fill_direction(table: pa.Table, where: str, notes: list[str]) -> pa.Table:
    given = table["lower_is_better"].to_pylist()
    names = table["metric"].to_pylist()
    known: dict[str, bool] = {}
    for row, (name, lower) in enumerate(zip(names, given, strict=True), start=1):
        if lower is not None and known.setdefault(name, lower) != lower:
            raise MeasurementError(
                f"{where}, row {row}: lower_is_better of {name!r} is {lower}, and {known[name]} before."
            )
    for name in sorted(set(names) - set(known)):
        known[name] = direction(name, where)
        notes.append(f"{name}: {'lower' if known[name] else 'higher'} is better (from its name)")
    return replace(table, "lower_is_better", [known[name] for name in names])


def direction(metric: str, where: str) -> bool:
    lower, higher = LOWER_IS_BETTER.search(metric), HIGHER_IS_BETTER.search(metric)
    if bool(lower) == bool(higher):
        raise MeasurementError(
            f"{where}: is a lower {metric!r} better or worse? Add a column lower_is_better (true or false)."
        )
    return bool(lower)


def check_units(table: pa.Table, where: str) -> None:
    value = numbers(table, "value")
    lower = table["lower_is_better"].to_numpy()
    refuse_rows((value < 0) & lower, table, where, "value", "is negative: a loss cannot be (is it a log-likelihood?)")
    metrics = table["metric"].combine_chunks().dictionary_encode()
    index = metrics.indices.to_numpy()
    for number, name in enumerate(metrics.dictionary.to_pylist()):
        mine = index == number
        if re.search(r"acc|exact_match|f1", name, re.I) and not lower[mine][0] and (value[mine] > 1).any():
            row = int(np.flatnonzero(mine & (value > 1))[0]) + 1
            kind = "a mixture of shares and percent" if (value[mine] <= 1).any() else "percent"
            raise MeasurementError(
                f"{where}, row {row}: {name} is {value[row - 1]:g}: the column looks like {kind}; "
                "give shares between 0 and 1."
            )


def fill_runs(table: pa.Table, where: str, notes: list[str]) -> pa.Table:
    run_id = table["run_id"].to_pylist()
    if all(r not in (None, "") for r in run_id):
        return table
    if any(r not in (None, "") for r in run_id):
        row = next(i for i, r in enumerate(run_id, start=1) if r in (None, ""))
        raise MeasurementError(
            f"{where}, row {row}: run_id is empty, though other rows have one; fill it in or drop the column."
        )
    seeds = table["seed"].to_pylist()
    unnamed = all(s is None for s in seeds)
    counts: dict[tuple[object, ...], int] = {}
    made = []
    key_columns = ("dataset", "scale", "params", "tokens", "flops", "hyperparameters", "procedure", "cooled_down")
    keys = list(zip(*(table[c].to_pylist() for c in key_columns), strict=True))
    for key, metric, seed in zip(keys, table["metric"].to_pylist(), seeds, strict=True):
        if unnamed:
            seed = counts[(*key, metric)] = counts.get((*key, metric), -1) + 1
        made.append(
            "/".join("" if k is None else f"{k:g}" if isinstance(k, float) else str(k) for k in (*key[:5], seed))
        )
        seeds[len(made) - 1] = seed
    notes.append("no run_id: every (dataset, params, tokens, seed) counts as an independent run")
    if unnamed:
        notes.append("no seed: equal (dataset, params, tokens) count as seeds 0, 1, 2 ... in the order of the rows")
        if max(counts.values()) > 0:
            refuse_repeats(table, where)
        table = replace(table, "seed", seeds)
    return replace(table, "run_id", made)


def refuse_repeats(table: pa.Table, where: str) -> None:
    """Rows equal in everything, the value included, are a copy rather than another seed."""
    first_seen(table, where, "is a copy of row {first}; drop it, or give both a run_id or seed")


def refuse_duplicates(table: pa.Table, where: str) -> None:
    key = (
        "run_id",
        "dataset",
        "params",
        "tokens",
        "flops",
        "metric",
        "hyperparameters",
        "procedure",
        "cooled_down",
        "evaluation",
    )
    why = "measures the same run, budget and metric as row {first}; keep one of them"
    first_seen(table.select(key), where, why)


def first_seen(table: pa.Table, where: str, why: str) -> None:
    """Refuse a row that equals an earlier one; `why` holds {first}."""
    names = table.column_names
    if table.group_by(names).aggregate([([], "count_all")]).num_rows == table.num_rows:
        return
    seen: dict[tuple[object, ...], int] = {}
    for number, values in enumerate(zip(*(table[c].to_pylist() for c in names), strict=True), start=1):
        first = seen.setdefault(values, number)
        if first != number:
            raise MeasurementError(f"{where}, row {number}: {why.format(first=first)}.")
