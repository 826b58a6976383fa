"""The largest clusters of duplicates on a page, of a study or of one run: a chain of weak matches that empties a source
shows here.

Ids come from data: escaped, cut to a length.
"""

from collections.abc import Sequence

from curate.report.content import DatasetContent
from curate.report.elements import cell, code, number, row, table
from curate.report.markup import Html, tag
from curate.report.numbers import count, digits
from curate.report.sharing import where

SHOWN_ID, SHOWN_MEMBERS = 60, 3

CLUSTERS_NOTE = (
    "What each deduplicating step joined most of, with the members least similar to the survivor. A large cluster with "
    "a lowest similarity far below the threshold is a chain of matches: `require_similar_to_survivor` forbids it."
)


def largest_clusters(datasets: Sequence[DatasetContent]) -> Html | None:
    """A row a cluster, the largest of each stage first; stages that several datasets share stand once."""
    stages: dict[str, tuple[str, list[dict[str, object]], list[str]]] = {}
    for dataset in datasets:
        for stage in dataset.stages:
            if found := stage["summary"].get("largest_clusters"):
                stages.setdefault(stage["fingerprint"], (stage["label"], found, []))[2].append(dataset.name)
    named = [((label, where(names, datasets)), found) for label, found, names in stages.values()]
    return _table(("step", "datasets"), named)


def clusters_of_run(found: Sequence[tuple[str, Sequence[dict[str, object]]]]) -> Html | None:
    """A row a cluster of each step."""
    return _table(("step",), [((label,), clusters) for label, clusters in found])


def _table(heads: Sequence[str], found: Sequence[tuple[Sequence[str], Sequence[dict[str, object]]]]) -> Html | None:
    """A row a cluster; what stands before it is said once."""
    rows = [
        _row(names if place == 0 else [""] * len(names), cluster)
        for names, clusters in found
        for place, cluster in enumerate(clusters)
    ]
    numeric = (len(heads), len(heads) + 2)
    heads = (*heads, "documents", "survivor", "lowest similarity", "least similar")
    return table(heads, rows, numeric=numeric) if rows else None


def _row(names: Sequence[str], cluster: dict[str, object]) -> Html:
    members = cluster.get("least_similar")
    some = members[:SHOWN_MEMBERS] if isinstance(members, list) else []
    size, lowest = cluster.get("size"), cluster.get("lowest_similarity")
    return row(
        [cell(name) for name in names],
        number(count(size) if isinstance(size, int) else "–"),
        cell(code(cluster.get("survivor"), SHOWN_ID)),
        number(digits(lowest, 3) if isinstance(lowest, float | int) else "–"),
        cell([[tag("br") if place else None, code(member, SHOWN_ID)] for place, member in enumerate(some)]),
    )
