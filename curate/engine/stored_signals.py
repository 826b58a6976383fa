"""Stored signals: which documents entered a segment, and what each of its steps measured on them; one part each.

`signals/documents-<key>/part-00000.parquet` has DOCUMENTS_SCHEMA, `signals/<step>-<key>/part-00000.parquet` the step's
labels and its signals (float64) for the same rows: NaN where a signal is not defined on a document, null where the
document had left before, by an edit. A part counts once its manifest is there, as everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.documents import Batch
from curate.engine.manifest import part_manifest, read_valid, written_entry
from curate.steps import Filter, Outcome, Step
from curate.storage import Location, at
from curate.writers import ParquetWriter

FOLDER = "signals"
"""In a work folder."""
DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("source", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("text_bytes", pa.int64()),  # of content, before extraction
    ]
)
PART_FIELDS = ("part", "rows")
"""What the manifest of a part of the documents has."""
Known = tuple[dict[str, np.ndarray], dict[str, pa.Array]]
"""Signals and labels of some documents."""
STEP_FIELDS = (*PART_FIELDS, "signals", "labels")
"""What the manifest of a part of a step's signals has."""


def documents_of(batch: Batch) -> pa.RecordBatch:
    """The rows of DOCUMENTS_SCHEMA of a batch."""
    names, count = batch.data.schema.names, len(batch)
    columns: list[pa.Array] = []
    for field in DOCUMENTS_SCHEMA:
        if field.name == "text_bytes":
            content = batch.data.column("text" if "text" in names else "content")
            columns.append(pc.fill_null(pc.binary_length(content), 0).cast(pa.int64()))
        elif field.name in names:
            columns.append(batch.data.column(field.name).cast(field.type))
        else:
            columns.append(pa.nulls(count, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENTS_SCHEMA)


class StepWriter:
    """Writes one part of a step's signals; the columns are those of the first batch that has any."""

    def __init__(self, folder: Location, part: int) -> None:
        self._path = folder / f"part-{part:05d}.parquet"
        self._writer: ParquetWriter | None = None
        self.rows = 0
        self.signals: list[str] = []
        self.labels: list[str] = []

    def add(self, count: int, rows: np.ndarray, signals: dict[str, np.ndarray], labels: dict[str, pa.Array]) -> None:
        """`count` documents, of which those at `rows` were measured; without signals, none was."""
        if self._writer is None and signals:
            self.signals, self.labels = list(signals), list(labels)
            fields = [pa.field(name, column.type) for name, column in labels.items()]
            fields += [pa.field(name, pa.float64()) for name in signals]
            self._writer = ParquetWriter(self._path, pa.schema(fields))
            if self.rows:
                self._write_nothing(self.rows)
        if self._writer is not None:
            if signals:
                columns = [*labels.values(), *(pa.array(values, pa.float64()) for values in signals.values())]
                names = [*labels, *signals]
                self._writer.write(pa.RecordBatch.from_arrays([_spread(c, rows, count) for c in columns], names))
            else:
                self._write_nothing(count)
        self.rows += count

    def _write_nothing(self, count: int) -> None:
        assert self._writer is not None
        schema = self._writer.schema
        self._writer.write(pa.RecordBatch.from_arrays([pa.nulls(count, field.type) for field in schema], schema=schema))

    def close(self) -> dict[str, Any]:
        """Finish the file; the fields of the part's manifest."""
        files = {"data": written_entry(self._writer.close())} if self._writer else {}
        return {"rows": self.rows, "signals": self.signals, "labels": self.labels, "files": files}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)


def _spread(values: pa.Array, rows: np.ndarray, count: int) -> pa.Array:
    """The values at their rows, null elsewhere."""
    if len(rows) == count:
        return values
    place = np.full(count, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return values.take(pa.array(place, mask=place < 0))


@dataclass(frozen=True)
class Stored:
    """Where the signals may be that a stage can decide from; travels with its jobs."""

    documents: str
    """Folder of the documents."""
    steps: tuple[str | None, ...]
    """Folder of each step's signals; None for steps that do not decide by signals."""
    all_enter: bool
    """Whether the stage reads the very documents that were measured; else some of them, after `materialise`."""
    verify: bool = False

    def open(self, part: int) -> "PartSignals | None":
        """What is stored of that part, if anything."""
        documents = read_table(at(self.documents), part, PART_FIELDS, verify=self.verify)
        if documents is None:
            return None
        steps = [read_table(at(f), part, STEP_FIELDS, verify=self.verify) if f else None for f in self.steps]
        fitting = [step if step and len(step.table) == len(documents.table) else None for step in steps]
        return PartSignals(documents.table, fitting, all_enter=self.all_enter) if any(fitting) else None


@dataclass(frozen=True)
class StoredTable:
    """One stored part."""

    table: pa.Table
    manifest: dict[str, Any]


def read_table(folder: Location, part: int, fields: Sequence[str], *, verify: bool = False) -> StoredTable | None:
    """A part of stored signals, or of the documents; None unless it is whole."""
    manifest = read_valid(part_manifest(folder, part), fields, verify=verify)
    if manifest is None:
        return None
    if "data" not in manifest["files"]:  # no document, or none that was measured
        return StoredTable(DOCUMENTS_SCHEMA.empty_table() if "signals" not in manifest else pa.table({}), manifest)
    path = folder / manifest["files"]["data"]["name"]
    # Read by this thread alone: a file object that Arrow's threads still hold when Python ends aborts the process.
    with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        return StoredTable(file.read(use_threads=False).combine_chunks(), manifest)


class PartSignals:
    """The stored signals of one part, for the steps of a stage that reads it batch by batch."""

    def __init__(self, documents: pa.Table, steps: Sequence[StoredTable | None], *, all_enter: bool) -> None:
        self._documents, self._steps, self._all_enter = documents, steps, all_enter
        self._next = 0

    def rows(self, batch: Batch) -> np.ndarray | None:
        """The stored row of each document of the next batch; None if they cannot be told for certain."""
        count = len(batch)
        ids = self._documents.column("id").slice(self._next, count)
        if self._all_enter and len(ids) == count and ids.equals(pa.chunked_array([batch.ids])):
            start, self._next = self._next, self._next + count
            return np.arange(start, start + count)
        if self._keys is None:
            return None
        found = pc.index_in(_keys(pa.Table.from_batches([batch.data])), value_set=self._keys)
        return None if found.null_count else found.to_numpy().astype(np.int64)

    def of(self, number: int, rows: np.ndarray | None) -> Known | None:
        """Signals and labels that a step measured on the documents at `rows`; None if it did not measure them all."""
        step = self._steps[number] if number < len(self._steps) else None  # an extraction comes after them
        if step is None or rows is None or not step.manifest["signals"]:
            return None
        taken = step.table.take(pa.array(rows, pa.int64())).combine_chunks()
        columns = {name: array_of(taken.column(name)) for name in taken.column_names}
        if any(columns[name].null_count for name in step.manifest["signals"]):
            return None
        signals = {name: columns[name].to_numpy() for name in step.manifest["signals"]}
        return signals, {name: columns[name] for name in step.manifest["labels"]}

    @cached_property
    def _keys(self) -> pa.Array | None:
        """What tells the documents apart; None if nothing does."""
        keys = _keys(self._documents)
        return keys if pc.count_distinct(keys).as_py() == len(keys) else None


def _keys(documents: pa.Table) -> pa.Array:
    count = documents.num_rows
    names = documents.column_names
    columns = [
        pc.fill_null(documents.column(name).cast(pa.string()), "") if name in names else pa.repeat("", count)
        for name in ("id", "source", "offset")
    ]
    return array_of(pc.binary_join_element_wise(*columns, "\n")) if count else pa.array([], pa.string())


def array_of(column: Any) -> pa.Array:
    """One array of a column of one chunk, or of none."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def decided(step: Step, batch: Batch, known: Known | None) -> Outcome | None:
    """The outcome of a filter on a batch by what is known of it; None if that does not suffice."""
    if known is None or not isinstance(step, Filter):
        return None
    signals, labels = known
    for name, values in labels.items():
        batch = batch.with_column(name, values)
    signals = step.derive(batch, signals)
    wanted = {name for rule in step.rules() for name in rule.reads}
    return step.outcome(batch, signals) if wanted <= signals.keys() else None


def joined(table: pa.Table, earlier: pa.Table) -> pa.Array:
    """For each row of `earlier`, the row of `table` with the same document (null if it has none)."""
    return pc.index_in(_keys(earlier), value_set=_keys(table))
