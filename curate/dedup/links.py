"""Band by band from buckets to verified links between nodes.

Distinct pairs of all bands wait together, up to PAIRS_HELD, and are then verified at once; so a pair is verified once,
unless there are more than that (a pair that failed may then be verified, and counted, again). A link is a pair at or
above the threshold. Where only components matter, links are kept as a forest of at most one link a node.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from curate.dedup.candidates import bucket_pairs, merged, pack, unpack
from curate.dedup.corpus import Nodes
from curate.dedup.similarity import Similarity
from curate.kernels.unionfind import connected_components

PAIRS_HELD = 1 << 24
"""Candidate pairs that wait for verification: 128 MB, and twice that while a band is merged in."""


@dataclass
class Links:
    """Links between nodes, and how they were found."""

    strongest: np.ndarray
    """float64[nodes]: the greatest similarity of a node's links; NaN where it has none, or none was measured."""
    left: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    right: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    compared: int = 0
    """Candidate pairs that were verified (or taken for granted, where nothing is verified)."""
    linked: int = 0
    """Those at or above the threshold."""
    too_different: int = 0
    """Pairs of one bucket whose numbers of shingles already rule out the threshold; once for each band."""
    skipped: int = 0
    """Pairs of large buckets that were not compared; once for each band."""

    def counts(self) -> dict[str, int]:
        """The numbers for a summary."""
        return {
            "compared_pairs": self.compared,
            "linked_pairs": self.linked,
            "too_different_pairs": self.too_different,
            "skipped_pairs": self.skipped,
        }

    def add(self, left: np.ndarray, right: np.ndarray, values: np.ndarray | None) -> None:
        """Links between nodes `left` and `right`, with their similarities where they are known."""
        self.linked += len(left)
        if values is not None:
            for ends in (left, right):
                np.fmax.at(self.strongest, ends, values)
        self.left, self.right = np.concatenate([self.left, left]), np.concatenate([self.right, right])

    def thin_out(self) -> None:
        """Keep a forest with the same components."""
        labels = connected_components(len(self.strongest), self.left, self.right)
        self.right = np.flatnonzero(labels != np.arange(len(labels)))
        self.left = labels[self.right]


def find_links(
    nodes: Nodes,
    keys: Callable[[int], np.ndarray],
    *,
    bands: int,
    reach: int,
    threshold: float,
    similarity: Similarity,
    size_bounds_similarity: bool,
    all_links: bool,
) -> Links:
    """Verified links of all bands; `keys(band)` gives uint64[rows].

    `size_bounds_similarity`: the similarity is a true Jaccard, at most the ratio of the numbers of shingles, so that
    pairs of too different documents need no look. `all_links`: keep every link, not only a forest.
    """
    links = Links(np.full(len(nodes), np.nan))
    first = int(np.searchsorted(nodes.size, 1))  # nodes before it have no shingles
    rows, sizes = nodes.row[first:], nodes.size[first:]
    waiting = np.empty(0, dtype=np.uint64)

    def verify(pairs: np.ndarray) -> None:
        left, right = unpack(pairs)
        values = similarity(nodes.row[left], nodes.row[right])
        links.compared += len(pairs)
        good = values >= threshold
        links.add(left[good], right[good], values[good])
        if not all_links:
            links.thin_out()

    for band in range(bands):
        pairs, skipped = bucket_pairs(keys(band)[rows], reach)
        links.skipped += skipped
        found = []
        for left, right in pairs:
            if size_bounds_similarity:
                possible = sizes[left] / sizes[right] >= threshold
                links.too_different += len(left) - int(possible.sum())
                left, right = left[possible], right[possible]
            found.append(pack(left + first, right + first))
        waiting = merged(waiting, found)
        if len(waiting) > PAIRS_HELD:
            verify(waiting)
            waiting = np.empty(0, dtype=np.uint64)
    verify(waiting)
    return links


def linked_by_bucket(nodes: Nodes, keys: Callable[[int], np.ndarray], *, bands: int) -> Links:
    """Links without verification: each bucket is a chain, which connects all that its pairs would."""
    links = Links(np.full(len(nodes), np.nan))
    first = int(np.searchsorted(nodes.size, 1))
    for band in range(bands):
        pairs, _ = bucket_pairs(keys(band)[nodes.row[first:]], 1)
        for left, right in pairs:
            links.compared += len(left)
            links.add(left + first, right + first, None)
        links.thin_out()
    return links


def similarity_to(leader: np.ndarray, nodes: Nodes, similarity: Similarity) -> np.ndarray:
    """float64[nodes]: the similarity of each node to `leader` (int64[nodes]), 1 where it is its own."""
    led = np.flatnonzero(leader != np.arange(len(nodes)))
    values = np.ones(len(nodes))
    values[led] = similarity(nodes.row[led], nodes.row[leader[led]])
    return values
