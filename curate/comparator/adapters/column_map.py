"""Whose column is which: `{"params": "n_params", "metric:loss": "val_loss"}`, ours = theirs.

Ours is a column of the measurements, `run`, `hyperparameters.NAME`, `metric:NAME` (a column that holds this metric) or
`percent:NAME` (the same in percent, where higher is better). Constants have the same names and one value for all rows;
`runs_table` names a file that says what each run was (runs_table.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from curate.comparator.adapters.wide import MetricColumn
from curate.errors import MeasurementError
from curate.measurements import SCHEMA

RUN = "run"
RUNS_TABLE = "runs_table"
SETTING = "hyperparameters."


@dataclass(frozen=True)
class ColumnMap:
    """What the user said about columns and constants, taken apart."""

    columns: Mapping[str, str]
    """Column of the measurements (or `run`) to the file's."""
    settings: Mapping[str, str]
    """Hyper-parameter to the file's column."""
    metrics: tuple[MetricColumn, ...]
    constants: Mapping[str, str]
    constant_settings: Mapping[str, str]
    runs_table: str | None

    def their(self, ours: str) -> str:
        return self.columns.get(ours, ours)


def parse_column_map(columns: Mapping[str, str] | None, constants: Mapping[str, str] | None) -> ColumnMap:
    """Raises MeasurementError for a name that is no column of the measurements."""
    known = {*SCHEMA.names, RUN}
    plain: dict[str, str] = {}
    settings: dict[str, str] = {}
    metrics: list[MetricColumn] = []
    for ours, theirs in (columns or {}).items():
        kind, colon, name = ours.partition(":")
        if colon and kind in ("metric", "percent") and name:
            percent = kind == "percent"
            metrics.append(MetricColumn(theirs, name, False if percent else None, divisor=100.0 if percent else 1.0))
        elif ours.startswith(SETTING) and len(ours) > len(SETTING):
            settings[ours.removeprefix(SETTING)] = theirs
        elif ours in known:
            plain[ours] = theirs
        else:
            refuse(ours, "columns", [*known, "hyperparameters.NAME", "metric:NAME", "percent:NAME"])
    fixed: dict[str, str] = {}
    fixed_settings: dict[str, str] = {}
    for ours, value in (constants or {}).items():
        if ours.startswith(SETTING) and len(ours) > len(SETTING):
            fixed_settings[ours.removeprefix(SETTING)] = str(value)
        elif ours in SCHEMA.names or ours == RUNS_TABLE:
            fixed[ours] = str(value)
        else:
            refuse(ours, "constants", [*SCHEMA.names, "hyperparameters.NAME", RUNS_TABLE])
    return ColumnMap(plain, settings, tuple(metrics), fixed, fixed_settings, fixed.pop(RUNS_TABLE, None))


def refuse(name: str, where: str, known: list[str]) -> None:
    raise MeasurementError(f"{where}: {name!r} is no column of the measurements; there are {', '.join(sorted(known))}.")
