"""Components found in one task, and in turns over ranges, against a plain search: random graphs, long paths, stars."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.links import LINKS_SCHEMA
from curate.dedup.minhash import MinHash
from curate.kernels.numbering import Numbering
from curate.rounds import MemoryShelf, Out, Round, Tables, View, run_in_memory

ROWS = 10
"""Documents of a part."""


class Components(MinHash):
    """The rounds of MinHash from its links on; each part scatters the links of one earlier task."""

    def __init__(self, links: Sequence[pa.Table]) -> None:
        super().__init__()
        self.links = links
        self.turns = 0

    def rounds(self) -> Sequence[Round]:
        return tuple(self.linking())[1:]

    def tables(self) -> Tables:
        given = {table for one in self.rounds() for table in one.gives}
        return {name: schema for name, schema in super().tables().items() if name in given}

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        pass

    def verification(self, view: View, out: Out) -> None:
        for part in view.span.parts:
            self.join(self.links[part], out)

    def stars(self, view: View, out: Out) -> None:
        self.turns = max(self.turns, view.turn)
        super().stars(view, out)


def spread(nodes: np.ndarray) -> np.ndarray:
    """Places of documents by their number."""
    return (nodes.astype(np.uint64) // np.uint64(ROWS) << np.uint64(32)) | nodes.astype(np.uint64) % np.uint64(ROWS)


def found(links: list[tuple[int, int, float]], parts: int, ranges: int, tasks: int = 3) -> tuple[dict[int, Any], int]:
    """Root and strongest link of each linked document, by number; and how many turns it took."""
    tables = []
    for task in range(max(parts, tasks)):
        some = links[task::tasks] if task < tasks else []
        left, right = (spread(np.array([link[side] for link in some], dtype=np.int64)) for side in (0, 1))
        values = np.array([link[2] for link in some], dtype=np.float64)
        tables.append(pa.table([np.minimum(left, right), np.maximum(left, right), values], schema=LINKS_SCHEMA))
    step = Components(tables)
    view = run_in_memory(step, MemoryShelf([pa.table({})] * len(tables), step.tables()), ranges=ranges)
    rows = view.all_rows("components")
    numbers = [
        (column >> np.uint64(32)) * np.uint64(ROWS) + (column & np.uint64((1 << 32) - 1))
        for column in (rows.column(name).to_numpy() for name in ("key", "root"))
    ]
    labels = {
        int(n): (int(root), link) for n, root, link in zip(*numbers, rows.column("link").to_pylist(), strict=True)
    }
    assert len(labels) == rows.num_rows, "a document has one label"
    return labels, step.turns


def expected(links: list[tuple[int, int, float]]) -> dict[int, Any]:
    neighbours: dict[int, set[int]] = {}
    strongest: dict[int, float] = {}
    for a, b, value in links:
        for one, other in ((a, b), (b, a)):
            neighbours.setdefault(one, set()).add(other)
            strongest[one] = max(strongest.get(one, 0.0), value)
    root: dict[int, int] = {}
    for node in sorted(neighbours):
        waiting = [node]
        while waiting:
            if (current := waiting.pop()) not in root:
                root[current] = min(node, root.get(node, node))
                waiting += neighbours[current]
    return {node: (root[node], strongest[node]) for node in neighbours}


def shuffled(links: list[tuple[int, int]], seed: int) -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(links))
    return [(*links[place], float(rng.integers(50, 100)) / 100) for place in order]


some_links = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)).filter(lambda e: e[0] != e[1]), max_size=70)


@settings(deadline=None, max_examples=60)
@given(links=some_links, seed=st.integers(0, 1000), ranges=st.integers(1, 6))
def test_labels_of_random_links_are_the_same_in_one_task_and_in_turns(
    links: list[tuple[int, int]], seed: int, ranges: int
) -> None:
    valued = shuffled(links, seed)
    assert found(valued, 6, ranges)[0] == expected(valued)


@pytest.mark.parametrize("shape", ["path", "path by chance", "star", "star around the last", "two paths", "comb"])
def test_long_paths_and_stars_are_joined_in_few_turns(shape: str) -> None:
    count = 1500
    names = np.random.default_rng(5).permutation(count).tolist()
    half = count // 2
    links = {
        "path": list(pairwise(range(count))),
        "path by chance": list(pairwise(names)),
        "star": [(0, node) for node in range(1, count)],
        "star around the last": [(node, count - 1) for node in range(count - 1)],
        "two paths": [*pairwise(names[:half]), *pairwise(names[half:])],
        "comb": [*pairwise(names[:half]), *zip(names[:half], names[half:], strict=True)],
    }[shape]
    valued = shuffled(links, 1)
    alone, no_turn = found(valued, count // ROWS, 1)
    several, turns = found(valued, count // ROWS, 15)
    assert alone == several == expected(valued)
    assert no_turn == 0
    assert 1 <= turns <= 2 * np.log2(count)


@settings(deadline=None, max_examples=60)
@given(
    named=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 200)), max_size=60),
    rows=st.sampled_from([1, 64, 65, 1 << 20]),
)
def test_numbers_of_places_are_their_ranks(named: list[tuple[int, int]], rows: int) -> None:
    held = np.array([part << 32 | row * rows // 200 for part, row in named], dtype=np.uint64)
    numbering = Numbering(lambda: [held[:20], held[20:]], 7)
    distinct, ranks = np.unique(held, return_inverse=True)
    assert numbering.count == len(distinct)
    assert (numbering.places() == distinct).all()
    assert (numbering.of(held) == ranks).all()
