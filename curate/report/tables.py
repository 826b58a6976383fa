"""Measurements as people read them: a row a dataset, scale, budget and learning rate; seeds as mean and spread."""

import csv
import io
import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

KEYS = ("dataset", "scale", "params", "tokens", "flops", "seed", "metric", "value", "cooled_down", "hyperparameters")


@dataclass(frozen=True)
class Spread:
    """Values of equal runs: their mean, their standard deviation (None for a single one), how many."""

    mean: float
    deviation: float | None
    runs: int


@dataclass
class MeasurementRow:
    """One dataset at one scale and budget."""

    dataset: str
    scale: str | None
    params: float | None
    tokens: float | None
    flops: float | None
    learning_rate_factor: float
    cooled_down: bool
    values: dict[str, Spread] = field(default_factory=dict)
    """Metric -> values over seeds."""


def measurement_rows(table: pa.Table | None) -> list[MeasurementRow]:
    """The table's rows over their seeds, by dataset (as first met), scale and budget; N and D match to 3 digits."""
    if table is None or not table.num_rows:
        return []
    found: dict[tuple[Any, ...], MeasurementRow] = {}
    values: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in table.select([name for name in KEYS if name in table.column_names]).to_pylist():
        factor = _learning_rate_factor(row.get("hyperparameters"))
        cooled = row.get("cooled_down") is not False
        key = (
            row["dataset"],
            row.get("scale"),
            _rounded(row.get("params")),
            _rounded(row.get("tokens")),
            factor,
            cooled,
        )
        if key not in found:
            found[key] = MeasurementRow(
                dataset=row["dataset"],
                scale=row.get("scale"),
                params=row.get("params"),
                tokens=row.get("tokens"),
                flops=row.get("flops"),
                learning_rate_factor=factor,
                cooled_down=cooled,
            )
        values[key][row["metric"]].append(row["value"])
    for key, row in found.items():
        row.values = {metric: _spread(numbers) for metric, numbers in values[key].items()}
    order = {name: place for place, name in enumerate(dict.fromkeys(row.dataset for row in found.values()))}
    return sorted(
        found.values(),
        key=lambda row: (order[row.dataset], row.params or 0.0, row.tokens or 0.0, row.learning_rate_factor),
    )


def metrics_of(rows: list[MeasurementRow]) -> list[str]:
    """All metrics of the rows, each once: the short names (means over held-out sets) first."""
    return sorted({metric for row in rows for metric in row.values}, key=lambda name: ("/" in name, name))


def _learning_rate_factor(hyperparameters: str | None) -> float:
    try:
        return float(json.loads(hyperparameters or "{}").get("learning_rate_factor", 1.0))
    except (ValueError, TypeError, AttributeError):
        return 1.0  # results from elsewhere may carry any text there; it is shown nowhere


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.3g}") if value is not None and math.isfinite(value) else None


def _spread(values: list[float]) -> Spread:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), deviation, len(values))


def as_csv(table: pa.Table) -> str:
    """The table as `curate compare` reads it back: a header, `.` decimals, empty for null."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        writer.writerows(zip(*columns, strict=True))
    return out.getvalue()
