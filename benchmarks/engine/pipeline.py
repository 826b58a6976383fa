"""FineWeb's heuristics from Parquet to Parquet, with ledger: text per second of one core, time and memory by size.

    python benchmarks/engine/pipeline.py TEXT.parquet... [--megabytes 10 100 1000] [--rounds 3] [--work FOLDER]

Files need a column `text`: their documents, shuffled anew for each pass over them, make corpora of the sizes asked, in
Parquet files of 16 MB of text. Recipe: gopher_repetition, gopher_quality, c4 and fineweb as in pipelines/fineweb.yaml,
without extraction, language and what stands beside them. One worker; Arrow has one thread. Seconds are of the parts,
and of the whole command with the start of Python and its kernels (on the clock, and of processors); the floor is
reading and writing the same files (zstd level 3) and nothing else, in the same run. Writes pipeline.json.
"""

import argparse
import json
import os
import platform
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from watch import watched_run

FILE_BYTES = 16 << 20
RECIPE = """name: heuristics
source: {parquet: "%s/*.parquet"}
steps:
  - gopher_repetition
  - gopher_quality
  - c4: {terminal_punctuation: false}
  - fineweb: {duplicate_line_chars: 0.01}
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}


def documents(texts: list[str], seed: int) -> Iterator[str]:
    """The texts without end, shuffled anew each time."""
    chance = random.Random(seed)
    while True:
        yield from chance.sample(texts, len(texts))


def write_corpus(folder: Path, texts: list[str], megabytes: int) -> int:
    """Files of FILE_BYTES of text until there are so many megabytes; the bytes of text."""
    folder.mkdir()
    source, total, number = documents(texts, megabytes), 0, 0
    while total < megabytes * 1_000_000:
        some, size = [], 0
        while size < min(FILE_BYTES, megabytes * 1_000_000 - total):
            some.append(next(source))
            size += len(some[-1].encode())
        table = pa.table({"id": [f"{number}-{row}" for row in range(len(some))], "text": some})
        pq.write_table(table, folder / f"{number:04d}.parquet", compression="zstd", compression_level=3)
        total, number = total + size, number + 1
    return total


def floor(folder: Path, out: Path) -> float:
    """Processor seconds to read the files and write them again, batch by batch."""
    pa.set_cpu_count(1)
    out.mkdir()
    began = time.process_time()
    for path in sorted(folder.iterdir()):
        with (
            pq.ParquetFile(path, pre_buffer=False) as file,
            pq.ParquetWriter(out / path.name, file.schema_arrow, compression="zstd", compression_level=3) as writer,
        ):
            for batch in file.iter_batches(4096, use_threads=False):
                writer.write_batch(batch)
    seconds = time.process_time() - began
    shutil.rmtree(out)
    return seconds


def timed(recipe: Path, work: Path) -> dict[str, float]:
    """One `curate run` with one worker, from nothing: seconds of the command and of its parts, memory (MB), kept."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = watched_run(recipe, work, 1, ONE_THREAD)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    parts = [json.loads(path.read_text()) for path in work.rglob("part-*.json")]
    shutil.rmtree(work)
    return {
        "command_s": run.seconds,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "parts_s": sum(part["wall_seconds"] for part in parts),
        "memory_mb": max(run.worker_mb, run.driver_mb),
        "kept": sum(part["records_out"] for part in parts) / sum(part["records_in"] for part in parts),
    }


def main() -> None:
    """Measure all in one run, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="where corpora and stages go (default: temporary)")
    options = parser.parse_args()
    texts = [text for file in options.files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
    result: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "texts": {"files": [file.name for file in options.files], "documents": len(texts)},
        "sizes": {},
    }
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        sizes, recipes = {}, {}
        for megabytes in options.megabytes:
            sizes[megabytes] = write_corpus(folder / f"corpus-{megabytes}", texts, megabytes) / 1e6
            recipes[megabytes] = folder / f"heuristics-{megabytes}.yaml"
            recipes[megabytes].write_text(RECIPE % f"corpus-{megabytes}")
        timed(recipes[options.megabytes[0]], folder / "work")  # compiles the kernels
        runs: dict[int, list[dict[str, float]]] = {megabytes: [] for megabytes in options.megabytes}
        for _ in range(options.rounds):
            for megabytes in options.megabytes:
                runs[megabytes].append(timed(recipes[megabytes], folder / "work"))
        largest = max(options.megabytes)
        lowest = floor(folder / f"corpus-{largest}", folder / "floor")
    for megabytes, seen in runs.items():
        middle = {key: statistics.median(run[key] for run in seen) for key in seen[0]}
        result["sizes"][f"{megabytes} MB"] = {
            "MB/s, parts": round(sizes[megabytes] / middle["parts_s"], 1),
            "MB/s, processor time of the command": round(sizes[megabytes] / middle["cpu_s"], 1),
            "MB/s, command": round(sizes[megabytes] / middle["command_s"], 1),
            "ms per MB, parts": round(1000 * middle["parts_s"] / sizes[megabytes], 1),
            "memory of the worker, MB": round(middle["memory_mb"]),
            "kept": round(middle["kept"], 3),
        }
    result["floor, read and write, MB/s"] = round(sizes[largest] / lowest, 1)
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
