"""Exports of Weights & Biases, without its package: charts as CSV (`Step, <run> - <metric>, ...__MIN, ...__MAX`), the
table of runs as CSV (Name, State, ... and config and summary columns), histories as CSV or JSON (`_step`), summaries
and API dumps of runs ({name, config, summary}) as JSON or JSON Lines.

Of histories and charts the last value of each run counts. Runs that did not finish are left out and named. config and
summary are flattened with dots; a column of the same name as ours is taken, others by the column map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.comparator.adapters.column_map import RUN, ColumnMap
from curate.comparator.adapters.files import JSON, read_json, read_rows
from curate.comparator.adapters.final_values import LoggedRun, described, ends_of, number_or_none
from curate.comparator.adapters.wide import IDENTITY, MetricColumn, Runs
from curate.errors import MeasurementError

STEPS = ("_step", "Step", "step", "trainer/global_step", "train/global_step", "global_step")
TABLE_OF_RUNS = {"Name", "State"}
BANDS = ("__MIN", "__MAX")
BETWEEN = " - "
SUMMARIES = ("summary", "summary_metrics", "summaryMetrics")


def is_chart(columns: Sequence[str]) -> bool:
    """Whether a CSV header is that of an exported chart."""
    return len(columns) > 1 and all(BETWEEN in name for name in columns[1:]) and any(n.endswith(BANDS) for n in columns)


def is_runs_or_history(columns: Sequence[str]) -> bool:
    return set(columns) >= TABLE_OF_RUNS or "_step" in columns


def is_wandb_json(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, Mapping):
        return False
    return "_step" in first or "_wandb" in first or ("config" in first and any(key in first for key in SUMMARIES))


def read_wandb(path: Path, mapping: ColumnMap) -> Runs:
    """The runs of one export; which scalars are metrics: final_values.py."""
    if path.suffix.lower() in JSON:
        return read_wandb_json(path, mapping)
    rows = read_rows(path)
    columns = [name for name in rows[0] if name != "_row"]
    if is_chart(columns):
        return read_chart(path, rows, columns, mapping)
    if set(columns) >= TABLE_OF_RUNS:
        return read_table_of_runs(path, rows, mapping)
    return ends_of([history(rows, path, mapping)], mapping, where=str(path))


def read_chart(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], mapping: ColumnMap) -> Runs:
    runs: dict[str, LoggedRun] = {}
    for column in columns[1:]:
        if column.endswith(BANDS):
            continue
        name, _, scalar = column.rpartition(BETWEEN)
        run = runs.setdefault(name, LoggedRun((name, name.removeprefix("Group: ")), f"run {name}"))
        for row in rows:
            value = number_or_none(row[column], str(path), column)
            if value is not None:
                run.log(scalar, number_or_none(row[columns[0]], str(path), columns[0]) or 0.0, value)
    scalars = sorted({scalar for run in runs.values() for scalar in run.curves} - {"_step"})
    if not mapping.metrics:  # a chart shows what somebody chose: every scalar of it is a metric
        chosen = tuple(MetricColumn(name, name, None) for name in scalars if name not in mapping.columns.values())
        mapping = replace(mapping, metrics=chosen)
    notes = [f"{path}: {name} is a mean over a group of runs" for name in runs if name.startswith("Group: ")]
    return ends_of(list(runs.values()), mapping, where=str(path), notes=notes)


def read_table_of_runs(path: Path, rows: Sequence[dict[str, Any]], mapping: ColumnMap) -> Runs:
    runs, unfinished = [], []
    for row in rows:
        if str(row["State"]).lower() != "finished":
            unfinished.append(f"{row['Name']} ({row['State']})")
            continue
        runs.append(run_from(row, (str(row.get("ID") or row["Name"]), str(row["Name"])), row["_row"], mapping))
    return ends_of(runs, mapping, where=str(path), notes=left_out(path, unfinished))


def read_wandb_json(path: Path, mapping: ColumnMap) -> Runs:
    content = read_json(path)
    if not is_wandb_json(content):
        raise MeasurementError(f"{path}: is no export of Weights & Biases: no _step, and no config with a summary.")
    items = content if isinstance(content, list) else [content]
    for number, item in enumerate(items, start=1):
        if not isinstance(item, Mapping):
            raise MeasurementError(f"{path}, item {number}: is a {type(item).__name__}, not an object.")
    if "config" not in items[0]:
        if len(items) == 1 and "_wandb" in items[0]:
            flat = flatten(items[0])
            return ends_of([run_from(flat, names_of(path), "summary", mapping)], mapping, where=str(path))
        return ends_of([history([flatten(item) for item in items], path, mapping)], mapping, where=str(path))
    runs, unfinished = [], []
    for number, item in enumerate(items, start=1):
        state = str(item.get("state", "finished")).lower()
        name = str(item.get("name") or item.get("id") or f"run {number}")
        if state != "finished":
            unfinished.append(f"{name} ({state})")
            continue
        summary: Mapping[str, Any] = next((item[key] for key in SUMMARIES if isinstance(item.get(key), Mapping)), {})
        config = item.get("config")
        flat = {**flatten(config if isinstance(config, Mapping) else {}), **flatten(summary)}
        runs.append(run_from(flat, (str(item.get("id") or name), name), number, mapping))
    return ends_of(runs, mapping, where=str(path), notes=left_out(path, unfinished))


def left_out(path: Path, unfinished: Sequence[str]) -> list[str]:
    if not unfinished:
        return []
    more = f" and {len(unfinished) - 8} more" if len(unfinished) > 8 else ""
    return [f"{path}: {len(unfinished)} runs that did not finish were left out: {', '.join(unfinished[:8])}{more}"]


def run_from(flat: Mapping[str, Any], names: tuple[str, ...], place: int | str, mapping: ColumnMap) -> LoggedRun:
    """A run of one row: what SCHEMA knows is its identity, every number may be a metric."""
    flat = {name: value for name, value in flat.items() if not isinstance(value, list)}
    identity = {name: flat[mapping.their(name)] for name in IDENTITY if flat.get(mapping.their(name)) is not None}
    identity |= {theirs: flat[theirs] for theirs in mapping.settings.values() if flat.get(theirs) is not None}
    own = flat.get(mapping.their(RUN)) if RUN in mapping.columns else None
    run = LoggedRun((str(own), *names) if own else names, place, identity)
    for name, value in flat.items():
        number = number_or_none(value, "", name)
        if number is not None and not name.startswith("_"):
            run.log(name, 0.0, number)
    return run


def history(rows: Sequence[Mapping[str, Any]], path: Path, mapping: ColumnMap) -> LoggedRun:
    """One run from its logged rows; what SCHEMA knows is taken from the last row that has it."""
    run = LoggedRun(names_of(path), "history")
    known = described(mapping)
    for number, row in enumerate(rows):
        step = next((row[name] for name in STEPS if row.get(name) is not None), number)
        at = number_or_none(step, "", "step")
        for name, value in row.items():
            if value is None or name.startswith("_"):
                continue
            logged = number_or_none(value, "", name)
            if logged is not None:
                run.log(name, number if at is None else at, logged)
            elif name in known:
                run.identity[name] = value
    run.identity |= {
        ours: run.identity[mapping.their(ours)] for ours in IDENTITY if mapping.their(ours) in run.identity
    }
    return run


def names_of(path: Path) -> tuple[str, ...]:
    return tuple(name for name in (path.stem, path.name, path.parent.name) if name)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects with dotted names; config.yaml's {"value": x, "desc": ...} is x."""
    out: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            if "value" in item and set(item) <= {"value", "desc"}:
                item = item["value"]
            if isinstance(item, Mapping):
                out |= flatten(item, f"{prefix}{key}.")
                continue
        out[f"{prefix}{key}"] = item
    return out
