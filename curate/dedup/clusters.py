"""From clusters to the fate of every document: who survives, and what the others are told.

Members of a cluster come together in one task (MEMBERS_SCHEMA): of the documents of one part and one digest, the best
few, with the number that they stand for. The fates (FATES_SCHEMA) go back to the parts, one row a part and digest.
State of a part, one row a document in the order of `map` (STATE_SCHEMA): `similarity` is always that to the survivor
itself, also where a document came into the cluster through a third one: it can then lie below the threshold, and
`link`, the greatest similarity to any document it was linked with, tells why it is there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.index import DUMP, OWN, STANDING
from curate.dedup.keep import Keep, merit_fields, preference
from curate.dedup.similarity import Similarity
from curate.dedup.told import with_what_is_told
from curate.documents import Batch
from curate.rounds import KEY, mixed, part_of, places
from curate.steps import Outcome, departures

STATE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("survivor", pa.string()),  # id of the document kept in its place; null if it is kept itself
        pa.field("survivor_part", pa.int64()),  # part that it is in
        pa.field("cluster", pa.string()),  # id of the survivor, also for the survivor; null if alone
        pa.field("cluster_size", pa.int64(), nullable=False),  # documents of the cluster, 1 if alone
        pa.field("similarity", pa.float64()),  # to the survivor; null if it is kept
        pa.field("link", pa.float64()),  # greatest similarity to a document it was linked with; null if none or unknown
    ]
)
LARGEST_SHOWN = 10
MEMBERS_SHOWN = 5
HISTOGRAM_BINS = 20

FATES_SCHEMA = pa.schema(
    [
        KEY,  # place of the document that speaks for those of its digest in its part
        pa.field("survivor", pa.uint64(), nullable=False),  # place
        pa.field("survivor_id", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),  # documents of the cluster
        pa.field("similarity", pa.float64(), nullable=False),  # to the survivor
        pa.field("link", pa.float64(), nullable=False),  # NaN if unknown
    ]
)

EDGES_SCHEMA = pa.schema(
    [
        KEY,  # of the cluster, as in MEMBERS_SCHEMA
        pa.field("left", pa.uint64(), nullable=False),
        pa.field("right", pa.uint64(), nullable=False),
    ]
)


def members_schema(keep: Keep) -> pa.Schema:
    """One row a document that may be named or kept."""
    fields = [
        KEY,  # the root's place, mixed
        pa.field("root", pa.uint64(), nullable=False),  # lowest place of the cluster
        pa.field("node", pa.uint64(), nullable=False),  # lowest place among those of its digest that speak for a part
        pa.field("place", pa.uint64(), nullable=False),
        pa.field("speaks", pa.bool_(), nullable=False),  # it is the one that speaks for its digest in its part
        pa.field("count", pa.int64(), nullable=False),  # documents that this row stands for
        pa.field("link", pa.float64(), nullable=False),  # of the node; NaN if unknown
        pa.field("id", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("text_hash", pa.uint64(), nullable=False),
    ]
    return pa.schema([*fields, *merit_fields(keep)])


def members_of(
    partial: pa.Table,
    part: int,
    keep: Keep,
    of_speakers: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
) -> pa.Table:
    """The rows of one part, of clusters only.

    `of_speakers` gives, for the places that speak for a digest, their node, root, link, and whether anybody of another
    part or digest belongs to them.
    """
    best = partial.column("best").to_numpy()
    alike = np.bincount(best, minlength=len(best))
    speakers = np.flatnonzero(alike)
    place = places(part, speakers)
    node, root, link, joined = of_speakers(place)
    chosen = np.zeros(len(best), dtype=bool)
    chosen[speakers] = joined | (alike[speakers] > 1)
    rows = np.flatnonzero(chosen[best])
    columns = ["id", "bytes", "text_hash", *(field.name for field in merit_fields(keep))]
    described = partial.select(columns).take(pa.array(rows))
    shown = _best_few(best[rows], alike[best[rows]] > 1, described, rows, keep)
    rows, described = rows[shown], described.take(pa.array(shown))
    speaks = best[rows] == rows
    seen = np.bincount(best[rows], minlength=len(best))
    count = np.where(speaks, alike[rows] - seen[rows] + 1, 1)
    of = np.searchsorted(speakers, best[rows])
    own = [root[of], node[of], places(part, rows), speaks, count, link[of]]
    return pa.table([mixed(root[of]), *own, *described.columns], schema=members_schema(keep))


def _best_few(best: np.ndarray, repeated: np.ndarray, documents: pa.Table, rows: np.ndarray, keep: Keep) -> np.ndarray:
    """Positions of the documents that are sent: of equal ones those that a summary could name."""
    alone, copies = np.flatnonzero(~repeated), np.flatnonzero(repeated)
    if not len(copies):
        return alone
    ordered = copies[preference(documents.take(pa.array(copies)), rows[copies], keep)]
    ordered = ordered[np.argsort(best[ordered], kind="stable")]
    starts = np.flatnonzero(np.diff(best[ordered], prepend=-1))
    number = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    return np.sort(np.concatenate([alone, ordered[number <= MEMBERS_SHOWN]]))


def decided(
    members: pa.Table,
    keep: Keep,
    similarity: Similarity,
    *,
    threshold: float,
    guard: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """The fates (FATES_SCHEMA) of whole clusters, and facts for the summary.

    `guard(nodes, rank, leader, similarity to it)` may choose other leaders: positions of nodes, one each.
    """
    place, count, id_of = members.column("place").to_numpy(), members.column("count").to_numpy(), members.column("id")
    rank = np.empty(len(place), dtype=np.int64)
    order = preference(members, place, keep)
    own = np.ones(len(place), dtype=bool)
    if STANDING.name in members.schema.names:
        standing = members.column(STANDING.name).to_numpy()
        order, own = order[np.argsort(standing[order], kind="stable")], standing == OWN
    rank[order] = np.arange(len(order))
    nodes, of = np.unique(members.column("node").to_numpy(), return_inverse=True)
    documents = np.bincount(of, weights=count, minlength=len(nodes)).astype(np.int64)
    node_rank = np.full(len(nodes), len(place), dtype=np.int64)
    np.minimum.at(node_rank, of, rank)
    root = np.empty(len(nodes), dtype=np.uint64)
    root[of] = members.column("root").to_numpy()
    leader = _leaders(root, node_rank)
    close = _to_leader(nodes, leader, similarity)
    if guard:
        leader = guard(nodes, node_rank, leader, close)
        close = _to_leader(nodes, leader, similarity)
    size = np.bincount(leader, weights=documents, minlength=len(nodes)).astype(np.int64)[leader]
    survivor = order[node_rank[leader]] if len(nodes) else leader
    link = np.empty(len(nodes))
    link[of] = members.column("link").to_numpy()
    link[documents > 1] = 1.0
    told = np.flatnonzero(members.column("speaks").to_numpy() & (size[of] > 1) & own)
    at = of[told]
    names = id_of.take(pa.array(survivor[at]))
    columns = [place[told], place[survivor[at]], names, size[at], close[at], link[at]]
    best = order[node_rank] if len(nodes) else order
    removed = np.bincount(of, weights=count * own, minlength=len(nodes)).astype(np.int64)
    removed -= (leader == np.arange(len(nodes))) & own[best]
    facts = _facts(id_of, of, rank, leader, size, removed, close, threshold, best)
    return pa.table(columns, schema=FATES_SCHEMA), facts


def _leaders(root: np.ndarray, node_rank: np.ndarray) -> np.ndarray:
    """The most preferred node of each node's cluster, as positions."""
    _, cluster = np.unique(root, return_inverse=True)
    order = np.argsort(node_rank)[::-1]
    leader = np.empty(len(root), dtype=np.int64)
    leader[cluster[order]] = order
    return leader[cluster]


def _to_leader(nodes: np.ndarray, leader: np.ndarray, similarity: Similarity) -> np.ndarray:
    led = np.flatnonzero(leader != np.arange(len(nodes)))
    values = np.ones(len(nodes))
    if len(led):
        values[led] = similarity(nodes[led], nodes[leader[led]])
    return values


def _facts(
    ids: pa.ChunkedArray,
    of: np.ndarray,
    rank: np.ndarray,
    leader: np.ndarray,
    size: np.ndarray,
    removed: np.ndarray,
    close: np.ndarray,
    threshold: float,
    best: np.ndarray,
) -> dict[str, Any]:
    """Counts, a histogram of the similarities of those that leave, and the largest clusters with their least similar.

    `of`, `rank`: of each row of the members; the others of each node: `removed` documents, `best` its best row.
    """
    leads = leader == np.arange(len(leader))
    bins = np.minimum((close * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    counts = np.bincount(bins, weights=removed, minlength=HISTOGRAM_BINS)
    clusters = np.flatnonzero(leads & (np.bincount(leader, weights=removed, minlength=len(leader)) > 0))
    return {
        "clusters": len(clusters),
        "removed": int(removed.sum()),
        "removed_below_threshold": int(removed[close < threshold].sum()),
        "similarities": {str(number): int(count) for number, count in enumerate(counts) if count},
        "largest": _largest(ids, clusters, of, rank, leader, size, close, best),
    }


def _largest(
    ids: pa.ChunkedArray,
    clusters: np.ndarray,
    of: np.ndarray,
    rank: np.ndarray,
    leader: np.ndarray,
    size: np.ndarray,
    close: np.ndarray,
    best: np.ndarray,
) -> list[dict[str, Any]]:
    if len(clusters) > LARGEST_SHOWN:  # names are only asked for where they can matter
        least = np.partition(size[clusters], -LARGEST_SHOWN)[-LARGEST_SHOWN]
        clusters = clusters[size[clusters] >= least]
    names = dict(zip(clusters.tolist(), ids.take(pa.array(best[clusters])).to_pylist(), strict=True))
    shown = []
    for cluster in sorted(names, key=lambda cluster: (-size[cluster], names[cluster]))[:LARGEST_SHOWN]:
        rows = np.flatnonzero(leader[of] == cluster)
        rows = rows[rows != best[cluster]]
        values = close[of[rows]]
        weakest = rows[np.lexsort((rank[rows], values))][:MEMBERS_SHOWN]
        shown.append(
            {
                "survivor": names[cluster],
                "size": int(size[cluster]),
                "lowest_similarity": float(values.min()),
                "least_similar": ids.take(pa.array(weakest)).to_pylist(),
            }
        )
    return shown


def summary_of(told: dict[str, Any]) -> dict[str, Any]:
    """What all methods say: counts, the largest clusters, the histogram."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1).round(6).tolist()
    counts = [told.get("similarities", {}).get(str(number), 0) for number in range(HISTOGRAM_BINS)]
    largest = sorted(told.get("largest", []), key=lambda cluster: (-cluster["size"], cluster["survivor"]))
    numbers = ("documents", "distinct_documents", "clusters", "removed", "removed_below_threshold")
    return {name: told.get(name, 0) for name in numbers} | {
        "largest_clusters": largest[:LARGEST_SHOWN],
        "similarity_histogram": {"edges": edges, "counts": counts},
    }


def survivors_of(partial: pa.Table, part: int, fates: pa.Table) -> np.ndarray:
    """uint64: the place of the document that stays for each of a part; its own, of those that stay themselves."""
    return _survivors(part, fates, *_fates_of(partial, part, fates))


def _survivors(part: int, fates: pa.Table, known: np.ndarray, fate: np.ndarray) -> np.ndarray:
    survivor = places(part, np.arange(len(known)))
    survivor[known] = fates.column("survivor").to_numpy()[fate[known]]
    return survivor


def _fates_of(partial: pa.Table, part: int, fates: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Which documents of a part are told of (bool), and in which row."""
    best = partial.column("best").to_numpy()
    keys = fates.column("key").to_numpy()
    order = np.argsort(keys)
    speaker = places(part, best)
    at = np.searchsorted(keys[order], speaker)
    known = at < len(keys)
    known[known] = keys[order[at[known]]] == speaker[known]
    at = order[at[known]]
    fate = np.zeros(len(best), dtype=np.int64)
    fate[known] = at
    return known, fate


def state_of(partial: pa.Table, part: int, fates: pa.Table) -> pa.Table:
    """STATE_SCHEMA of one part, from its fates."""
    known, fate = _fates_of(partial, part, fates)
    gone = _survivors(part, fates, known, fate) != places(part, np.arange(len(known)))

    def told(name: str, wanted: np.ndarray) -> pa.ChunkedArray:
        return fates.column(name).take(pa.array(fate, mask=~wanted))

    link = told("link", known)
    columns = [
        partial.column("id"),
        told("survivor_id", gone),
        pa.array(part_of(fates.column("survivor").to_numpy())).take(pa.array(fate, mask=~gone)),
        told("survivor_id", known),
        pc.fill_null(told("size", known), 1),
        told("similarity", gone),
        pc.if_else(pc.is_nan(link), None, link),
    ]
    return pa.table(columns, schema=STATE_SCHEMA)


def _dumps_named(gone: pa.Table) -> pa.Array | None:
    """Where the survivors of removed documents are, for those whose survivor is in an index."""
    if DUMP.name not in gone.schema.names:
        return None
    named = gone.column(DUMP.name).combine_chunks()
    return pc.binary_join_element_wise("kept in dump ", named, " of the index", "")


def carried_out(
    batches: Iterator[Batch], state: pa.Table, *, name: str, threshold: float | None = None
) -> Iterator[Outcome]:
    """One outcome a batch: who has a survivor leaves as its duplicate, the others get the columns `NAME.cluster`
    (its own id; null if alone) and `NAME.cluster_size`.

    Raises MismatchError if the documents are not those that `map` saw, in that order.
    """
    for batch, told in with_what_is_told(batches, state, name=name):
        kept = pc.is_null(told.column("survivor")).to_numpy()
        gone = told.filter(pa.array(~kept))
        left = departures(
            np.flatnonzero(~kept),
            "duplicate",
            rule=name,
            value=gone.column("similarity").to_numpy(),
            threshold=threshold,
            survivor=gone.column("survivor").combine_chunks(),
            survivor_part=gone.column("survivor_part").combine_chunks(),
            error=_dumps_named(gone),
        )
        staying, after = told.filter(pa.array(kept)), batch.filter(kept)
        for column in ("cluster", "cluster_size"):
            after = after.with_column(f"{name}.{column}", staying.column(column).combine_chunks())
        yield Outcome(after, left)
