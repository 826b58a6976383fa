"""MinHash signatures, 112 minima over word 5-grams, against rensa, datasketch and datatrove, in the same run.

    python benchmarks/dedup/signatures.py --texts ../shared/data/text --out benchmarks/dedup/signatures.json

The text is that of the prototypes (facts/kernels.md): books, textbooks, questions and Wikipedia in documents of about
4 kB, shuffled by seed; ours has it in Arrow, normalisation included. Peers get Python strings, and fewer, as they
are slower: `words given` leaves cutting and lower-casing out and times what joins and hashes n-grams; `from text` is
what a user would write. All take turns, so that what else the machine does falls on all of them; the best turn counts.
CPU seconds of one thread; MB = 10^6 bytes of UTF-8. `--prototypes` times the throw-away sketch in the same turns.
"""

import argparse
import json
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.minhash import MinHash
from curate.documents import Batch
from curate.kernels.minhash import HashFunctions, Scheme, sketches
from curate.kernels.shingles import Unit

SOURCES = ("textbooks", "books", "qa_stackexchange", "wiki_en")
PIECE_CHARS = 4_000
BATCH_ROWS = 2_000
MINIMA, NGRAM = 112, 5
WORD = re.compile(r"\w+")
BARS = {"rensa": 6.0, "datasketch": 40.0, "datatrove": 300.0}
"""How many times faster ours has to be."""


def documents(folder: Path, *, megabytes: float, seed: int) -> list[str]:
    """Pieces of the texts that end at a line, in random order, up to a size."""
    pieces = []
    for source in SOURCES:
        for text in pq.read_table(folder / f"{source}.parquet", columns=["text"])["text"].to_pylist():
            start = 0
            while start < len(text):
                end = text.find("\n", start + PIECE_CHARS, start + PIECE_CHARS + 1500) + 1 or start + PIECE_CHARS
                if end - start >= 200:
                    pieces.append(text[start:end])
                start = end
    random.Random(seed).shuffle(pieces)
    return first(pieces, megabytes)


def first(texts: list[str], megabytes: float) -> list[str]:
    """Texts from the beginning, of about a size."""
    ends = np.cumsum([len(text.encode()) for text in texts])
    return texts[: int(np.searchsorted(ends, megabytes * 1e6)) + 1]


def ours(batches: list[pa.Array]) -> dict[str, Callable[[], object]]:
    """The kernel, then the whole map of the step: ids, hashes and bands too, as a table."""

    def kernel(
        minima: int, *, scheme: Scheme = "affine32", sets: bool = False, unit: Unit = "words", n: int = NGRAM
    ) -> Callable[[], object]:
        functions = HashFunctions.of(minima, seed=1, scheme=scheme)
        return lambda: [sketches(batch, n, unit=unit, functions=functions, sets=sets).sizes for batch in batches]

    # Ids are there before the clock starts.
    held = [pa.array([f"d{i}" for i in range(len(batch))]) for batch in batches]
    rows = [
        pa.RecordBatch.from_arrays([ids, batch], names=["id", "text"]) for ids, batch in zip(held, batches, strict=True)
    ]

    def mapped(verify: Literal["exact", "estimated"]) -> Callable[[], object]:
        step = MinHash(preset="fineweb", verify=verify)
        return lambda: [step.map(iter([Batch(batch)])).num_rows for batch in rows]

    return {
        "ours": kernel(MINIMA),
        "ours, 260 minima": kernel(260),
        "ours, with sets of shingles": kernel(MINIMA, sets=True),
        "ours, legacy (mod 2^61-1)": kernel(MINIMA, scheme="legacy"),
        "ours, 260 minima of 24 characters": kernel(260, unit="characters", n=24),
        "ours, map, estimated": mapped("estimated"),
        "ours, map, exact": mapped("exact"),
    }


def ngrams(words: list[str]) -> list[str]:
    """Word n-grams as text."""
    return [" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))]


def words_of(text: str) -> list[str]:
    """Lower-case words by a regular expression."""
    return WORD.findall(text.lower())


def of_rensa(words: list[str]) -> object:
    """A signature by rensa's R-MinHash."""
    from rensa import RMinHash  # type: ignore[import-untyped]

    sketch = RMinHash(num_perm=MINIMA, seed=42)
    sketch.update(ngrams(words))
    return sketch.digest()


def of_datasketch(words: list[str]) -> object:
    """A signature by datasketch."""
    from datasketch import MinHash

    sketch = MinHash(num_perm=MINIMA)
    sketch.update_batch([ngram.encode() for ngram in ngrams(words)])
    return sketch.hashvalues


def of_datatrove() -> Callable[[str], object]:
    """datatrove's shingles and signature of 14 x 8 minima, splitter and normalisation included."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))  # xxhash from version 4 on takes no str
    step = MinhashDedupSignature(tempfile.gettempdir(), config=config)
    step.get_signature(step.get_shingles("One text of more than five words that loads the splitter."))
    return lambda text: step.get_signature(step.get_shingles(text))


def peers(share: Callable[[float], list[str]]) -> Iterator[tuple[str, list[str], Callable[[], object]]]:
    """Name, texts, work."""
    for name, work, megabytes in (("rensa", of_rensa, 10.0), ("datasketch", of_datasketch, 2.0)):
        own = share(megabytes)
        given = [words_of(text) for text in own]
        yield f"{name}, words given", own, partial(each, work, given)
        yield f"{name}, from text", own, partial(each, partial(from_text, work), own)
    own = share(0.3)
    yield "datatrove, from text", own, partial(each, of_datatrove(), own)


def from_text(work: Callable[[list[str]], object], text: str) -> object:
    """The work on a text's words."""
    return work(words_of(text))


def each(work: Callable[[Any], object], items: list[Any]) -> None:
    """Do the work for each item."""
    for item in items:
        work(item)


def prototype(folder: Path, batches: list[pa.Array]) -> Callable[[], object]:
    """The sketch of facts/kernels.md, without normalisation."""
    sys.path.insert(0, str(folder))
    import mh  # type: ignore[import-not-found]

    rng, table = np.random.default_rng(0), mh.table()
    a = (rng.integers(1, 2**32, MINIMA, dtype=np.uint64) | 1).astype(np.uint32)
    b = rng.integers(0, 2**32, MINIMA, dtype=np.uint64).astype(np.uint32)
    held = []
    for batch in batches:
        offsets = np.frombuffer(batch.buffers()[1], dtype=np.int32)[: len(batch) + 1].astype(np.int64)
        data = np.frombuffer(batch.buffers()[2], dtype=np.uint8)[: offsets[-1]]
        held.append(
            (np.concatenate([data, np.zeros(256, np.uint8)]), offsets, np.empty((len(batch), MINIMA), np.uint32))
        )
    return lambda: [mh.runmh(data, offsets, table, a, b, out, 1) for data, offsets, out in held]


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Time all, print and store the figures."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, default=here.parents[2] / ".." / "shared" / "data" / "text")
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prototypes", type=Path)
    parser.add_argument("--out", type=Path, default=here.parent / "signatures.json")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    texts = documents(options.texts, megabytes=options.megabytes, seed=options.seed)
    batches = [pa.array(texts[i : i + BATCH_ROWS], pa.string()) for i in range(0, len(texts), BATCH_ROWS)]
    whole = sum(len(text.encode()) for text in texts) / 1e6
    jobs = {name: (whole, work) for name, work in ours(batches).items()}
    if options.prototypes:
        jobs["prototype, no normalisation"] = (whole, prototype(options.prototypes, batches))
    for name, own, work in peers(lambda megabytes: first(texts, megabytes)):
        jobs[name] = (sum(len(text.encode()) for text in own) / 1e6, work)
    for _, work in jobs.values():
        work()  # compiles, loads
    best = dict.fromkeys(jobs, float("inf"))
    load = [os.getloadavg()[0]]
    for _ in range(options.turns):
        for name, (_, work) in jobs.items():
            best[name] = min(best[name], seconds(work))
        load.append(os.getloadavg()[0])
    rates = {name: megabytes / best[name] for name, (megabytes, _) in jobs.items()}
    times = {name: rates["ours"] / rates[name] for name in rates if not name.startswith("ours")}
    # A bar holds against the faster of a peer's two ways.
    bars = {peer: min(times[name] for name in times if name.startswith(peer)) >= bar for peer, bar in BARS.items()}
    result = {
        "what": f"{MINIMA} minima over word {NGRAM}-grams, MB a CPU second, one thread",
        "documents": len(texts),
        "megabytes": whole,
        "seed": options.seed,
        "turns": options.turns,
        "load": load,
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
        "versions": {name: version(name) for name in ("numba", "numpy", "rensa", "datasketch", "datatrove")},
        "MB_per_s": rates,
        "ours_is_faster_by": times,
        "bars_met": bars,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
