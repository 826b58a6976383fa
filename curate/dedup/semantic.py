"""Semantic duplicates: documents whose embeddings nearly point the same way (SemDeDup, Abbas et al. 2023).

Embeddings are grouped by k-means, and compared by their cosine with all others of their group (arXiv:2303.09540,
section 3.1 and appendix A). Ours differs in that a document leaves only for a survivor that is itself similar to it,
unless the recipe says otherwise; the paper also lets chains empty a neighbourhood. Centroids come from the documents
with the smallest hashes and cosines are exact, so that no order or cut changes who stays. Costs a document: one pass
through the encoder, 2 bytes a dimension in the partial, 80 bytes on the way, and half a product of vectors for each
other document of its group. A task holds the vectors of one group: GROUP_AT_MOST, unless most of them are one crowd.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.clusters import carried_out
from curate.dedup.corpus import SETTINGS, Corpus, described, described_schema, fixed_binary, fixed_rows, with_best
from curate.dedup.cosine import cosines, paired_cosines
from curate.dedup.keep import Highest, Keep
from curate.dedup.kmeans import centroids_of, nearest_of
from curate.dedup.leaders import leaders_of
from curate.dedup.linked import GIVEN, Linked
from curate.dedup.links import LINKS_SCHEMA
from curate.dedup.similarity import Similarity
from curate.documents import Batch
from curate.kernels.hashing import hash128_strings
from curate.models.encoder import LIBRARIES, Encoder, folder_problem
from curate.rounds import KEY, KEYS, Out, Round, Tables, View, first_of_equals, mixed, places
from curate.steps import STEP_CONFIG, Outcome

Among = Literal["hardest", "easiest", "random"]
"""`hardest`: the least like its group's centroid (NeMo Curator's default); `easiest`: the most; `random`: by a hash."""

SAMPLED_PER_CLUSTER = 64
"""Documents from which each centroid is found, or more where there are fewer clusters than at most."""
SAMPLED_AT_LEAST = 1 << 14
"""Documents from which centroids are found, however few."""
GROUP_AT_MOST = 1 << 16
"""Documents that are all compared with each other (2.1 billion pairs); a larger group is cut by k-means again."""
TASKS = 64
"""Tasks that share the groups of a corpus that is too large for one."""

DRAWN_SCHEMA = pa.schema([KEY, pa.field("place", pa.uint64(), nullable=False)])
"""Documents in order of a hash of their text and the seed."""
CENTROIDS_SCHEMA = pa.schema([KEY, pa.field("centroid", pa.binary(), nullable=False)])
"""The number of a centroid, and its float16 values."""
ASSIGNED_SCHEMA = pa.schema(
    [
        KEY,  # of the centroid's number
        pa.field("centroid", pa.int64(), nullable=False),
        pa.field("place", pa.uint64(), nullable=False),
    ]
)
NEAR_SCHEMA = pa.schema([KEY, pa.field("cosine", pa.float64(), nullable=False)])
"""Product of the document at a place with its centroid."""

_BLOCK_ROWS = 1_024
"""Documents of a group that are compared with as many others at once: a million cosines."""
_LINKS_HELD = 1 << 20
"""Links that a task gathers before it makes a forest of them, which takes 350 MB."""


def load_encoder(folder: str, max_tokens: int | None) -> Encoder:
    """The encoder; kept for the next part of this process, and loaded anew if its files are others."""
    files = sorted(path for path in Path(folder).glob("*") if path.is_file())
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return _loaded(folder, max_tokens, tuple(stamps))


@lru_cache(maxsize=1)
def _loaded(folder: str, max_tokens: int | None, files: tuple[Any, ...]) -> Encoder:
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
    least_per_cluster: Annotated[int, Field(ge=1)] = 8_192
    """Documents of a group on average, at least: a corpus has fewer groups as long as comparing costs next to nothing
    beside the encoder, and up to twice as many documents are all compared with each other."""
    iterations: Annotated[int, Field(ge=1)] = 20
    """Of k-means, at most."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a text that count; null: as many as the encoder takes."""
    keep: Among | Keep = "hardest"  # type: ignore[assignment]  # of what the base has no word for: see `ordered`
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
            Round("neighbours", reads=("assigned",), gives=GIVEN, by="hash", tasks=min(self.clusters_at_most, TASKS)),
        )

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """The digest of each distinct document, and the part's share of the sample."""
        super().scatter(partial, part, out)
        has_vector = np.any(_embeddings(partial), axis=1)
        speakers = self.speakers(partial)
        rows = speakers[has_vector[speakers]]
        key = mixed(partial.column("text_hash").to_numpy()[rows] ^ np.uint64(self.seed))
        first = np.argsort(key, kind="stable")[: self._sampled]
        out.write("drawn", pa.table([key[first], places(part, rows[first])], schema=DRAWN_SCHEMA))
        out.tell(without_vector=partial.num_rows - int(has_vector.sum()))

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
        # Of hashes spread evenly, the n-th smallest of so many tells how many there are (Bar-Yossef et al. 2002).
        documents = len(key) if len(key) < self._sampled else (len(key) - 1) * KEYS // (int(key[-1]) + 1)
        count = min(self.clusters_at_most, max(1, documents // self.least_per_cluster))
        centroids = centroids_of(_vectors(view, place), count, iterations=self.iterations)
        values = pa.array([row.tobytes() for row in centroids], pa.binary())
        out.write("centroids", pa.table([np.arange(len(centroids), dtype=np.uint64), values], schema=CENTROIDS_SCHEMA))
        out.tell(groups=len(centroids))

    def assign(self, view: View, out: Out) -> None:
        """The group of each document of some parts."""
        rows = view.all_rows("centroids")
        if not rows.num_rows:
            return
        centroids = np.frombuffer(b"".join(rows.column("centroid").to_pylist()), dtype=np.float16)
        centroids = centroids.reshape(rows.num_rows, -1)
        for part in view.span.parts:
            partial = view.partial(part)
            speakers = self.speakers(partial)
            vectors = _embeddings(partial)[speakers]
            has_vector = np.any(vectors, axis=1)
            place, vectors = places(part, speakers[has_vector]), vectors[has_vector]
            known, alike = view.lookup("alike", place)  # equal texts of several parts are compared once
            alone = np.ones(len(place), dtype=bool)
            alone[known] = alike["node"] == place[known]
            place, vectors = place[alone], vectors[alone]
            nearest, product = nearest_of(vectors, centroids)
            out.write("assigned", pa.table([mixed(nearest.astype(np.uint64)), nearest, place], schema=ASSIGNED_SCHEMA))
            out.write("near", pa.table([place, product], schema=NEAR_SCHEMA))
            view.release()

    def neighbours(self, view: View, out: Out) -> None:
        """Links within the groups of a range; each group's vectors are in memory at once."""
        rows = view.rows("assigned")
        group, place = rows.column("centroid").to_numpy(), rows.column("place").to_numpy()
        order = np.lexsort((place, group))
        group, place = group[order], place[order]
        held, largest = Held(lambda links: self.hand_over(links, out)), 0
        for start, end in _runs(group):
            for own in self._pieces(view, place[start:end]):
                largest = max(largest, len(own))
                out.tell(compared_pairs=self._compare(own, _vectors(view, own), held))
                view.release()
            out.tell(split_groups=int(end - start > GROUP_AT_MOST))
        held.let_go()
        out.tell(largest_groups=[largest])

    def _pieces(self, view: View, place: np.ndarray) -> Iterator[np.ndarray]:
        """A group or, where it is too large, its parts by k-means again; one that holds most of it stays as it is."""
        if len(place) <= GROUP_AT_MOST:
            yield place
            return
        count = 2 * len(place) // GROUP_AT_MOST + 1
        hashes = mixed(Corpus(view).numbers("text_hash", place) ^ np.uint64(self.seed))
        drawn = place[np.argsort(hashes, kind="stable")[: SAMPLED_PER_CLUSTER * count]]
        centroids = centroids_of(_vectors(view, drawn), count, iterations=self.iterations)
        blocks = (place[low : low + GROUP_AT_MOST] for low in range(0, len(place), GROUP_AT_MOST))
        nearest = np.concatenate([nearest_of(_vectors(view, block), centroids)[0] for block in blocks])
        for centroid in range(len(centroids)):
            own = place[nearest == centroid]
            if 2 * len(own) > len(place):
                yield own
            elif len(own):
                yield from self._pieces(view, own)

    def _compare(self, place: np.ndarray, vectors: np.ndarray, held: "Held") -> int:
        """The links of one group; of equal vectors the first speaks for all. How many pairs were compared."""
        _, first, of = np.unique(
            vectors.view(f"V{vectors.shape[1] * vectors.itemsize}").ravel(), return_index=True, return_inverse=True
        )
        equal = np.flatnonzero(first[of] != np.arange(len(place)))
        held.add(place[first[of[equal]]], place[equal], np.ones(len(equal)))
        first.sort()
        place, vectors = place[first], vectors[first]
        for low in range(0, len(place), _BLOCK_ROWS):
            for right in range(low, len(place), _BLOCK_ROWS):
                cosine = cosines(vectors[low : low + _BLOCK_ROWS], vectors[right : right + _BLOCK_ROWS])
                one, other = np.nonzero(cosine >= self.threshold)
                new = one + low < other + right
                one, other = one[new], other[new]
                held.add(place[one + low], place[other + right], cosine[one, other])
        return len(equal) + len(place) * (len(place) - 1) // 2

    def ordered(self, view: View) -> tuple[pa.Table, Keep]:
        """The members of clusters, and the policy; the centroid's nearness enters it here."""
        members, keep = super().ordered(view)
        if self.keep in get_args(Among):
            members = members.append_column("merit", pa.array(self._merit(view, members)))
            keep = Highest(highest="merit")
        return members, keep

    def _merit(self, view: View, members: pa.Table) -> np.ndarray:
        if self.keep == "random":
            return (mixed(members.column("text_hash").to_numpy() ^ np.uint64(self.seed)) >> np.uint64(11)).astype(float)
        known, near = view.lookup("near", members.column("node").to_numpy())
        merit = np.zeros(len(known))
        merit[known] = near["cosine"] if self.keep == "easiest" else -near["cosine"]
        return merit

    def similarity(self, view: View) -> Similarity:
        """Cosine of the embeddings."""

        def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            found = np.empty(len(left))
            for low in range(0, len(left), _BLOCK_ROWS):
                some = slice(low, low + _BLOCK_ROWS)
                found[some] = paired_cosines(_vectors(view, left[some]), _vectors(view, right[some]))
                view.release()
            return found

        return cosine

    @property
    def follows_links(self) -> bool:
        """No: members are compared again where clusters are decided; a crowd of n documents has n^2 / 2 links."""
        return False

    def guard(self, view: View) -> Any:
        """Leaders of which each claims only what is similar to itself, in clusters where some are not."""
        if not self.require_similar_to_survivor:
            return None

        def chosen(nodes: np.ndarray, rank: np.ndarray, leader: np.ndarray, close: np.ndarray) -> np.ndarray:
            apart = np.unique(leader[close < self.threshold])
            some = np.flatnonzero(np.isin(leader, apart))
            some = some[np.lexsort((rank[some], leader[some]))]
            found = leader.copy()
            for low, high in _runs(leader[some]):
                own = some[low:high]
                found[own] = own[leaders_of(_vectors(view, nodes[own]), self.threshold)]
                view.release()
            return found

        return chosen

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, the largest clusters, the histogram; groups and pairs."""
        names = ("groups", "split_groups", "compared_pairs", "without_vector")
        groups = {name: told.get(name, 0) for name in names}
        return super().summary(told) | groups | {"largest_group": max(told.get("largest_groups", []), default=0)}

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Duplicates leave, with the cosine to their survivor; the others learn the size of their cluster."""
        return carried_out(batches, state, name=self.name, threshold=self.threshold)

    def made_by(self) -> dict[str, Any]:
        """How much of a text the encoder sees; its files are in the stage's fingerprint."""
        return {"max_tokens": self.max_tokens}

    @property
    def _sampled(self) -> int:
        return max(SAMPLED_AT_LEAST, SAMPLED_PER_CLUSTER * self.clusters_at_most)


class Held:
    """Links of a task until they are many enough to be handed over."""

    def __init__(self, hand_over: Callable[[pa.Table], None]) -> None:
        self._hand_over = hand_over
        self._links: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._count = 0

    def add(self, left: np.ndarray, right: np.ndarray, similarity: np.ndarray) -> None:
        """Pairs of places, the lower one left."""
        self._links.append((left, right, similarity))
        self._count += len(left)
        if self._count >= _LINKS_HELD:
            self.let_go()

    def let_go(self) -> None:
        """Hand over what is held."""
        if self._count:
            columns = [np.concatenate(column) for column in zip(*self._links, strict=True)]
            self._hand_over(pa.table(columns, schema=LINKS_SCHEMA))
        self._links, self._count = [], 0


def _vectors(view: View, place: np.ndarray) -> np.ndarray:
    """float16[n, d]: the embeddings of documents, in the order of their places as given."""
    ascending = np.argsort(place, kind="stable")
    found = Corpus(view).matrix("embedding", place[ascending], np.float16)
    vectors = np.empty_like(found)
    vectors[ascending] = found
    return vectors


def _embeddings(partial: pa.Table) -> np.ndarray:
    """float16[n, d]: of each document of a part; zeros where it has none."""
    return fixed_rows(partial.column("embedding"), np.float16)


def _runs(ordered: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where each run of equal values starts, and where it ends."""
    return pairwise([*np.flatnonzero(first_of_equals(ordered)).tolist(), len(ordered)])
