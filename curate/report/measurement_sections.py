"""What the page shows of the measurements: the table over seeds, its download as CSV, the loss curves."""

from typing import TYPE_CHECKING

import pyarrow as pa

from curate.report.elements import aside, cell, name_of, note, number, table
from curate.report.elements import row as table_row
from curate.report.figures import Style, direction, loss_curve_figures, metric_label
from curate.report.markup import Html, data_block, join, shortened, tag
from curate.report.numbers import compact, digits, power_of_ten
from curate.report.tables import MeasurementRow, Spread, as_csv, measurement_rows, metrics_of

if TYPE_CHECKING:
    from curate.comparator.verdict import Verdict

MOST_ROWS = 1000
"""Rows shown; the download holds all."""
MOST_METRICS = 8
MOST_CSV_BYTES = 2_000_000
"""Above that the page would grow too heavy; the table lies beside it as Parquet."""


def measurements_section(
    measurements: pa.Table | None, curves: pa.Table | None, verdict: "Verdict | None", looks: dict[str, Style]
) -> Html:
    """Table, download, loss curves."""
    rows = measurement_rows(measurements)
    if measurements is None or not rows:
        return tag("p", "There are no measurements.")
    return join([_table(rows, verdict, looks), _download(measurements), _curves(curves, looks)])


def _table(rows: list[MeasurementRow], verdict: "Verdict | None", looks: dict[str, Style]) -> Html:
    metrics = metrics_of(rows)
    factors = any(row.learning_rate_factor != 1.0 for row in rows)
    heads: list[object] = ["dataset", "scale", "N (parameters)", "D (tokens)", "C (FLOPs)"]
    heads += ["learning rate"] if factors else []
    heads += ["runs", *[metric_label(metric) for metric in metrics[:MOST_METRICS]]]
    body = [_row(row, metrics[:MOST_METRICS], factors, looks) for row in rows[:MOST_ROWS]]
    lower = verdict.headline.lower_is_better if verdict else True
    words = [f"One row a dataset, scale and budget: mean ± standard deviation over seeds; {direction(lower)}."]
    if len(rows) > MOST_ROWS:
        words.append(f"These are {MOST_ROWS:,} of {len(rows):,} rows.")
    if len(metrics) > MOST_METRICS:
        words.append(f"These are {MOST_METRICS} of {len(metrics)} metrics.")
    if not all(row.cooled_down for row in rows):
        words.append("Rows with * were measured before the learning rate came down; they enter no comparison.")
    return join(
        [note(" ".join(words)), tag("div.tall", table(heads, body, numeric=range(2, len(heads)), sortable=True))]
    )


def _row(row: MeasurementRow, metrics: list[str], factors: bool, looks: dict[str, Style]) -> Html:
    runs = max((spread.runs for spread in row.values.values()), default=0)
    factor = row.learning_rate_factor
    return table_row(
        cell(name_of(row.dataset, looks), None if row.cooled_down else "*"),
        cell(shortened(row.scale or "–", 40)),
        number(compact(row.params), sort=row.params),
        number(compact(row.tokens), sort=row.tokens),
        number(power_of_ten(row.flops, 3), sort=row.flops),
        number(f"×{digits(factor, 2)}", sort=factor) if factors else None,
        number(runs),
        [_value(row.values.get(metric)) for metric in metrics],
    )


def _value(spread: Spread | None) -> Html:
    if spread is None:
        return number("–")
    deviation = aside(f" ± {digits(spread.deviation, 2)}") if spread.deviation is not None else None
    return number(digits(spread.mean, 5), deviation, sort=spread.mean)


def _download(measurements: pa.Table) -> Html:
    written = as_csv(measurements)
    count = f"{measurements.num_rows:,}"
    if len(written) > MOST_CSV_BYTES:
        return note(f"The table has {count} rows, too many for this page; take the Parquet file beside it.")
    button = tag("button", f"Download all {count} measurements as CSV", attributes={"type": "button", "id": "download"})
    return join([tag("p", button), data_block("measurements-csv", written)])


def _curves(curves: pa.Table | None, looks: dict[str, Style]) -> Html | None:
    panels = loss_curve_figures(curves, looks=looks)
    if not panels:
        return None
    words = (
        "Training loss in nats a token of the study's tokenizer, averaged over ranges of tokens. Solid: runs at the "
        "stable learning rate; dashed: decay branches, whose ends are the measured budgets. Each dataset is judged on "
        "its own text here: losses of different datasets say nothing about which is better."
    )
    return join([tag("h3", "Loss curves"), note(words), tag("div.grid", panels)])
