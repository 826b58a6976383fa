"""The Bloom filter: how often it is wrong, and its speed, beside `rbloom` fed the same n-grams.

    python benchmarks/dedup/bloom.py --texts ../shared/data/text --megabytes 50 --out benchmarks/dedup/bloom.json

Documents are real ones in an order drawn by seed; a fifth get paragraphs of earlier ones. CPU seconds of one process,
best of three in turn; text is in Arrow before the clock starts, rbloom's n-grams are Python ints before it starts.
Wrong about: n-grams of other texts, of which those that were entered (compared exactly) are left out.
"""

import argparse
import gc
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from mixed_corpus import batches_of, circumstances, corpus, documents, megabytes_of
from rbloom import Bloom as RBloom

from curate.dedup.bloom import Bloom
from curate.documents import Batch
from curate.kernels.bloom import BloomFilter, paragraph_ngrams
from curate.kernels.text_index import TextIndex

SOURCES = ("textbooks", "books", "qa_stackexchange", "docs_peps")
OTHERS = ("sci_abstracts", "factbook", "docs_misc")
NGRAM = 13
TRIES = 3


def with_paragraphs(_: random.Random, lines: list[str], other: list[str]) -> list[str]:
    """The first half, then paragraphs of the other from its beginning."""
    return lines[: len(lines) // 2] + other[: len(lines)]


def best(works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """CPU seconds of each, the least of TRIES rounds in turn."""
    seconds = dict.fromkeys(works, float("inf"))
    for _ in range(TRIES):
        for name, work in works.items():
            gc.collect()
            start = time.process_time()
            work()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def wrong_rates(entered: np.ndarray, asked: np.ndarray) -> list[dict[str, float]]:
    """How often filters for the n-grams `entered` take one of `asked`, none of them entered, for known."""
    found = []
    for target in (0.1, 0.01, 0.001, 0.0001):
        seen = BloomFilter(len(entered), target)
        seen.enter(entered)
        assert seen.holds(entered).all()
        wrong = float(seen.holds(asked).mean())
        bits = 8 * seen.nbytes / len(entered)
        classic = -np.log(target) / np.log(2) ** 2
        found.append(
            {
                "target": target,
                "measured": wrong,
                "measured_to_target": round(wrong / target, 3),
                "from_the_bits_set": seen.rate,
                "bits_an_ngram": round(bits, 2),
                "bits_of_a_classic_filter": round(float(classic), 2),
                "probes": seen.probes,
            }
        )
    return found


def main() -> None:
    """Write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    load = os.getloadavg()
    texts = corpus(options.texts, SOURCES, with_paragraphs, megabytes=options.megabytes, seed=options.seed)
    size = megabytes_of(texts)
    column = pa.array(texts, pa.large_string())
    index = TextIndex.of(column)
    found = paragraph_ngrams(index, least=NGRAM, most=NGRAM, whole=False)
    grams, per_paragraph = found[3], np.maximum(found[1].astype(np.int64) - NGRAM + 1, 0)
    ends = np.cumsum(per_paragraph)
    as_ints = grams.tolist()
    paragraphs = [as_ints[end - count : end] for end, count in zip(ends.tolist(), per_paragraph.tolist(), strict=True)]
    entered = np.unique(grams)
    other = TextIndex.of(pa.array(documents(options.texts, OTHERS), pa.large_string()))
    asked = np.unique(paragraph_ngrams(other, least=NGRAM, most=NGRAM, whole=False)[3])
    asked = asked[~np.isin(asked, entered)]

    def judged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen = BloomFilter(len(grams), 0.01)
        return seen.judge(*found, least=NGRAM, most=NGRAM, mode="paragraph", threshold=0.8)

    def by_rbloom() -> int:
        seen, gone = RBloom(len(grams), 0.01), 0
        for own in paragraphs:
            known = sum(gram in seen for gram in own)
            if own and known > 0.8 * len(own):
                gone += 1
            else:
                seen.update(own)
        return gone

    def entered_by_rbloom() -> None:
        RBloom(len(grams), 0.01).update(as_ints)

    step, batches = Bloom(mode="old-both"), batches_of(texts)

    def whole() -> dict[str, Any]:
        fresh = [Batch(batch.data) for batch in batches]
        state = step.reduce([step.map(iter(fresh))])
        for _ in step.apply(iter(fresh), state.parts[0]):
            pass
        return state.summary

    summary = whole()
    seconds = best(
        {
            "words_and_lines": lambda: TextIndex.of(column),
            "ngrams": lambda: paragraph_ngrams(index, least=NGRAM, most=NGRAM, whole=False),
            "filter": judged,
            "whole_step_in_memory": whole,
            "rbloom_by_paragraph": by_rbloom,
            "filter_enter_alone": lambda: BloomFilter(len(grams), 0.01).enter(grams),
            "rbloom_update_alone": entered_by_rbloom,
        }
    )
    chain = seconds["words_and_lines"] + seconds["ngrams"] + seconds["filter"]
    result = {
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "seed": options.seed,
        "megabytes": round(size, 1),
        "documents": len(texts),
        "ngrams": len(grams),
        "distinct_ngrams": len(entered),
        "asked_ngrams": len(asked),
        "wrong": wrong_rates(entered, asked),
        "cpu_seconds": {name: round(value, 4) for name, value in seconds.items()},
        "megabytes_a_second": {name: round(size / value, 1) for name, value in seconds.items()}
        | {"words, n-grams and filter": round(size / chain, 1)},
        "times_rbloom": {
            "by_paragraph": round(seconds["rbloom_by_paragraph"] / seconds["filter"], 1),
            "enter_alone": round(seconds["rbloom_update_alone"] / seconds["filter_enter_alone"], 2),
        },
        "paragraphs_removed": {"ours": int(judged()[0].sum()), "rbloom": by_rbloom()},
        "summary": summary,
        **circumstances(load, ("numpy", "numba", "pyarrow", "rbloom")),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
