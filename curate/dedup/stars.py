"""Clusters in which every member is similar to the survivor itself: the guard against chains of weak matches.

Nodes are asked in order of preference; one that nobody has claimed survives and claims those of its neighbours that are
still free. Each removed node thus has a verified pair with the node that is kept for it. One pass over the edges.
"""

import numba
import numpy as np


def stars(left: np.ndarray, right: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """int64[n]: the survivor of each node, given edges between nodes (int64 each) and their ranks (smaller is kept)."""
    count = len(rank)
    source = np.concatenate([left, right])
    order = np.argsort(source, kind="stable")
    neighbours = np.concatenate([right, left])[order]
    starts = np.searchsorted(source[order], np.arange(count + 1))
    survivor = np.full(count, -1, dtype=np.int64)
    _claim(np.argsort(rank, kind="stable"), starts, neighbours, survivor)
    return survivor


@numba.njit(cache=True, nogil=True)
def _claim(preferred, starts, neighbours, survivor):  # type: ignore[no-untyped-def]
    for node in preferred:
        if survivor[node] < 0:
            survivor[node] = node
            for place in range(starts[node], starts[node + 1]):
                if survivor[neighbours[place]] < 0:
                    survivor[neighbours[place]] = node
