"""Connected components of the links of a whole corpus: in one task while they fit, else by stars that merge in turns.

A *forest* (FOREST_SCHEMA) holds for a node another one of its component, lower in place. One task streams it through a
union-find: 12 bytes a linked node and 1.5 bits a document. Several tasks take turns of small stars (each joins what its
range connects, every node with the least one) and large stars (each node hands the least of its neighbours to the
higher ones), until every node hangs on a root alone: Kiveris et al. 2014, "Connected Components in MapReduce and
Beyond", whose turns grow with the logarithm of the longest path. Both ways give the same labels.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.dedup.links import distinct_pairs
from curate.kernels.numbering import Numbering
from curate.kernels.unionfind import UnionFind, connected_components
from curate.rounds import KEY, Out, View, first_of_equals, key_order

FOREST_SCHEMA = pa.schema([KEY, pa.field("other", pa.uint64(), nullable=False)])
"""A node by its place, and another node of its component: a lower one or, between turns, a higher one."""

STRONGEST_SCHEMA = pa.schema([KEY, pa.field("link", pa.float64(), nullable=False)])
"""A linked node, and the greatest similarity to another node; NaN if none was measured."""

LABELS_SCHEMA = pa.schema(
    [
        KEY,  # place of a linked node
        pa.field("root", pa.uint64(), nullable=False),  # lowest place of its component
        pa.field("link", pa.float64(), nullable=False),  # as above
    ]
)

ONE_TASK_BYTES = (1 << 27) * 16
"""Bytes of a forest whose components one task finds: 2^27 edges, 1.6 GB for them at the most."""
_CHUNK = 1 << 22


def forest_of(links: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The links of one task (key, right, similarity) as a forest of stars, and the strongest link of each node."""
    left, right, values = (links.column(name).to_numpy() for name in ("key", "right", "similarity"))
    named = np.concatenate([left, right])
    nodes, numbers = np.unique(named, return_inverse=True)
    strongest = np.full(len(nodes), np.nan)
    np.fmax.at(strongest, numbers, np.concatenate([values, values]))
    roots = nodes[connected_components(len(nodes), numbers[: len(left)], numbers[len(left) :])]
    return _stars(nodes, roots), pa.table([nodes, strongest], schema=STRONGEST_SCHEMA)


def join_all(view: View, out: Out) -> None:
    """The whole forest in one task: every node with its root."""

    def streamed() -> Iterator[np.ndarray]:
        for run in view.runs("forest"):
            yield run.column(0).to_numpy()
            yield run.column(1).to_numpy()

    numbering = Numbering(streamed, view.span.parts.stop)
    sets = UnionFind(numbering.count)
    for run in view.runs("forest"):
        sets.join(*(numbering.of(column.to_numpy()) for column in run.columns))
    places = numbering.places()
    del numbering
    roots = sets.roots()
    for low in range(0, len(places), _CHUNK):
        chunk = slice(low, low + _CHUNK)
        out.write("forest", _stars(places[chunk], places[roots[chunk]]))


def small_stars(view: View, out: Out) -> None:
    """Every node that the edges of a range connect, with the least of them; in both directions, for large stars."""
    rows = view.rows("forest")
    node, other = rows.column("key").to_numpy(), rows.column("other").to_numpy()
    down = other < node
    nodes = np.sort(np.concatenate([node[down], other[down]]))
    nodes = nodes[first_of_equals(nodes)]
    ends = (np.searchsorted(nodes, side[down]) for side in (node, other))
    stars = _stars(nodes, nodes[connected_components(len(nodes), *ends)])
    out.write("forest", stars)
    out.write("forest", stars.select(["other", "key"]).rename_columns(FOREST_SCHEMA.names))


def large_stars(view: View, out: Out) -> int:
    """Every higher neighbour of a node with the least neighbour (or the node itself): how many nodes hang on something
    that is no root, or on several."""
    rows = view.rows("forest")
    order = key_order(rows.column("key").to_numpy())
    node, other = (rows.column(name).to_numpy()[order] for name in ("key", "other"))
    if not len(node):
        return 0
    starts = np.flatnonzero(first_of_equals(node))
    lengths = np.diff(np.append(starts, len(node)))
    least = np.minimum(np.minimum.reduceat(other, starts), node[starts])
    nearest = np.repeat(least, lengths)
    up = other > node
    hangs = least < node[starts]
    unsettled = hangs & np.logical_or.reduceat(other != nearest, starts)
    out.write("forest", pa.table(distinct_pairs(other[up], nearest[up]), schema=FOREST_SCHEMA))
    return int(unsettled.sum())


def labels_of(view: View) -> pa.Table:
    """Root and strongest link of each linked node of a range (LABELS_SCHEMA), from a forest of roots alone."""
    told, forest = view.rows("strongest"), view.rows("forest")
    keys, values = told.column("key").to_numpy(), told.column("link").to_numpy()
    order = key_order(keys)
    starts = np.flatnonzero(first_of_equals(keys[order])) if len(keys) else order
    nodes = keys[order][starts]
    link = np.fmax.reduceat(values[order], starts) if len(keys) else values
    root = nodes.copy()
    at = np.searchsorted(nodes, forest.column("key").to_numpy())
    root[at] = forest.column("other").to_numpy()
    return pa.table([nodes, root, link], schema=LABELS_SCHEMA)


def _stars(nodes: np.ndarray, roots: np.ndarray) -> pa.Table:
    hangs = nodes != roots
    return pa.table([nodes[hangs], roots[hangs]], schema=FOREST_SCHEMA)
