"""Small corpora and recipes for the engine's tests; own steps are found by import path in every worker."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent
WORDS = (
    "river stone window garden letter morning market bridge winter teacher water music paper silver forest island "
    "the of and to that have with be history number people between against through during"
).split()


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE / "own"))
    path = os.pathsep.join([str(HERE / "own"), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    assert str(HERE / "own") in sys.path


def document(seed: int) -> str:
    """Some paragraphs of words, different for each seed."""
    chance = random.Random(seed)
    sentences = [" ".join(chance.choices(WORDS, k=chance.randint(6, 18))).capitalize() + "." for _ in range(14)]
    return "\n\n".join(" ".join(sentences[start : start + 7]) for start in (0, 7))


class Ears:
    """A listener that remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def emit(self, kind: str, /, **fields: Any) -> None:
        self.heard.append((kind, fields))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for heard, fields in self.heard if heard == kind]


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six Parquet files of 40 documents; every tenth document is a copy of one in another file, every 13th is short."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(6):
        texts = []
        for row in range(40):
            key = number * 40 + row
            text = document(key % 50 if key % 10 == 0 else key)
            texts.append("Too short." if key % 13 == 5 else text)
        ids = [f"doc-{number}-{row:02d}" for row in range(40)]
        table = pa.table({"id": ids, "text": texts, "url": [f"https://example.org/{key}" for key in ids]})
        pq.write_table(table, folder / f"file-{number}.parquet")
    return folder


@pytest.fixture
def recipe(tmp_path: Path, corpus: Path) -> Callable[..., Path]:
    """Writes a recipe over the corpus with the given lines of steps."""

    def write(*steps: str, name: str = "test", more: str = "") -> Path:
        lines = "\n".join(f"  - {step}" for step in steps)
        path = tmp_path / f"{name}.yaml"
        source = 'source: {parquet: {files: "corpus/*.parquet", part_bytes: none}}'
        path.write_text(f"name: {name}\n{source}\n{more}\nsteps:\n{lines}\n")
        return path

    return write
