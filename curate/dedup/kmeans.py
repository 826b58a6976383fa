"""Spherical k-means: unit vectors grouped by their product with unit centroids (Dhillon and Modha 2001, section 3).

Lloyd's iterations from the first vectors as given, which the caller draws at random; a centroid that loses all its
vectors takes the vector that is worst off. Vectors and centroids are float16, so that products and sums are exact
(curate.dedup.cosine): the same vectors get the same groups however they are cut into blocks, and by any number of
threads. Work: vectors x centroids x dimensions x 2 operations an iteration.
"""

import numpy as np

_BLOCK_VALUES = 1 << 23
"""Products that are held at once: 64 MB."""


def centroids_of(vectors: np.ndarray, count: int, *, iterations: int = 20) -> np.ndarray:
    """float16[k, d]: unit centroids of unit vectors float16[n, d], k = min(count, n) at least 1.

    Ends early when no vector changes its centroid.
    """
    count = max(1, min(count, len(vectors)))
    centroids = _unit(vectors[:count]) if len(vectors) else np.zeros((1, vectors.shape[1]), dtype=np.float16)
    before = np.full(len(vectors), -1)
    for _ in range(iterations):
        nearest, product = nearest_of(vectors, centroids)
        if (nearest == before).all():
            break
        before = nearest
        centroids = _means(vectors, nearest, product, count)
    return centroids


def nearest_of(vectors: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centroid of greatest product with each vector, int64[n], the first of equal ones; the product, float64[n]."""
    nearest = np.empty(len(vectors), dtype=np.int64)
    product = np.empty(len(vectors), dtype=np.float64)
    turned = centroids.astype(np.float64).T
    rows = max(1, _BLOCK_VALUES // len(centroids))
    for start in range(0, len(vectors), rows):
        some = slice(start, start + rows)
        products = vectors[some].astype(np.float64) @ turned
        nearest[some] = products.argmax(axis=1)
        product[some] = products[np.arange(len(products)), nearest[some]]
    return nearest, product


def _means(vectors: np.ndarray, nearest: np.ndarray, product: np.ndarray, count: int) -> np.ndarray:
    """The directions of the sums of each centroid's vectors."""
    order = np.argsort(nearest, kind="stable")
    held = np.bincount(nearest, minlength=count)
    starts = np.cumsum(held) - held
    means = np.empty((count, vectors.shape[1]), dtype=np.float64)
    for centroid in np.flatnonzero(held):
        own = order[starts[centroid] : starts[centroid] + held[centroid]]
        means[centroid] = vectors[own].sum(axis=0, dtype=np.float64)
    lost = np.flatnonzero(held == 0)
    means[lost] = vectors[np.argsort(product, kind="stable")[: len(lost)]]
    return _unit(means)


def _unit(vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0).astype(np.float16)
