"""What several datasets have in common, said once: recipes share prefixes, so their funnels, histograms, samples do."""

import json
from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from curate.report.content import DatasetContent
from curate.report.markup import shortened

Key = TypeVar("Key", bound=Hashable)


def shared(told: Mapping[str, Mapping[Key, Any]], *, most: int) -> list[tuple[Key, Any, list[str]]]:
    """(key, value, names of the datasets where both are equal), in the order met; `most` keys of each dataset."""
    found: dict[tuple[Key, str], tuple[Key, Any, list[str]]] = {}
    for name, entries in told.items():
        for key, value in islice(entries.items(), most):
            identity = (key, json.dumps(value, sort_keys=True, default=str))
            found.setdefault(identity, (key, value, []))[2].append(name)
    return list(found.values())


def where(names: Sequence[str], datasets: Sequence[DatasetContent]) -> str:
    """Which datasets; nothing to say where there is only one."""
    if len(datasets) == 1:
        return ""
    return "all datasets" if len(names) == len(datasets) else ", ".join(shortened(name, 30) for name in names)
