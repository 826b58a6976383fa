"""Steps that the engine's tests name by import path."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datatrove.pipeline.base import PipelineStep
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.steps import STEP_CONFIG, Edit, Filter, Outcome, Rule, Step


@dataclass(kw_only=True, config=STEP_CONFIG)
class MinChars(Filter):
    """Drops texts that are short."""

    name: ClassVar[str] = "min_chars"
    chars: int = 100

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        return {"own.chars": pc.utf8_length(batch.texts).to_numpy().astype(np.float64)}

    def rules(self) -> tuple[Rule, ...]:
        return (Rule("min_chars.chars", "own.chars", at_least=self.chars, span=(0, 4000)),)


@dataclass(kw_only=True, config=STEP_CONFIG)
class Shout(Edit):
    """Upper-cases texts with an `a` in them."""

    name: ClassVar[str] = "shout"

    def process(self, batch: Batch) -> Outcome:
        texts = pc.utf8_upper(batch.texts)
        changed = pc.not_equal(texts, batch.texts).to_numpy(zero_copy_only=False)
        return Outcome(batch.with_text(texts), edited=np.where(changed, 7, 0))


@dataclass(kw_only=True, config=STEP_CONFIG)
class Raises(Step):
    """Raises on one document."""

    name: ClassVar[str] = "raises"
    on: str

    def process(self, batch: Batch) -> Outcome:
        if self.on in batch.ids.to_pylist():
            raise ZeroDivisionError("this document is cursed")
        return Outcome(batch)


@dataclass(kw_only=True, config=STEP_CONFIG)
class Exits(Step):
    """Ends the process on one document, as a library might."""

    name: ClassVar[str] = "exits"
    on: str

    def process(self, batch: Batch) -> Outcome:
        if self.on in batch.ids.to_pylist():
            raise SystemExit(3)
        return Outcome(batch)


@dataclass(kw_only=True, config=STEP_CONFIG)
class Loses(Step):
    """Loses the first document of each batch without a word."""

    name: ClassVar[str] = "loses"

    def process(self, batch: Batch) -> Outcome:
        return Outcome(Batch(batch.data.slice(1)))


@dataclass(kw_only=True, config=STEP_CONFIG)
class Dies(Step):
    """Kills its worker."""

    name: ClassVar[str] = "dies"

    def process(self, batch: Batch) -> Outcome:
        import os

        os._exit(9)


@dataclass(kw_only=True, config=STEP_CONFIG)
class Slow(Step):
    """Takes its time, so that a test can kill the run in the middle."""

    name: ClassVar[str] = "slow"
    seconds: float = 0.05

    def process(self, batch: Batch) -> Outcome:
        import time

        time.sleep(self.seconds)
        return Outcome(batch.with_column("slow", pa.array([True] * len(batch))))


class Doubles(PipelineStep):
    """A datatrove block that makes documents of its own."""

    name = "doubles"
    type = "test"

    def run(self, data, rank: int = 0, world_size: int = 1):
        from datatrove.data import Document

        for document in data:
            yield document
            yield Document(text=document.text, id=document.id + "-copy")


@dataclass(kw_only=True, config=STEP_CONFIG)
class Swaps(Step):
    """Gives as many documents as it got, in another order."""

    name: ClassVar[str] = "swaps"

    def process(self, batch: Batch) -> Outcome:
        return Outcome(Batch(batch.data.take(pa.array(range(len(batch) - 1, -1, -1)))))


@dataclass(kw_only=True, config=STEP_CONFIG)
class Scorer(Step):
    """Scores documents with a model that takes half a second to load: a hash of the text stands for its judgement."""

    name: ClassVar[str] = "scorer"
    loads_model: ClassVar[bool] = True
    seconds: float = 0.0

    def __post_init__(self) -> None:
        import time

        super().__post_init__()
        time.sleep(0.5)

    def process(self, batch: Batch) -> Outcome:
        import time

        from curate.kernels.hashing import hash_strings

        time.sleep(self.seconds)
        scores = (hash_strings(batch.texts) % 1_000_000) / 1_000_000
        return Outcome(batch.with_column("score", pa.array(scores, pa.float64())))


@dataclass(kw_only=True, config=STEP_CONFIG)
class Stamps(Step):
    """Stamps each document with what a model file holds; told to, writes a file anew while documents pass."""

    name: ClassVar[str] = "stamps"
    loads_model: ClassVar[bool] = True
    artifact_fields: ClassVar[tuple[str, ...]] = ("model",)
    model: str
    spoils: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stamp = ""

    def process(self, batch: Batch) -> Outcome:
        if not self._stamp:
            with open(self.model) as file:
                self._stamp = file.read()
        if self.spoils:
            with open(self.spoils, "a") as file:
                file.write(" ")
        return Outcome(batch.with_column("stamp", pa.array([self._stamp] * len(batch))))
