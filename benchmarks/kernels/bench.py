"""Kernels against `regex`, datatrove and datasketch, on the same texts in the same run.

    python benchmarks/kernels/bench.py TEXT.parquet... --megabytes 10 --out benchmarks/kernels/result.json

`--prototypes FOLDER` adds the segmentation of a folder that has `seg.py` (`table`, `segall`): words and hashes of each
text, written over those of the text before.

Files need a column `text`. Texts are cut into pieces of about 4 kB, shuffled by seed, in batches of 1,000. Ours has
them in Arrow and takes the best of five passes, after one that compiles or loads the compiled code; peers get Python
strings, and one pass over fewer of them, as they are slower by orders of magnitude; what they set up (models, seeds)
is not counted. What a batch gives is let go before the next one, as in a run: kept, each batch would cost fresh pages.
CPU seconds of one process with one thread; MB = 10^6 bytes of UTF-8.

result.json is of English books, textbooks, questions and Wikipedia; result_web.json of English web pages (their
hand-checked main texts, as engine/pipeline.json), result_french.json of French Wikipedia; all with `--prototypes`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = time.perf_counter()
from curate.kernels import minhash, quality  # noqa: E402  timed
from curate.kernels.hashing import hash128_strings  # noqa: E402
from curate.kernels.strings import string_buffers  # noqa: E402
from curate.kernels.text_index import TextIndex  # noqa: E402
from curate.kernels.words import find_words  # noqa: E402

IMPORT_SECONDS = time.perf_counter() - START

Item = TypeVar("Item")
PIECE_CHARS = 4_000
BATCH_ROWS = 1_000
PASSES = 5
MINIMA = 112
N_GRAM = 5
FAMILIES: dict[str, Callable[[TextIndex], object]] = {
    "Gopher quality": quality.gopher_quality,
    "Gopher repetition": quality.gopher_repetition,
    "C4 edit": quality.c4_lines,
    "FineWeb's own": quality.fineweb_quality,
}


def pieces(files: list[Path], *, megabytes: float, seed: int) -> list[str]:
    """Pieces of the texts that end at a line, in random order, up to a size."""
    found = []
    for file in files:
        for text in pq.read_table(file, columns=["text"])["text"].to_pylist():
            start = 0
            while start < len(text):
                end = text.find("\n", start + PIECE_CHARS) + 1 or len(text)
                if end - start >= 200:
                    found.append(text[start:end])
                start = end
    random.Random(seed).shuffle(found)
    size, kept = 0.0, []
    for piece in found:
        if size >= megabytes * 1e6:
            break
        kept.append(piece)
        size += len(piece.encode())
    return kept


def seconds(work: Callable[[], object], *, passes: int = 1) -> float:
    """CPU seconds of the best pass."""
    best = float("inf")
    for _ in range(passes):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def each(items: Sequence[Item], work: Callable[[Item], object]) -> None:
    """Do the work for each item, and let its result go."""
    for item in items:
        work(item)


def ours(texts: list[str], megabytes: float) -> dict[str, float]:
    """MB/s of each kernel; what needs the words also with the index counted."""
    batches = [pa.array(texts[i : i + BATCH_ROWS]) for i in range(0, len(texts), BATCH_ROWS)]
    indexes = [TextIndex.of(batch) for batch in batches]
    functions = minhash.HashFunctions.of(MINIMA, seed=0)

    def families_of(index: TextIndex) -> None:
        for measure in FAMILIES.values():
            measure(index)

    def signatures_of(texts: pa.Array) -> object:
        return minhash.sketches(texts, N_GRAM, functions=functions)

    families_of(indexes[0])
    signatures_of(batches[0])
    hash128_strings(batches[0])
    work: dict[str, Callable[[], None]] = {
        "words": lambda: each(batches, lambda batch: find_words(*string_buffers(batch))),
        "index": lambda: each(batches, TextIndex.of),
        "index, four families": lambda: each(batches, lambda batch: families_of(TextIndex.of(batch))),
        f"MinHash {MINIMA}": lambda: each(batches, signatures_of),
        "128-bit hash": lambda: each(batches, hash128_strings),
    }
    for name, measure in FAMILIES.items():
        work[f"{name} of an index"] = lambda measure=measure: each(indexes, measure)  # type: ignore[misc]
    return {name: megabytes / seconds(run, passes=PASSES) for name, run in work.items()}


def prototype(folder: Path, texts: list[str], megabytes: float) -> float:
    """MB/s of a folder's segmentation."""
    sys.path.insert(0, str(folder))
    segmentation = importlib.import_module("seg")
    data, offsets = string_buffers(pa.array(texts))
    padded, table = np.concatenate([data, np.zeros(256, dtype=np.uint8)]), segmentation.table()
    counts, sums = np.empty(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.uint64)
    segmentation.segall(padded, offsets[:3], table, counts, sums)
    return megabytes / seconds(lambda: segmentation.segall(padded, offsets, table, counts, sums), passes=PASSES)


def peer_words(texts: list[str]) -> Callable[[], object]:
    """`regex` at word boundaries."""
    import regex

    split = regex.compile(r"(?wV1)\b").split
    return lambda: [[word for word in split(text) if word and not word.isspace()] for text in texts]


def peer_families(texts: list[str]) -> Callable[[], object]:
    """datatrove's four filters; each gets each text and cuts its words (the last five texts' are remembered)."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]

    def judge(text: str) -> list[object]:
        return [one.filter(Document(text=text, id="")) for one in filters]

    judge("One text that loads the splitter.\n" * 3)
    return lambda: [judge(text) for text in texts]


def peer_datatrove_minhash(texts: list[str]) -> Callable[[], object]:
    """datatrove's MinHash signatures: shingles of simplified text, 14 x 8 minima (with SHA-1: xxhash 4 fails)."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(
        n_grams=N_GRAM, num_buckets=14, hashes_per_bucket=MINIMA // 14, hash_config=HashConfig(hash_fc="sha1")
    )
    step = MinhashDedupSignature(tempfile.gettempdir(), config=config)
    step.get_signature(step.get_shingles("One text of more than five words that loads the splitter."))
    return lambda: [step.get_signature(step.get_shingles(text)) for text in texts]


def peer_datasketch(texts: list[str]) -> Callable[[], object]:
    """datasketch's MinHash of word n-grams cut at spaces."""
    from datasketch import MinHash

    def sketch(text: str) -> object:
        words = text.split()
        shingles = [" ".join(words[i : i + N_GRAM]).encode() for i in range(max(1, len(words) - N_GRAM + 1))]
        sketch = MinHash(MINIMA)
        sketch.update_batch(shingles)
        return sketch

    return lambda: [sketch(text) for text in texts]


PEERS: dict[str, tuple[str, str, float, Callable[[list[str]], Callable[[], object]]]] = {
    "regex": ("index", "regex", 2.0, peer_words),
    "datatrove, four filters": ("index, four families", "datatrove", 0.2, peer_families),
    "datatrove, MinHash": (f"MinHash {MINIMA}", "datatrove", 0.3, peer_datatrove_minhash),
    "datasketch, MinHash": (f"MinHash {MINIMA}", "datasketch", 2.0, peer_datasketch),
}
"""Name: what it is to be held against, its package, how many MB it gets, what makes the work."""


def first(texts: list[str], megabytes: float) -> list[str]:
    """Texts from the beginning, of about a size."""
    size, kept = 0.0, []
    for text in texts:
        if size >= megabytes * 1e6:
            break
        kept.append(text)
        size += len(text.encode())
    return kept


def processor() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prototypes", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    arguments = parser.parse_args()

    texts = pieces(arguments.files, megabytes=arguments.megabytes, seed=arguments.seed)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    rates = ours(texts, megabytes)
    result: dict[str, object] = {
        "machine": {
            "processor": processor(),
            "python": platform.python_version(),
            "load_average": round(os.getloadavg()[0], 1),
            "import_seconds": round(IMPORT_SECONDS, 2),
        },
        "versions": {name: version(name) for name in ("numba", "numpy", "pyarrow", "regex", "datatrove", "datasketch")},
        "texts": {
            "files": [file.name for file in arguments.files],
            "pieces": len(texts),
            "megabytes": round(megabytes, 2),
            "seed": arguments.seed,
        },
        "MB_per_s": {name: round(rate, 1) for name, rate in rates.items()},
    }
    print(f"{megabytes:.1f} MB in {len(texts)} pieces\n")
    for name, rate in rates.items():
        print(f"{name:32}{rate:10.1f} MB/s")
    if arguments.prototypes:
        rate = prototype(arguments.prototypes, texts, megabytes)
        result["prototype"] = {"MB_per_s": round(rate, 1), "words_against_it": round(rates["words"] / rate, 2)}
        print(f"{'prototype, words':32}{rate:10.1f} MB/s   ours is {rates['words'] / rate:.2f} of it")
    peers = {}
    for name, (against, _, share, make) in PEERS.items():
        some = first(texts, share)
        rate = sum(len(text.encode()) for text in some) / 1e6 / seconds(make(some))
        peers[name] = {
            "MB_per_s": float(f"{rate:.3g}"),
            "against": against,
            "times": float(f"{rates[against] / rate:.3g}"),
        }
        print(f"{name:32}{rate:10.2f} MB/s   {against} is {rates[against] / rate:,.0f} times as fast")
    result["peers"] = peers
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
