"""Repeated lines and spans of three sentences, beside datatrove's sentence deduplication on the same documents.

    python benchmarks/dedup/lines.py --texts ../shared/data/text --megabytes 40 --out benchmarks/dedup/lines.json

Documents are real ones in an order drawn by seed; a fifth get a run of lines of an earlier one. Ours runs map, rounds
and apply in memory; datatrove its three stages, in this process, with files in a temporary folder, on the first
`--peer-megabytes` only, as it is slower by orders of magnitude. CPU seconds; ours is the least of three. Agreement:
documents of which both make the same text, or that both drop, and of those that lose something, among the same.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.dedup.sentence_dedup import (
    SentDedupConfig,
    SentenceDedupFilter,
    SentenceDedupSignature,
    SentenceFindDedups,
)
from datatrove.utils.hashing import HashConfig
from loguru import logger
from mixed_corpus import batches_of, circumstances, corpus, megabytes_of

from curate.dedup.duplicate_lines import DuplicateLines
from curate.dedup.duplicate_sentences import DuplicateSentences
from curate.documents import Batch
from curate.steps import Exchange

SOURCES = ("textbooks", "qa_stackexchange", "docs_misc", "sci_abstracts", "news_reuters")
TRIES = 3


def with_run(rng: random.Random, lines: list[str], other: list[str]) -> list[str]:
    """A run of lines of the other between its two halves."""
    start = rng.randrange(len(other))
    return lines[: len(lines) // 2] + other[start : start + 12] + lines[len(lines) // 2 :]


def by_ours(step: Exchange, batches: list[Batch]) -> tuple[dict[str, float], dict[str, str], dict[str, Any]]:
    """CPU seconds of map, rounds and apply; the text of each document that stays; the summary."""
    seconds: dict[str, float] = {}
    for _ in range(TRIES):
        gc.collect()
        fresh = [Batch(batch.data) for batch in batches]
        marks = [time.process_time()]
        partial = step.map(iter(fresh))
        marks.append(time.process_time())
        state = step.reduce([partial])
        marks.append(time.process_time())
        outcomes = list(step.apply(iter(fresh), state.parts[0]))
        marks.append(time.process_time())
        for name, start, end in zip(("map", "rounds", "apply"), marks, marks[1:], strict=False):
            seconds[name] = min(seconds.get(name, float("inf")), end - start)
    kept = {
        key: text
        for one in outcomes
        for key, text in zip(one.batch.ids.to_pylist(), one.batch.texts.to_pylist(), strict=True)
    }
    return seconds, kept, state.summary


def by_datatrove(texts: list[str]) -> tuple[float, dict[str, str]]:
    """CPU seconds of the three stages, and the text of each document that stays."""
    logger.remove()
    config = SentDedupConfig(hash_config=HashConfig(hash_fc="sha1"))  # its xxhash refuses text with xxhash >= 4
    documents = [Document(text=text, id=f"d{place}") for place, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        signature = SentenceDedupSignature(f"{folder}/signatures", config=config)
        warm = SentenceDedupFilter(f"{folder}/none", config=config)
        list(warm.run(iter([Document(text="Warm up. Load the tokenizer. Then begin.", id="w")])))
        start = time.process_time()
        signature.run(iter(documents))
        SentenceFindDedups(f"{folder}/signatures", f"{folder}/found", config=config).run()
        kept = list(SentenceDedupFilter(f"{folder}/found", config=config).run(iter(documents)))
        seconds = time.process_time() - start
    return seconds, {document.id: document.text for document in kept}


def agreement(texts: list[str], ours: dict[str, str], theirs: dict[str, str]) -> dict[str, float]:
    """Shares of documents with the same outcome."""
    ids = [f"d{place}" for place in range(len(texts))]
    same = [ours.get(key) == theirs.get(key) for key in ids]
    touched = [theirs.get(key) != text for key, text in zip(ids, texts, strict=True)]
    alike = sum(one for one, other in zip(same, touched, strict=True) if other)
    return {
        "documents": len(ids),
        "touched_by_datatrove": sum(touched),
        "touched_by_ours": sum(ours.get(key) != text for key, text in zip(ids, texts, strict=True)),
        "same": round(sum(same) / len(ids), 4),
        "same_of_touched": round(alike / max(sum(touched), 1), 4),
    }


def main() -> None:
    """Write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--peer-megabytes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    load = os.getloadavg()
    texts = corpus(options.texts, SOURCES, with_run, megabytes=options.megabytes, seed=options.seed)
    size = megabytes_of(texts)
    few: list[str] = []
    while megabytes_of(few) < options.peer_megabytes:
        few.append(texts[len(few)])
    steps: dict[str, Exchange] = {"duplicate_lines": DuplicateLines(), "duplicate_sentences": DuplicateSentences()}
    measured = {}
    for name, step in steps.items():
        by_ours(step, batches_of(few[:10]))  # compiles
        seconds, kept, summary = by_ours(step, batches_of(texts))
        measured[name] = {
            "cpu_seconds": {phase: round(value, 4) for phase, value in seconds.items()},
            "megabytes_a_second": {phase: round(size / value, 1) for phase, value in seconds.items()}
            | {"all": round(size / sum(seconds.values()), 1)},
            "documents_left": len(kept),
            "summary": {key: value for key, value in summary.items() if key != "samples"},
        }
    seconds, ours, _ = by_ours(DuplicateSentences(), batches_of(few))
    their_seconds, theirs = by_datatrove(few)
    result = {
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "seed": options.seed,
        "megabytes": round(size, 1),
        "documents": len(texts),
        "ours": measured,
        "datatrove": {
            "megabytes": round(megabytes_of(few), 2),
            "cpu_seconds": round(their_seconds, 2),
            "megabytes_a_second": round(megabytes_of(few) / their_seconds, 3),
            "ours_cpu_seconds": round(sum(seconds.values()), 4),
            "times": round(their_seconds / sum(seconds.values()), 1),
            "agreement": agreement(few, ours, theirs),
        },
        **circumstances(load, ("numpy", "numba", "pyarrow", "datatrove", "spacy")),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
