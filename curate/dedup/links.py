"""From buckets to verified links between nodes: a link is a pair at or above the threshold, compared once.

A task holds its range of pairs several times over; nothing goes on for documents without a link.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.dedup.candidates import Buckets
from curate.dedup.similarity import Similarity
from curate.rounds import KEY, first_of_equals, key_order

PAIRS_HELD = 1 << 22
"""Candidate pairs that a task gathers before it writes them."""

PAIRS_SCHEMA = pa.schema([KEY, pa.field("right", pa.uint64(), nullable=False)])
"""A pair of nodes by their places; the lower one is the key."""

LINKS_SCHEMA = pa.schema([*PAIRS_SCHEMA, pa.field("similarity", pa.float64(), nullable=False)])


@dataclass
class Made:
    """Counts of the pairs of some buckets."""

    too_different: int = 0
    """Pairs of one bucket whose numbers of shingles already rule out the threshold; once for each band."""
    skipped: int = 0
    """Pairs of large buckets that were not compared; once for each band."""


def candidate_pairs(buckets: Buckets, *, reach: int, least_ratio: float, made: Made) -> Iterator[pa.Table]:
    """Tables of PAIRS_SCHEMA, distinct within each; pairs whose sizes have a lower ratio than `least_ratio` are counted
    only: a Jaccard similarity is at most that ratio."""
    pairs, skipped = buckets.pairs(reach)
    made.skipped += skipped
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for left, right in pairs:
        possible = buckets.sizes[left] / buckets.sizes[right] >= least_ratio
        made.too_different += len(left) - int(possible.sum())
        one, other = buckets.nodes[left[possible]], buckets.nodes[right[possible]]
        held.append((np.minimum(one, other), np.maximum(one, other)))
        if sum(len(ends) for ends, _ in held) >= PAIRS_HELD:
            yield _distinct(held)
            held = []
    if held:
        yield _distinct(held)


def _distinct(held: list[tuple[np.ndarray, np.ndarray]]) -> pa.Table:
    left, right = (np.concatenate(side) for side in zip(*held, strict=True))
    return pa.table(distinct_pairs(left, right), schema=PAIRS_SCHEMA)


def distinct_pairs(left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """The distinct pairs, in order of left, then right."""
    order = key_order(right)
    order = order[key_order(left[order])]
    left, right = left[order], right[order]
    new = first_of_equals(left, right)
    return [left[new], right[new]]


def verified(pairs: pa.Table, similarity: Similarity | None, threshold: float) -> tuple[pa.Table, int]:
    """The links among the pairs (LINKS_SCHEMA), and how many distinct pairs there are; without a similarity, all."""
    left, right = distinct_pairs(pairs.column("key").to_numpy(), pairs.column("right").to_numpy())
    compared = len(left)
    values = np.full(compared, np.nan) if similarity is None else similarity(left, right)
    good = ~(values < threshold)
    return pa.table([left[good], right[good], values[good]], schema=LINKS_SCHEMA), compared
