"""Near-duplicates of a whole corpus by MinHash, banding, verification and connected components.

A signature is the minimum of each of bands x rows hash functions over a document's n-grams (Broder 1997); documents
that share a band are candidates, verified by their true Jaccard similarity unless the recipe says otherwise.
Results do not depend on the order or number of parts, nor on ids being unique. Costs a document: the partial holds 8
bytes a distinct shingle (about 1.4 x the text; or 4 a minimum), which stay where they are; 28 bytes a band and 24
more are shuffled; 16 a candidate pair. A task holds a range of these, one block of shingles, or 12 bytes a linked
document (curate.dedup.components); never all documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.candidates import BANDS_SCHEMA, Buckets
from curate.dedup.clusters import carried_out
from curate.dedup.corpus import (
    SETTINGS,
    Corpus,
    described,
    described_schema,
    fixed_binary,
    fixed_rows,
    sums_of,
    with_best,
)
from curate.dedup.index import joined_before
from curate.dedup.keep import Keep
from curate.dedup.linked import GIVEN, Linked
from curate.dedup.links import LINKS_SCHEMA, PAIRS_SCHEMA, Made, candidate_pairs, verified
from curate.dedup.normalise import normalised_texts
from curate.dedup.presets import PRESETS, Banding, PresetName
from curate.dedup.similarity import Similarity, containment, estimated_jaccard, exact_jaccard
from curate.documents import Batch
from curate.kernels.hashing import hash128_strings
from curate.kernels.minhash import HashFunctions, Scheme, Sketches, band_keys, sketches
from curate.kernels.shingles import Unit
from curate.rounds import Out, Round, Tables, View, places
from curate.steps import STEP_CONFIG, Outcome


@dataclass(kw_only=True, config=STEP_CONFIG)
class MinHash(Linked):
    """Keeps one document of each cluster of near-duplicates.

    What a shingle is, and which differences of two texts do not count, stands in curate.kernels.shingles. A document of
    one shingle (n words or characters at most) is matched exactly, with those of the same words; one without words by
    its normalised text (curate.dedup.normalise): empty documents are duplicates of each other.
    Adds the columns `minhash.cluster` (string: the survivor's id, null if alone) and `minhash.cluster_size` (int64) to
    those that stay.
    """

    name: ClassVar[str] = "minhash"
    version: ClassVar[int] = 5
    artifact_fields: ClassVar[tuple[str, ...]] = ("against",)
    free: ClassVar[tuple[str, ...]] = ("against", "dump", "preset", "reach")

    preset: PresetName | None = None
    """A published banding (curate.dedup.presets); `fineweb` if neither it nor bands, rows and ngram are given."""
    bands: int | None = Field(default=None, ge=1)
    rows: int | None = Field(default=None, ge=1)
    ngram: int | None = Field(default=None, ge=1)
    unit: Unit | None = None
    """What `ngram` counts: `words` (if not given) or `characters`."""
    threshold: float | None = Field(default=None, gt=0, le=1)
    """Least similarity of a verified pair; by default the middle of the banding's S-curve."""
    verify: Literal["exact", "containment", "estimated", "none"] = "exact"
    """`exact`: Jaccard similarity of the sets of shingles; `containment`: the share of the smaller set that the other
    one holds, so that a document within another is its duplicate (use `keep: longest`); `estimated`: Jaccard by the
    signatures; `none`: sharing a band is enough. Candidates are found by Jaccard similarity in each case."""
    keep: Keep = "first"
    require_similar_to_survivor: bool = False
    """Remove a document only if it is itself similar to the survivor: no chain of weak matches empties a source."""
    reach: int = Field(default=32, ge=1)
    """Documents that each is compared with in one bucket: all of them in buckets of up to reach + 1
    (curate.dedup.candidates); pairs that are left out in larger ones are counted in the summary."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    scheme: Scheme = "affine32"
    """Hash functions, by datasketch's name: its own since version 2, or `legacy`, all it had before (slower)."""
    against: str | None = None
    """An index (curate.dedup.index): documents that are similar to one of its dumps leave."""
    dump: str | None = None
    """The name of this corpus in that index."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = sum(number is not None for number in (self.bands, self.rows, self.ngram))
        if given and self.preset is not None:
            raise ValueError(f"preset `{self.preset}` fixes bands, rows and ngram: give either it or the three numbers")
        if given not in (0, 3):
            raise ValueError("bands, rows and ngram belong together: give all three, or a preset")
        if self.unit is not None and not given:
            raise ValueError("unit says what ngram counts: give bands, rows and ngram with it")
        if self.verify == "none" and self.require_similar_to_survivor:
            raise ValueError("require_similar_to_survivor needs `verify: exact`, `containment` or `estimated`")

    @property
    def banding(self) -> Banding:
        """The shape of the signatures."""
        if self.bands is not None and self.rows is not None and self.ngram is not None:
            return Banding(self.bands, self.rows, self.ngram, self.unit or "words")
        return PRESETS[self.preset or "fineweb"]

    @property
    def least_similarity(self) -> float:
        """The threshold of verification."""
        return self.banding.midpoint if self.threshold is None else self.threshold

    def parameters(self) -> dict[str, Any]:
        """The parameters with presets and defaults written out."""
        return super().parameters() | asdict(self.banding) | {"threshold": self.least_similarity}

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: id, bytes, hashes, `size` (shingles), a key for each band, and what verifies."""
        functions = HashFunctions.of(self.banding.minima, seed=self.seed, scheme=self.scheme)
        schema = self._schema()
        partial = pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(self._described(batch, functions), schema=schema) for batch in batches],
            schema,
        )
        return with_best(partial, self.keep)

    def tables(self) -> Tables:
        """What goes from round to round."""
        return {**super().tables(), "bands": BANDS_SCHEMA, "pairs": PAIRS_SCHEMA}

    def finding(self) -> Sequence[Round]:
        """Buckets to pairs, pairs to links."""
        return (
            Round("buckets", reads=("bands",), gives=("pairs",), by="hash"),
            Round("verification", reads=("pairs",), gives=GIVEN, by="part"),
        )

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The digest of each distinct document, and its key in each band."""
        super().scatter(partial, part, out)
        size = partial.column("size").to_numpy()
        digest = fixed_rows(partial.column("digest"), np.uint64)[:, 1]
        out.tell(without_words=int((size == 0).sum()))
        speakers = self.speakers(partial)
        rows = speakers[size[speakers] > 1]  # what has one shingle or none is matched by its digest
        rows = rows[np.lexsort((digest[rows], size[rows]))]
        bands = self.banding.bands
        keys = np.concatenate([partial.column(f"band_{band}").to_numpy()[rows] for band in range(bands)])
        columns = [keys, *(np.tile(values, bands) for values in (size[rows], digest[rows], places(part, rows)))]
        out.write("bands", pa.table(columns, schema=BANDS_SCHEMA))

    def kept(self, partial: pa.Table) -> pa.Table:
        """All but the keys of the bands, which are on their way."""
        return partial.drop_columns([f"band_{band}" for band in range(self.banding.bands)])

    def buckets(self, view: View, out: Out) -> None:
        """Candidate pairs of the buckets of a range."""
        buckets, made = Buckets.of(view.met("bands")), Made()
        # Without verification each bucket is a chain, which connects all that its pairs would.
        reach = 1 if self.verify == "none" else self.reach
        least_ratio = self.least_similarity if self.verify == "exact" else 0.0
        for pairs in candidate_pairs(buckets, reach=reach, least_ratio=least_ratio, made=made):
            if view.shelf.attached and self.verify != "none":  # dumps were compared with each other when they ran
                pairs = pairs.filter(pa.array(pairs.column("key").to_numpy() < view.end))
            out.write("pairs", pairs)
        skipped = 0 if self.verify == "none" else made.skipped
        out.tell(too_different_pairs=made.too_different, skipped_pairs=skipped)

    def verification(self, view: View, out: Out) -> None:
        """Links among the pairs of a range, each pair compared once."""
        similarity = None if self.verify == "none" else self.similarity(view)
        links, compared = verified(view.rows("pairs"), similarity, self.least_similarity)
        self.hand_over(links, out)
        out.tell(compared_pairs=compared)
        if view.shelf.attached and self.chains:
            left, right = joined_before(view)
            known = pa.table([left, right, np.full(len(left), np.nan)], schema=LINKS_SCHEMA)
            self.join(known, out)

    def similarity(self, view: View) -> Similarity:
        """By the method of verification."""
        corpus = Corpus(view)
        if not self._by_shingles:
            return estimated_jaccard(corpus, self.banding.minima)
        return containment(corpus) if self.verify == "containment" else exact_jaccard(corpus)

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, the largest clusters, the histogram; pairs by what became of them."""
        pairs = ("compared_pairs", "too_different_pairs", "skipped_pairs", "without_words")
        return super().summary(told) | {name: told.get(name, 0) for name in pairs}

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Duplicates leave, with the similarity to their survivor; the others learn the size of their cluster."""
        return carried_out(batches, state, name=self.name, threshold=self.least_similarity)

    @property
    def _by_shingles(self) -> bool:
        """Whether pairs are compared by their sets of shingles, which partials hold then; else by their signatures."""
        return self.verify in ("exact", "containment")

    def _described(self, batch: Batch, functions: HashFunctions) -> list[pa.Array]:
        shape = self.banding
        found = sketches(batch.texts, shape.ngram, unit=shape.unit, functions=functions, sets=self._by_shingles)
        keys = band_keys(found.minima, shape.bands, shape.rows)
        columns = described(batch, _digests(batch, found), self.keep)
        columns["size"] = pa.array(found.sizes)
        if self._by_shingles:
            columns["shingles"] = pa.LargeListArray.from_arrays(pa.array(found.offsets), pa.array(found.sets))
        else:
            columns["signature"] = fixed_binary(found.minima)
            columns["signature_sum"] = pa.array(sums_of(found.minima))
        return [*columns.values(), *(pa.array(np.ascontiguousarray(keys[:, band])) for band in range(shape.bands))]

    def _schema(self) -> pa.Schema:
        verifier = [pa.field("shingles", pa.large_list(pa.uint64()), nullable=False)]
        if not self._by_shingles:
            signature = pa.field("signature", pa.binary(4 * self.banding.minima), nullable=False)
            verifier = [signature, pa.field("signature_sum", pa.uint64(), nullable=False)]
        bands = [pa.field(f"band_{band}", pa.uint64(), nullable=False) for band in range(self.banding.bands)]
        size = pa.field("size", pa.int64(), nullable=False)
        return pa.schema([*described_schema(self.keep), size, *verifier, *bands], {SETTINGS: self.settings()})

    def made_by(self) -> dict[str, Any]:
        """How signatures are made, and whether a partial holds them or the sets of shingles."""
        holds = "shingles" if self._by_shingles else "signatures"
        return asdict(self.banding) | {"scheme": self.scheme, "seed": self.seed, "holds": holds}


def _digests(batch: Batch, found: Sketches) -> np.ndarray:
    """128 bits of each document's set of shingles or, where it has no words, of its normalised text."""
    digests, wordless = found.digests, np.flatnonzero(found.sizes == 0)
    if len(wordless):
        digests[wordless] = hash128_strings(normalised_texts(batch.texts.take(pa.array(wordless))))
    return digests
