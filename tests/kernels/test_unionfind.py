"""Connected components against a plain search, and whatever the order of the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.unionfind import connected_components


def reference(n: int, edges: list[tuple[int, int]]) -> list[int]:
    neighbours: dict[int, set[int]] = {node: set() for node in range(n)}
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    labels = [-1] * n
    for node in range(n):
        waiting = [node] if labels[node] < 0 else []
        while waiting:
            current = waiting.pop()
            if labels[current] < 0:
                labels[current] = node
                waiting += neighbours[current]
    return labels


GRAPHS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
)


@given(GRAPHS, st.sampled_from([np.int64, np.uint32, np.int32, np.uint64]), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_labels_are_the_smallest_members_in_any_order_of_edges(graph, dtype, random) -> None:  # type: ignore[no-untyped-def]
    n, edges = graph
    for _ in range(2):
        left = np.array([a for a, _ in edges], dtype=dtype)
        right = np.array([b for _, b in edges], dtype=dtype)
        labels = connected_components(n, left, right)
        assert labels.dtype == np.int64
        assert labels.tolist() == reference(n, edges)
        random.shuffle(edges)


def test_a_long_chain_in_the_worst_order_is_one_component() -> None:
    n = 1_500_000  # more edges than one chunk
    left = np.arange(n - 1)[::-1]
    labels = connected_components(n, left, left + 1)
    assert not labels.any()


def test_many_random_edges_agree_with_scipy() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    generator = np.random.default_rng(1)
    n, m = 100_000, 60_000
    left, right = generator.integers(0, n, size=(2, m))
    labels = connected_components(n, left, right)
    graph = sparse.coo_matrix((np.ones(m), (left, right)), shape=(n, n))
    count, theirs = sparse.csgraph.connected_components(graph, directed=False)
    smallest = np.full(count, n)
    np.minimum.at(smallest, theirs, np.arange(n))
    assert (labels == smallest[theirs]).all()


def test_wrong_edges_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="name nodes -1 to 3; there are 3"):
        connected_components(3, np.array([0, -1]), np.array([1, 3]))
    with pytest.raises(ValueError, match="1 on the left, 0 on the right"):
        connected_components(3, np.array([0]), np.array([], dtype=np.int64))
    assert connected_components(0, np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []
