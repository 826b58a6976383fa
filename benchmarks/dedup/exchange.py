"""Exchanges on many documents without their texts: signatures, digests and scores are drawn by seed.

    python benchmarks/dedup/exchange.py --documents 1000000 --out benchmarks/dedup/exchange.json

A tenth of the documents are copies and a tenth near-copies of others. Each job runs in a process of its own, one after
the other; peaks are of memory that is its own (RssAnon, every 5 ms), and of all that it had mapped, both beyond what it
held at its start.
Rounds on files stand beside all rounds in one task. Bytes are those of the files, a document.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from own_process import Peak, forked, resident_mb
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from curate.dedup.corpus import SETTINGS, described_schema, fixed_binary, sums_of, with_best
from curate.dedup.exact import Exact
from curate.dedup.minhash import MinHash
from curate.documents import Batch
from curate.engine import exchange as exchanging
from curate.engine.exchange import exchange_jobs, open_state
from curate.engine.jobs import Failure, Job, PartJob
from curate.engine.recipe import StepSpec
from curate.filters.quality import PARTIAL_SCHEMA, Quality
from curate.kernels.minhash import band_keys
from curate.rounds import mixed
from curate.steps import STEP_CONFIG

MINIMA = 112


def numbers_of(batches: Iterator[Batch]) -> np.ndarray:
    """The documents' numbers, from their ids."""
    ids = [batch.ids.to_numpy(zero_copy_only=False).astype("U16") for batch in batches]
    return np.concatenate(ids).astype(np.uint64) if ids else np.empty(0, dtype=np.uint64)


def origins(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which document each is made of, and how many of its minima are its own: 0, a few, or all."""
    drawn = mixed(numbers + np.uint64(1)) % np.uint64(100)
    source = np.where(drawn < 20, mixed(numbers) % np.maximum(numbers, np.uint64(1)), numbers)
    own = np.where(drawn < 10, 0, np.where(drawn < 20, drawn - np.uint64(9), 0))
    return source, own.astype(np.int64)


def described_columns(numbers: np.ndarray, source: np.ndarray, own: np.ndarray) -> list[pa.Array]:
    """id, bytes, text_hash, digest."""
    drawn = mixed(source) ^ np.where(own > 0, mixed(numbers + np.uint64(1 << 50)), np.uint64(0))
    digest = np.stack([drawn, mixed(drawn + np.uint64(7))], axis=1)
    ids = pa.array([f"{number:016d}" for number in numbers.tolist()])
    return [ids, pa.array(3000 + (source % 1000).astype(np.int64)), pa.array(digest[:, 0]), fixed_binary(digest)]


@dataclass(kw_only=True, config=STEP_CONFIG)
class DrawnMinHash(MinHash):
    """MinHash on drawn signatures."""

    name: ClassVar[str] = "minhash"

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """A partial as of `verify: estimated`."""
        numbers = numbers_of(batches)
        source, own = origins(numbers)
        columns = np.arange(MINIMA, dtype=np.uint64)
        signed = np.empty((len(numbers), MINIMA), dtype=np.uint32)
        for low in range(0, len(numbers), 20_000):
            here = slice(low, low + 20_000)
            signed[here] = mixed(source[here, None] * np.uint64(MINIMA) + columns)
            fresh = mixed((numbers[here, None] + np.uint64(1 << 40)) * np.uint64(MINIMA) + columns)
            changed = (mixed(numbers)[here, None] + columns) % np.uint64(MINIMA) < own[here, None].astype(np.uint64)
            signed[here][changed] = fresh[changed].astype(np.uint32)
        keys = band_keys(signed, self.banding.bands, self.banding.rows)
        sizes = 400 + (source % np.uint64(100)).astype(np.int64)
        values = [*described_columns(numbers, source, own), pa.array(sizes)]
        values += [fixed_binary(signed), pa.array(sums_of(signed))]
        bands = [pa.array(np.ascontiguousarray(keys[:, band])) for band in range(keys.shape[1])]
        return with_best(pa.table([*values, *bands], schema=self._schema()), self.keep)


@dataclass(kw_only=True, config=STEP_CONFIG)
class DrawnExact(Exact):
    """Exact duplicates of drawn digests."""

    name: ClassVar[str] = "exact"

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """A partial."""
        numbers = numbers_of(batches)
        columns = described_columns(numbers, *origins(numbers))
        fields = [*described_schema(self.keep), pa.field("matched", pa.bool_(), nullable=False)]
        schema = pa.schema(fields, {SETTINGS: self.settings()})
        return with_best(pa.table([*columns, np.ones(len(numbers), dtype=bool)], schema=schema), self.keep)


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class DrawnQuality(Quality):
    """The top share of drawn scores, a third of them equal."""

    name: ClassVar[str] = "quality"

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """A partial."""
        numbers = numbers_of(batches)
        drawn = mixed(numbers)
        score = np.where(drawn % np.uint64(3) == 0, 0.9, np.round((drawn >> np.uint64(11)) / 2.0**53, 6))
        ids = pa.array([f"{number:016d}" for number in numbers.tolist()])
        return pa.table([ids, score, 3000 + (drawn % np.uint64(1000)).astype(np.int64)], schema=PARTIAL_SCHEMA)


STEPS = {
    "exact": ("DrawnExact", {"keep": "longest"}),
    "minhash fineweb": ("DrawnMinHash", {"preset": "fineweb", "keep": "longest", "verify": "estimated"}),
    "quality top 10%": ("DrawnQuality", {"model": "none", "keep": {"top": "10%"}}),
}


class Alone:
    """Runs each job in a process of its own and notes what it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.jobs: dict[str, int] = {}
        self.own: dict[str, float] = {}
        self.mapped: dict[str, float] = {}

    def __call__(self, work: Any, jobs: Sequence[Job], phase: str, take: exchanging.Take) -> None:
        for job in jobs:
            kind = Path(job.manifest).name.rsplit("-", 1)[0]
            result, own, mapped, seconds = in_process(work, job)
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
            self.jobs[kind] = self.jobs.get(kind, 0) + 1
            self.own[kind] = max(self.own.get(kind, 0.0), own)
            self.mapped[kind] = max(self.mapped.get(kind, 0.0), mapped)
            if isinstance(result, Failure):
                raise SystemExit(str(result))
            take(result)

    def figures(self) -> dict[str, Any]:
        """Seconds, jobs and the largest peak by kind of job."""
        return {
            kind: {
                "jobs": self.jobs[kind],
                "cpu_seconds": round(seconds, 2),
                "peak_MB": round(self.own[kind]),
                "with_mapped_MB": round(self.mapped[kind]),
            }
            for kind, seconds in self.seconds.items()
        }


def in_process(work: Any, job: Any) -> tuple[Any, float, float, float]:
    """The result of `work(job)` in a forked process; its peak memory beyond the start (MB: own, all), CPU seconds."""

    def watched() -> tuple[Any, float, float]:
        own, mapped = resident_mb()
        with Peak() as peak:
            result = work(job)
        return result, max(peak.megabytes - own, 0.0), mapped

    (result, own, before), usage = forked(job, watched)
    return result, own, usage.ru_maxrss * 1024 / 1e6 - before, usage.ru_utime + usage.ru_stime


def measured(name: str, parents: Sequence[str], documents: int, folder: Path, *, whole: bool) -> dict[str, Any]:
    """All of an exchange but the apply that writes documents."""
    kind, parameters = STEPS[name]
    exchanging.WHOLE_BYTES = 1 << 60 if whole else -1
    spec = StepSpec(name=name, path=f"exchange:{kind}", parameters=json.dumps(parameters), where="benchmark")
    folder.mkdir()
    jobs = [
        PartJob(stage=name, folder=str(folder), part=part, steps=(spec,), parent=parent)
        for part, parent in enumerate(parents)
    ]
    stage = type("Stage", (), {"label": name, "steps": (spec,)})()
    finish = Alone()
    applied, summary = exchange_jobs(stage, folder, jobs, finish)
    state, own, mapped, _ = in_process(lambda job: open_state(job).num_rows, applied[0])
    assert state == documents // len(parents)
    sizes: dict[str, float] = {}
    for path in folder.glob("*.arrow"):
        table = path.name.rsplit("-", 1)[0]
        sizes[table] = sizes.get(table, 0) + path.stat().st_size
    shown = ("documents", "clusters", "removed", "compared_pairs", "linked_pairs", "skipped_pairs", "kept_documents")
    reduce_seconds = sum(seconds for kind, seconds in finish.seconds.items() if kind != "partial")
    return {
        "jobs": finish.figures() | {"state": {"jobs": 1, "peak_MB": round(own), "with_mapped_MB": round(mapped)}},
        "reduce_cpu_seconds": round(reduce_seconds, 2),
        "largest_reduce_peak_MB": round(max(p for kind, p in finish.own.items() if kind != "partial")),
        "bytes_a_document": {table: round(size / documents, 1) for table, size in sorted(sizes.items())},
        "summary": {key: summary[key] for key in shown if key in summary},
    }


def warm(name: str) -> None:
    """Compile what the jobs call, so that their processes find it."""
    kind, parameters = STEPS[name]
    step = TypeAdapter(globals()[kind]).validate_python(parameters)
    ids = pa.array([f"{number:016d}" for number in range(2000)])
    partial = step.map(iter([Batch(pa.record_batch({"id": ids}))]))
    step.reduce([partial])


def main() -> None:
    """Run all, print and store the figures."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--range-megabytes", type=int, default=exchanging.RANGE_BYTES >> 20)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=here.parent / "exchange.json")
    options = parser.parse_args()
    sys.path.insert(0, str(here.parent))
    pa.set_cpu_count(1)
    exchanging.RANGE_BYTES = options.range_megabytes << 20
    result: dict[str, Any] = {
        "documents": options.documents,
        "parts": options.parts,
        "range_MB": options.range_megabytes,
    }
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        parents = []
        for part in range(options.parts):
            low, high = (options.documents * edge // options.parts for edge in (part, part + 1))
            parents.append(str(Path(name) / f"{part}.parquet"))
            ids = pa.array([f"{number:016d}" for number in range(low, high)])
            pq.write_table(pa.table({"id": ids}), parents[-1])
        for step in STEPS:
            warm(step)
            for whole in (False, True):
                how = "one task" if whole else "rounds"
                folder = Path(name) / f"{step}-{how}".replace(" ", "-").replace("%", "")
                figures = measured(step, parents, options.documents, folder, whole=whole)
                result.setdefault(step, {})[how] = figures
                print(step, how, json.dumps(figures, indent=1), flush=True)
            assert result[step]["rounds"]["summary"] == result[step]["one task"]["summary"]
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
