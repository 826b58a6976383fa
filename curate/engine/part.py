"""The work on one part, as functions of a picklable job: run its steps, map an exchange, reduce, make an artifact.

Each job writes its data files, then its manifest, and returns the manifest; nothing here knows which executor runs it.
A failure comes back as a `Failure` that names stage, part, file and record.
"""

import shutil
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.documents import Batch
from curate.engine.account import Account
from curate.engine.ledger import (
    LEDGER_SCHEMA,
    kept_rows,
    left_rows,
    note_edits,
    reconcile,
    refused_rows,
    without_travelling,
)
from curate.engine.manifest import file_entry, part_manifest, write_manifest
from curate.engine.recipe import ArtifactSpec, SourceSpec, StepSpec
from curate.errors import CurateError, ReconciliationError
from curate.readers import InputFile
from curate.steps import Exchange, Outcome, Step
from curate.writers import ParquetWriter


@dataclass(frozen=True)
class PartJob:
    """One part of one stage."""

    stage: str
    folder: str
    part: int
    steps: tuple[StepSpec, ...]
    files: dict[str, str]
    """Path of each artifact that the steps name."""
    source: SourceSpec | None = None
    input: InputFile | None = None
    """First stage: the file to read."""
    parent: str | None = None
    """Later stages: the parent's data file of this part (None = the part is empty)."""
    state: str | None = None
    """An exchange's state for this part."""


@dataclass(frozen=True)
class ReduceJob:
    """The decision of an exchange over all partials."""

    stage: str
    folder: str
    step: StepSpec
    files: dict[str, str]
    partials: tuple[str, ...]
    part: int = 0


@dataclass(frozen=True)
class ArtifactJob:
    """An artifact to be made."""

    stage: str
    folder: str
    spec: ArtifactSpec
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    part: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in a form that travels between processes."""

    stage: str
    part: int
    file: str
    record: str
    error: str
    trace: str
    expected: bool
    """True for errors that are sentences already (CurateError)."""

    def __str__(self) -> str:
        record = f", record {self.record}" if self.record else ""
        file = f", file {self.file}" if self.file else ""
        text = f"Stage {self.stage}, part {self.part}{file}{record}: {self.error}"
        return text if self.expected else f"{text}\n{self.trace}"


class _StepFailed(Exception):
    """A step raised on a batch; carries the id of the first record on which it raises alone."""

    def __init__(self, step: str, record: str, cause: Exception) -> None:
        super().__init__(f"step {step}: {type(cause).__name__}: {cause}")
        self.record = record
        self.cause = cause


def run_part(job: PartJob) -> dict[str, Any] | Failure:
    """Read the part, pass it through the steps, write data and ledger, reconcile, write the manifest."""
    return _guarded(job, _run_part)


def map_part(job: PartJob) -> dict[str, Any] | Failure:
    """What the exchange must know of this part, as an Arrow file."""
    return _guarded(job, _map_part)


def reduce_parts(job: ReduceJob) -> dict[str, Any] | Failure:
    """The exchange's state for each part, as Arrow files, and its summary."""
    return _guarded(job, _reduce_parts)


def make_artifact(job: ArtifactJob) -> dict[str, Any] | Failure:
    """The artifact and its card."""
    return _guarded(job, _make_artifact)


def _guarded(job: Any, work: Any) -> dict[str, Any] | Failure:
    try:
        return dict(work(job))
    except Exception as error:
        file = getattr(job, "input", None)
        cause = error.cause if isinstance(error, _StepFailed) else error
        return Failure(
            stage=job.stage,
            part=job.part,
            file=file.path if file else (getattr(job, "parent", None) or ""),
            record=getattr(error, "record", ""),
            error=str(error) if isinstance(error, CurateError | _StepFailed) else f"{type(error).__name__}: {error}",
            trace="".join(traceback.format_exception(cause)),
            expected=isinstance(cause, CurateError),
        )


def _run_part(job: PartJob) -> dict[str, Any]:
    folder, account = Path(job.folder), Account()
    steps = [spec.build(job.files) for spec in job.steps]
    names = [spec.name.rpartition(".")[2] for spec in job.steps]
    if job.source:
        account.row(0, f"read {job.source.reader}")
    ledger = ParquetWriter(folder / f"ledger-{job.part:05d}.parquet", LEDGER_SCHEMA)
    data: ParquetWriter | None = None
    kept = edited = 0
    ignored: dict[str, int] = {}
    with ExitStack() as writers:
        writers.enter_context(ledger)
        batches = _counted(_input(job, account, ledger, ignored), counter := [0])
        chain = _applied(steps, names, job, batches, account, ledger) if job.state else None
        for batch in chain or _chained(steps, names, batches, account, ledger, first=1 if job.source else 0):
            rows = kept_rows(batch)
            ledger.write(rows)
            kept += len(batch)
            edited += int(pc.sum(pc.equal(rows.column("fate"), "edited")).as_py() or 0)
            out = without_travelling(batch.data)
            if data is None:
                data = ParquetWriter(folder / f"part-{job.part:05d}.parquet", out.schema)
                writers.enter_context(data)
            data.write(out)
    records_in = counter[0] + (account.funnel[0]["in"] - account.funnel[0]["out"] if job.source else 0)
    fates = account.fates(kept, edited)
    reconcile(job.stage, job.part, records_in=records_in, records_out=kept, fates=fates)
    files = {"ledger": _named(ledger)}
    if data is not None:
        files["data"] = _named(data)
    manifest = {
        "part": job.part,
        "input": job.input.name if job.input else None,
        "files": files,
        "records_in": records_in,
        "records_out": kept,
        "fates": fates,
        "ignored": ignored,
        "funnel": account.funnel,
        "histograms": account.histograms,
        "samples": account.samples,
        "seconds": account.seconds,
    }
    write_manifest(part_manifest(folder, job.part), manifest)
    return manifest


def _named(writer: ParquetWriter) -> dict[str, Any]:
    info = writer.close()
    return {"name": Path(info.path).name, "bytes": info.bytes, "rows": info.rows, "hash": info.hash}


def _counted(batches: Iterator[Batch], counter: list[int]) -> Iterator[Batch]:
    for batch in batches:
        counter[0] += len(batch)
        yield batch


def _input(job: PartJob, account: Account, ledger: ParquetWriter, ignored: dict[str, int]) -> Iterator[Batch]:
    """The batches of the part; what a reader refuses goes straight to the ledger."""
    if job.source is None:
        yield from _read_part(job.parent)
        return
    assert job.input is not None
    name = f"read {job.source.reader}"
    for read in job.source.build().read(job.input):
        account.refused(0, name, read.batch, read.refused)
        if read.refused.num_rows:
            ledger.write(refused_rows(read.refused, name))
        for kind, count in read.ignored.items():
            ignored[kind] = ignored.get(kind, 0) + count
        if len(read.batch):
            yield read.batch


def _read_part(path: str | None) -> Iterator[Batch]:
    if path is None:
        return
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            for data in file.read_row_group(group).combine_chunks().to_batches():
                if data.num_rows:
                    yield Batch(data)


def _chained(
    steps: list[Step],
    names: list[str],
    batches: Iterator[Batch],
    account: Account,
    ledger: ParquetWriter,
    *,
    first: int,
) -> Iterator[Batch]:
    for number, name in enumerate(names):
        account.row(first + number, name)
    for batch in batches:
        for number, (step, name) in enumerate(zip(steps, names, strict=True)):
            began = time.perf_counter()
            outcome = _process(step, name, batch)
            batch = _booked(step, name, first + number, batch, outcome, began, account, ledger)
            if not len(batch):
                break
        if len(batch):
            yield batch


def _applied(
    steps: list[Step], names: list[str], job: PartJob, batches: Iterator[Batch], account: Account, ledger: ParquetWriter
) -> Iterator[Batch]:
    (exchange,), (name,) = steps, names
    assert isinstance(exchange, Exchange) and job.state is not None
    account.row(0, name)
    held: deque[Batch] = deque()

    def remembered() -> Iterator[Batch]:
        for batch in batches:
            held.append(batch)
            yield batch

    began = time.perf_counter()
    for outcome in exchange.apply(remembered(), _open_arrow(job.state)):
        batch = _booked(exchange, name, 0, held.popleft(), outcome, began, account, ledger)
        if len(batch):
            yield batch
        began = time.perf_counter()
    if held:
        raise ReconciliationError(f"Step {name} gave no outcome for {sum(len(batch) for batch in held)} documents.")


def _booked(
    step: Step, name: str, number: int, before: Batch, outcome: Outcome, began: float, account: Account, ledger: Any
) -> Batch:
    """Check that the outcome adds up, write who left, note who was edited."""
    rows = outcome.left.column("row").to_numpy()
    whole = len(before) == len(outcome.batch) + len(rows)
    if (
        not whole
        or len(np.unique(rows)) != len(rows)
        or (len(rows) and not (0 <= rows.min() <= rows.max() < len(before)))
    ):
        raise ReconciliationError(
            f"Step {name}: {len(before)} documents came in, {len(outcome.batch)} go on and {len(rows)} left; "
            "every document must do exactly one of the two."
        )
    stay = np.ones(len(before), dtype=bool)
    stay[rows] = False
    # Only the ids are gathered here: this runs for every step and batch, and the texts are the bulk.
    if "id" not in outcome.batch.data.schema.names or not outcome.batch.ids.equals(before.ids.filter(pa.array(stay))):
        raise ReconciliationError(
            f"Step {name} gave other documents than those that it did not drop: ids and order must stay as they came."
        )
    account.step(number, name, step, before, outcome, began)
    if len(rows):
        ledger.write(left_rows(before, outcome.left, name))
    return note_edits(outcome.batch, outcome.edited, name)


def _process(step: Step, name: str, batch: Batch) -> Outcome:
    try:
        return step.process(batch)
    except Exception as error:
        raise _StepFailed(name, _culprit(step, batch), error) from error


def _culprit(step: Step, batch: Batch) -> str:
    """The id of the first document on which the step raises by itself, or the ids' range if none does alone."""
    for row in range(len(batch)):
        try:
            step.process(Batch(batch.data.slice(row, 1)))
        except Exception:
            return str(batch.ids[row].as_py())
    return f"between {batch.ids[0].as_py()} and {batch.ids[-1].as_py()}" if len(batch) else ""


def _map_part(job: PartJob) -> dict[str, Any]:
    folder = Path(job.folder)
    exchange = job.steps[0].build(job.files)
    partial = exchange.map(_read_part(job.parent))
    path = folder / f"partial-{job.part:05d}.arrow"
    _write_arrow(partial, path)
    manifest = {"part": job.part, "files": {"partial": file_entry(path, partial.num_rows)}}
    write_manifest(part_manifest(folder, job.part, "partial"), manifest)
    return manifest


def _reduce_parts(job: ReduceJob) -> dict[str, Any]:
    folder = Path(job.folder)
    exchange = job.step.build(job.files)
    state = exchange.reduce([_open_arrow(path) for path in job.partials])
    if len(state.parts) != len(job.partials):
        raise ReconciliationError(f"{job.step.name}: {len(job.partials)} parts in, {len(state.parts)} states out.")
    files = {}
    for number, table in enumerate(state.parts):
        path = folder / f"state-{number:05d}.arrow"
        _write_arrow(table, path)
        files[f"state-{number}"] = file_entry(path, table.num_rows)
    manifest = {"files": files, "summary": state.summary}
    write_manifest(folder / "state.json", manifest)
    return manifest


def _make_artifact(job: ArtifactJob) -> dict[str, Any]:
    folder = Path(job.folder)
    if folder.exists():
        shutil.rmtree(folder)  # what a killed attempt left must not be taken for a part of the artifact
    folder.mkdir(parents=True)
    artifact = job.spec.build()
    card = artifact.build([Path(path) for path in job.positives], [Path(path) for path in job.negatives], folder)
    files = {path.name: file_entry(path, 0) for path in sorted(folder.iterdir()) if path.name != "manifest.json"}
    manifest = {"name": job.spec.name, "kind": artifact.kind, "files": files, "card": card}
    write_manifest(folder / "manifest.json", manifest)
    return manifest


def _write_arrow(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _open_arrow(path: str) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(path)).read_all()
