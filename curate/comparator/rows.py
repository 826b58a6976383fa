"""Which rows of a measurements table a comparison, a back-test and a plan work on: one rule for the three.

Models before their cool-down, copies of runs and other learning rates are set apart, and the metric's rows formed: its
own, the mean of its held-out sets, or a composite of its tasks. What may then be compared with what is matching.py's.
"""

from dataclasses import dataclass

import pyarrow as pa

from curate.comparator.composite import composite_rows, is_composite
from curate.comparator.copies import drop_copies
from curate.comparator.points import cooled_down, headline_rows, split_learning_rates
from curate.comparator.verdict import Check, Composite, Excluded
from curate.errors import MeasurementError


@dataclass(frozen=True)
class MetricRows:
    """The rows of one metric, one a point, and what they were taken from."""

    every_run: pa.Table
    """Runs of settings that do not match among them."""
    composite: Composite | None
    table: pa.Table
    """All metrics of the same runs."""
    other_rates: pa.Table
    """All metrics of the runs at another learning rate."""


def metric_rows(
    table: pa.Table, metric: str, checks: list[Check], excluded: list[Excluded], notes: list[str]
) -> MetricRows:
    """Rows of `metric` from a completed table; what is left out or formed is told in the three lists.

    Raises MeasurementError where nothing is left.
    """
    table = drop_copies(cooled_down(table, checks, excluded), checks, excluded)
    table, other_rates = split_learning_rates(table)
    if not table.num_rows:
        raise MeasurementError("Every measurement has a learning_rate_factor other than 1; nothing is left to compare.")
    if is_composite(metric) and metric not in table["metric"].to_pylist():
        every_run, composite = composite_rows(table, metric, notes)
        return MetricRows(every_run, composite, table, other_rates)
    return MetricRows(headline_rows(table, metric, notes), None, table, other_rates)
