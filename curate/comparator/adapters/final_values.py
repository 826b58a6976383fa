"""The ends of training curves: of every metric of a run its last value, as logging tools hold whole curves.

Which logged scalars are measurements is said by `metric:NAME=SCALAR`, else those are taken whose name says that they
were evaluated (eval, val, test ...) and which way is better. Earlier values are counted, never compared: a curve's
points are no cooled-down models.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.comparator.adapters.column_map import RUN, ColumnMap
from curate.comparator.adapters.wide import IDENTITY, MetricColumn, Runs, as_number
from curate.comparator.tables import HIGHER_IS_BETTER, LOWER_IS_BETTER
from curate.errors import MeasurementError

EVALUATED = re.compile(
    r"(^|[^a-z])(eval|evaluation|val|valid|validation|test|heldout|held_out|downstream)([^a-z]|$)", re.I
)


@dataclass
class Curve:
    """The last value of one scalar of one run, and how many came before."""

    step: float
    value: float
    earlier: int = 0

    def update(self, step: float, value: float) -> None:
        self.earlier += 1
        if step >= self.step:
            self.step, self.value = step, value


@dataclass
class LoggedRun:
    """One run of a logging tool: its names, what it was, and the ends of its curves."""

    names: tuple[str, ...]
    place: int | str
    identity: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def log(self, name: str, step: float, value: float) -> None:
        if name in self.curves:
            self.curves[name].update(step, value)
        else:
            self.curves[name] = Curve(step, value)


def ends_of(runs: Sequence[LoggedRun], mapping: ColumnMap, *, where: str, notes: Iterable[str] = ()) -> Runs:
    """The last values as one row a run."""
    metrics = mapping.metrics or tuple(evaluated(runs, mapping))
    scalars = sorted({name for run in runs for name in run.curves})
    if not metrics:
        shown = ", ".join(scalars[:12]) + (f" and {len(scalars) - 12} more" if len(scalars) > 12 else "")
        raise MeasurementError(
            f"{where}: no scalar is clearly an evaluation; say which are metrics, e.g. --columns "
            f"metric:loss={scalars[0] if scalars else 'NAME'}. There are: {shown or 'none'}."
        )
    missing = [m.column for m in metrics if m.column not in scalars]
    if missing:
        raise MeasurementError(f"{where}: no run has {missing[0]!r}; there are {', '.join(scalars[:20]) or 'none'}.")
    rows = []
    earlier = 0
    for run in runs:
        row = dict(run.identity) | {"_row": run.place, RUN: run.names}
        for name in IDENTITY:
            theirs = mapping.their(name)
            if theirs in run.curves and row.get(name) is None:
                row[name] = run.curves[theirs].value
        if mapping.settings:
            row["hyperparameters"] = {
                name: run.identity.get(theirs, run.curves[theirs].value if theirs in run.curves else None)
                for name, theirs in mapping.settings.items()
            }
        for metric in metrics:
            row[metric.column] = run.curves[metric.column].value if metric.column in run.curves else None
            earlier += run.curves[metric.column].earlier if metric.column in run.curves else 0
        rows.append(row)
    said = list(notes)
    if earlier:
        said.append(f"{where}: {earlier:,} earlier values of these curves were left out; the last of each run stays")
    if not mapping.metrics:
        said.append(f"{where}: metrics taken by their names: {', '.join(m.column for m in metrics)}")
    return Runs(rows, metrics, said)


def evaluated(runs: Sequence[LoggedRun], mapping: ColumnMap) -> list[MetricColumn]:
    names = sorted({name for run in runs for name in run.curves} - described(mapping))
    return [
        MetricColumn(name, name, None)
        for name in names
        if EVALUATED.search(name) and bool(LOWER_IS_BETTER.search(name)) != bool(HIGHER_IS_BETTER.search(name))
    ]


def described(mapping: ColumnMap) -> set[str]:
    """Names in the logs that say what a run was and are no metrics."""
    return {mapping.their(name) for name in IDENTITY} | set(mapping.settings.values())


def number_or_none(value: Any, where: str, column: str) -> float | None:
    """A logged number; None for what is no number, as logs also hold texts, images and nested objects."""
    if isinstance(value, bool | Mapping | list):
        return None
    try:
        return as_number(value, where, column)
    except MeasurementError:
        return None
