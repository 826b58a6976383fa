"""Exact duplicates of a whole corpus: documents of the same normalised text, or pages of the same address.

What counts as the same is in curate.dedup.normalise; it is compared by a 128-bit hash (two of 10^10 texts collide by
chance with probability 10^-19). A partial holds some 60 bytes a document, `reduce` about 200 bytes.
"""

import json
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic.dataclasses import dataclass

from curate.dedup.clusters import Preference, carried_out, state_of
from curate.dedup.corpus import SETTINGS, Corpus, Keep, Nodes, described, described_schema
from curate.dedup.normalise import normalised_texts, normalised_urls
from curate.documents import Batch
from curate.errors import InputError
from curate.kernels.hashing import hash128_strings
from curate.steps import STEP_CONFIG, Exchange, Outcome, State


@dataclass(kw_only=True, config=STEP_CONFIG)
class Exact(Exchange):
    """Keeps one document of each text, or of each address; documents without an address (null or empty) all stay.

    Adds the column `exact.cluster_size` (int64) to those that stay.
    """

    name: ClassVar[str] = "exact"
    version: ClassVar[int] = 1

    by: Literal["text", "url"] = "text"
    keep: Keep = "first"

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: id, bytes, hashes, and whether it can be matched at all."""
        fields = [*described_schema(self.keep), pa.field("matched", pa.bool_(), nullable=False)]
        schema = pa.schema(fields, {SETTINGS: self._settings()})
        return pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(self._described(batch), schema=schema) for batch in batches], schema
        )

    def reduce(self, partials: Sequence[pa.Table]) -> State:
        """Documents of the same digest form a cluster."""
        corpus = Corpus.of(partials, self._settings())
        alone = np.flatnonzero(~corpus.numbers("matched").astype(bool))
        digests, sizes = corpus.digests(), np.zeros(len(corpus), dtype=np.int64)
        digests[alone, 0], digests[alone, 1], sizes[alone] = alone, 0, 1
        nodes = Nodes.of(digests, sizes)
        leader = np.arange(len(nodes))
        preference = Preference.of(corpus, nodes, leader, self.keep)
        same, unlinked = np.ones(len(nodes)), np.full(len(nodes), np.nan)
        return state_of(corpus, nodes, preference, leader, similarity=same, link=unlinked, threshold=1.0)

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Duplicates leave; the others learn the size of their cluster."""
        return carried_out(batches, state, name=self.name)

    def _described(self, batch: Batch) -> list[pa.Array]:
        if self.by == "text":
            keys, matched = normalised_texts(batch.texts), pa.array(np.ones(len(batch), dtype=bool))
        elif "url" in batch.data.schema.names:
            keys = normalised_urls(batch.data.column("url"))
            matched = pc.fill_null(pc.not_equal(keys, ""), False)
        else:
            raise InputError("`exact: {by: url}` needs a `url` column, and these documents have none: compare by text.")
        return [*described(batch, hash128_strings(keys), self.keep).values(), matched]

    def _settings(self) -> bytes:
        made_by = {"method": self.name, "version": self.version, "by": self.by, "dates": self.keep == "newest"}
        return json.dumps(made_by, sort_keys=True).encode()
