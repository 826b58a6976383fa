"""From clusters of nodes to the fate of every document: who survives, and what the others are told.

State of a part, one row a document in the order of `map` (STATE_SCHEMA). `similarity` is always that to the survivor
itself, also where a document came into the cluster through a third one: it can then lie below the threshold, and
`link`, the greatest similarity to any document it was linked with, tells why it is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.corpus import Corpus, Keep, Nodes
from curate.documents import Batch
from curate.errors import MismatchError
from curate.steps import Outcome, State, departures

STATE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("survivor", pa.string()),  # id of the document kept in its place; null if it is kept itself
        pa.field("cluster", pa.string()),  # id of the survivor, also for the survivor; null if alone
        pa.field("cluster_size", pa.int64(), nullable=False),  # documents of the cluster, 1 if alone
        pa.field("similarity", pa.float64()),  # to the survivor; null if it is kept
        pa.field("link", pa.float64()),  # greatest similarity to a document it was linked with; null if none or unknown
    ]
)
LARGEST_SHOWN = 10
MEMBERS_SHOWN = 5
HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class Preference:
    """Which documents are rather kept, among those that have a duplicate at all."""

    rank: np.ndarray
    """int64[nodes]: place of a node's best document in the order of preference, 0 first; nodes that are alone last."""
    row: np.ndarray
    """int64[nodes]: that document."""

    @classmethod
    def of(cls, corpus: Corpus, nodes: Nodes, labels: np.ndarray, keep: Keep) -> "Preference":
        """The preference of the policy `keep` within the groups of nodes of equal label."""
        group = labels[nodes.of_row]
        rows = np.flatnonzero(np.bincount(group, minlength=len(nodes))[group] > 1)
        ordered = rows[_ordered(corpus, rows, keep)]
        rank = np.full(len(nodes), len(corpus), dtype=np.int64)
        np.minimum.at(rank, nodes.of_row[ordered], np.arange(len(ordered)))
        row = nodes.row.copy()
        ranked = rank < len(ordered)
        row[ranked] = ordered[rank[ranked]]
        return cls(rank, row)

    def leaders(self, labels: np.ndarray) -> np.ndarray:
        """int64[nodes]: the most preferred node of each node's group."""
        best = np.full(len(labels), np.iinfo(np.int64).max)
        np.minimum.at(best, labels, self.rank)
        leads = np.flatnonzero(self.rank == best[labels])
        leader = np.empty(len(labels), dtype=np.int64)
        leader[labels[leads]] = leads
        return leader[labels]


def _ordered(corpus: Corpus, rows: np.ndarray, keep: Keep) -> np.ndarray:
    columns: dict[str, Any] = {
        "id": corpus.strings("id", rows),
        "text_hash": pa.array(corpus.numbers("text_hash")[rows]),
        "row": pa.array(rows),
    }
    keys = [(name, "ascending") for name in columns]
    if keep == "longest":
        columns["bytes"] = pa.array(corpus.numbers("bytes")[rows])
        keys = [("bytes", "descending"), *keys]
    if keep == "newest":
        columns["date"] = corpus.strings("date", rows)
        keys = [("date", "descending"), *keys]
    return pc.sort_indices(pa.table(columns), sort_keys=keys).to_numpy().astype(np.int64)


def state_of(
    corpus: Corpus,
    nodes: Nodes,
    preference: Preference,
    leader: np.ndarray,
    *,
    similarity: np.ndarray,
    link: np.ndarray,
    threshold: float,
) -> State:
    """The decision for all parts, and its summary.

    `leader` int64[nodes]: the node that survives for each node; `similarity` float64[nodes]: that to the leader; `link`
    float64[nodes]: the greatest similarity to another node, NaN where unknown. Documents of one node have similarity 1.
    """
    alike = np.bincount(nodes.of_row, minlength=len(nodes))
    node_link = np.where(alike > 1, 1.0, link)
    leader_row = leader[nodes.of_row]
    size = np.bincount(leader_row, minlength=len(nodes))[leader_row]
    survivor = preference.row[leader_row]
    clustered = np.flatnonzero(size > 1)
    ids = corpus.strings("id", clustered)
    parts = []
    removed = survivor != np.arange(len(corpus))
    for start, end, partial in zip(corpus.starts[:-1], corpus.starts[1:], corpus.partials, strict=True):
        rows = slice(start, end)
        gone = removed[rows]
        place = np.minimum(np.searchsorted(clustered, survivor[rows]), max(len(clustered) - 1, 0))
        columns = [
            partial.column("id"),
            ids.take(pa.array(place, mask=~gone)).cast(pa.string()),
            ids.take(pa.array(place, mask=size[rows] == 1)).cast(pa.string()),
            pa.array(size[rows], pa.int64()),
            pa.array(similarity[nodes.of_row[rows]], mask=~gone),
            _known(node_link[nodes.of_row[rows]], size[rows] > 1),
        ]
        parts.append(pa.table(columns, schema=STATE_SCHEMA))
    values = similarity[nodes.of_row[removed]]
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    summary = {
        "documents": len(corpus),
        "distinct_documents": len(nodes),
        "clusters": len(np.unique(leader_row[clustered])),
        "removed": int(removed.sum()),
        "removed_below_threshold": int((values < threshold).sum()),
        "largest_clusters": _largest(ids, clustered, survivor, similarity[nodes.of_row]),
        "similarity_histogram": {"edges": edges.round(6).tolist(), "counts": counts.tolist()},
    }
    return State(parts, summary)


def _known(values: np.ndarray, wanted: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~wanted | np.isnan(values))


def _largest(
    ids: pa.Array, clustered: np.ndarray, survivor: np.ndarray, similarity: np.ndarray
) -> list[dict[str, Any]]:
    kept, group, sizes = np.unique(survivor[clustered], return_inverse=True, return_counts=True)
    names = ids.take(pa.array(np.searchsorted(clustered, kept))).to_pylist()
    largest = sorted(range(len(kept)), key=lambda number: (-sizes[number], names[number]))[:LARGEST_SHOWN]
    shown = []
    for number in largest:
        members = clustered[group == number]
        others = members[members != kept[number]]
        weakest_first = others[np.argsort(similarity[others], kind="stable")]
        sample = ids.take(pa.array(np.searchsorted(clustered, weakest_first[:MEMBERS_SHOWN]))).to_pylist()
        shown.append(
            {
                "survivor": names[number],
                "size": int(sizes[number]),
                "lowest_similarity": float(similarity[others].min()),
                "least_similar": sample,
            }
        )
    return shown


def carried_out(
    batches: Iterator[Batch], state: pa.Table, *, name: str, threshold: float | None = None
) -> Iterator[Outcome]:
    """One outcome a batch: who has a survivor leaves as its duplicate, the others get the column `NAME.cluster_size`.

    Raises MismatchError if the documents are not those that `map` saw, in that order.
    """
    row = 0
    for batch in batches:
        told = state.slice(row, len(batch))
        if told.num_rows != len(batch) or not pa.chunked_array([batch.ids]).equals(told.column("id")):
            raise MismatchError(
                f"`{name}`: from document {row} of this part on, the documents are not those that were compared: "
                "its input has changed since. Run the stage again from its first part."
            )
        row += len(batch)
        kept = pc.is_null(told.column("survivor")).to_numpy()
        gone = told.filter(pa.array(~kept))
        left = departures(
            np.flatnonzero(~kept),
            "duplicate",
            rule=name,
            value=gone.column("similarity").to_numpy(),
            threshold=threshold,
            survivor=gone.column("survivor").combine_chunks(),
        )
        sizes = told.column("cluster_size").filter(pa.array(kept)).combine_chunks()
        yield Outcome(batch.filter(kept).with_column(f"{name}.cluster_size", sizes), left)
    if row != state.num_rows:
        raise MismatchError(
            f"`{name}`: this part has {row} documents, but {state.num_rows} were compared: "
            "its input has changed since. Run the stage again from its first part."
        )
