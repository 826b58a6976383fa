"""Spherical k-means finds planted groups, and each vector goes to the centroid that is really the nearest."""

import numpy as np
import pytest

from curate.dedup.kmeans import centroids_of, nearest_of


def _planted(groups: int, each: int, *, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around random directions in random order, and the group of each."""
    chance = np.random.default_rng(seed)
    middles = chance.normal(size=(groups, 32))
    group = chance.permutation(np.repeat(np.arange(groups), each))
    vectors = middles[group] / np.linalg.norm(middles[group], axis=1, keepdims=True)
    vectors += chance.normal(size=vectors.shape) * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), group


@pytest.mark.parametrize("seed", range(3))
def test_vectors_of_a_planted_group_stay_together(seed: int) -> None:
    vectors, group = _planted(8, 40, noise=0.02, seed=seed)
    nearest, _ = nearest_of(vectors, centroids_of(vectors, 24))
    for centroid in np.unique(nearest):
        assert len(np.unique(group[nearest == centroid])) == 1


def test_iterations_bring_vectors_nearer_to_their_centroids() -> None:
    vectors, _ = _planted(10, 60, noise=0.1, seed=1)
    means = [nearest_of(vectors, centroids_of(vectors, 10, iterations=number))[1].mean() for number in (0, 1, 5, 20)]
    assert means == sorted(means) and means[-1] > means[0]


def test_the_nearest_centroid_is_the_one_of_greatest_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.dedup.kmeans._BLOCK_VALUES", 50)  # several blocks
    vectors, _ = _planted(5, 9, noise=0.3, seed=2)
    centroids = centroids_of(vectors, 7)
    nearest, cosine = nearest_of(vectors, centroids)
    products = vectors.astype(np.float64) @ centroids.T.astype(np.float64)
    np.testing.assert_allclose(cosine, products.max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(nearest, products.argmax(axis=1))


def test_few_or_equal_or_no_vectors_make_no_trouble() -> None:
    one = np.ones((1, 4), dtype=np.float16) / 2
    assert centroids_of(one, 10).shape == (1, 4)
    assert np.isfinite(centroids_of(np.repeat(one, 20, axis=0), 5)).all()
    assert centroids_of(np.empty((0, 4), dtype=np.float16), 5).shape == (1, 4)
