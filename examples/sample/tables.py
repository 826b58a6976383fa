"""The text tables beside the crawl: held-out text of three kinds, positives of the quality classifier, the truth table.

Held-out documents are whole works that play no other role, and share no word 13-gram with the crawl or the positives.
"""

import re
from collections.abc import Iterable
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from examples.sample.packing import Fetched, record_id
from examples.sample.sources import Block, Doc, blocks_text, digest, role_of

HELDOUT_BYTES: dict[str, dict[str, int]] = {
    "prose": {"books": 110_000, "textbooks": 110_000},
    "reference": {"wiki_en": 120_000, "qa_stackexchange": 100_000},
    "technical": {"docs_peps": 120_000, "docs_misc": 80_000},
}
POSITIVE_BYTES = {
    "textbooks": 150_000,
    "books": 90_000,
    "wiki_en": 80_000,
    "qa_stackexchange": 80_000,
    "docs_peps": 50_000,
    "docs_misc": 40_000,
    "sci_abstracts": 30_000,
    "instruct": 60_000,
}
NGRAM = 13
HELDOUT_DOC_BYTES = 9_000
POSITIVE_DOC_BYTES = 1_200
_WORD = re.compile(r"\w+")


def ngrams(text: str, n: int = NGRAM) -> set[int]:
    """Hashes of the word n-grams of lower-cased text."""
    words = _WORD.findall(text.lower())
    return {hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1)}


def page_text(page: Fetched) -> str:
    """All text of a page, furniture included: tags cut out."""
    try:
        text = page.body.decode()
    except UnicodeDecodeError:
        text = page.body.decode("cp1252", "replace")
    return unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.S))


def _pieces(blocks: tuple[Block, ...], size: int) -> Iterable[list[Block]]:
    """Runs of blocks of about `size` characters."""
    run: list[Block] = []
    for block in blocks:
        run.append(block)
        if sum(len(text) for _, text in run) >= size:
            yield run
            run = []
    if sum(len(text) for _, text in run) > size // 3:
        yield run


def _row(doc: Doc, blocks: Iterable[Block], number: int = 0) -> dict[str, str]:
    text = blocks_text([block for block in blocks if block[0] != "pre"])
    return {
        "id": f"{doc.id}#{number}" if number else doc.id,
        "text": text,
        "title": doc.title,
        "url": doc.url,
        "source": doc.source,
        "license": doc.license,
    }


def heldout_rows(
    pools: dict[str, list[Doc]], crawl_grams: set[int], *, scale: float = 1.0
) -> dict[str, list[dict[str, str]]]:
    """Clean held-out documents by kind, up to each pool's budget, without those that share a 13-gram with the crawl."""
    out: dict[str, list[dict[str, str]]] = {}
    for kind, budgets in HELDOUT_BYTES.items():
        out[kind] = []
        for pool, budget in budgets.items():
            left = budget * scale
            for doc in pools[pool]:
                if role_of(doc) != "heldout" or doc.size < 300:
                    continue
                row = _row(doc, next(iter(_pieces(doc.blocks, HELDOUT_DOC_BYTES)), doc.blocks))
                if ngrams(row["text"]) & crawl_grams:
                    continue
                out[kind].append(row)
                left -= len(row["text"].encode())
                if left <= 0:
                    break
    return out


def positive_rows(pools: dict[str, list[Doc]], *, scale: float = 1.0) -> list[dict[str, str]]:
    """Good text in pieces of about POSITIVE_DOC_BYTES, at most four of one document."""
    rows: list[dict[str, str]] = []
    for pool, budget in POSITIVE_BYTES.items():
        left = budget * scale
        for doc in pools[pool]:
            if role_of(doc) != "positives":
                continue
            for number, piece in enumerate(_pieces(doc.blocks, POSITIVE_DOC_BYTES)):
                if number >= 4 or left <= 0:
                    break
                row = _row(doc, piece, number)
                if len(row["text"]) < 250:
                    continue
                rows.append(row)
                left -= len(row["text"].encode())
            if left <= 0:
                break
    return sorted(rows, key=lambda row: digest("positive", row["id"]))


def write_rows(rows: list[dict[str, str]], path: Path) -> None:
    """`id, text` and provenance as zstd Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "title", "url", "source", "license")])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", compression_level=19)


def write_truth(pages: list[Fetched], shard_of: dict[str, int], path: Path) -> None:
    """What each response record really is: `record_id, url, shard, kind, detail, origin, license`."""
    table = pa.table(
        {
            "record_id": pa.array([record_id("response", page.url) for page in pages], pa.string()),
            "url": pa.array([page.url for page in pages], pa.string()),
            "shard": pa.array([shard_of[page.url] for page in pages], pa.int8()),
            "kind": pa.array([page.kind for page in pages], pa.string()),
            "detail": pa.array([page.detail for page in pages], pa.string()),
            "origin": pa.array([page.origin for page in pages], pa.string()),
            "license": pa.array([page.license for page in pages], pa.string()),
        }
    )
    pq.write_table(table, path, compression="zstd", compression_level=19)
