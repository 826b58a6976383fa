"""Artifacts of a recipe: models made on the way, by kind. A recipe names them and steps refer to the name.

An artifact is a pydantic dataclass whose fields are the recipe's parameters. The engine resolves its sources to files,
fingerprints them by content and calls `build`, which writes `model.bin` and `card.json` into a folder. Sampled sources
give the documents whose seeded id hash is smallest: the same ones however the source is cut into parts.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.errors import InputError
from curate.models.fasttext import LIBRARY
from curate.steps import STEP_CONFIG

MODEL_FILE, CARD_FILE = "model.bin", "card.json"


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class Sample:
    """A number of documents from a dataset: a recipe's name or file, or a list of files relative to the recipe."""

    sample: str | list[str]
    documents: Annotated[int, Field(ge=1)] = 20_000


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class FastTextArtifact:
    """A two-class fastText classifier, labels `positive` and `negative`. Defaults: DCLM's, which are fastText's own
    but for the word bigrams (Li et al. 2024, arXiv:2406.11794, section 4.4)."""

    kind: ClassVar[str] = "fasttext"
    version: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = (LIBRARY,)

    positive: Annotated[list[str], Field(min_length=1)]
    """Parquet or JSONL files with a column `text`, relative to the recipe."""
    negative: Sample
    """What good text is told apart from; usually a sample of the recipe's own raw documents."""
    max_positives: Annotated[int, Field(ge=1)] | None = None
    """Use at most so many positives (smallest id hash first); null: all. DCLM took 200,000 of each class."""
    word_ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    dim: Annotated[int, Field(ge=1)] = 100
    epoch: Annotated[int, Field(ge=1)] = 5
    lr: Annotated[float, Field(gt=0)] = 0.1
    min_count: Annotated[int, Field(ge=1)] = 1
    bucket: Annotated[int, Field(ge=1)] = 2_000_000
    """Hash buckets for n-grams; the model's file takes 4 * dim bytes for each."""
    max_chars: Annotated[int, Field(ge=1)] | None = None
    """Train on the first so many characters of each text; null: all of it."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each class kept for the card's precision, recall and AUC."""

    def parameters(self) -> dict[str, Any]:
        """The values of the recipe's parameters, for the fingerprint and the card."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {"negative": {"sample": self.negative.sample, "documents": self.negative.documents}}

    def build(self, positives: Sequence[Path], negatives: Sequence[Path], out: Path) -> dict[str, Any]:
        """Train on the files' texts; write `model.bin` and `card.json` into the folder `out`; return the card.

        Raises InputError for files without usable texts, TrainingError if training diverged.
        """
        from curate.models.fasttext_training import train_fasttext

        out.mkdir(parents=True, exist_ok=True)
        good = sample_texts(positives, self.max_positives, seed=self.seed)
        bad = sample_texts(negatives, self.negative.documents, seed=self.seed)
        card = train_fasttext(
            good, bad, out=out / MODEL_FILE, word_ngrams=self.word_ngrams, dim=self.dim, epoch=self.epoch, lr=self.lr,
            min_count=self.min_count, bucket=self.bucket, max_chars=self.max_chars, seed=self.seed,
            holdout=self.holdout,
        )  # fmt: skip
        card |= {"recipe": self.parameters(), "version": self.version}
        (out / CARD_FILE).write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
        return card


def sample_texts(files: Sequence[Path], count: int | None, *, seed: int) -> list[str]:
    """The texts of the `count` documents with the smallest seeded hash of id, in that order; all if `count` is None.

    Null and blank texts are no candidates. Memory: two samples. Raises InputError for a file that cannot be read.
    """
    key = seed.to_bytes(8, "little", signed=True)
    chosen: list[tuple[bytes, str]] = []
    bound: bytes | None = None
    for ids, texts in _documents(files):
        for row, name in enumerate(ids.to_pylist()):
            digest = hashlib.blake2b(name.encode(), digest_size=16, key=key).digest()
            if (bound is None or digest < bound) and (text := texts[row].as_py()) and not text.isspace():
                chosen.append((digest, text))
        if count is not None and len(chosen) >= 2 * count:
            chosen = sorted(chosen)[:count]
            bound = chosen[-1][0]
    return [text for _, text in sorted(chosen)[:count]]


def _documents(files: Sequence[Path]) -> Iterator[tuple[pa.Array, pa.Array]]:
    from curate.readers import InputFile, reader_class

    for path in files:
        kind = "parquet" if path.suffix == ".parquet" else "jsonl" if ".jsonl" in path.suffixes else None
        if kind is None:
            raise InputError(f"{path}: texts for a classifier come from .parquet or .jsonl (.gz, .zst) files.")
        file = InputFile(str(path), path.name, path.stat().st_size, "")
        for read in reader_class(kind)().read(file):
            yield read.batch.ids, read.batch.texts
