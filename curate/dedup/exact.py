"""Exact duplicates of a whole corpus: documents of the same normalised text, address, or values of columns.

What counts as the same is in curate.dedup.normalise; it is compared by a 128-bit hash (two of 10^10 texts collide by
chance with probability 10^-19). A partial holds some 75 bytes a document, of which 24 are shuffled; what members of
clusters cost stands in curate.dedup.duplicates.
"""

from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.clusters import carried_out
from curate.dedup.corpus import SETTINGS, described, described_schema, with_best
from curate.dedup.duplicates import Deduplication
from curate.dedup.keep import Keep
from curate.dedup.normalise import digests_of_columns, lacking_columns, normalised_texts, normalised_urls
from curate.documents import Batch
from curate.errors import InputError
from curate.kernels.hashing import hash128_strings
from curate.steps import STEP_CONFIG, Outcome


@dataclass(kw_only=True, config=STEP_CONFIG, frozen=True)
class Columns:
    """Documents with the same values in all of these columns are the same; one without a value in any has no double."""

    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    """Of text, binary, numbers, truth values, dates or times; a value matches one of its own type only."""


@dataclass(kw_only=True, config=STEP_CONFIG)
class Exact(Deduplication):
    """Keeps one document of each text, of each address (documents without one, null or empty, all stay), or of each
    combination of values (curate.dedup.normalise says what is the same).

    Adds the columns `exact.cluster` (string: the survivor's id, null if alone) and `exact.cluster_size` (int64) to
    those that stay.
    """

    name: ClassVar[str] = "exact"
    version: ClassVar[int] = 3

    artifact_fields: ClassVar[tuple[str, ...]] = ("against",)

    by: Literal["text", "url"] | Columns = "text"
    keep: Keep = "first"
    against: str | None = None
    """An index (curate.dedup.index): documents that are in a dump of it leave."""
    dump: str | None = None
    """The name of this corpus in that index."""

    def parameters(self) -> dict[str, Any]:
        """The parameters as the recipe writes them."""
        by = {"columns": list(self.by.columns)} if isinstance(self.by, Columns) else self.by
        return super().parameters() | {"by": by}

    def missing_column(self, there: Collection[str]) -> tuple[str, str] | None:
        """Of those that are compared, or that `keep` asks for."""
        said = lacking_columns(self.by.columns, there) if isinstance(self.by, Columns) else None
        return ("by", said) if said else super().missing_column(there)

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
        if isinstance(self.by, Columns):
            digests, matched = digests_of_columns(batch.data, self.by.columns)
        elif self.by == "text":
            digests, matched = hash128_strings(normalised_texts(batch.texts)), np.ones(len(batch), dtype=bool)
        elif "url" in batch.data.schema.names:
            urls = normalised_urls(batch.data.column("url"))
            digests = hash128_strings(urls)
            matched = pc.fill_null(pc.not_equal(urls, ""), False).to_numpy(zero_copy_only=False)
        else:
            raise InputError("`exact: {by: url}` needs a `url` column, and these documents have none: compare by text.")
        return [*described(batch, digests, self.keep).values(), pa.array(matched)]

    def made_by(self) -> dict[str, Any]:
        """What is compared."""
        return {"by": self.parameters()["by"]}
