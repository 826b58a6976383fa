"""MinHash deduplication as a whole job, Parquet in and out: time, memory and growth, against what users run today.

    PYTHONPATH=benchmarks/engine python benchmarks/dedup/whole_job.py ../shared/data/text
        [--documents 100000 1000000] [--rounds 3] [--work FOLDER] [--text-dedup PYTHON]

Documents are paragraphs of real text recombined by seed, about 2 kB each; a tenth are copies of earlier ones, a tenth
copies with 1 to 10% of their words replaced. Ours is `curate run` (fineweb's 14 x 8 over word 5-grams, exact
verification, ledger), one worker. Peers get files of 10,000 and 20,000 of these documents, and their rate is marginal,
start-up excluded: datatrove's four stages; scripts as a user would write them on rensa and on datasketch's LSH;
text-dedup's `minhash` under the given Python (it wants older libraries than ours). Seconds are of processors, children
included. Memory is the largest private memory of a worker. Writes whole_job.json.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SOURCES = ("books", "textbooks", "qa_stackexchange", "wiki_en", "docs_peps", "sci_abstracts")
DOCUMENT_CHARS = 2_000
FILE_DOCUMENTS = 10_000
REMEMBERED = 50_000
"""Documents that copies are made of: the last ones."""
PEER_DOCUMENTS = (10_000, 20_000)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "ARROW_IO_THREADS": "1", "RAYON_NUM_THREADS": "1"}
RECIPE = """name: deduplicated
source: {parquet: "%s/*.parquet"}
steps:
  - minhash: {preset: fineweb, verify: exact}
output: {parquet: "%s"}
"""


def paragraphs(texts: Path) -> list[str]:
    """Paragraphs of 80 characters or more of the sources."""
    found = []
    for source in SOURCES:
        for text in pq.read_table(texts / f"{source}.parquet", columns=["text"]).column("text").to_pylist():
            found += [paragraph for paragraph in text.split("\n\n") if len(paragraph) >= 80]
    return found


def documents(pool: list[str], seed: int) -> Iterator[str]:
    """Documents without end."""
    chance = random.Random(seed)
    last: deque[str] = deque(maxlen=REMEMBERED)
    while True:
        drawn = chance.random()
        if last and drawn < 0.2:
            text = last[chance.randrange(len(last))]
            if drawn < 0.1:
                words = text.split(" ")
                for _ in range(max(1, int(len(words) * chance.uniform(0.01, 0.1)))):
                    words[chance.randrange(len(words))] = words[chance.randrange(len(words))]
                text = " ".join(words)
        else:
            some, size = [], 0
            while size < DOCUMENT_CHARS:
                some.append(pool[chance.randrange(len(pool))][:DOCUMENT_CHARS])
                size += len(some[-1])
            text = "\n\n".join(some)
        last.append(text)
        yield text


def write_corpus(folder: Path, pool: list[str], count: int) -> int:
    """Files of FILE_DOCUMENTS; the bytes of text."""
    folder.mkdir()
    source, total = documents(pool, seed=0), 0
    for start in range(0, count, FILE_DOCUMENTS):
        rows = range(start, min(start + FILE_DOCUMENTS, count))
        texts = [next(source) for _ in rows]
        total += sum(len(text.encode()) for text in texts)
        table = pa.table({"id": [f"d{row:08}" for row in rows], "text": texts})
        pq.write_table(table, folder / f"{start:08}.parquet", compression="zstd", row_group_size=1_000)
    return total


def children_seconds() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(recipe: Path, work: Path) -> dict[str, float]:
    """One `curate run` from nothing."""
    from watch import watched_run

    before = children_seconds()
    run = watched_run(recipe, work / "stages", 1, ONE_THREAD)
    seconds = children_seconds() - before
    written = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    shutil.rmtree(work)
    return {
        "command_s": run.seconds,
        "cpu_s": seconds,
        "memory_mb": max(run.worker_mb, run.driver_mb),
        "written_mb": written / 1e6,
    }


def words_of(text: str) -> set[str]:
    """Word 5-grams as a user's script would cut them."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[place : place + 5]) for place in range(max(1, len(words) - 4))}


def by_lsh(files: list[Path], out: Path, lsh: Any, signature_of: Callable[[set[str]], Any]) -> None:
    """Keep each document whose signature finds none of those kept before it."""
    number = 0
    for file in files:
        table = pq.read_table(file)
        keep = []
        for text in table.column("text").to_pylist():
            signature = signature_of(words_of(text))
            keep.append(not lsh.query(signature))
            if keep[-1]:
                lsh.insert(number, signature)
            number += 1
        pq.write_table(table.filter(pa.array(keep)), out / file.name, compression="zstd")


def by_rensa(files: list[Path], out: Path) -> None:
    """rensa's RMinHash and RMinHashLSH, 112 permutations in 14 bands."""
    from rensa import RMinHash, RMinHashLSH

    def signature_of(grams: set[str]) -> RMinHash:
        signature = RMinHash(num_perm=112, seed=42)
        signature.update(list(grams))
        return signature

    by_lsh(files, out, RMinHashLSH(threshold=0.72, num_perm=112, num_bands=14), signature_of)


def by_datasketch(files: list[Path], out: Path) -> None:
    """datasketch's MinHash and MinHashLSH, 112 permutations in 14 bands of 8."""
    from datasketch import MinHash, MinHashLSH

    def signature_of(grams: set[str]) -> MinHash:
        signature = MinHash(num_perm=112)
        signature.update_batch([gram.encode() for gram in grams])
        return signature

    by_lsh(files, out, MinHashLSH(num_perm=112, params=(14, 8)), signature_of)


def by_datatrove(files: list[Path], out: Path) -> None:
    """datatrove's four stages in one process: signatures, buckets, clusters, filter."""
    import xxhash
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = minhash.MinhashConfig()
    folder = files[0].parent
    signature = minhash.MinhashDedupSignature(output_folder=str(out / "signatures"), config=config)
    signature._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())  # from xxhash 4 on, it takes no str
    stages: list[tuple[list[Any], int]] = [
        ([ParquetReader(str(folder)), signature], 1),
        ([minhash.MinhashDedupBuckets(str(out / "signatures"), str(out / "buckets"), config=config)], 14),
        ([minhash.MinhashDedupCluster(str(out / "buckets"), str(out / "remove"), config=config)], 1),
        (
            [
                ParquetReader(str(folder)),
                minhash.MinhashDedupFilter(str(out / "remove")),
                ParquetWriter(str(out / "kept"), compression="zstd"),
            ],
            1,
        ),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(out / "logs" / str(number))
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=logs, skip_completed=False).run()


PEERS = {
    "datatrove, four stages": by_datatrove,
    "script on rensa": by_rensa,
    "script on datasketch": by_datasketch,
}


def text_dedup_command(python: Path, folder: Path, out: Path) -> list[str]:
    """text-dedup's MinHash on the folder's files, one process, 14 bands of 8 over word 5-grams, its fast hash."""
    module = ["-m", "text_dedup.minhash", "--path", "parquet", "--data_files", str(folder / "*.parquet")]
    shape = ["--split", "train", "--column", "text", "--num_perm", "112", "--b", "14", "--r", "8", "--ngram", "5"]
    places = ["--output", str(out / "kept"), "--cache_dir", str(out / "cache"), "--hash_func", "xxh3"]
    return [str(python), *module, *shape, *places, "--num_proc", "1"]


def peer_seconds(command: list[str]) -> float:
    """Processor seconds of a command; raises SystemExit with what it said if it fails."""
    before = children_seconds()
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2_000:] + done.stderr[-4_000:])
    return children_seconds() - before


def marginal_rates(folder: Path, pool: list[str], text_dedup: Path | None) -> dict[str, float]:
    """MB a second of each peer on the second half of its documents."""
    corpora = {count: folder / f"peer-{count}" for count in PEER_DOCUMENTS}
    sizes = {count: write_corpus(place, pool, count) / 1e6 for count, place in corpora.items()}
    few, many = PEER_DOCUMENTS
    rates = {}
    for name in [*PEERS, *(["text-dedup"] if text_dedup else [])]:
        seconds = {}
        for count, corpus in corpora.items():
            out = folder / "peer-out"
            out.mkdir()
            command = [sys.executable, __file__, "--peer", name, str(corpus), str(out)]
            if name == "text-dedup" and text_dedup:
                command = text_dedup_command(text_dedup, corpus, out)
            seconds[count] = peer_seconds(command)
            shutil.rmtree(out)
        rates[name] = (sizes[many] - sizes[few]) / (seconds[many] - seconds[few])
        print(f"{name}: {rates[name]:.3f} MB/s ({seconds})", flush=True)
    return rates


def main() -> None:
    """Measure all in one run, print, and keep the result."""
    if sys.argv[1:2] == ["--peer"]:
        PEERS[sys.argv[2]](sorted(Path(sys.argv[3]).glob("*.parquet")), Path(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="where corpora and stages go (default: temporary)")
    parser.add_argument("--text-dedup", type=Path, default=None, help="a Python that has text-dedup")
    options = parser.parse_args()
    pool = paragraphs(options.texts)
    result: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "documents are of": SOURCES,
        "ours": {},
    }
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        sizes = {}
        for count in options.documents:
            sizes[count] = write_corpus(folder / str(count), pool, count) / 1e6
            (folder / f"{count}.yaml").write_text(RECIPE % (count, f"work-{count}/out"))
        runs: dict[int, list[dict[str, float]]] = {count: [] for count in options.documents}
        ours(folder / f"{options.documents[0]}.yaml", folder / f"work-{options.documents[0]}")  # compiles the kernels
        for _ in range(options.rounds):
            for count in options.documents:
                runs[count].append(ours(folder / f"{count}.yaml", folder / f"work-{count}"))
                print(count, runs[count][-1], flush=True)
        rates = marginal_rates(folder, pool, options.text_dedup)
    for count, seen in runs.items():
        middle = {key: statistics.median(run[key] for run in seen) for key in seen[0]}
        result["ours"][f"{count:,} documents"] = {
            "MB": round(sizes[count]),
            "MB/s, processor time": round(sizes[count] / middle["cpu_s"], 1),
            "MB/s, command": round(sizes[count] / middle["command_s"], 1),
            "processor seconds": round(middle["cpu_s"], 1),
            "memory of a worker, MB": round(middle["memory_mb"]),
            "written, MB": round(middle["written_mb"]),
        }
    largest = max(options.documents)
    fastest = sizes[largest] / statistics.median(run["cpu_s"] for run in runs[largest])
    result["peers, marginal MB/s"] = {peer: round(rate, 3) for peer, rate in rates.items()}
    result["ours against them"] = {peer: round(fastest / rate, 1) for peer, rate in rates.items()}
    if len(options.documents) > 1:
        few = min(options.documents)
        ratios = [more["cpu_s"] / less["cpu_s"] for more, less in zip(runs[largest], runs[few], strict=True)]
        result[f"{largest:,} against {few:,}"] = {"times the seconds, median": round(statistics.median(ratios), 2)}
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
