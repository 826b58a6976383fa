"""Does the engine keep its cores busy, and its memory flat? One worker against two; 100 MB of text against 2 GB.

    python benchmarks/engine/scaling.py [--megabytes 100 2000] [--pairs 3] [--work FOLDER]

Beside each pair, two runs of one worker at the same time: what the machine itself gives for a second core.

Text: paragraphs of the shipped sample recombined by seed, in Parquet. Recipe: the heuristics (Gopher, C4, FineWeb) with
exact deduplication, Parquet in and out. One and two workers run in turns, medians of the ratios. Memory: the largest
resident size (private pages) of the driver and of any worker, sampled ten times a second. Writes scaling.json.
"""

import argparse
import json
import platform
import random
import shutil
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from watch import watched_run

FILE_BYTES = 16 << 20
RECIPE = """name: heuristics
source: {parquet: "corpus-%d/*.parquet"}
steps:
  - gopher_repetition
  - gopher_quality
  - c4: {terminal_punctuation: false}
  - fineweb
  - exact
"""


def paragraphs(folder: Path) -> list[str]:
    """Paragraphs of the shipped sample's text."""
    from curate.engine.executors import executor_for
    from curate.engine.recipe import load_recipe
    from curate.engine.run import Engine
    from curate.sample import study

    executor = executor_for(2)
    recipe = load_recipe(study().parent / "raw.yaml")
    dataset = Engine(folder / "sample", executor).run(recipe)
    executor.close()
    texts = (text for part in dataset.parts for text in pq.read_table(part, columns=["text"])["text"].to_pylist())
    return [line for text in texts for line in text.split("\n") if len(line) > 200]


def write_corpus(folder: Path, lines: list[str], megabytes: int) -> None:
    """Files of FILE_BYTES of text, documents of 4 to 40 paragraphs, different for each seed."""
    folder.mkdir(parents=True)
    for number in range(max(1, megabytes * 1_000_000 // FILE_BYTES)):
        chance, texts, size = random.Random(number), [], 0
        while size < FILE_BYTES:
            texts.append("\n".join(chance.choices(lines, k=chance.randint(4, 40))))
            size += len(texts[-1].encode())
        ids = [f"{number}-{row}" for row in range(len(texts))]
        pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"{number:04d}.parquet", compression="zstd")


def at_once(recipe: Path, work: Path) -> float:
    """Wall seconds of two runs of one worker at the same time, each of the whole corpus."""
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(timed, recipe, work.with_name(f"{work.name}-{name}"), 1) for name in "ab"]
        return max(run.result()["seconds"] for run in runs)


def timed(recipe: Path, work: Path, workers: int) -> dict[str, float]:
    """Wall seconds and largest memory (MB) of one `curate run`, from nothing."""
    shutil.rmtree(work, ignore_errors=True)
    run = watched_run(recipe, work, workers)
    shutil.rmtree(work)
    return {"seconds": run.seconds, "driver_mb": run.driver_mb, "worker_mb": run.worker_mb}


def main() -> None:
    """Measure all in one run, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs=2, default=[100, 2000])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="where corpora and stages go (default: temporary)")
    options = parser.parse_args()
    small, large = options.megabytes
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        lines = paragraphs(folder)
        recipes = {}
        for size in (small, large):
            write_corpus(folder / f"corpus-{size}", lines, size)
            recipes[size] = folder / f"heuristics-{size}.yaml"
            recipes[size].write_text(RECIPE % size)
        timed(recipes[small], folder / "work", 2)  # compiles the kernels and fills the page cache
        pairs, limits = [], []
        for _ in range(options.pairs):
            pairs.append([timed(recipes[large], folder / "work", workers) for workers in (1, 2)])
            limits.append(2 * pairs[-1][0]["seconds"] / at_once(recipes[large], folder / "work"))
        flat = {size: timed(recipes[size], folder / "work", 2) for size in (small, large)}
    ratios = [one["seconds"] / two["seconds"] for one, two in pairs]
    result: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "seconds, one and two workers": [[round(run["seconds"], 1) for run in pair] for pair in pairs],
        "one worker / two workers": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "two runs of one worker at once / one after the other": [round(limit, 2) for limit in limits],
        "MB/s, two workers": round(large / statistics.median(two["seconds"] for _, two in pairs), 1),
        "memory, MB": {
            f"{size} MB": {name: round(run[name]) for name in run if name != "seconds"} for size, run in flat.items()
        },
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
