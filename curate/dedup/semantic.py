"""Semantic duplicates: documents whose embeddings nearly point the same way (SemDeDup, Abbas et al. 2023).

Embeddings are grouped by k-means, and compared by their cosine with all others of their group (arXiv:2303.09540,
section 3.1 and appendix A). Ours differs in that a document leaves only for a survivor that is itself similar to it,
unless the recipe says otherwise; the paper also lets chains empty a neighbourhood. Centroids come from the documents
with the smallest hashes, so that they depend on no order. Costs a document: one pass through the encoder, 2 bytes a
dimension in the partial, 48 bytes on the way, and `documents / clusters` products of vectors; a task holds one group.
"""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.clusters import carried_out, decided
from curate.dedup.corpus import SETTINGS, Corpus, described, described_schema, fixed_binary, fixed_rows, with_best
from curate.dedup.keep import Highest, Keep, as_written
from curate.dedup.kmeans import centroids_of, nearest_of
from curate.dedup.linked import GIVEN, Linked
from curate.dedup.links import LINKS_SCHEMA
from curate.dedup.similarity import Similarity
from curate.documents import Batch
from curate.kernels.hashing import hash128_strings
from curate.models.encoder import LIBRARIES, Encoder, folder_problem
from curate.rounds import KEY, Out, Round, Tables, View, mixed, places
from curate.steps import STEP_CONFIG, Outcome

Among = Literal["hardest", "easiest", "random"]
"""`hardest`: the least like its group's centroid (NeMo Curator's default); `easiest`: the most; `random`: by a hash."""

SAMPLED_PER_CLUSTER = 64
"""Documents from which each centroid is found."""
LEAST_PER_CLUSTER = 8
"""Documents of the sample that a cluster has on average, at least: a small corpus has fewer clusters."""
DECIMALS = 5
"""Cosines are rounded to this many decimals before a threshold sees them."""

DRAWN_SCHEMA = pa.schema([KEY, pa.field("place", pa.uint64(), nullable=False)])
"""Documents in order of a hash of their text and the seed."""
CENTROIDS_SCHEMA = pa.schema([KEY, pa.field("centroid", pa.binary(), nullable=False)])
"""The number of a centroid, and its float32 values."""
ASSIGNED_SCHEMA = pa.schema(
    [
        KEY,  # of the centroid's number
        pa.field("centroid", pa.int64(), nullable=False),
        pa.field("place", pa.uint64(), nullable=False),
    ]
)
NEAR_SCHEMA = pa.schema([KEY, pa.field("cosine", pa.float64(), nullable=False)])
"""Cosine of the document at a place to its centroid."""

_BLOCK_ROWS = 4_096
"""Documents of a group that are compared with the others at once: 64 MB against as many."""


@lru_cache(maxsize=1)
def load_encoder(folder: str, max_tokens: int | None) -> Encoder:
    """The encoder; kept for the next part."""
    return Encoder(Path(folder), max_tokens=max_tokens)


@dataclass(kw_only=True, config=STEP_CONFIG)
class Semantic(Linked):
    """Keeps one document of each cluster of documents that say the same; texts that are equal, or empty, are one.

    Adds the columns `semantic.cluster` (string: the survivor's id, null if alone) and `semantic.cluster_size` (int64)
    to those that stay.
    """

    name: ClassVar[str] = "semantic"
    version: ClassVar[int] = 1
    artifact_fields: ClassVar[tuple[str, ...]] = ("encoder",)

    encoder: str
    """Folder of a transformers or sentence-transformers encoder with safetensors (curate.models.encoder)."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Least cosine of two duplicates: 1 - epsilon of SemDeDup; .99 is NeMo Curator's default."""
    clusters_at_most: Annotated[int, Field(ge=1)] = 1_000
    """Groups within which documents are compared: more are faster, and separate more pairs. NeMo Curator's default."""
    iterations: Annotated[int, Field(ge=1)] = 20
    """Of k-means, at most."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a text that count; null: as many as the encoder takes."""
    keep: Among | Keep = "hardest"
    require_similar_to_survivor: bool = True
    """Remove a document only if it is itself similar to the survivor."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1

    @classmethod
    def problem_of(cls, field: str, path: Path) -> str | None:
        """Why a folder cannot be an encoder."""
        return folder_problem(path)

    @property
    def libraries(self) -> tuple[str, ...]:
        """What embeddings depend on."""
        return LIBRARIES

    @property
    def policy(self) -> Keep:
        """The policy by what is known of a document alone; what the centroid tells is added where clusters are."""
        return "first" if self.keep in get_args(Among) else self.keep  # type: ignore[return-value]

    @property
    def least_similarity(self) -> float:
        """The threshold."""
        return self.threshold

    def parameters(self) -> dict[str, Any]:
        """The parameters, `keep` as the recipe writes it."""
        return super().parameters() | {"keep": self.keep if isinstance(self.keep, str) else as_written(self.keep)}

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: id, bytes, hashes, and its embedding."""
        encoder = load_encoder(self.encoder, self.max_tokens)
        width = 2 * encoder.dimensions
        fields = [*described_schema(self.policy), pa.field("embedding", pa.binary(width), nullable=False)]
        schema = pa.schema(fields, {SETTINGS: self.settings()})
        rows = [pa.RecordBatch.from_arrays(self._described(batch, encoder), schema=schema) for batch in batches]
        return with_best(pa.Table.from_batches(rows, schema), self.policy)

    def _described(self, batch: Batch, encoder: Encoder) -> list[pa.Array]:
        texts = batch.texts
        columns = described(batch, hash128_strings(texts), self.policy)
        return [*columns.values(), fixed_binary(encoder.encode(texts))]

    def tables(self) -> Tables:
        """What goes from round to round."""
        own = {"drawn": DRAWN_SCHEMA, "centroids": CENTROIDS_SCHEMA, "assigned": ASSIGNED_SCHEMA, "near": NEAR_SCHEMA}
        return {**super().tables(), **own}

    def finding(self) -> Sequence[Round]:
        """Centroids, the group of each document, pairs within groups."""
        return (
            Round("centroids", reads=("drawn",), gives=("centroids",), by="once"),
            Round("assign", reads=("drawn",), gives=("assigned", "near"), by="part", row_bytes=2_048),
            Round("neighbours", reads=("assigned",), gives=GIVEN, by="hash"),
        )

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The digest of each distinct document, and the part's share of the sample."""
        super().scatter(partial, part, out)
        rows, _ = self._embedded(partial)
        key = mixed(partial.column("text_hash").to_numpy()[rows] ^ np.uint64(self.seed))
        first = np.argsort(key, kind="stable")[: self._sampled]
        out.write("drawn", pa.table([key[first], places(part, rows[first])], schema=DRAWN_SCHEMA))
        out.tell(without_text=partial.num_rows - int(_has_vector(partial).sum()))

    def centroids(self, view: View, out: Out) -> None:
        """Centroids of the documents with the smallest hashes."""
        key, place = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64)
        for run in view.runs("drawn"):
            key, place = (
                np.concatenate([held, run.column(name).to_numpy()]) for held, name in ((key, "key"), (place, "place"))
            )
            key, first = np.unique(key, return_index=True)  # of equal texts one
            key, place = key[: self._sampled], place[first[: self._sampled]]
        if not len(place):
            return
        ascending = np.argsort(place)
        vectors = np.empty_like(found := Corpus(view).matrix("embedding", place[ascending], np.float16))
        vectors[ascending] = found
        count = min(self.clusters_at_most, max(1, len(vectors) // LEAST_PER_CLUSTER))
        centroids = centroids_of(vectors, count, iterations=self.iterations)
        values = pa.array([row.tobytes() for row in centroids], pa.binary())
        out.write("centroids", pa.table([np.arange(len(centroids), dtype=np.uint64), values], schema=CENTROIDS_SCHEMA))
        out.tell(groups=len(centroids))

    def assign(self, view: View, out: Out) -> None:
        """The group of each document of some parts."""
        rows = view.all_rows("centroids")
        if not rows.num_rows:
            return
        centroids = np.frombuffer(b"".join(rows.column("centroid").to_pylist()), dtype=np.float32)
        centroids = centroids.reshape(rows.num_rows, -1)
        for part in view.span.parts:
            of_part, vectors = self._embedded(view.partial(part))
            place = places(part, of_part)
            known, alike = view.lookup("alike", place)  # equal texts of several parts are compared once
            alone = np.ones(len(place), dtype=bool)
            alone[known] = alike["node"] == place[known]
            place, vectors = place[alone], vectors[alone]
            nearest, cosine = nearest_of(vectors, centroids)
            out.write("assigned", pa.table([mixed(nearest.astype(np.uint64)), nearest, place], schema=ASSIGNED_SCHEMA))
            out.write("near", pa.table([place, cosine.astype(np.float64).round(DECIMALS)], schema=NEAR_SCHEMA))
            view.release()

    def neighbours(self, view: View, out: Out) -> None:
        """Links within the groups of a range; each group's vectors are in memory at once."""
        rows = view.rows("assigned")
        group, place = rows.column("centroid").to_numpy(), rows.column("place").to_numpy()
        order = np.lexsort((place, group))
        group, place = group[order], place[order]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(group)]):
            self.hand_over(self._links(view, place[start:end]), out)
            out.tell(compared_pairs=(end - start) * (end - start - 1) // 2)
            view.release()

    def _links(self, view: View, place: np.ndarray) -> pa.Table:
        """Pairs of one group that are similar enough; `place` ascends."""
        vectors = Corpus(view).matrix("embedding", place, np.float16).astype(np.float32)
        found = []
        for low in range(0, len(place), _BLOCK_ROWS):
            left = vectors[low : low + _BLOCK_ROWS]
            for right in range(low, len(place), _BLOCK_ROWS):
                cosine = (left @ vectors[right : right + _BLOCK_ROWS].T).round(DECIMALS)
                one, other = np.nonzero(cosine >= np.float32(self.threshold))
                values = cosine[one, other].astype(np.float64)
                one, other = one + low, other + right
                new = one < other
                found.append((place[one[new]], place[other[new]], values[new]))
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        return pa.table(columns, schema=LINKS_SCHEMA)

    def clusters(self, view: View, out: Out) -> None:
        """Survivors, and the fates of the others; the centroid's nearness enters the policy here."""
        members, keep = view.rows("members"), self.policy
        if self.keep in get_args(Among):
            members = members.append_column("merit", pa.array(self._merit(view, members)))
            keep = Highest(highest="merit")
        fates, facts = decided(members, keep, self.similarity(view), threshold=self.required, guard=self.guard(view))
        out.write("fates", fates)
        out.tell(**facts)

    def _merit(self, view: View, members: pa.Table) -> np.ndarray:
        if self.keep == "random":
            return (mixed(members.column("text_hash").to_numpy() ^ np.uint64(self.seed)) >> np.uint64(11)).astype(float)
        known, near = view.lookup("near", members.column("node").to_numpy())
        merit = np.zeros(len(known))
        merit[known] = near["cosine"] if self.keep == "easiest" else -near["cosine"]
        return merit

    def similarity(self, view: View) -> Similarity:
        """Cosine of the embeddings."""
        corpus = Corpus(view)

        def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            found = np.empty(len(left))
            for low in range(0, len(left), _BLOCK_ROWS):
                some = slice(low, low + _BLOCK_ROWS)
                place, which = np.unique(np.concatenate([left[some], right[some]]), return_inverse=True)
                vectors = corpus.matrix("embedding", place, np.float16).astype(np.float32)
                half = len(which) // 2
                products = np.einsum("nd,nd->n", vectors[which[:half]], vectors[which[half:]])
                found[some] = products.round(DECIMALS)
                view.release()
            return found

        return cosine

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, the largest clusters, the histogram; groups and pairs."""
        names = ("groups", "compared_pairs", "without_text")
        return super().summary(told) | {name: told.get(name, 0) for name in names}

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Duplicates leave, with the cosine to their survivor; the others learn the size of their cluster."""
        return carried_out(batches, state, name=self.name, threshold=self.threshold)

    def settings(self) -> bytes:
        """By which parameters a partial is made."""
        made_by = {"method": self.name, "version": self.version, "max_tokens": self.max_tokens}
        return json.dumps(made_by | {"keep": as_written(self.policy)}, sort_keys=True).encode()

    @property
    def _sampled(self) -> int:
        return SAMPLED_PER_CLUSTER * self.clusters_at_most

    def _embedded(self, partial: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Rows that speak for a text and have a vector, and their vectors, float16."""
        rows = self.speakers(partial)
        vectors = fixed_rows(partial.column("embedding"), np.float16)
        rows = rows[_has_vector(partial)[rows]]
        return rows, vectors[rows]


def _has_vector(partial: pa.Table) -> np.ndarray:
    return fixed_rows(partial.column("embedding"), np.float16).any(axis=1)
