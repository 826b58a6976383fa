"""Any datatrove block as a step of a recipe: Documents in, Documents out, a batch at a time, a row for each loss.

The block's `run` is called once a batch on an instance made anew for each part, so state that it keeps over documents
a sampler's generator) does not depend on the workers. It must return documents that it received: a block that
makes new ones (splitters, readers, deduplication stages) is refused with the reason.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from datatrove.data import Document

from curate.documents import Batch, from_documents, to_documents
from curate.errors import StageError
from curate.steps import Outcome, Step, departures

ROW = "curate_row"
"""Metadata key that carries a document's row through the block."""


class _Excluded:
    """Stands where datatrove puts its exclusion writer: remembers who was dropped and for which reason."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}

    def __enter__(self) -> "_Excluded":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, document: Document, rank: int = 0) -> None:
        """Called by datatrove for each dropped document."""
        self.reasons[document.metadata[ROW]] = str(document.metadata.get("filter_reason", ""))


class DatatroveStep(Step):
    """A plain datatrove block, named by import path."""

    name: ClassVar[str] = "datatrove"
    libraries: ClassVar[tuple[str, ...]] = ("datatrove",)

    def __init__(self, path: str, parameters: dict[str, Any]) -> None:
        """`path` is `module:Class` of the block, `parameters` the keyword arguments of its constructor."""
        from curate.engine.recipe import load_class

        self.path, self.given = path, parameters
        self.block = load_class(path)(**parameters)
        self.block_name = path.partition(":")[2]
        super().__post_init__()

    def parameters(self) -> dict[str, Any]:
        """What the recipe gives to the block."""
        return self.given

    def process(self, batch: Batch) -> Outcome:
        """The block on one batch."""
        excluded = _Excluded()
        if hasattr(self.block, "exclusion_writer"):
            self.block.exclusion_writer = excluded
        documents = list(self.block.run(_numbered(batch), rank=0, world_size=1))
        rows = [document.metadata.pop(ROW, None) for document in documents]
        if None in rows or len(set(rows)) != len(rows):
            raise StageError(
                f"{self.path} returned documents that it did not receive: a block that makes new documents "
                "cannot stand in a recipe, as nobody could say what became of each record."
            )
        kept = np.array(rows, dtype=np.int64)
        gone = np.setdiff1d(np.arange(len(batch)), kept)
        reasons = [f"{self.block_name}.{excluded.reasons.get(int(row)) or 'dropped'}" for row in gone]
        batches = list(from_documents(documents, batch.data.schema))
        if not documents:
            return Outcome(batch.filter(np.zeros(len(batch), dtype=bool)), departures(gone, "dropped", rule=reasons))
        after = Batch(_one(batches))
        return Outcome(after, departures(gone, "dropped", rule=reasons), edited=_changed(batch, after, kept))


def _numbered(batch: Batch) -> Iterator[Document]:
    for row, document in enumerate(to_documents(batch)):
        document.metadata[ROW] = row
        yield document


def _one(batches: list[Batch]) -> Any:
    import pyarrow as pa

    table = pa.Table.from_batches([batch.data for batch in batches]).combine_chunks()
    return table.to_batches()[0]


def _changed(before: Batch, after: Batch, rows: np.ndarray) -> np.ndarray:
    """Bytes of the documents whose text is not the same any more (the larger of before and after; 0 = untouched)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    old = pc.fill_null(before.texts.take(pa.array(rows)), "")
    same = pc.fill_null(pc.equal(old, after.texts), False).to_numpy(zero_copy_only=False)
    sizes = np.maximum(
        pc.fill_null(pc.binary_length(old), 0).to_numpy(zero_copy_only=False),
        pc.fill_null(pc.binary_length(after.texts), 0).to_numpy(zero_copy_only=False),
    )
    return np.where(same, 0, np.maximum(sizes, 1)).astype(np.int64)
