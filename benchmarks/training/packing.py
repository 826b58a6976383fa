"""MB of text a second from Parquet to a packed, shuffled file of tokens, against datatrove's DocumentTokenizer.

    python -m benchmarks.training.packing --out benchmarks/training/packing.json

Real text (../shared/data/text), two tokenizers: GPT-NeoX-20B's and one of 4,096 entries trained here. Ours in one
process (whose library uses all cores) and in one process a core; datatrove's with one task a core, shuffled, in one
pass, its library limited to one thread a task, as it is run. Each way runs alone in a fresh process, in turns; the best
counts, start-up included. The bytes of our files are equal whatever the processes.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from curate.fingerprints import file_fingerprint
from curate.proxy_training.tokens.spool import token_dtype
from curate.proxy_training.tokens.tokenizer import load_tokenizer, vocabulary_size

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
SOURCES = ("textbooks", "docs_peps", "news_reuters", "qa_stackexchange")
CORES = len(os.sched_getaffinity(0))
WAYS = ("ours, 1 process", f"ours, {CORES} processes", f"datatrove, {CORES} tasks")


def make_input(folder: Path) -> float:
    """Parts of equal kind in `folder`, twice as many as cores; returns their MB of text."""
    folder.mkdir(parents=True)
    table = pq.ParquetDataset([DATA / "text" / f"{name}.parquet" for name in SOURCES]).read(["id", "text"])
    parts = 2 * CORES
    for number in range(parts):
        pq.write_table(table.take(list(range(number, table.num_rows, parts))), folder / f"{number}.parquet")
    return sum(len(text.encode()) for text in table["text"].to_pylist()) / 1e6


def pack(way: str, folder: Path, tokenizer: Path, out: Path) -> None:
    """One way, in this process."""
    if way.startswith("ours"):
        from curate.proxy_training.packing import pack_dataset
        from curate.proxy_training.tokens import spool

        spool.PARALLEL_BYTES = 0  # the input is as small as a benchmark can afford
        parts = sorted(folder.glob("*.parquet"))
        pack_dataset(
            parts, name="d", fingerprint="f", tokenizer=tokenizer, out=out, workers=int(way.split(", ")[1].split()[0])
        )
        return
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    steps = [
        ParquetReader(str(folder), text_key="text", id_key="id"),
        DocumentTokenizer(str(out), str(tokenizer), eos_token="<|endoftext|>", shuffle_documents=True),
    ]
    LocalPipelineExecutor(steps, tasks=CORES, workers=CORES, logging_dir=str(out / "logs")).run()


def measure(way: str, folder: Path, tokenizer: Path, out: Path) -> dict:
    """Seconds of one way in a fresh process, and the tokens that it made."""
    began = time.perf_counter()
    words = ["--way", way, "--input", str(folder), "--tokenizer", str(tokenizer), "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.training.packing", *words]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[2])
    found: dict = {"seconds": time.perf_counter() - began}
    itemsize = token_dtype(vocabulary_size(load_tokenizer(tokenizer))).itemsize
    if way.startswith("ours"):
        found["content"] = file_fingerprint(out / "tokens.bin")
    files = [out / "tokens.bin"] if way.startswith("ours") else list(out.glob("*.ds"))
    found["tokens"] = sum(file.stat().st_size for file in files) // itemsize
    shutil.rmtree(out)
    return found


def main() -> None:
    import tokenizers

    import curate
    from curate.proxy_training.tokens.tokenizer import train_tokenizer
    from curate.proxy_training.tokens.tokenizer_sources import settle_tokenizer

    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way")
    parser.add_argument("--input", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    options = parser.parse_args()
    if options.way:
        pack(options.way, options.input, options.tokenizer, options.out)
        return
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        megabytes = make_input(folder / "input")
        texts = (
            text for path in (folder / "input").iterdir() for text in pq.read_table(path)["text"].to_pylist()[:200]
        )
        train_tokenizer(texts, vocab_size=4096, path=folder / "small.json")
        neox = settle_tokenizer(str(DATA / "models" / "gpt-neox-20b_tokenizer.json.gz"), folder=folder)
        results: dict[str, dict] = {}
        for label, path in (("4,096 entries", folder / "small.json"), ("GPT-NeoX-20B", neox)):
            runs: dict[str, list[dict]] = {way: [] for way in WAYS}
            for _ in range(options.rounds):
                for way in WAYS:
                    runs[way].append(measure(way, folder / "input", path, folder / "out"))
            assert len({run["content"] for way in WAYS[:2] for run in runs[way]}) == 1
            results[label] = {
                way: {
                    "mb_per_second": round(megabytes / min(run["seconds"] for run in some), 2),
                    "tokens": some[0]["tokens"],
                }
                for way, some in runs.items()
            }
    facts = {
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "seed": 0,
        "megabytes_of_text": round(megabytes, 1),
        "rounds": options.rounds,
        "machine": f"{platform.machine()}, {CORES} cores",
        "load": {"before": [round(one, 1) for one in load], "after": [round(one, 1) for one in os.getloadavg()]},
        "versions": {"curate": curate.__version__, "tokenizers": tokenizers.__version__},
        "results": results,
    }
    options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
