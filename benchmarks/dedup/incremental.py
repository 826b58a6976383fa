"""Dumps against an index, one after the other, beside one run over all of them: CPU, memory of tasks, bytes.

    python benchmarks/dedup/incremental.py --documents 1000000 --dumps 10

Documents are drawn as in exchange.py (signatures without texts; ids ascend over the dumps, so that `keep: first`
prefers the older dump). Each job runs in a process of its own, in rounds on files. How many documents leave in both
ways stands side by side.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import exchange as drawn
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.index import load_index
from curate.engine import exchange as exchanging
from curate.engine.exchange import exchange_jobs
from curate.engine.indexing import _add
from curate.engine.jobs import PartJob
from curate.engine.recipe import StepSpec

METHODS = {
    "minhash, similar to the survivor": {"require_similar_to_survivor": True},
    "minhash, chains": {"require_similar_to_survivor": False},
}


class Engine:
    """What indexing asks of an engine."""

    def __init__(self, finish: drawn.Alone) -> None:
        self._finish = finish

    def finish(self, work: Any, jobs: Any, stage: Any, phase: str, take: Any) -> None:
        """Jobs, each in a process of its own."""
        self._finish(work, jobs, phase, take)


def ran(parents: list[str], folder: Path, parameters: dict[str, Any]) -> tuple[Any, Any, dict[str, Any], drawn.Alone]:
    """Map and rounds of one corpus."""
    spec = StepSpec("minhash", "exchange:DrawnMinHash", json.dumps(parameters), "benchmark")
    folder.mkdir()
    jobs = [
        PartJob(stage="minhash", folder=str(folder), part=part, steps=(spec,), parent=parent)
        for part, parent in enumerate(parents)
    ]
    finish = drawn.Alone()
    applied, summary = exchange_jobs(type("Stage", (), {"label": "", "steps": (spec,)})(), folder, jobs, finish)
    return spec.build(), applied, summary, finish


def told(finish: drawn.Alone, removed: int) -> dict[str, Any]:
    """CPU seconds of signatures and of the rest, and the largest task."""
    rest = sum(seconds for kind, seconds in finish.seconds.items() if kind not in ("partial", "dump"))
    return {
        "removed": removed,
        "map_cpu_seconds": round(finish.seconds["partial"], 2),
        "rounds_cpu_seconds": round(rest, 2),
        "index_cpu_seconds": round(finish.seconds.get("dump", 0.0), 2),
        "largest_round_peak_MB": round(max(p for kind, p in finish.own.items() if kind not in ("partial", "dump"))),
        "buckets_peak_MB": round(finish.own["round-buckets"]),
    }


def measured(parents: list[list[str]], parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Dump by dump, then all at once."""
    common = {"preset": "fineweb", "verify": "estimated", "keep": "first", **parameters}
    folder.mkdir()
    index, dumps = folder / "index", []
    index.mkdir()
    for number, own in enumerate(parents):
        name = f"d{number}"
        step, applied, summary, finish = ran(own, folder / name, {**common, "against": str(index), "dump": name})
        _add(Engine(finish), index, name, step, applied, name)  # type: ignore[arg-type]
        dumps.append(told(finish, summary["removed"]))
        print(name, dumps[-1], flush=True)
    _, _, summary, finish = ran([path for own in parents for path in own], folder / "all", common)
    held = load_index(index)
    return {
        "dumps": dumps,
        "all at once": told(finish, summary["removed"]),
        "removed one by one": sum(dump["removed"] for dump in dumps),
        "index_bytes_a_document": round(
            sum(dump.all_bytes for dump in held.dumps) / sum(dump.documents for dump in held.dumps), 1
        ),
        "documents_in_index": sum(dump.documents for dump in held.dumps),
    }


def main() -> None:
    """Run all, print and store the figures."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dumps", type=int, default=10)
    parser.add_argument("--parts", type=int, default=2, help="of a dump")
    parser.add_argument("--range-megabytes", type=int, default=32)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=here.parent / "incremental.json")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    exchanging.WHOLE_BYTES, exchanging.RANGE_BYTES = -1, options.range_megabytes << 20
    result: dict[str, Any] = {
        "documents": options.documents,
        "dumps": options.dumps,
        "parts": options.parts,
        "range_MB": options.range_megabytes,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start",
        "versions": {name: version(name) for name in ("numpy", "pyarrow")},
    }
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        parts = options.dumps * options.parts
        parents: list[list[str]] = [[] for _ in range(options.dumps)]
        for part in range(parts):
            low, high = (options.documents * edge // parts for edge in (part, part + 1))
            path = str(Path(name) / f"{part}.parquet")
            pq.write_table(pa.table({"id": pa.array([f"{number:016d}" for number in range(low, high)])}), path)
            parents[part // options.parts].append(path)
        drawn.warm("minhash fineweb")
        for number, (method, parameters) in enumerate(METHODS.items()):
            result[method] = measured(parents, parameters, Path(name) / str(number))
            print(method, json.dumps(result[method], indent=1), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
