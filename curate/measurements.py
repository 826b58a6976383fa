"""The measurements table: one row a (run, budget, metric). The only thing that training and comparison share.

A run is one training (dataset x scale x seed); its cooled-down decay branches at several budgets share its `run_id`.
Written as Parquet with SCHEMA. Results from elsewhere come by `curate compare results.csv` with the same column names.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import MeasurementError

SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("scale", pa.string()),  # name of the model shape, e.g. "0.2M"
        pa.field("params", pa.float64()),  # N = blocks + norms + one V x d
        pa.field("params_non_embedding", pa.float64()),
        pa.field("tokens", pa.float64()),  # D, training tokens seen at this point
        pa.field("unique_tokens", pa.float64()),  # tokens that the dataset holds
        pa.field("tokenizer", pa.string()),  # name or fingerprint; a loss per token means little across tokenizers
        pa.field("token_unit", pa.string()),  # what `tokens` counts: "tokens", or "samples" (image-text pairs)
        pa.field("flops", pa.float64()),  # C, under flops_convention
        pa.field("flops_convention", pa.string()),  # "6ND" with N = params, or another name
        pa.field("seed", pa.int64()),
        pa.field("metric", pa.string(), nullable=False),  # e.g. "bits_per_byte/wiki"
        pa.field("value", pa.float64(), nullable=False),
        pa.field("error", pa.float64()),  # standard error of the evaluation itself; null = unknown
        pa.field("lower_is_better", pa.bool_()),
        pa.field("chance", pa.float64()),  # value of the metric for a model that guesses; null = unknown or none
        pa.field("cooled_down", pa.bool_()),
        pa.field("procedure", pa.string()),  # fingerprint of the training procedure
        pa.field("evaluation", pa.string()),  # fingerprint of held-out sets and metric version
        pa.field("dataset_fingerprint", pa.string()),
        pa.field("hyperparameters", pa.string()),  # JSON
        pa.field("epochs", pa.float64()),  # tokens / unique_tokens: how often the dataset was seen
        pa.field("flops_exact", pa.float64()),  # C with attention and the head, whatever flops_convention says
        pa.field("schedule", pa.string()),  # "wsd" or "cosine"
        pa.field("branch", pa.string()),  # the decay branch of the run that was measured
        pa.field("tuned", pa.bool_()),  # whether the hyper-parameters come from a tuned rule or a sweep
        pa.field("seconds", pa.float64()),  # wall time of the training up to this point, trunk included
        pa.field("device", pa.string()),  # what it was trained on
    ]
)
REQUIRED = ("dataset", "metric", "value")


def write_measurements(table: pa.Table, path: Path) -> None:
    """Write `table` (columns of SCHEMA, any order; absent ones that may be null are) as Parquet."""
    pq.write_table(with_all_columns(table).select(SCHEMA.names).cast(SCHEMA), path, compression="zstd")


def read_measurements(path: Path) -> pa.Table:
    """Read our own Parquet table; a column that its version did not have yet is null. Raises MeasurementError naming
    a missing one.
    """
    table = pq.read_table(path)
    for name in REQUIRED:
        if name not in table.column_names:
            raise MeasurementError(f"{path}: no column {name!r}; a measurements table has {', '.join(SCHEMA.names)}.")
    return with_all_columns(table)


def with_all_columns(table: pa.Table) -> pa.Table:
    """`table` with the nullable columns of SCHEMA that it lacks, as nulls at the end."""
    for field in SCHEMA:
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
