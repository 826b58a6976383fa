"""Dumps into an index and out of it: what a run already said of its parts is copied, nothing is computed again.

A dump's folder is made part by part (jobs with manifests, so that what was killed goes on), then `index.json` names
it: that is the moment when it is there. Of a recipe the stage of its deduplication gives partials, sorted runs and
fates; of Parquet files all documents count as kept, and only `map` is run. Costs one copy of the partials.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from curate.dedup.duplicates import Deduplication
from curate.dedup.index import Dump, Index, check_dump_name, load_index
from curate.engine.attached import DUMP_PART, check_dump
from curate.engine.dump_job import DumpJob, dump_part
from curate.engine.exchange import MapJob, exchange_jobs, map_part
from curate.engine.jobs import PartJob
from curate.engine.manifest import part_manifest, read_valid
from curate.engine.recipe import STEPS, Recipe, StepSpec, load_class
from curate.engine.resources import Resources
from curate.engine.run import Engine, part_jobs
from curate.errors import InputError, MismatchError
from curate.fingerprints import file_fingerprint, fingerprint
from curate.readers import list_files
from curate.rounds import scattered_tables
from curate.storage import Location, at, local_copy
from curate.writers import ParquetWriter

WITHDRAWN_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("dump", pa.string(), nullable=False),  # the dump that it was removed from
        pa.field("survivor", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Indexed:
    """A dump that is in an index now."""

    index: Index
    dump: Dump
    new: bool
    """False: it was there already, as it is."""

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Older dumps that it was not held against."""
        names = [dump.name for dump in self.index.dumps]
        return tuple(name for name in names[: names.index(self.dump.name)] if name not in self.dump.compared_with)


@dataclass(frozen=True)
class Withdrawn:
    """A dump that is in an index no more."""

    index: Index
    removed: dict[str, int]
    """Of each other dump, the documents that had left for one of its."""
    ids: Location | None
    """WITHDRAWN_SCHEMA, as Parquet, if there are any."""


@dataclass(frozen=True)
class _Shown:
    label: str
    folder_name: str
    resources: Resources


def index_recipe(
    recipe: Recipe, engine: Engine, *, to: Location | None = None, name: str | None = None, step: str | None = None
) -> Indexed:
    """Add what a recipe's deduplication knows to an index; stages that are not finished are run first.

    `to` and `name`: by default those of the step. Raises InputError where they, or the step, are not clear.
    """
    plan = engine.plan(recipe)
    found = [stage for stage in plan.stages if _deduplicates(stage.steps) and step in (None, stage.steps[0].name)]
    if len(found) != 1:
        names = ", ".join(stage.steps[0].name for stage in plan.stages if _deduplicates(stage.steps)) or "none"
        raise InputError(
            f"{recipe.path}: one step of minhash or exact is indexed, and it has {names}: name it (--step)."
        )
    (stage,) = found
    exchange: Deduplication = stage.steps[0].build()
    name, folder = _target(exchange, to, name)
    results, _ = engine.stages(plan, stage.lineage)
    parent = results[-2] if len(results) > 1 else None
    jobs, _ = exchange_jobs(
        stage,
        results[-1].folder,
        part_jobs(stage, parent, results[-1].folder, {}),
        lambda work, some, phase, take: engine.finish(work, some, stage, phase, take),
    )
    return _add(engine, folder, name, exchange, jobs, stage.fingerprint)


def index_parquet(
    patterns: Sequence[str], engine: Engine, *, to: Location, name: str, step: StepSpec | None = None
) -> Indexed:
    """Add documents that lie in Parquet files, a part each, all of them as kept.

    `step` says how they are compared; None: as the index does already.
    """
    index = load_index(to)
    spec = step or _step_of(index)
    exchange = spec.build()
    if not isinstance(exchange, Deduplication):
        raise InputError(f"The step {spec.name!r} does not deduplicate: an index is of minhash or exact.")
    files = [at(file.path) for file in list_files(list(patterns))]
    for path in files:
        _check_columns(path)
    source = fingerprint([exchange.made_with(), [file_fingerprint(path) for path in files]])
    folder = to / f".mapping-{source[:16]}"
    jobs = [
        PartJob(stage=f"index {name}", folder=str(folder), part=part, steps=(spec,), parent=str(path))
        for part, path in enumerate(files)
    ]
    if not all(job.finished() for job in _dump_jobs(to, name, jobs, source)):
        maps = [MapJob.of(job) for job in jobs]
        engine.finish(map_part, maps, _Shown(f"index {name}", folder.name, Resources()), "map", lambda manifest: None)
    indexed = _add(engine, to, name, exchange, jobs, source)
    _delete(folder)
    return indexed


def withdraw(folder: Location, name: str, *, ids: Location | None = None) -> Withdrawn:
    """Take a dump out of an index; `ids`: where the documents of other dumps go that had left for one of its.

    Raises InputError if there is no such dump.
    """
    index = load_index(folder)
    dump = index.dump(name)
    if dump is None:
        there = ", ".join(each.name for each in index.dumps) or "none"
        check_dump_name(name)
        if _delete(folder / name):
            raise InputError(f"{folder} has no dump {name!r}; what an interrupted command left of it is deleted.")
        raise InputError(f"{folder} has no dump {name!r}; it has {there}.")
    ids = ids or folder / f"withdrawn-{name}.parquet"
    counts = {other.name: sum(rows.num_rows for rows in _left_for(index, other, dump)) for other in index.dumps}
    removed = {other: count for other, count in counts.items() if count}
    if removed:
        with ParquetWriter(ids, WITHDRAWN_SCHEMA) as file:
            for other in index.dumps:
                for rows in _left_for(index, other, dump):
                    file.write(rows)
    index = index.save(index.made_with, [each for each in index.dumps if each.name != name])
    _delete(folder / dump.folder)
    return Withdrawn(index, removed, ids if removed else None)


def check_index(index: Index, *, verify: bool = False) -> None:
    """Raise MismatchError that names the first dump whose files are not there with their sizes (`verify`: hashes)."""
    for dump in index.dumps:
        found = [manifest["files"] for manifest in check_dump(index.stored(dump), verify=verify)]
        if _content(found) != dump.fingerprint:
            raise MismatchError(
                f"{index.folder}: the files of dump {dump.name!r} are whole, but not those that the index names: index "
                "it again, or withdraw it."
            )


def step_of_text(text: str) -> StepSpec:
    """A step as a recipe writes it: `minhash`, or `minhash: {preset: fineweb}`. Raises InputError."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--step {text!r} is no YAML ({str(error).splitlines()[0]}).") from error
    name, parameters = next(iter(given.items())) if isinstance(given, dict) and len(given) == 1 else (given, {})
    if name not in ("minhash", "exact") or not isinstance(parameters, dict | None):
        raise InputError(f"--step {text!r}: name minhash or exact, as in 'minhash: {{preset: fineweb}}'.")
    spec = StepSpec(name, STEPS[name], json.dumps(parameters or {}), "--step")
    try:
        spec.build()
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"--step {'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from error
    return spec


def _deduplicates(steps: Sequence[StepSpec]) -> bool:
    return any("against" in getattr(load_class(step.path), "artifact_fields", ()) for step in steps)


def _target(exchange: Deduplication, to: Location | None, name: str | None) -> tuple[str, Location]:
    """The dump's name and the index, as the command and the step say."""
    if exchange.dump and name and name != exchange.dump:
        raise InputError(f"The recipe calls this dump {exchange.dump!r}, and --dump {name!r}: give the same name.")
    if exchange.against and to and at(exchange.against).resolve() != to.resolve():
        raise InputError(
            f"The recipe was held against {exchange.against}, so that its survivors are there; {to} is another index."
        )
    name, to = name or exchange.dump, to or (at(exchange.against) if exchange.against else None)
    if name is None or to is None:
        raise InputError("Name the index with --to and the dump with --dump: the recipe does not say them.")
    check_dump_name(name)
    return name, to


def _step_of(index: Index) -> StepSpec:
    if not index.dumps:
        raise InputError(
            f"{index.folder} has no dumps yet, so how documents are compared is open: say it, as in "
            "--step 'minhash: {preset: fineweb}'."
        )
    parameters = {key: value for key, value in index.made_with.items() if key not in ("step", "version")}
    name = str(index.made_with["step"])
    return StepSpec(name, STEPS[name], json.dumps(parameters), str(index.folder))


def _check_columns(path: Path) -> None:
    try:
        names = pq.read_schema(local_copy(path)).names
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}).") from error
    if missing := {"id", "text"} - set(names):
        raise InputError(
            f"{path}: has no column {' and '.join(sorted(missing))} (it has {', '.join(names)}): run a recipe that "
            "reads it, and index that."
        )


def _dump_jobs(folder: Location, name: str, jobs: Sequence[PartJob], source: str) -> list[DumpJob]:
    return [
        DumpJob(stage=f"index {name}", folder=str(folder / name), part=job.part, of=job, parts=len(jobs), source=source)
        for job in jobs
    ]


def _add(
    engine: Engine, folder: Location, name: str, exchange: Deduplication, jobs: Sequence[PartJob], source: str
) -> Indexed:
    check_dump_name(name)
    index = load_index(folder)
    index.check_made_with(exchange.made_with())
    there = index.dump(name)
    if there and there.source != source:
        raise InputError(
            f"{folder} has a dump {name!r} that was made of other documents, or with other parameters: give this one "
            "another name, or withdraw that one first."
        )
    older = exchange.older()
    found: dict[int, dict[str, Any]] = {}
    shown = _Shown(f"index {name}", name, Resources())
    wanted = _dump_jobs(folder, name, jobs, source)
    engine.finish(dump_part, wanted, shown, "part", lambda manifest: found.update({manifest["part"]: manifest}))
    manifests = [found[number] for number in sorted(found)]
    dump = Dump(
        name=name,
        folder=name,
        parts=len(manifests),
        documents=sum(manifest["told"]["documents"] for manifest in manifests),
        bytes={table: _bytes(manifests, table) for table in scattered_tables(exchange)},
        fingerprint=_content([manifest["files"] for manifest in manifests]),
        compared_with=tuple(each.name for each in older),
        removed_for_older=sum(manifest["told"]["removed_for_older"] for manifest in manifests),
        source=source,
        all_bytes=sum(_bytes(manifests, name) for name in manifests[0]["files"]) if manifests else 0,
    )
    if there:
        if there.fingerprint != dump.fingerprint:
            raise MismatchError(f"{folder}: dump {name!r} was made again and is not as it was: withdraw it first.")
        return Indexed(index, there, new=False)
    _tidy(folder / name, manifests)
    index = load_index(folder)
    return Indexed(index.save(exchange.made_with(), [*index.dumps, dump]), dump, new=True)


def _bytes(manifests: Sequence[dict[str, Any]], table: str) -> int:
    return sum(int(manifest["files"][table]["bytes"]) for manifest in manifests)


def _content(files: Sequence[dict[str, Any]]) -> str:
    entries = [sorted([entry["name"], entry["bytes"], entry["hash"]] for entry in part.values()) for part in files]
    return fingerprint(entries)


def _tidy(folder: Location, manifests: Sequence[dict[str, Any]]) -> None:
    """Forget what an attempt with other parts left."""
    wanted = {entry["name"] for manifest in manifests for entry in manifest["files"].values()}
    wanted |= {part_manifest(folder, manifest["part"], DUMP_PART).name for manifest in manifests}
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink()


def _delete(folder: Location) -> bool:
    if not folder.is_dir():
        return False
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        for path in folder.iterdir():
            path.unlink()
    return True


def _left_for(index: Index, other: Dump, dump: Dump) -> Iterator[pa.RecordBatch]:
    """WITHDRAWN_SCHEMA of the documents of one dump that left for one of another."""
    folder = index.folder / other.folder
    for number in range(other.parts):
        manifest = read_valid(part_manifest(folder, number, DUMP_PART), ("files",))
        if manifest is None:
            raise MismatchError(f"{folder}: part {number} of dump {other.name!r} is damaged: index it again.")
        with (folder / manifest["files"]["removed"]["name"]).open("rb") as stream:
            for batch in pq.ParquetFile(stream, pre_buffer=False).iter_batches(use_threads=False):
                some = batch.filter(pc.equal(batch.column("content"), dump.fingerprint))
                names = pa.array([other.name] * some.num_rows, pa.string())
                columns = [some.column("id"), names, some.column("survivor")]
                yield pa.RecordBatch.from_arrays(columns, schema=WITHDRAWN_SCHEMA)
