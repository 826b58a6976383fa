"""Connected components of a graph given as edges: union by smaller root with path halving (Tarjan & van Leeuwen 1984).

Memory beside the edges: 4 bytes a node (8 from 2^32 nodes on), and 8 a node for the labels. The result does not
depend on the order of the edges.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compile import kernel

_CHUNK = 1 << 20


@kernel
def _join(left, right, parent):  # type: ignore[no-untyped-def]
    for i in range(left.shape[0]):
        a, b = left[i], right[i]
        while np.int64(parent[a]) != a:
            parent[a] = parent[np.int64(parent[a])]
            a = np.int64(parent[a])
        while np.int64(parent[b]) != b:
            parent[b] = parent[np.int64(parent[b])]
            b = np.int64(parent[b])
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b


@kernel
def _label(parent, labels):  # type: ignore[no-untyped-def]
    for i in range(parent.shape[0]):  # a parent is never larger than its child, so it has its label already
        labels[i] = i if np.int64(parent[i]) == i else labels[np.int64(parent[i])]


def connected_components(n: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """int64[n]: the smallest member of each node's component, for undirected edges left[i] - right[i] among nodes
    0..n-1.

    Raises ValueError if the two sides differ in length or name a node outside.
    """
    if len(left) != len(right):
        raise ValueError(f"Edges have two ends: {len(left)} on the left, {len(right)} on the right.")
    parent = np.arange(n, dtype=np.uint32 if n < 2**32 else np.int64)
    for start in range(0, len(left), _CHUNK):
        ends = [np.ascontiguousarray(side[start : start + _CHUNK], dtype=np.int64) for side in (left, right)]
        low, high = min(int(side.min()) for side in ends), max(int(side.max()) for side in ends)
        if low < 0 or high >= n:
            raise ValueError(f"Edges {start} to {start + len(ends[0]) - 1} name nodes {low} to {high}; there are {n}.")
        _join(ends[0], ends[1], parent)
    labels = np.empty(n, dtype=np.int64)
    _label(parent, labels)
    return labels
