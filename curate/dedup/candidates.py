"""From band keys to candidate pairs, one band at a time, in bounded work and memory.

Documents with the same key of a band lie in one bucket, in order of their number of shingles. Each is compared with
the next `reach` of its bucket: in buckets of up to reach + 1 documents that is every pair; in larger ones the pairs
left out differ most in length, where a high Jaccard similarity is least likely, and they are counted. So no band makes
more than reach pairs a document. Documents of the same shingles are one node before they come here.
"""

from collections.abc import Iterator

import numpy as np

_LEFT = np.uint64(32)
_RIGHT_MASK = np.uint64(0xFFFFFFFF)
MOST_NODES = 1 << 32


def pack(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of nodes as uint64: left in the high half, so that sorted pairs are sorted by left, then right."""
    return (left.astype(np.uint64) << _LEFT) | right.astype(np.uint64)


def unpack(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Packed pairs as two int64 arrays."""
    return (pairs >> _LEFT).astype(np.int64), (pairs & _RIGHT_MASK).astype(np.int64)


def bucket_order(keys: np.ndarray) -> np.ndarray:
    """Positions of `keys` (uint64) in ascending order of key, equal keys in order of position.

    Sorts the upper bits of the keys with the position in the lower ones: several times faster than an indirect sort.
    Where two keys differ in lower bits only, their buckets might be mixed: then it sorts indirectly.
    """
    count = len(keys)
    low = np.uint64((1 << max(count - 1, 1).bit_length()) - 1)
    packed = np.sort((keys & ~low) | np.arange(count, dtype=np.uint64))
    order = (packed & low).astype(np.int64)
    upper = packed & ~low
    ordered = keys[order]
    if np.any((upper[1:] == upper[:-1]) & (ordered[1:] != ordered[:-1])):
        return np.argsort(keys, kind="stable")
    return order


def bucket_pairs(keys: np.ndarray, reach: int) -> tuple[Iterator[tuple[np.ndarray, np.ndarray]], int]:
    """Pairs of positions that share a key, and how many pairs were left out in buckets of more than reach + 1.

    `keys`: uint64, one a node, in order of size. Yields (left, right), left < right, for each distance 1..reach within
    the buckets; it may be stopped early.
    """
    order = bucket_order(keys)
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


def merged(pairs: np.ndarray, more: list[np.ndarray]) -> np.ndarray:
    """Distinct packed pairs in ascending order."""
    return np.unique(np.concatenate([pairs, *more])) if more else pairs
