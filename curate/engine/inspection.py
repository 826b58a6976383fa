"""What the rules of a recipe do, alone and together: which documents each fails, drops first, and drops alone.

Reads stored signals (curate.engine.signals), so that every rule is asked of every document, also of those that an
earlier rule drops. The funnel, the largest clusters of duplicates and the samples are those of the run, from the
manifests of its stages; a recipe without rules has these alone. Of survivors the ids of their parts are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engine.account import EXCERPT
from curate.engine.as_run import plan_as_run
from curate.engine.manifest import read_valid
from curate.engine.recipe import Recipe
from curate.engine.signals import SignalSet, failing
from curate.steps import Rule
from curate.storage import Location


@dataclass
class RuleCount:
    """What one rule does to the documents that are measured."""

    place: int
    """Of its step in the recipe's list of steps, from 0."""
    step: str
    rule: Rule
    fails: int = 0
    """Documents that fail it, whatever the other rules say."""
    fails_bytes: int = 0
    first: int = 0
    """Documents that fail it and no rule before it: what the funnel counts."""
    only: int = 0
    """Documents that fail it and no other rule: what comes back if it is switched off."""
    only_bytes: int = 0


@dataclass(frozen=True)
class Pair:
    """Two rules that drop the same documents."""

    first: RuleCount
    second: RuleCount
    both: int
    """Documents that fail both."""

    @property
    def overlap(self) -> float:
        """Share of the rarer rule's documents that the other drops, too; 1: it could go."""
        return self.both / min(self.first.fails, self.second.fails)


@dataclass(frozen=True)
class Duplicates:
    """What a deduplicating step of the run did."""

    step: str
    clusters: int
    removed: int
    """Documents."""
    removed_below_threshold: int
    """Those among them that were linked to their survivor through others only."""
    largest: list[dict[str, Any]]
    """survivor, size, lowest_similarity, least_similar (ids); the largest first."""


@dataclass
class Inspection:
    """The rules of a recipe on the documents that enter the first of its filters, and its run."""

    rules: list[RuleCount]
    """None: the recipe has no rules, and all that is counted for them is zero."""
    documents: int = 0
    text_bytes: int = 0
    passing: int = 0
    """Documents that fail no rule (an exchange may still take some of them)."""
    by_failures: dict[int, int] = field(default_factory=dict)
    """Documents by the number of rules that they fail."""
    together: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    """int64[r, r]: documents that fail both rules."""
    funnel: list[dict[str, Any]] | None = None
    """Of the run, a row a step; None: it did not run to its end here."""
    duplicates: list[Duplicates] = field(default_factory=list)
    """Of the run, one a deduplicating step."""
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of the run: documents that a rule dropped, as the first that they failed; duplicates with their `survivor` and,
    if it is in the data, the beginning of its text (`survivor_text`)."""

    def pairs(self) -> list[Pair]:
        """Rules that share documents, those that share most first."""
        found = [
            Pair(self.rules[a], self.rules[b], int(self.together[a, b]))
            for a in range(len(self.rules))
            for b in range(a + 1, len(self.rules))
            if self.together[a, b]
        ]
        return sorted(found, key=lambda pair: (-pair.both, pair.first.rule.name, pair.second.rule.name))


def inspect_rules(signals: SignalSet) -> Inspection:
    """Every rule asked of every document."""
    rules = [RuleCount(place, step, rule) for place, step, rule in signals.rules]
    found = Inspection(rules, together=np.zeros((len(rules), len(rules)), dtype=np.int64))
    for table in signals.tables():
        fails = np.column_stack([failing(table, each.rule) for each in rules])
        _add(found, fails, table.column("text_bytes").to_numpy())
    return found


def _add(found: Inspection, fails: np.ndarray, sizes: np.ndarray) -> None:
    """One part's documents: `fails` is bool[documents, rules]."""
    failed = fails.sum(axis=1)
    first = np.bincount(fails.argmax(axis=1)[failed > 0], minlength=len(found.rules))
    alone = fails & (failed == 1)[:, None]
    numbers = fails.astype(np.float64)  # exact, and multiplied by BLAS
    found.together += np.rint(numbers.T @ numbers).astype(np.int64)
    for each, mine, one, dropped in zip(found.rules, fails.T, alone.T, first, strict=True):
        each.fails += int(mine.sum())
        each.fails_bytes += int(sizes[mine].sum())
        each.first += int(dropped)
        each.only += int(one.sum())
        each.only_bytes += int(sizes[one].sum())
    found.documents += len(fails)
    found.text_bytes += int(sizes.sum())
    found.passing += int((failed == 0).sum())
    for number, documents in zip(*np.unique(failed, return_counts=True), strict=True):
        found.by_failures[int(number)] = found.by_failures.get(int(number), 0) + int(documents)


def add_run(found: Inspection, recipe: Recipe, work: Location) -> None:
    """The funnel, the duplicates and the samples of the recipe's run in `work`, if it ran to its end there."""
    folders = [stage.folder(work) for stage in plan_as_run(recipe, work).stages]
    manifests = [read_valid(folder / "manifest.json") for folder in folders]
    if all(manifest is not None for manifest in manifests):
        made: Sequence[dict[str, Any]] = [manifest for manifest in manifests if manifest is not None]
        found.funnel = [row for manifest in made for row in manifest["funnel"]]
        for folder, manifest in zip(folders, made, strict=True):
            _add_duplicates(found, manifest)
            for rule, some in manifest["samples"].items():
                found.samples.setdefault(rule, []).extend(_with_survivors(some, folder, manifest["parts"]))


def _add_duplicates(found: Inspection, manifest: dict[str, Any]) -> None:
    summary = manifest.get("summary") or {}
    if "largest_clusters" in summary:
        found.duplicates.append(
            Duplicates(
                step=manifest["label"],
                clusters=summary["clusters"],
                removed=summary["removed"],
                removed_below_threshold=summary["removed_below_threshold"],
                largest=summary["largest_clusters"],
            )
        )


def _with_survivors(
    samples: list[dict[str, Any]], folder: Location, parts: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The samples of a stage, with the beginnings of the documents that were kept in their place."""
    files = {part["part"]: folder / part["files"]["data"]["name"] for part in parts if "data" in part["files"]}
    wanted: dict[int, set[str]] = {}
    for sample in samples:
        part = sample.get("survivor_part")  # null of a survivor in an index; manifests of before have none
        if part is not None and part in files:
            wanted.setdefault(part, set()).add(sample["survivor"])
    texts = {(part, key): text for part, ids in wanted.items() for key, text in _beginnings(files[part], ids).items()}
    places = [(sample.get("survivor_part"), sample["survivor"]) for sample in samples]
    return [
        sample | {"survivor_text": texts[place]} if place in texts else sample
        for sample, place in zip(samples, places, strict=True)
    ]


def _beginnings(path: Location, wanted: set[str]) -> dict[str, str]:
    """The beginnings of the texts of these documents of a part; nothing if its data is not there any more."""
    found: dict[str, str] = {}
    if not path.exists():
        return found
    with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        if "text" not in file.schema_arrow.names:
            return found
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["id"]).column("id")
            hits = pc.is_in(ids, value_set=pa.array(sorted(wanted), pa.string()))
            if pc.any(hits).as_py():
                texts = file.read_row_group(group, columns=["text"]).column("text").filter(hits)
                begun = pc.utf8_slice_codeunits(texts, 0, EXCERPT).to_pylist()
                found = {key: text or "" for key, text in zip(ids.filter(hits).to_pylist(), begun, strict=True)} | found
            if len(found) == len(wanted):
                break
    return found
