"""What differs between two recipes as they were planned: inputs, reader, steps, parameters, versions, libraries.

Steps are aligned by name, so that a step that was put in does not make all later ones look new. The first stage whose
fingerprint differs is named with the change that made it so: everything after it is other data.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from curate.engine.provenance import provenance
from curate.housekeeping.datasets import Dataset, Made
from curate.storage import redacted

INPUTS_SHOWN = 10
ABSENT = "–"


@dataclass(frozen=True)
class Change:
    """One difference; `stage` is the label of the stage that it is in."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Origin:
    """Where a dataset came from, as far as it says so."""

    sources: dict[str, tuple[Any, int | None]]
    """Content and bytes by name."""
    reader: list[Any]
    removed: list[str]
    stages: list[dict[str, Any]]
    """label, fingerprint and identity, first to last."""
    libraries: dict[str, str]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """All steps, first to last."""
        return [step for stage in self.stages for step in stage["identity"].get("steps", [])]


def origin(dataset: Dataset) -> Origin | None:
    """From the plan of a recipe, or from the manifest of published output; None if that does not tell."""
    if isinstance(dataset, Made):
        facts = provenance(dataset.plan, [], {})
    else:
        facts = dataset.manifest
    if not isinstance(facts.get("stages"), list) or not facts["stages"]:
        return None
    first = facts["stages"][0]["identity"]
    return Origin(
        sources={source["name"]: (source["content"], source["bytes"]) for source in facts.get("sources", [])},
        reader=first.get("reader", []),
        removed=first.get("removed", []),
        stages=facts["stages"],
        libraries=facts.get("libraries", {}),
    )


def changes(before: Origin, after: Origin) -> list[Change]:
    """All differences, in the order of the data's way."""
    return [
        *_inputs(before, after),
        *_reader(before.reader, after.reader),
        *_removed(before, after),
        *_steps(before.steps, after.steps),
        *_values("library ", before.libraries, after.libraries),
    ]


def first_difference(before: Origin, after: Origin) -> tuple[str, str]:
    """Label of the first stage whose fingerprint differs, and why; empty if all are equal."""
    for number in range(max(len(before.stages), len(after.stages))):
        here = before.stages[number] if number < len(before.stages) else None
        there = after.stages[number] if number < len(after.stages) else None
        if here is None or there is None:
            given = there or here or {}
            return str(given["label"]), f"only {'A' if there is None else 'B'} has this stage"
        if here["fingerprint"] != there["fingerprint"]:
            return _label(here, there), _why(before, after, here["identity"], there["identity"], first=not number)
    return "", ""


def _label(here: dict[str, Any], there: dict[str, Any]) -> str:
    return str(here["label"]) if here["label"] == there["label"] else f"{here['label']} / {there['label']}"


def _why(before: Origin, after: Origin, here: dict[str, Any], there: dict[str, Any], *, first: bool) -> str:
    found: list[Change] = []
    if first:
        found = [*_inputs(before, after), *_reader(before.reader, after.reader), *_removed(before, after)]
    found += _steps(here.get("steps", []), there.get("steps", []))
    if not found:
        return "the source is cut into other parts, or another format of the engine's files"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0].what}: {found[0].before} → {found[0].after}{more}"


def _inputs(before: Origin, after: Origin) -> Iterator[Change]:
    gone = sorted(set(before.sources) - set(after.sources))
    new = sorted(set(after.sources) - set(before.sources))
    other = sorted(
        name for name in set(before.sources) & set(after.sources) if before.sources[name][0] != after.sources[name][0]
    )
    if gone or new:
        yield Change("input files", _files(gone), _files(new))
    if other:
        yield Change("content of input files", _files(other), "changed")


def _files(names: Sequence[str]) -> str:
    if not names:
        return ABSENT
    more = f" and {len(names) - INPUTS_SHOWN} more" if len(names) > INPUTS_SHOWN else ""
    return f"{len(names)}: {', '.join(map(redacted, names[:INPUTS_SHOWN]))}{more}"


def _reader(before: list[Any], after: list[Any]) -> Iterator[Change]:
    if before == after or not before or not after:
        return
    names = ("reader", "reader version", "reader", "reader library")
    for what, here, there in zip(names, before, after, strict=False):
        if isinstance(here, dict) and isinstance(there, dict):
            yield from _values(f"{what} ", here, there)
        elif here != there:
            yield Change(what, _shown(here), _shown(there))


def _removed(before: Origin, after: Origin) -> Iterator[Change]:
    if before.removed != after.removed:
        yield Change("removals", f"{len(before.removed)} requests", f"{len(after.removed)} requests")


def _steps(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[Change]:
    here, there = ([step["step"] for step in steps] for steps in (before, after))
    for kind, a, b, c, d in SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
        if kind == "equal":
            for old, new in zip(before[a:b], after[c:d], strict=True):
                yield from _step(old, new)
            continue
        yield from (Change(f"step {step['step']}", _shown(step["parameters"]), "taken out") for step in before[a:b])
        yield from (Change(f"step {step['step']}", "not there", _shown(step["parameters"])) for step in after[c:d])


def _step(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    name = old["step"]
    if old["version"] != new["version"]:
        yield Change(f"{name} version", _shown(old["version"]), _shown(new["version"]))
    yield from _values(f"{name}.", old["parameters"], new["parameters"])
    yield from _values(f"{name} library ", old.get("libraries", {}), new.get("libraries", {}))


def _values(prefix: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for key in sorted(set(before) | set(after)):
        here, there = before.get(key), after.get(key)
        if key in before and key in after and isinstance(here, dict) and isinstance(there, dict):
            yield from _values(f"{prefix}{key}.", here, there)
        elif here != there or (key in before) != (key in after):
            yield Change(f"{prefix}{key}", _shown(here, key in before), _shown(there, key in after))


def _shown(value: Any, given: bool = True) -> str:
    return redacted(json.dumps(value, ensure_ascii=False, sort_keys=True)) if given else ABSENT
