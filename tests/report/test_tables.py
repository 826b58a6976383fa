"""Measurements by row: seeds become mean and spread, learning-rate trials stay apart."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.measurements import SCHEMA
from curate.report.tables import as_csv, measurement_rows, metrics_of


def test_seeds_become_mean_and_spread(measurements: pa.Table) -> None:
    rows = measurement_rows(measurements)
    assert len(rows) == 3 * 4 * 3
    row = next(row for row in rows if row.dataset == "raw" and row.scale == "0.2M" and row.tokens == 1e6)
    wanted = measurements.filter(
        pc.and_(
            pc.and_(pc.equal(measurements["dataset"], "raw"), pc.equal(measurements["tokens"], 1e6)),
            pc.and_(pc.equal(measurements["scale"], "0.2M"), pc.equal(measurements["metric"], "bits_per_byte")),
        )
    )
    values = np.array(wanted["value"])
    spread = row.values["bits_per_byte"]
    assert (spread.runs, spread.mean, spread.deviation) == (
        3,
        pytest.approx(values.mean()),
        pytest.approx(values.std(ddof=1)),
    )
    alone = next(row for row in rows if row.scale == "3M")
    assert alone.values["bits_per_byte"].deviation is None


def test_the_mean_over_heldout_sets_comes_first(measurements: pa.Table) -> None:
    metrics = metrics_of(measurement_rows(measurements))
    assert metrics == ["bits_per_byte", "bits_per_byte/books", "bits_per_byte/code", "bits_per_byte/wiki"]


def test_rows_stay_in_the_order_of_the_table_and_rise_with_size(measurements: pa.Table) -> None:
    rows = measurement_rows(measurements)
    assert list(dict.fromkeys(row.dataset for row in rows)) == ["full", "heuristics", "raw"]
    sizes = [(row.params, row.tokens) for row in rows if row.dataset == "raw"]
    assert sizes == sorted(sizes)


def _row(**given: object) -> dict[str, object]:
    return {"run_id": "r", "dataset": "a", "metric": "m", "value": 1.0, **given}


def test_learning_rate_trials_and_hot_points_are_rows_of_their_own() -> None:
    table = pa.Table.from_pylist(
        [
            _row(params=10.0, tokens=10.0),
            _row(params=10.0, tokens=10.01, value=3.0),  # equal to three digits
            _row(params=10.0, tokens=10.0, hyperparameters=json.dumps({"learning_rate_factor": 3.0})),
            _row(params=10.0, tokens=10.0, cooled_down=False),
            _row(params=10.0, tokens=10.0, hyperparameters="no JSON", value=2.0),
        ],
        schema=SCHEMA,
    )
    rows = measurement_rows(table)
    assert [(row.learning_rate_factor, row.cooled_down, row.values["m"].runs) for row in rows] == [
        (1.0, True, 3),
        (1.0, False, 1),
        (3.0, True, 1),
    ]
    assert rows[0].values["m"].mean == 2.0


def test_no_table_has_no_rows() -> None:
    assert measurement_rows(None) == []
    assert measurement_rows(SCHEMA.empty_table()) == []


def test_csv_keeps_any_text(hostile_text: str) -> None:
    name = hostile_text.replace("\ud800", "") + '"\n,;'
    table = pa.table({"dataset": [name, None], "value": [1.5, None]})
    read = list(csv.reader(io.StringIO(as_csv(table), newline="")))
    assert read == [["dataset", "value"], [name, "1.5"], ["", ""]]
