"""Results of other tools as measurements: `read_runs(paths)` finds the format, reads, completes and checks.

Formats: our measurements and any CSV or Parquet with a column map ("columns"), DCLM's exp_data and model database,
lm-evaluation-harness, open_clip, Weights & Biases, TensorBoard. Every adapter states units, directions and chance
levels; what it left out or filled in is in `notes_of(table)`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from curate.comparator.adapters.column_map import ColumnMap, parse_column_map
from curate.comparator.adapters.columns import read_long, read_wide
from curate.comparator.adapters.dclm import read_exp_data
from curate.comparator.adapters.dclm_database import read_database
from curate.comparator.adapters.detect import detect
from curate.comparator.adapters.files import refuse_large
from curate.comparator.adapters.lm_eval import read_lm_eval
from curate.comparator.adapters.open_clip import read_open_clip
from curate.comparator.adapters.runs_table import identify
from curate.comparator.adapters.tensorboard import EVENTS, read_event_folder, read_scalar_files
from curate.comparator.adapters.wandb import read_wandb
from curate.comparator.adapters.wide import Measured, Runs, melt
from curate.comparator.tables import Origin, cast_columns, complete, with_notes
from curate.errors import MeasurementError

__all__ = ["FORMATS", "read_runs"]

Reader = Callable[[Path, ColumnMap], Runs]


def read_runs(
    paths: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
) -> pa.Table:
    """Measurements (SCHEMA, completed and checked) from files or folders of one or several formats.

    `columns`: ours to theirs, e.g. {"params": "n_params", "metric:loss": "val_loss"}; `constants`: one value for all
    rows, e.g. {"dataset": "c4", "params": "1.4B"}, or {"runs_table": "runs.csv"} with a row a run (column_map.py).
    Raises MeasurementError naming file, row and column.
    """
    given = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
    if not given:
        raise MeasurementError("No results were given; name at least one file or folder.")
    twice = [path for number, path in enumerate(given) if path in given[:number]]
    if twice:
        raise MeasurementError(f"{twice[0]}: was given twice.")
    if format not in ("auto", *FORMATS):
        raise MeasurementError(f"There is no format {format!r}; there are auto, {', '.join(FORMATS)}.")
    mapping = parse_column_map(columns, constants)
    parts: list[tuple[str, Measured]] = []
    scalars: list[Path] = []
    for path in given:
        kind = detect(path, mapping) if format == "auto" else format
        if kind == "tensorboard" and path.is_file() and EVENTS not in path.name:
            scalars.append(path)  # one file a tag: they are put together below
            continue
        for file in files_of(path, kind):
            parts.append((str(file), read_one(file, kind, mapping)))
    if scalars:
        found = identify(read_scalar_files(scalars, mapping), mapping, where=str(scalars[0].parent))
        parts.append((str(scalars[0].parent), melt(found, where=str(scalars[0].parent))))
    origin = Origin(tuple(name for name, _ in parts), tuple(part.places for _, part in parts))
    notes = [note for _, part in parts for note in part.notes]
    raw = pa.concat_tables([part.table for _, part in parts])
    return with_notes(complete(raw.replace_schema_metadata(None), where=origin), list(dict.fromkeys(notes)))


def files_of(path: Path, kind: str) -> list[Path]:
    """A folder of results files as its files; everything else as it is."""
    if kind == "lm_eval" and path.is_dir():
        found = sorted(path.rglob("results*.json"))
        if not found:
            raise MeasurementError(f"{path}: holds no results*.json.")
        return found
    return [path]


def read_one(path: Path, kind: str, mapping: ColumnMap) -> Measured:
    """The measurements of one file or folder, in SCHEMA's columns and types."""
    if kind == "columns" and not mapping.metrics:
        notes: list[str] = []
        raw = read_long(path, mapping)
        table = cast_columns(raw, Origin((str(path),), (raw.num_rows,)), notes)
        return Measured(table, raw.num_rows, notes)
    runs = FORMATS[kind](path, mapping)
    return melt(identify(runs, mapping, where=str(path)), where=str(path))


def read_dclm(path: Path, mapping: ColumnMap) -> Runs:
    if path.is_dir():
        return read_exp_data(path)
    refuse_large(path)
    return read_database(path)


def read_tensorboard(path: Path, mapping: ColumnMap) -> Runs:
    return read_event_folder(path if path.is_dir() else path.parent, mapping)


FORMATS: Mapping[str, Reader] = {
    "columns": read_wide,
    "dclm": read_dclm,
    "lm_eval": lambda path, mapping: read_lm_eval(path),
    "open_clip": read_open_clip,
    "wandb": read_wandb,
    "tensorboard": read_tensorboard,
}
