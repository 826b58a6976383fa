"""One part of a dump: partial, sorted runs and removals of a part of a run, as the index keeps them.

Where each duplicate must be similar to its survivor, rows of removed documents are left out and the others numbered
anew; where documents join in chains all stay, with the place of who was kept for them. In memory: one batch, and some
numbers for each row of the part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.clusters import survivors_of
from curate.dedup.duplicates import Deduplication
from curate.dedup.index import DUMP
from curate.engine.attached import DUMP_PART, SURVIVOR, SURVIVOR_DUMP, AttachedDumps
from curate.engine.exchange import MapJob, decided_view
from curate.engine.jobs import Failure, Job, PartJob
from curate.engine.manifest import write_manifest, written_entry
from curate.engine.part import guarded
from curate.engine.shuffle import FileShelf, RunFile, Written, write_partial
from curate.rounds import View, moved, part_of, places, row_of, scattered_tables, span_of, with_values
from curate.storage import at
from curate.writers import ParquetWriter

_ADDED = [pa.field(SURVIVOR, pa.uint64()), pa.field(SURVIVOR_DUMP, pa.string())]

REMOVED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("survivor", pa.string(), nullable=False),  # id of the document that was kept in its place
        pa.field("dump", pa.string(), nullable=False),  # the dump that this one is in
        pa.field("content", pa.string(), nullable=False),  # fingerprint of that dump
    ]
)
"""Documents of a dump that left for a document of an older one."""


@dataclass(frozen=True, kw_only=True)
class DumpJob(Job):
    """One part of a dump."""

    kind: ClassVar[str] = DUMP_PART
    fields: ClassVar[tuple[str, ...]] = ("part", "files", "told", "source")

    of: PartJob
    """The part of the run: its step, folder and, unless all its documents count as kept, state."""
    parts: int
    """Parts of the run."""
    source: str
    """What the dump is made of, by content."""

    def finished(self, *, verify: bool = False) -> dict[str, Any] | None:
        """The manifest if the part is there, and made of the same."""
        manifest = super().finished(verify=verify)
        return manifest if manifest and manifest["source"] == self.source else None


def dump_part(job: DumpJob) -> dict[str, Any] | Failure:
    """Partial, runs, and removals for older dumps, of one part."""
    return guarded(job, _dump_part)


def _dump_part(job: DumpJob) -> dict[str, Any]:
    exchange: Deduplication = job.of.steps[0].build(job.of.files)
    view = _view(exchange, job)
    shelf = view.shelf
    assert isinstance(shelf, FileShelf)
    partial = shelf.partial(job.part)
    own = places(job.part, np.arange(partial.num_rows))
    survivor = survivors_of(partial, job.part, view.rows("fates")) if job.of.state else own
    rows = np.arange(partial.num_rows)
    if not exchange.chains:
        speakers = exchange.speakers(partial)
        rows = speakers[survivor[speakers] == own[speakers]]
    told_of: Iterator[pa.RecordBatch]
    if exchange.chains:
        told_of = (_with_survivors(batch, place, survivor, shelf) for batch, place in _batches(partial, own))
        schema = pa.schema([*partial.schema, *_ADDED], partial.schema.metadata)
    else:
        told_of, schema = _only(partial, rows), partial.schema
    files = {"partial": write_partial(job.folder, job.part, schema, told_of)}
    for table in scattered_tables(exchange):
        files[table] = _write_runs(job, exchange, table, shelf, rows, partial.num_rows)
    files["removed"], removed = _write_removed(job, exchange, view)
    told = {"documents": len(rows), "removed_for_older": removed}
    manifest = {"part": job.part, "files": files, "told": told, "source": job.source}
    write_manifest(at(job.manifest), manifest)
    return manifest


def _view(exchange: Deduplication, job: DumpJob) -> View:
    """Of a run's part; runs are read file by file."""
    tables = exchange.tables()
    scattered = {table: Written(table, MapJob.kind, job.parts) for table in scattered_tables(exchange)}
    if job.of.state is None:
        shelf = FileShelf(job.of.folder, job.parts, tables, scattered)
        return View(shelf, tables, span_of(range(job.part, job.part + 1)))
    view = decided_view(exchange, job.of)
    assert isinstance(view.shelf, FileShelf)
    view.shelf.written.update(scattered)
    return view


def _batches(partial: pa.Table, own: np.ndarray) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """The partial batch by batch, with the rows' values of `own`."""
    low = 0
    for batch in partial.to_batches():
        yield batch, own[low : low + batch.num_rows]
        low += batch.num_rows


def _only(partial: pa.Table, rows: np.ndarray) -> Iterator[pa.RecordBatch]:
    """The partial with those rows alone, each of which speaks for its digest."""
    keep = np.zeros(partial.num_rows, dtype=bool)
    keep[rows] = True
    count = 0
    for batch, some in _batches(partial, keep):
        batch = batch.filter(pa.array(some))
        yield with_values(batch, "best", pa.array(np.arange(count, count + batch.num_rows)))
        count += batch.num_rows


def _with_survivors(batch: pa.RecordBatch, own: np.ndarray, survivors: np.ndarray, shelf: FileShelf) -> pa.RecordBatch:
    """Rows at the places `own`, with who was kept in the place of each."""
    place = survivors[row_of(own)]
    gone, parts = place != own, part_of(place)
    elsewhere, content = parts >= shelf.own, pa.nulls(len(own), pa.string())
    if elsewhere.any():
        attached = shelf.attached
        assert isinstance(attached, AttachedDumps)
        dump, part = attached.within(parts[elsewhere] - shelf.own)
        place[elsewhere] = moved(row_of(place[elsewhere]).astype(np.uint64), part)
        content = pc.replace_with_mask(content, pa.array(elsewhere), attached.contents.take(pa.array(dump)))
    columns = [*batch.columns, pa.array(place, mask=~gone), content]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([*batch.schema, *_ADDED], batch.schema.metadata))


def _write_runs(
    job: DumpJob, exchange: Deduplication, table: str, shelf: FileShelf, rows: np.ndarray, count: int
) -> dict[str, Any]:
    """The part's runs of a table, for those rows alone, by their new numbers."""
    number = np.full(count, -1, dtype=np.int64)
    number[rows] = np.arange(len(rows))
    file = RunFile(job.folder, f"{table}-{job.part:05d}.arrow", exchange.tables()[table])
    try:
        for run in shelf.runs_of(table, job.part):
            new = number[row_of(run.column("place").to_numpy())]
            some = run.filter(pa.array(new >= 0))
            if some.num_rows:
                file.write(with_values(some, "place", pa.array(places(job.part, new[new >= 0]))))
        return file.finish()
    finally:
        file.remove()  # nothing, if it is finished


def _write_removed(job: DumpJob, exchange: Deduplication, view: View) -> tuple[dict[str, Any], int]:
    """Who left for a document of an older dump."""
    found = REMOVED_SCHEMA.empty_table()
    attached = view.shelf.attached
    if job.of.state and attached:
        assert isinstance(attached, AttachedDumps)
        state = exchange.state(view, job.part)
        state = state.filter(state.column(DUMP.name).is_valid())
        dump = state.column(DUMP.name)
        content = attached.contents.take(pc.index_in(dump, value_set=attached.dump_names).combine_chunks())
        columns = [state.column("id"), state.column("survivor"), dump, content]
        found = pa.table(columns, schema=REMOVED_SCHEMA)
    with ParquetWriter(at(job.folder) / f"removed-{job.part:05d}.parquet", REMOVED_SCHEMA) as file:
        for batch in found.to_batches():
            file.write(batch)
    return written_entry(file.close()), found.num_rows
