"""Deduplication by links between documents that differ: what all methods share once they have found their links.

A method's own rounds end with one that calls `hand_over` for the links of its task. Then links become components
(curate.dedup.components), and the members of each go to one task, with their links where each member must be similar to
the survivor itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.dedup.clusters import EDGES_SCHEMA
from curate.dedup.components import (
    FOREST_SCHEMA,
    LABELS_SCHEMA,
    ONE_TASK_BYTES,
    STRONGEST_SCHEMA,
    forest_of,
    join_all,
    labels_of,
    large_stars,
    small_stars,
)
from curate.dedup.duplicates import Deduplication
from curate.dedup.links import LINKS_SCHEMA
from curate.dedup.stars import stars
from curate.rounds import Out, Round, Tables, View, mixed

GIVEN = ("forest", "strongest", "links")
"""Tables that `hand_over` writes: what the last round of a method gives."""


class Linked(Deduplication):
    """Base of the exchanges that link documents which differ."""

    require_similar_to_survivor: bool

    @property
    def least_similarity(self) -> float:
        """The similarity from which on two documents are linked."""
        raise NotImplementedError

    @property
    def follows_links(self) -> bool:
        """Whether links go on to the members of clusters; a method that can compare members there needs none."""
        return self.require_similar_to_survivor

    @property
    def chains(self) -> bool:
        """Whether a document can leave for a survivor that it is not similar to itself."""
        return not self.require_similar_to_survivor

    def finding(self) -> Sequence[Round]:
        """The rounds that find links; the last one gives GIVEN."""
        raise NotImplementedError

    def tables(self) -> Tables:
        """What goes from round to round."""
        linking = {
            "forest": FOREST_SCHEMA,
            "strongest": STRONGEST_SCHEMA,
            "components": LABELS_SCHEMA,
            "links": LINKS_SCHEMA,
        }
        return {**super().tables(), **linking}

    def linking(self) -> Sequence[Round]:
        """Links, and their components."""
        turns = Round(
            "stars",
            reads=("forest",),
            gives=("forest",),
            by="part",
            one_task_bytes=ONE_TASK_BYTES,
            until="unsettled_nodes",
        )
        labels = Round("components", reads=("forest", "strongest"), gives=("components",), by="part")
        return (*self.finding(), turns, labels)

    def hand_over(self, links: pa.Table, out: Out) -> None:
        """The links of one task (LINKS_SCHEMA), for the rounds that follow."""
        self.join(links, out)
        if self.follows_links:
            out.write("links", links)
        out.tell(linked_pairs=links.num_rows)

    def join(self, links: pa.Table, out: Out) -> None:
        """Links as what makes components of them, and nothing else."""
        forest, strongest = forest_of(links)
        out.write("forest", forest)
        out.write("strongest", strongest)

    def stars(self, view: View, out: Out) -> None:
        """Linked nodes on their way to hang on the roots of their components."""
        if view.turn % 2:
            out.tell(unsettled_nodes=large_stars(view, out))
        elif view.span.whole:
            join_all(view, out)
        else:
            small_stars(view, out)
            out.tell(unsettled_nodes=1)  # who hangs where is for the next turn to see

    def components(self, view: View, out: Out) -> None:
        """Root and strongest link of each linked node of a range."""
        out.write("components", labels_of(view))

    def address(self, view: View, out: Out) -> None:
        """The members of clusters and, where similarity to the survivor is required, their links."""
        super().address(view, out)
        if self.follows_links:
            links = view.rows("links")
            left, right = links.column("key").to_numpy(), links.column("right").to_numpy()
            root, _, _ = self.linked(view, left)
            out.write("edges", pa.table([mixed(root), left, right], schema=EDGES_SCHEMA))

    def linked(self, view: View, node: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Root and strongest link of each node, and whether it is linked to another one."""
        linked, labels = view.lookup("components", node)
        root, link = node.copy(), np.full(len(node), np.nan)
        root[linked], link[linked] = labels["root"], labels["link"]
        return root, link, linked

    @property
    def required(self) -> float:
        """The threshold of a link."""
        return self.least_similarity

    def guard(self, view: View) -> Any:
        """Leaders of which each claims only what is similar to itself."""
        if not self.require_similar_to_survivor:
            return None
        edges = view.rows("edges")

        def chosen(nodes: np.ndarray, rank: np.ndarray, leader: np.ndarray, close: np.ndarray) -> np.ndarray:
            similar = np.flatnonzero(close >= self.least_similarity)
            sides = (np.searchsorted(nodes, edges.column(name).to_numpy()) for name in ("left", "right"))
            left, right = (np.concatenate(ends) for ends in zip(sides, (leader[similar], similar), strict=True))
            return stars(left, right, rank)

        return chosen

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, the largest clusters, the histogram, and how many pairs were linked."""
        return super().summary(told) | {"linked_pairs": told.get("linked_pairs", 0)}
