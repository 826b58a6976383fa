"""Near-duplicates of a whole corpus by MinHash, banding, verification and connected components.

A signature is the minimum of each of bands x rows hash functions over a document's word n-grams (Broder 1997);
documents that share a band are candidates, verified by their true Jaccard similarity unless the recipe says otherwise.
Results do not depend on the order or number of parts, nor on ids being unique. Costs: a partial holds 8 bytes a band
and, for `verify: exact`, 8 a distinct shingle (about 1.4 x the text); `reduce` holds some 200 bytes a document, 8 a
waiting pair (curate.dedup.links), links as a forest, and one block of shingles; never all shingles.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.candidates import MOST_NODES
from curate.dedup.clusters import Preference, carried_out, state_of
from curate.dedup.corpus import SETTINGS, Corpus, Keep, Nodes, described, described_schema, fixed_binary
from curate.dedup.links import Links, find_links, linked_by_bucket, similarity_to
from curate.dedup.normalise import normalised_texts
from curate.dedup.presets import PRESETS, Banding
from curate.dedup.similarity import Similarity, estimated_jaccard, exact_jaccard
from curate.dedup.stars import stars
from curate.documents import Batch
from curate.errors import InputError
from curate.kernels.hashing import hash128_strings
from curate.kernels.minhash import band_keys, permutations, shingles, signatures, sorted_unique
from curate.kernels.unionfind import connected_components
from curate.steps import STEP_CONFIG, Exchange, Outcome, State


@dataclass(kw_only=True, config=STEP_CONFIG)
class MinHash(Exchange):
    """Keeps one document of each cluster of near-duplicates.

    A document shorter than one n-gram is a set of one shingle, all its words, and so only matches the same words. One
    without words is matched by its normalised text (curate.dedup.normalise): empty documents are duplicates of each
    other. Adds the column `minhash.cluster_size` (int64) to those that stay.
    """

    name: ClassVar[str] = "minhash"
    version: ClassVar[int] = 1

    preset: Literal["fineweb", "refinedweb"] | None = None
    """A published banding (curate.dedup.presets); `fineweb` if neither it nor bands, rows and ngram are given."""
    bands: int | None = Field(default=None, ge=1)
    rows: int | None = Field(default=None, ge=1)
    ngram: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, gt=0, le=1)
    """Least Jaccard similarity of a verified pair; by default the middle of the banding's S-curve."""
    verify: Literal["exact", "estimated", "none"] = "exact"
    """`exact`: on the shingles; `estimated`: on the signatures; `none`: sharing a band is enough."""
    keep: Keep = "first"
    require_similar_to_survivor: bool = False
    """Remove a document only if it is itself similar to the survivor: no chain of weak matches empties a source."""
    reach: int = Field(default=32, ge=1)
    """Documents that each is compared with in one bucket: all of them in buckets of up to reach + 1
    (curate.dedup.candidates); pairs that are left out in larger ones are counted in the summary."""
    seed: int = Field(default=1, ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = sum(number is not None for number in (self.bands, self.rows, self.ngram))
        if given and self.preset is not None:
            raise ValueError(f"preset `{self.preset}` fixes bands, rows and ngram: give either it or the three numbers")
        if given not in (0, 3):
            raise ValueError("bands, rows and ngram belong together: give all three, or a preset")
        if self.verify == "none" and self.require_similar_to_survivor:
            raise ValueError("require_similar_to_survivor needs `verify: exact` or `verify: estimated`")

    @property
    def banding(self) -> Banding:
        """The shape of the signatures."""
        if self.bands is not None and self.rows is not None and self.ngram is not None:
            return Banding(self.bands, self.rows, self.ngram)
        return PRESETS[self.preset or "fineweb"]

    @property
    def least_similarity(self) -> float:
        """The threshold of verification."""
        return self.banding.midpoint if self.threshold is None else self.threshold

    def parameters(self) -> dict[str, Any]:
        """The parameters with presets and defaults written out."""
        shape = {"bands": self.banding.bands, "rows": self.banding.rows, "ngram": self.banding.ngram}
        return super().parameters() | shape | {"threshold": self.least_similarity}

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: id, bytes, hashes, `size` (distinct shingles), a key for each band, and what verifies."""
        hash_functions = permutations(self.banding.minima, self.seed)
        schema = self._schema()
        return pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(self._described(batch, hash_functions), schema=schema) for batch in batches],
            schema,
        )

    def reduce(self, partials: Sequence[pa.Table]) -> State:
        """Buckets, pairs, verification, components, survivors."""
        corpus = Corpus.of(partials, self._settings())
        sizes = corpus.numbers("size")
        nodes = Nodes.of(corpus.digests(), sizes)
        if len(nodes) > MOST_NODES:
            raise InputError(f"`minhash` compares up to {MOST_NODES:,} distinct documents at once: split the source.")
        exact = self.verify == "exact"
        similarity = exact_jaccard(corpus, sizes) if exact else estimated_jaccard(corpus, self.banding.minima)
        links = self._links(corpus, nodes, similarity)
        labels = connected_components(len(nodes), links.left, links.right)
        preference = Preference.of(corpus, nodes, labels, self.keep)
        leader = preference.leaders(labels)
        close = similarity_to(leader, nodes, similarity)
        if self.require_similar_to_survivor:
            similar = np.flatnonzero(close >= self.least_similarity)
            left, right = np.concatenate([links.left, leader[similar]]), np.concatenate([links.right, similar])
            leader = stars(left, right, preference.rank)
            close = similarity_to(leader, nodes, similarity)
        state = state_of(
            corpus, nodes, preference, leader, similarity=close, link=links.strongest, threshold=self.least_similarity
        )
        summary = state.summary | links.counts() | {"without_words": int((sizes == 0).sum())}
        return State(state.parts, summary)

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Duplicates leave, with the similarity to their survivor; the others learn the size of their cluster."""
        return carried_out(batches, state, name=self.name, threshold=self.least_similarity)

    def _links(self, corpus: Corpus, nodes: Nodes, similarity: Similarity) -> Links:
        def keys(band: int) -> np.ndarray:
            return corpus.numbers(f"band_{band}")

        if self.verify == "none":
            return linked_by_bucket(nodes, keys, bands=self.banding.bands)
        return find_links(
            nodes,
            keys,
            bands=self.banding.bands,
            reach=self.reach,
            threshold=self.least_similarity,
            similarity=similarity,
            size_bounds_similarity=self.verify == "exact",
            all_links=self.require_similar_to_survivor,
        )

    def _described(self, batch: Batch, hash_functions: tuple[np.ndarray, np.ndarray]) -> list[pa.Array]:
        offsets, hashes = shingles(batch.index, self.banding.ngram)
        signed = signatures(offsets, hashes, hash_functions)
        keys = band_keys(signed, self.banding.bands, self.banding.rows)
        offsets, hashes = sorted_unique(offsets, hashes)
        sizes = np.diff(offsets)
        columns = described(batch, _digests(batch, offsets, hashes), self.keep)
        columns["size"] = pa.array(sizes, pa.int64())
        if self.verify == "exact":
            columns["shingles"] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(hashes))
        else:
            columns["signature"] = fixed_binary(signed)
        return [*columns.values(), *(pa.array(np.ascontiguousarray(keys[:, band])) for band in range(keys.shape[1]))]

    def _schema(self) -> pa.Schema:
        verifier = (
            pa.field("shingles", pa.large_list(pa.uint64()), nullable=False)
            if self.verify == "exact"
            else pa.field("signature", pa.binary(4 * self.banding.minima), nullable=False)
        )
        bands = [pa.field(f"band_{band}", pa.uint64(), nullable=False) for band in range(self.banding.bands)]
        size = pa.field("size", pa.int64(), nullable=False)
        return pa.schema([*described_schema(self.keep), size, verifier, *bands], {SETTINGS: self._settings()})

    def _settings(self) -> bytes:
        made_by = {
            "method": self.name,
            "version": self.version,
            "bands": self.banding.bands,
            "rows": self.banding.rows,
            "ngram": self.banding.ngram,
            "seed": self.seed,
            "verify": "exact" if self.verify == "exact" else "estimated",
            "dates": self.keep == "newest",
        }
        return json.dumps(made_by, sort_keys=True).encode()


def _digests(batch: Batch, offsets: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """128 bits of each document's set of shingles or, where it has no words, of its normalised text."""
    buffers = [None, pa.py_buffer(8 * offsets), pa.py_buffer(hashes)]
    digests = hash128_strings(pa.Array.from_buffers(pa.large_binary(), len(batch), buffers))
    wordless = np.flatnonzero(np.diff(offsets) == 0)
    if len(wordless):
        digests[wordless] = hash128_strings(normalised_texts(batch.texts.take(pa.array(wordless))))
    return digests
