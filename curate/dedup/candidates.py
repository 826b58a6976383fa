"""From band keys to candidate pairs, a range of keys at a time, in bounded work.

Documents with the same key of a band lie in one bucket, in order of their number of shingles, then of their digest.
Each is compared with the next `reach` of its bucket: in buckets of up to reach + 1 documents that is every pair; in
larger ones the pairs left out differ most in length, where a high Jaccard similarity is least likely, and they are
counted. So no band makes more than reach pairs a document. Documents of equal digest are one node, whose name is their
lowest place: they share all their buckets, so it is the same in each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.rounds import KEY, first_of_equals, key_order, repeated_order

BANDS_SCHEMA = pa.schema(
    [
        KEY,  # of a band
        pa.field("size", pa.uint32(), nullable=False),  # distinct shingles
        pa.field("digest", pa.uint64(), nullable=False),  # of the set of shingles
        pa.field("place", pa.uint64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Buckets:
    """Nodes that share a bucket with others, bucket by bucket, in their order within it."""

    keys: np.ndarray
    nodes: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, rows: pa.Table) -> "Buckets":
        """The buckets of rows of BANDS_SCHEMA; those of a single row are left out at once."""
        keys = rows.column("key").to_numpy()
        order = repeated_order(keys)
        keys = keys[order]
        size, digest, place = _taken(rows, ("size", "digest", "place"), order)
        within = _order_within(keys, size, digest)
        size, digest, place = size[within], digest[within], place[within]
        first = first_of_equals(keys, size, digest)
        return cls(keys[first], place[first], size[first].astype(np.int64))

    def pairs(self, reach: int) -> tuple[Iterator[tuple[np.ndarray, np.ndarray]], int]:
        """Positions of pairs, smaller size on the left, and how many pairs were left out."""
        return bucket_pairs(self.keys, reach)


def _order_within(keys: np.ndarray, size: np.ndarray, digest: np.ndarray) -> np.ndarray:
    """Order by key, size, digest, then as they came (which is by place) of rows in order of key, two or more each."""
    within = np.arange(len(keys))
    starts = np.flatnonzero(first_of_equals(keys))
    rows = np.diff(np.append(starts, len(keys)))
    one = starts[rows == 2]  # most buckets: no sort
    two = one + 1
    swapped = (size[one] > size[two]) | ((size[one] == size[two]) & (digest[one] > digest[two]))
    within[one[swapped]], within[two[swapped]] = two[swapped], one[swapped]
    many = np.flatnonzero(np.repeat(rows > 2, rows))
    within[many] = many[np.lexsort((digest[many], size[many], keys[many]))]
    return within


def _taken(rows: pa.Table, names: Sequence[str], order: np.ndarray) -> list[np.ndarray]:
    """Numeric columns at `order`, without gathering the columns of all rows."""
    ascending = key_order(order.view(np.uint64))
    starts = np.cumsum([0, *map(len, rows.column(names[0]).chunks)])
    borders = np.searchsorted(order[ascending], starts)
    columns = [rows.column(name) for name in names]
    found = [np.empty(len(order), dtype=column.type.to_pandas_dtype()) for column in columns]
    for number, (start, low, high) in enumerate(zip(starts, borders, borders[1:], strict=False)):
        here = ascending[low:high]
        within = order[here] - start
        for values, column in zip(found, columns, strict=True):
            values[here] = column.chunk(number).to_numpy()[within]
    return found


def bucket_pairs(keys: np.ndarray, reach: int) -> tuple[Iterator[tuple[np.ndarray, np.ndarray]], int]:
    """Pairs of positions that share a key, and how many pairs were left out in buckets of more than reach + 1.

    `keys`: uint64, one a node, in order of size. Yields (left, right), left < right, for each distance 1..reach within
    the buckets; it may be stopped early.
    """
    order = key_order(keys)
    ordered = keys[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    beyond = np.maximum(np.diff(ends, prepend=-1) - 1 - reach, 0)
    return _at_distances(order, ordered, reach), int((beyond * (beyond + 1) // 2).sum())


def _at_distances(order: np.ndarray, ordered: np.ndarray, reach: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    places = np.arange(len(order))
    for distance in range(1, reach + 1):
        places = places[: np.searchsorted(places, len(order) - distance)]
        places = places[ordered[places] == ordered[places + distance]]
        if not len(places):
            return
        yield order[places], order[places + distance]
