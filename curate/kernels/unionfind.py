"""Connected components of a graph given as edges: union by smaller root with path halving (Tarjan & van Leeuwen 1984).

Memory beside the edges: 4 bytes a node (8 from 2^32 nodes on), and 8 a node for labels as int64. The result does not
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
def _shorten(parent):  # type: ignore[no-untyped-def]
    for i in range(parent.shape[0]):  # a parent is never larger than its child, so it has its root already
        parent[i] = parent[np.int64(parent[i])]


class UnionFind:
    """Nodes 0..n-1 in sets that grow together, edge by edge."""

    def __init__(self, n: int) -> None:
        self._parent = np.arange(n, dtype=np.uint32 if n < 2**32 else np.int64)

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Edges left[i] - right[i] (integers from 0 to n - 1, which is not checked)."""
        for start in range(0, len(left), _CHUNK):
            ends = [np.ascontiguousarray(side[start : start + _CHUNK], dtype=np.int64) for side in (left, right)]
            _join(*ends, self._parent)

    def roots(self) -> np.ndarray:
        """uint32[n] (int64 from 2^32 nodes on): the smallest member of each node's set; not to be written to."""
        _shorten(self._parent)
        return self._parent


def connected_components(n: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """int64[n]: the smallest member of each node's component, for undirected edges left[i] - right[i] among nodes
    0..n-1.

    Raises ValueError if the two sides differ in length or name a node outside.
    """
    if len(left) != len(right):
        raise ValueError(f"Edges have two ends: {len(left)} on the left, {len(right)} on the right.")
    if len(left):
        low, high = min(int(side.min()) for side in (left, right)), max(int(side.max()) for side in (left, right))
        if low < 0 or high >= n:
            raise ValueError(f"Edges name nodes {low} to {high}; there are {n}.")
    sets = UnionFind(n)
    sets.join(left, right)
    return sets.roots().astype(np.int64)
