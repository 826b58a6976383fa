"""Spherical k-means: unit vectors grouped by their cosine to unit centroids (Dhillon and Modha 2001, section 3).

Lloyd's iterations from the first vectors as given, which the caller draws at random; a centroid that loses all its
vectors takes the vector that is worst off. Work: vectors x centroids x dimensions x 2 operations an iteration.
"""

import numpy as np

_BLOCK_VALUES = 1 << 24
"""Similarities that are held at once: 64 MB."""


def centroids_of(vectors: np.ndarray, count: int, *, iterations: int = 20) -> np.ndarray:
    """float32[k, d]: unit centroids of unit vectors float[n, d], k = min(count, n) at least 1.

    Ends early when no vector changes its centroid.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    count = max(1, min(count, len(vectors)))
    centroids = _unit(vectors[:count]) if len(vectors) else np.zeros((1, vectors.shape[1]), dtype=np.float32)
    before = np.full(len(vectors), -1)
    for _ in range(iterations):
        nearest, cosine = nearest_of(vectors, centroids)
        if (nearest == before).all():
            break
        before = nearest
        centroids = _means(vectors, nearest, cosine, count)
    return centroids


def nearest_of(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centroid of greatest cosine of each vector, int64[n], the first of equal ones, and its cosine, float32[n]."""
    nearest = np.empty(len(vectors), dtype=np.int64)
    cosine = np.empty(len(vectors), dtype=np.float32)
    rows = max(1, _BLOCK_VALUES // len(centroids))
    for start in range(0, len(vectors), rows):
        some = slice(start, start + rows)
        products = vectors[some].astype(np.float32) @ centroids.T
        nearest[some] = products.argmax(axis=1)
        cosine[some] = products[np.arange(len(products)), nearest[some]]
    return nearest, cosine


def _means(vectors: np.ndarray, nearest: np.ndarray, cosine: np.ndarray, count: int) -> np.ndarray:
    """The directions of the sums of each centroid's vectors."""
    order = np.argsort(nearest, kind="stable")
    held = np.bincount(nearest, minlength=count)
    starts = np.cumsum(held) - held
    means = np.empty((count, vectors.shape[1]), dtype=np.float32)
    for centroid in np.flatnonzero(held):
        means[centroid] = vectors[order[starts[centroid] : starts[centroid] + held[centroid]]].sum(axis=0)
    lost = np.flatnonzero(held == 0)
    means[lost] = vectors[np.argsort(cosine, kind="stable")[: len(lost)]]
    return _unit(means)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors, dtype=np.float32), where=lengths > 0)
