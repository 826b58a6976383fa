"""The data of this study: four datasets of 13 MB and three held-out sets, from folders of openly licensed text.

    python examples/which_text/make_data.py TEXT_FOLDER OUT_FOLDER

TEXT_FOLDER holds Parquet files with columns `id` and `text`; what each is and under which licence: README.md beside
this file. Documents are taken in the order of a hash of their id, so every run makes the same files.
"""

import hashlib
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATASETS = {
    "books": ("books",),
    "textbooks": ("textbooks",),
    "manuals": ("docs_peps", "docs_misc"),
    "talk": ("dialogue_self", "instruct"),
}
HELDOUT = {"encyclopedia": "wiki_en", "science": "sci_abstracts", "questions": "qa_stackexchange"}
DATASET_BYTES = 13_000_000
PIECE = 8_000
"""Characters of a document: books are cut, so that 13 MB are more than thirty of them."""


def main(texts: Path, out: Path) -> None:
    """Write OUT/<dataset>.parquet and OUT/heldout/<set>.parquet."""
    (out / "heldout").mkdir(parents=True, exist_ok=True)
    for name, sources in DATASETS.items():
        pieces = [piece for source in sources for piece in _pieces(texts / f"{source}.parquet")]
        pieces.sort(key=lambda piece: hashlib.blake2b(piece[0].encode()).digest())
        kept, size = [], 0
        for key, text in pieces:
            more = len(text.encode())
            if size + more <= DATASET_BYTES:
                kept.append((key, text))
                size += more
        _write(out / f"{name}.parquet", kept)
        print(f"{name}: {len(kept):,} documents, {size / 1e6:.2f} MB")
    for name, source in HELDOUT.items():
        rows = pq.read_table(texts / f"{source}.parquet", columns=["id", "text"]).to_pylist()
        _write(out / "heldout" / f"{name}.parquet", [(row["id"], row["text"]) for row in rows])


def _pieces(path: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(path, columns=["id", "text"]).to_pylist()
    return [
        (f"{row['id']}#{start // PIECE}", row["text"][start : start + PIECE])
        for row in rows
        for start in range(0, len(row["text"]), PIECE)
    ]


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    keys, texts = zip(*rows, strict=True)
    pq.write_table(pa.table({"id": list(keys), "text": list(texts)}), path, compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
