"""What the fuzzer starts from: real archives and texts cut small where they lie beside the project, and made ones.

`seeds(real)` gives sound (and a few odd) inputs by kind; `real` is the folder of real data, or None.
All are below SEED_BYTES, so that a mutation is likely to hit something and an input takes milliseconds.
"""

import gzip
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.mutations import PACK, unpacked
from tests.readers.hostile import http, member, page, warc_record

SEED_BYTES = 48 << 10
ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT / ".." / "shared" / "data"
"""Real data, where a checkout has it beside the project."""

KINDS = {
    "warc": 14, "warc.gz": 14, "warc.zst": 3, "warc.lz4": 3, "wet": 3, "wet.gz": 3, "jsonl": 10, "jsonl.gz": 5,
    "jsonl.zst": 5, "jsonl.lz4": 2, "parquet": 16, "recipe": 8, "study": 4, "ladder": 4, "work": 6,
}  # fmt: skip
"""Kinds of inputs and how many of a hundred are of each."""


def seeds(real: Path | None = None) -> dict[str, list[bytes]]:
    """Seeds by kind; those of `work` are made by the target itself."""
    found: dict[str, list[bytes]] = {kind: [] for kind in KINDS}
    found["warc"] = [b"".join(_records()), *_odd_responses()]
    found["wet"] = [b"".join(_conversions())]
    found["jsonl"] = list(_json_lines())
    found["parquet"] = [_table_bytes(**options) for options in _PARQUETS]
    found["recipe"] = [*(text.encode() for text in RECIPES), *_shipped("pipelines", "curate/sample")]
    found["study"] = [text.encode() for text in STUDIES]
    found["ladder"] = [text.encode() for text in LADDERS]
    if real is not None:
        _add_real(found, real)
    for kind in KINDS:
        form, _, codec = kind.partition(".")
        if codec:
            found[kind] += [PACK[codec](data) for data in found[form] if len(data) <= SEED_BYTES]
    found["warc.gz"].append(b"".join(map(member, _records())))
    return {kind: [data for data in items if len(data) <= 2 * SEED_BYTES] for kind, items in found.items()}


def _records() -> Iterator[bytes]:
    for number in range(3):
        yield warc_record(number, http(page(number)[:1500]))
    yield warc_record(9, b"GET / HTTP/1.1\r\n\r\n", kind="request")


def _odd_responses() -> Iterator[bytes]:
    """Each encoding that a body can have, chunks, a resource, a revisit."""
    body, html = page(5)[:1200], "Content-Type: text/html"
    chunked = b"100\r\n" + body[:256] + b"\r\n" + b"%x\r\n" % (len(body) - 256) + body[256:] + b"\r\n0\r\n\r\n"
    yield b"".join(
        [
            warc_record(0, http(gzip.compress(body, mtime=0), headers=f"{html}\r\nContent-Encoding: gzip")),
            warc_record(1, http(PACK["zst"](body), headers=f"{html}\r\nContent-Encoding: zstd")),
            warc_record(2, http(chunked, headers=f"{html}\r\nTransfer-Encoding: chunked")),
            warc_record(3, body, kind="resource", content_type="text/html"),
            warc_record(4, b"", kind="revisit"),
        ]
    )
    # "<p>hi</p>" as one stored block of brotli, so that the tests need no encoder
    block = http(bytes.fromhex("0b04803c703e68693c2f703e03"), headers=f"{html}\r\nContent-Encoding: br")
    yield warc_record(0, block)


def _conversions() -> Iterator[bytes]:
    for number in range(4):
        text = f"Plain text number {number}, with a line.\nAnd another – not ASCII.\n".encode()
        yield warc_record(number, text, kind="conversion", content_type="text/plain")


def _json_lines() -> Iterator[bytes]:
    rows = [{"id": f"d{n}", "text": page(n).decode()[80:400], "url": f"https://e.org/{n}", "n": n} for n in range(8)]
    yield b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    odd: list[dict[str, object]] = [
        {"text": "é \U0001f600\n", "id": 5, "date": 2024, "meta": {"a": [1, {"b": None}]}},
        {"text": ""},
        {"text": "x", "url": None},
    ]
    yield b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in odd)


def _table(rows: int = 40) -> pa.Table:
    dice = random.Random(rows)
    texts = [None if n % 13 == 12 else page(n % 7).decode()[: dice.randrange(20, 300)] for n in range(rows)]
    return pa.table(
        {
            "id": [f"id-{n}" for n in range(rows)],
            "text": texts,
            "url": pa.array([f"https://e.org/{n % 3}" for n in range(rows)]),
            "date": pa.array([None, "2024"] * (rows // 2), pa.string()),
            "n": pa.array(range(rows), pa.int64()),
            "tags": [["a", "b"][: n % 3] for n in range(rows)],
        }
    )


_DELTA = {"text": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}
_PARQUETS: list[dict[str, object]] = [
    {"compression": "none", "row_group_size": 20},
    {"compression": "snappy", "use_dictionary": False, "row_group_size": 20},
    {"compression": "gzip", "data_page_version": "2.0"},
    {"compression": "zstd", "row_group_size": 10},
    {"compression": "lz4", "use_dictionary": ["text", "url"], "data_page_size": 200},
    {"compression": "brotli", "write_page_index": True},
    {"compression": "none", "use_dictionary": False, "data_page_version": "2.0", "column_encoding": _DELTA},
    {"compression": "none", "use_dictionary": False, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}},
    {"compression": "zstd", "write_page_checksum": True, "store_schema": False},
]


def _table_bytes(**options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(), sink, **options)
    return sink.getvalue()


def _shipped(*folders: str) -> Iterator[bytes]:
    for folder in folders:
        for path in sorted((ROOT / folder).glob("*.yaml")):
            if path.name != "study.yaml":
                yield path.read_bytes()


RECIPES = [
    """name: a
source: {parquet: "corpus/*.parquet"}
steps:
  - gopher_quality: {min_words: 10}
  - exact
output: {parquet: out}
""",
    """name: b
description: x
source: {jsonl: {files: [lines.jsonl], columns: {n: int64}}}
steps:
  - language: {keep: [en], min_score: 0.65}
  - materialise
  - c4: {terminal_punctuation: false}
  - minhash: {preset: fineweb, verify: exact, keep: longest}
""",
    """name: c
source: {warc: crawl.warc.gz}
artifacts:
  q: {fasttext: {positive: [lines.jsonl], negative: {sample: other, documents: 20}, dim: 4}}
steps:
  - extract: {with: resiliparse}
  - quality: {model: q, keep: {top: 10%}}
""",
]
STUDIES = [
    """name: s
datasets: {a: other.yaml, b: {parquet: "corpus/*.parquet"}}
ladder: demo
seeds: 2
heldout: {w: corpus/a.parquet}
compare: {metric: bits_per_byte, at: [1e14, 1.0e+16], law: power, bootstraps: 100, seed: 3}
""",
    """name: t
datasets:
  x: other.yaml
  y: {tokens: tokens}
ladder: own.yaml
tokenizer: tokenizer.json
heldout:
  w: corpus/a.parquet
""",
]
LADDERS = [
    "name: own\nvocab_size: 512\nsequence_length: 64\nprecision: fp32\nevaluation: {bytes_per_set: 1000}\n"
    "procedure: {batch_tokens_min: 128, batch_tokens_max: 256}\nscales:\n"
    "  - {name: s, width: 32, layers: 1, heads: 2, ffn: 64, budgets_tokens: [1000, 2000], seeds: 2}\n"
    "  - {name: m, width: 64, layers: 2, heads: 2, ffn: 128, budgets_tokens: [2000], learning_rate: 0.01}\n",
]


def _add_real(found: dict[str, list[bytes]], real: Path) -> None:
    for path in sorted((real / "warc").rglob("*")):
        if not path.is_file():
            continue
        form = "wet" if ".wet" in path.name else "warc"
        data = path.read_bytes()[: 2 << 20]
        codec = {".gz": "gz", ".lz4": "lz4"}.get(path.suffix, "")
        small = data if len(data) <= SEED_BYTES else data[:SEED_BYTES]  # the last record is cut: odd, and good so
        found[f"{form}.{codec}" if codec else form].append(small)
        if codec:
            found[form].append(unpacked(codec, data)[:SEED_BYTES])
    for path in sorted((real / "text").glob("*.parquet"))[:6]:
        with pq.ParquetFile(path) as file:
            rows = next(file.iter_batches(batch_size=8, columns=["id", "text", "url"]))
        table = pa.Table.from_batches([rows])
        shorter = table.set_column(1, "text", pa.array([str(text)[:1500] for text in table["text"].to_pylist()]))
        sink = io.BytesIO()
        pq.write_table(shorter, sink, compression="zstd")
        found["parquet"].append(sink.getvalue())
        found["jsonl"].append(b"".join(json.dumps(row).encode() + b"\n" for row in shorter.to_pylist()))
