"""What bloom.py and lines.py measure on: real documents in an order drawn by seed, some with lines of earlier ones; and
where they measured."""

import os
import platform
import random
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.documents import DOCUMENT_SCHEMA, Batch

BATCH_ROWS = 500
SHARE_MIXED = 0.2

Mix = Callable[[random.Random, list[str], list[str]], list[str]]
"""Lines of a document that gets some of an earlier one's, from those of both."""


def documents(folder: Path, sources: Sequence[str]) -> list[str]:
    """All texts of some sources."""
    tables = (pq.read_table(folder / f"{source}.parquet", columns=["text"]) for source in sources)
    return [text for table in tables for text in table.column("text").to_pylist() if text]


def corpus(folder: Path, sources: Sequence[str], mix: Mix, *, megabytes: float, seed: int) -> list[str]:
    """Documents of about `megabytes` together; SHARE_MIXED of them hold lines of earlier ones."""
    rng = random.Random(seed)
    texts = documents(folder, sources)
    rng.shuffle(texts)
    made: list[str] = []
    size = 0
    for text in texts:
        if made and rng.random() < SHARE_MIXED:
            lines, other = text.split("\n"), rng.choice(made).split("\n")
            text = "\n".join(mix(rng, lines, other))
        made.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            return made
    raise SystemExit(f"The texts give {size / 1e6:.0f} MB only: ask for fewer --megabytes.")


def batches_of(texts: list[str]) -> list[Batch]:
    """The texts in Arrow."""
    made = []
    for low in range(0, len(texts), BATCH_ROWS):
        rows = [{"id": f"d{low + place}", "text": text} for place, text in enumerate(texts[low : low + BATCH_ROWS])]
        made.append(Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA)))
    return made


def megabytes_of(texts: list[str]) -> float:
    """Their UTF-8."""
    return sum(len(text.encode()) for text in texts) / 1e6


def circumstances(load_before: Sequence[float], packages: Sequence[str]) -> dict[str, Any]:
    """Load before and now, the machine, and versions."""
    return {
        "load_before": [round(value, 2) for value in load_before],
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in packages},
    }
