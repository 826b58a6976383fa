"""From band keys to candidate pairs, and from links to connected components, beside numpy, scipy and networkx.

    python benchmarks/dedup/components.py --out benchmarks/dedup/components.json

Each measurement runs in a process of its own, on one thread, after its kernels were compiled; the input is drawn by
seed before the clock starts. Peaks are of memory that is the process's own (RssAnon, every 5 ms), input included where
it lies in arrays; that on files is mapped. Peers get a tenth of the edges (networkx: a hundredth), in the same run.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from own_process import Peak, forked

from curate.dedup.candidates import BANDS_SCHEMA, Buckets
from curate.dedup.components import FOREST_SCHEMA, STRONGEST_SCHEMA, join_all
from curate.dedup.links import Made, candidate_pairs
from curate.dedup.minhash import MinHash
from curate.engine.shuffle import FileOut, FileShelf, Written
from curate.kernels.numbering import Numbering
from curate.kernels.unionfind import connected_components
from curate.rounds import MemoryShelf, Out, Round, Span, Tables, View, run_in_memory, sorted_run

BANDS, SHARED_BANDS = 14, 9
PART_ROWS = 1_000_000
"""Documents of a part, where nodes are places."""
FILES = 20


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """`work(*arguments)` in a process of its own."""
    return forked(work.__name__, lambda: work(*arguments))[0]


def edges(nodes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of nodes, uint32."""
    rng = np.random.default_rng(seed)
    left, right = (rng.integers(0, nodes, count, dtype=np.uint32) for _ in range(2))
    return left, right


# Candidate pairs.


def bands(documents: int, seed: int) -> pa.Table:
    """Keys of all bands; a tenth of the documents share 9 of 14 with another one."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**64, (BANDS, documents), dtype=np.uint64)
    copies = documents // 10
    keys[:SHARED_BANDS, -copies:] = keys[:SHARED_BANDS, rng.integers(0, documents - copies, copies)]
    size = rng.integers(50, 500, documents).astype(np.uint32)
    digest, place = rng.integers(0, 2**64, documents, dtype=np.uint64), np.arange(documents, dtype=np.uint64)
    columns = [keys.ravel(), *(np.tile(values, BANDS) for values in (size, digest, place))]
    return pa.table(columns, schema=BANDS_SCHEMA)


def pairs_ours(documents: int, seed: int) -> dict[str, Any]:
    """All of a task of the round `buckets`, but reading and writing."""
    rows, made, found, best = bands(documents, seed), Made(), 0, None
    for _ in range(3):
        with Peak() as peak:
            buckets = Buckets.of(rows)
            found = sum(part.num_rows for part in candidate_pairs(buckets, reach=32, least_ratio=0.0, made=made))
        best = peak if best is None or peak.cpu < best.cpu else best
    assert best is not None
    return best.figures() | {"pairs": found}


def pairs_argsort(documents: int, seed: int) -> dict[str, Any]:
    """What is obvious with numpy: sort by key, neighbours of equal key; no order within buckets, no reach."""
    rows = bands(documents, seed)
    keys, place = rows["key"].to_numpy(), rows["place"].to_numpy()
    with Peak() as peak:
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        left, right = place[order[same]], place[order[same + 1]]
        found = len(np.unique(np.stack([left, right], axis=1), axis=0))
    return peak.figures() | {"chained_pairs": found}


# Components.


def components_ours(nodes: int, count: int, seed: int) -> dict[str, Any]:
    """Dense numbers in arrays."""
    left, right = edges(nodes, count, seed)
    connected_components(nodes, left[:1], right[:1])  # loads the kernels
    with Peak() as peak:
        labels = connected_components(nodes, left, right)
    return peak.figures() | {"components": int((labels == np.arange(nodes)).sum())}


def components_scipy(nodes: int, count: int, seed: int) -> dict[str, Any]:
    """scipy.sparse.csgraph, its matrix included."""
    from scipy import sparse

    left, right = edges(nodes, count, seed)
    with Peak() as peak:
        graph = sparse.coo_matrix((np.ones(count, dtype=np.int8), (left, right)), shape=(nodes, nodes))
        found, _ = sparse.csgraph.connected_components(graph, directed=False)
    return peak.figures() | {"components": int(found)}


def components_networkx(nodes: int, count: int, seed: int) -> dict[str, Any]:
    """networkx, its graph of Python objects included."""
    import networkx  # type: ignore[import-untyped]

    left, right = edges(nodes, count, seed)
    with Peak() as peak:
        graph = networkx.Graph()
        graph.add_nodes_from(range(nodes))
        graph.add_edges_from(zip(left.tolist(), right.tolist(), strict=True))
        found = networkx.number_connected_components(graph)
    return peak.figures() | {"components": found}


def places_of(nodes: np.ndarray) -> np.ndarray:
    """Dense numbers as places of parts of PART_ROWS documents."""
    wide = nodes.astype(np.uint64)
    return (wide // np.uint64(PART_ROWS) << np.uint64(32)) | wide % np.uint64(PART_ROWS)


def components_on_files(nodes: int, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """The round as the engine does it in one task: a forest in FILES files of sorted runs, read and written."""
    tables, parts = {"forest": FOREST_SCHEMA}, nodes // PART_ROWS + 1
    for number, (low, high) in enumerate(pairwise(np.linspace(0, count, FILES + 1).astype(int).tolist())):
        left, right = edges(nodes, high - low, seed + number)
        some = left != right
        columns = [places_of(np.maximum(left, right)[some]), places_of(np.minimum(left, right)[some])]
        with FileOut(str(folder), number, tables, {"forest": "forest"}) as out:
            out.write("forest", pa.table(columns, schema=FOREST_SCHEMA))
        del left, right, some, columns
    Numbering(lambda: [places_of(np.arange(3))], 1).of(places_of(np.arange(3)))  # loads the kernels
    shelf = FileShelf(str(folder), parts, tables, {"forest": Written("forest", "drawn", FILES)})
    with Peak() as peak:
        out = FileOut(str(folder), 0, tables, {"forest": "joined"})
        with out:
            join_all(View(shelf, tables, Span(parts=range(parts), whole=True)), out)
    return peak.figures() | {"rows": out.entries["forest"]["rows"]}


class Turns(MinHash):
    """The rounds from the links on, of links in memory."""

    def __init__(self, links: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__()
        self.links, self.turns = links, 0

    def rounds(self) -> Sequence[Round]:
        """From verification on."""
        return tuple(self.linking())[1:]

    def tables(self) -> Tables:
        """What they write."""
        given = {table for one in self.rounds() for table in one.gives}
        return {name: schema for name, schema in super().tables().items() if name in given}

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """Nothing: the links are there."""

    def verification(self, view: View, out: Out) -> None:
        """The links as forests of one edge each, so that all is left to the turns."""
        if view.span.low == 0:
            for left, right in self.links:
                some = left != right
                ends = [places_of(side(left, right)[some]) for side in (np.maximum, np.minimum)]
                out.write("forest", pa.table(ends, schema=FOREST_SCHEMA))
                named = np.unique(np.concatenate(ends))
                out.write("strongest", pa.table([named, np.ones(len(named))], schema=STRONGEST_SCHEMA))

    def stars(self, view: View, out: Out) -> None:
        """One turn more."""
        self.turns = max(self.turns, view.turn + 1)
        super().stars(view, out)


def labelled(links: Sequence[tuple[np.ndarray, np.ndarray]], nodes: int, ranges: int) -> tuple[pa.RecordBatch, Any]:
    """Labels of all nodes, the seconds and how many turns it took, with tasks one after the other."""
    step = Turns(links)
    partials = [pa.table({})] * (nodes // PART_ROWS + 1)
    with Peak() as peak:
        view = run_in_memory(step, MemoryShelf(partials, step.tables()), ranges=ranges)
    found = sorted_run(view.all_rows("components"), step.tables()["components"])
    return found, peak.figures() | {"turns": step.turns}


def turns(shape: str, nodes: int, ranges: int, seed: int) -> dict[str, Any]:
    """One task against several in turns: the same labels."""
    if shape == "random":
        links = edges(nodes, 2 * nodes, seed)
    else:
        path = np.random.default_rng(seed).permutation(nodes)
        links = path[:-1], path[1:]
    one, of_one = labelled([links], nodes, 1)
    several, of_several = labelled([links], nodes, ranges)
    assert one.equals(several)
    return {"one task": of_one, f"{ranges} ranges": of_several, "labels": one.num_rows, "identical": True}


def main() -> None:
    """Run all, print and store the figures."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=50_000_000)
    parser.add_argument("--edges", type=int, default=100_000_000)
    parser.add_argument("--turn-nodes", type=int, default=5_000_000)
    parser.add_argument("--ranges", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=here.parent / "components.json")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    seed, nodes, count, tenth = options.seed, options.nodes, options.edges, (options.nodes // 10, options.edges // 10)
    alone(turns, "random", 2_000_000, 2, seed)  # compiles
    alone(pairs_ours, 1000, seed)
    alone(components_ours, 1000, 1000, seed)
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        (Path(name) / "warm").mkdir()
        (Path(name) / "whole").mkdir()
        alone(components_on_files, 1000, 1000, seed, Path(name) / "warm")
        measured: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
            ("pairs: ours", pairs_ours, (options.documents, seed)),
            ("pairs: numpy argsort", pairs_argsort, (options.documents, seed)),
            ("components: ours, arrays", components_ours, (nodes, count, seed)),
            ("components: ours, files", components_on_files, (nodes, count, seed, Path(name) / "whole")),
            ("components of a tenth: ours, arrays", components_ours, (*tenth, seed)),
            ("components of a tenth: scipy", components_scipy, (*tenth, seed)),
            ("components of a hundredth: ours, arrays", components_ours, (nodes // 100, count // 100, seed)),
            ("components of a hundredth: networkx", components_networkx, (nodes // 100, count // 100, seed)),
            ("turns: random links", turns, ("random", options.turn_nodes, options.ranges, seed)),
            ("turns: a path in random order", turns, ("path", options.turn_nodes, options.ranges, seed)),
        ]
        result: dict[str, Any] = {
            "what": {
                "documents": options.documents,
                "bands": BANDS,
                "nodes": nodes,
                "edges": count,
                "turn_nodes": options.turn_nodes,
                "seed": seed,
            },
            "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "versions": {each: version(each) for each in ("numpy", "numba", "pyarrow", "scipy", "networkx")}
            | {"python": platform.python_version()},
        }
        for what, work, arguments in measured:
            load = os.getloadavg()[0]
            result[what] = alone(work, *arguments) | {"load": round(load, 2)}
            print(what, json.dumps(result[what]), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
