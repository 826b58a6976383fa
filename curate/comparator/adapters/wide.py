"""From one row a run with a column a metric ("wide", as most tools export) to one row a measurement.

A `MetricColumn` states what the name of a column does not: what it is called here, its direction, its chance level,
its standard error. An empty or NaN cell is no measurement and is counted in a note; anything else that is no number is
an error naming file, row and column.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curate.comparator.tables import as_count, is_count, is_missing
from curate.errors import MeasurementError
from curate.measurements import SCHEMA

Row = Mapping[str, Any]
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
PER_METRIC = ("metric", "value", "error", "lower_is_better", "chance")
IDENTITY = tuple(f.name for f in SCHEMA if f.name not in PER_METRIC)


@dataclass(frozen=True)
class MetricColumn:
    """One column of a wide table that holds a metric."""

    column: str
    name: str
    """What the metric is called in the measurements."""
    lower_is_better: bool | None
    """None: to be found from the name, and said, when the table is completed."""
    chance: float | None = None
    """The metric's value for a model that guesses; None where that is unknown or means nothing."""
    error: str | None = None
    """Column of its standard error."""
    evaluation: str | None = None
    """How it was evaluated, where that differs from metric to metric (shots, task version)."""
    divisor: float = 1.0
    """100 where the column holds percent and the measurement a share."""


@dataclass(frozen=True)
class Runs:
    """What an adapter found: one dict a run, with columns of SCHEMA, of `metrics` and of their errors.

    `_row` of a run is its place in the file (a number from 1, or a name). `run` holds the names under which a table of
    runs may know it. `hyperparameters` may be a dict.
    """

    rows: Sequence[Row]
    metrics: Sequence[MetricColumn]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """Measurements with the place in the file of each, for errors that name it."""

    table: pa.Table
    places: tuple[str, ...] | int
    """Of each row (`row 5`, `results`); the number of rows where they are simply counted from 1."""
    notes: list[str]


def melt(runs: Runs, *, where: str) -> Measured:
    """One measurement for every cell of `runs` that holds one; `where` names the file in errors."""
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    empty: Counter[str] = Counter()
    for number, run in enumerate(runs.rows, start=1):
        place = place_of(run, number)
        base = identity(run, f"{where}, {place}")
        for metric in runs.metrics:
            if metric.column not in run:
                continue
            value = as_number(run[metric.column], f"{where}, {place}", metric.column)
            if value is None:
                empty[metric.name] += 1
                continue
            error = as_number(run.get(metric.error), f"{where}, {place}", metric.error) if metric.error else None
            own = {
                "metric": metric.name,
                "value": value / metric.divisor,
                "error": None if error is None else error / metric.divisor,
                "lower_is_better": metric.lower_is_better,
                "chance": metric.chance,
            }
            rows.append(base | own | ({"evaluation": metric.evaluation} if metric.evaluation else {}))
            places.append(place)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return Measured(table, tuple(places), [*runs.notes, *empty_cells(empty)])


def empty_cells(empty: Counter[str]) -> list[str]:
    if not empty:
        return []
    shown = ", ".join(f"{name} ({count})" for name, count in sorted(empty.items())[:8])
    more = f" and {len(empty) - 8} metrics more" if len(empty) > 8 else ""
    return [f"{sum(empty.values())} empty cells are no measurements: {shown}{more}"]


def place_of(run: Row, number: int) -> str:
    place = run.get("_row", number)
    return f"row {place}" if isinstance(place, int) else str(place)


def identity(run: Row, where: str) -> dict[str, Any]:
    """The columns of SCHEMA that say which run it was, typed."""
    out = {name: typed(run.get(name), name, where) for name in IDENTITY if name != "hyperparameters"}
    settings = run.get("hyperparameters")
    if isinstance(settings, Mapping):
        known = {key: value for key, value in settings.items() if value is not None}
        settings = json.dumps(known, sort_keys=True) if known else None
    out["hyperparameters"] = typed(settings, "hyperparameters", where)
    return out


def typed(value: Any, name: str, where: str) -> Any:
    """`value` as SCHEMA's column `name` holds it; text is parsed, an empty one is None."""
    kind = SCHEMA.field(name).type
    if is_missing(value):
        return None
    if pa.types.is_string(kind):
        return str(value)
    if pa.types.is_boolean(kind):
        if str(value).strip().lower() in BOOLEANS:
            return BOOLEANS[str(value).strip().lower()]
        raise MeasurementError(f"{where}: {name} holds {str(value)[:60]!r}; it must be true or false.")
    if is_count(name) and isinstance(value, str):
        count = as_count(value)
        if count is None:
            raise MeasurementError(f"{where}: {name} holds {value[:60]!r}; give a number, or one like 1.4B.")
        return count
    number = as_number(value, where, name)
    if number is None or pa.types.is_floating(kind):
        return number
    if number != int(number):
        raise MeasurementError(f"{where}: {name} holds {value!r}; it must be a whole number.")
    return int(number)


def as_number(value: Any, where: str, column: str) -> float | None:
    """`value` as a float, None where it is empty or NaN; raises MeasurementError for a text that is no number."""
    if is_missing(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise MeasurementError(f"{where}: {column} holds {str(value)[:60]!r}, which is no number.") from None
    return None if np.isnan(number) else number
