"""Clusters in which every member is similar to the survivor itself: what curate.dedup.stars makes of all similar pairs.

Vectors come in order of preference; one that is similar to no survivor before it survives. In memory are the vectors
and a block of cosines, no pairs; work: members x survivors, so that a crowd of one text costs next to nothing.
"""

import numpy as np

from curate.dedup.cosine import cosines

_BLOCK_ROWS = 1_024


def leaders_of(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """int64[n]: the first survivor that each of float16[n, d] is similar to, as a position; a survivor's is its own."""
    leader = np.full(len(vectors), -1, dtype=np.int64)
    survivors = np.empty(0, dtype=np.int64)
    for low in range(0, len(vectors), _BLOCK_ROWS):
        block = slice(low, low + _BLOCK_ROWS)
        own = leader[block]
        for start in range(0, len(survivors), _BLOCK_ROWS):
            free = np.flatnonzero(own < 0)
            some = survivors[start : start + _BLOCK_ROWS]
            similar = cosines(vectors[block][free], vectors[some]) >= threshold
            claimed = similar.any(axis=1)
            own[free[claimed]] = some[similar.argmax(axis=1)[claimed]]
        free = np.flatnonzero(own < 0)
        similar = cosines(vectors[block][free], vectors[block][free]) >= threshold
        for number, row in enumerate(free):
            if own[row] < 0:
                unclaimed = free[similar[number] & (own[free] < 0)]
                own[unclaimed] = low + row
                own[row] = low + row
        survivors = np.flatnonzero(leader == np.arange(len(leader)))
    return leader
