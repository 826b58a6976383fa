"""Exact duplicates of a whole corpus: documents of the same normalised text, or pages of the same address.

What counts as the same is in curate.dedup.normalise; it is compared by a 128-bit hash (two of 10^10 texts collide by
chance with probability 10^-19). A partial holds some 75 bytes a document, of which 24 are shuffled; what members of
clusters cost stands in curate.dedup.duplicates.
"""

import json
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic.dataclasses import dataclass

from curate.dedup.clusters import carried_out
from curate.dedup.corpus import SETTINGS, Keep, described, described_schema, with_best
from curate.dedup.duplicates import Deduplication
from curate.dedup.normalise import normalised_texts, normalised_urls
from curate.documents import Batch
from curate.errors import InputError
from curate.kernels.hashing import hash128_strings
from curate.steps import STEP_CONFIG, Outcome


@dataclass(kw_only=True, config=STEP_CONFIG)
class Exact(Deduplication):
    """Keeps one document of each text, or of each address; documents without an address (null or empty) all stay.

    Adds the column `exact.cluster_size` (int64) to those that stay.
    """

    name: ClassVar[str] = "exact"
    version: ClassVar[int] = 2

    by: Literal["text", "url"] = "text"
    keep: Keep = "first"

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: id, bytes, hashes, and whether it can be matched at all."""
        fields = [*described_schema(self.keep), pa.field("matched", pa.bool_(), nullable=False)]
        schema = pa.schema(fields, {SETTINGS: self.settings()})
        partial = pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(self._described(batch), schema=schema) for batch in batches], schema
        )
        return with_best(partial, self.keep, partial.column("matched").to_numpy())

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Duplicates leave; the others learn the size of their cluster."""
        return carried_out(batches, state, name=self.name)

    def speakers(self, partial: pa.Table) -> np.ndarray:
        """Rows that speak for a text or an address."""
        rows = super().speakers(partial)
        return rows[partial.column("matched").to_numpy()[rows]]

    def _described(self, batch: Batch) -> list[pa.Array]:
        if self.by == "text":
            keys, matched = normalised_texts(batch.texts), pa.array(np.ones(len(batch), dtype=bool))
        elif "url" in batch.data.schema.names:
            keys = normalised_urls(batch.data.column("url"))
            matched = pc.fill_null(pc.not_equal(keys, ""), False)
        else:
            raise InputError("`exact: {by: url}` needs a `url` column, and these documents have none: compare by text.")
        return [*described(batch, hash128_strings(keys), self.keep).values(), matched]

    def settings(self) -> bytes:
        """By which parameters a partial is made."""
        # `keep`: the best document of a text within a part is chosen while mapping.
        made_by = {"method": self.name, "version": self.version, "by": self.by, "keep": self.keep}
        return json.dumps(made_by, sort_keys=True).encode()
