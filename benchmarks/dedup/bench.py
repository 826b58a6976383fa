"""MinHash deduplication end to end, against datasketch's LSH and datatrove's signature stage on the same text.

    python benchmarks/dedup/bench.py --texts ../shared/data/text --megabytes 60 --out benchmarks/dedup/result.json

Texts are cut into pieces of about 4 kB, shuffled by seed; a fifth are copies with 0 to 10% of their words replaced.
Ours has text in Arrow and partials in memory-mapped files. Peers get Python strings that are already made, and fewer of
them, as they are slower by orders of magnitude: their rates are marginal, of the second half of their share.
CPU seconds of one process, one thread where libraries allow it; MB = 10^6 bytes of UTF-8.
"""

import argparse
import json
import platform
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.exact import Exact
from curate.dedup.minhash import MinHash
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.steps import Exchange

SOURCES = ("textbooks", "books", "qa_stackexchange", "wiki_en")
PIECE_CHARS = 4_000
BATCH_ROWS = 1_000
PARTS = 8
T = TypeVar("T")


def pieces(texts: Path) -> Iterator[str]:
    """The texts of all sources in pieces that end at a line."""
    for source in SOURCES:
        for text in pq.read_table(texts / f"{source}.parquet", columns=["text"]).column("text").to_pylist():
            start = 0
            while start < len(text):
                end = text.find("\n", start + PIECE_CHARS) + 1 or len(text)
                if end - start >= 200:
                    yield text[start:end]
                start = end


def edited(rng: random.Random, text: str, share: float) -> str:
    """The text with a share of its words replaced by others of it."""
    words = text.split(" ")
    for place in range(len(words)):
        if rng.random() < share:
            words[place] = rng.choice(words)
    return " ".join(words)


def corpus(texts: Path, *, megabytes: float, seed: int) -> list[str]:
    """Pieces and copies of pieces of about `megabytes` in all, in random order."""
    rng = random.Random(seed)
    originals = list(pieces(texts))
    rng.shuffle(originals)
    made: list[str] = []
    size = 0.0
    while size < megabytes * 1e6:
        if made and rng.random() < 0.2:
            text = edited(rng, rng.choice(made), rng.choice((0.0, 0.01, 0.03, 0.1)))
        else:
            text = originals[len(made) % len(originals)]
            if len(made) >= len(originals):  # more than there is: the words of a piece in another order
                text = " ".join(rng.sample(words := text.split(" "), len(words)))
        made.append(text)
        size += len(text.encode())
    rng.shuffle(made)
    return made


def parts_of(texts: list[str]) -> list[list[Batch]]:
    """The texts as parts of batches."""
    bounds = np.linspace(0, len(texts), PARTS + 1).astype(int)
    parts = []
    for start, end in pairwise(bounds.tolist()):
        batches = []
        for low in range(start, end, BATCH_ROWS):
            held = texts[low : min(low + BATCH_ROWS, end)]
            rows = {
                name: pa.nulls(len(held), kind)
                for name, kind in zip(DOCUMENT_SCHEMA.names, DOCUMENT_SCHEMA.types, strict=True)
            }
            rows |= {"id": pa.array([f"d{low + i:08}" for i in range(len(held))]), "text": pa.array(held)}
            batches.append(Batch(pa.RecordBatch.from_arrays(list(rows.values()), schema=DOCUMENT_SCHEMA)))
        parts.append(batches)
    return parts


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def exchange(step: Exchange, texts: list[str], megabytes: float, folder: Path) -> dict[str, object]:
    """Seconds and rates of map, reduce and apply."""
    tiny = parts_of(texts[:16])
    step.reduce([step.map(iter(part)) for part in tiny])  # compiles
    parts = parts_of(texts)
    for part in parts:
        for batch in part:
            batch.texts  # noqa: B018  text is in Arrow before the clock starts

    def mapped() -> list[pa.Table]:
        files = []
        for number, part in enumerate(parts):
            partial = step.map(iter([Batch(batch.data) for batch in part]))
            with pa.ipc.new_file(folder / f"{number}.arrow", partial.schema) as writer:
                writer.write_table(partial)
            files.append(pa.ipc.open_file(pa.memory_map(str(folder / f"{number}.arrow"))).read_all())
        return files

    map_seconds, partials = timed(mapped)
    reduce_seconds, state = timed(lambda: step.reduce(partials))
    apply_seconds, _ = timed(
        lambda: [list(step.apply(iter(part), told)) for part, told in zip(parts, state.parts, strict=True)]
    )
    shown = (
        "documents",
        "distinct_documents",
        "clusters",
        "removed",
        "compared_pairs",
        "linked_pairs",
        "skipped_pairs",
    )
    return {
        "map_MB_per_s": megabytes / map_seconds,
        "reduce_seconds": reduce_seconds,
        "reduce_documents_per_s": len(texts) / reduce_seconds,
        "apply_MB_per_s": megabytes / apply_seconds,
        "whole_MB_per_s": megabytes / (map_seconds + reduce_seconds + apply_seconds),
        "partials_MB": sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        "summary": {name: state.summary[name] for name in shown if name in state.summary},
    }


def marginal(work: Callable[[list[str]], object], texts: list[str]) -> float:
    """MB a CPU second of the second half of `texts`, after the first has been done."""
    half = len(texts) // 2
    work(texts[:half])
    seconds, _ = timed(lambda: work(texts[half:]))
    return sum(len(text.encode()) for text in texts[half:]) / 1e6 / seconds


def datasketch_lsh() -> Callable[[list[str]], object]:
    """Words by a regular expression, 112 minima, query and insert: what a user would write."""
    import datasketch

    lsh = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
    words, numbers = re.compile(r"\w+"), count()

    def work(texts: list[str]) -> int:
        found = 0
        for text in texts:
            number = next(numbers)
            tokens = words.findall(text.lower())
            signature = datasketch.MinHash(num_perm=112)
            signature.update_batch({" ".join(tokens[i : i + 5]).encode() for i in range(len(tokens) - 4)})
            found += bool(lsh.query(signature))
            lsh.insert(number, signature)
        return found

    return work


def datatrove_signatures(folder: Path) -> Callable[[list[str]], object]:
    """datatrove's first stage of four, with its defaults: word 5-grams, 14 buckets of 8."""
    import xxhash
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    step = MinhashDedupSignature(output_folder=str(folder), config=MinhashConfig())
    step._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())  # from xxhash 4 on, it takes no str

    def work(texts: list[str]) -> None:
        step.run(Document(text=text, id=str(number)) for number, text in enumerate(texts))

    return work


def main() -> None:
    """Run all, print and store the figures."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, default=here.parents[2] / ".." / "shared" / "data" / "text")
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--peer-megabytes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=here.parent / "result.json")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    texts = corpus(options.texts, megabytes=options.megabytes, seed=options.seed)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    share = texts[: max(2, int(len(texts) * options.peer_megabytes / megabytes))]
    result: dict[str, object] = {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "corpus": {"documents": len(texts), "megabytes": megabytes, "seed": options.seed, "sources": SOURCES},
    }
    steps = {
        "minhash fineweb, exact": MinHash(preset="fineweb", keep="longest"),
        "minhash fineweb, estimated": MinHash(preset="fineweb", keep="longest", verify="estimated"),
        "exact": Exact(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, step) in enumerate(steps.items()):
            held = Path(folder) / str(number)
            held.mkdir()
            result[name] = exchange(step, texts, megabytes, held)
            print(name, json.dumps(result[name], indent=1), flush=True)
        result["peak_memory_MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        peers = {
            "datasketch MinHash + LSH": datasketch_lsh(),
            "datatrove signatures": datatrove_signatures(Path(folder)),
        }
        for name, work in peers.items():
            result[name] = {"MB_per_s": marginal(work, share)}
            print(name, result[name], flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
