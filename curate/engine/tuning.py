"""What a threshold does: documents by the value that a rule looks at, what it drops alone and what no other rule drops,
and random documents of each side. Reads stored signals; the texts only of the documents that are shown.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.documents import Batch
from curate.engine.account import BINS, EXCERPT, binned
from curate.engine.measuring import as_measured
from curate.engine.part import built_steps, input_batches
from curate.engine.recipe import MATERIALISE, Recipe
from curate.engine.signals import MeasuredSegment, SignalSet, failing, values_of
from curate.engine.stored_signals import array_of
from curate.errors import InputError
from curate.steps import Exchange, Rule

EXAMPLES = 10
"""Documents shown of each side."""


@dataclass(frozen=True)
class Example:
    """A document on one side of a threshold."""

    id: str
    url: str
    value: float
    text: str
    """Its beginning, as the rule's step saw it."""


@dataclass
class Effect:
    """What a rule drops at one threshold."""

    documents: int = 0
    """That fail it, whatever the other rules say."""
    text_bytes: int = 0
    only: int = 0
    """That fail it and no other rule: what comes back if it is switched off."""
    only_bytes: int = 0


@dataclass
class Tuned:
    """A rule under the microscope."""

    place: int
    """Of its step in the recipe's list of steps, from 0."""
    step: str
    rule: Rule
    """With the threshold that is looked at."""
    was: Rule
    """With the recipe's."""
    documents: int = 0
    text_bytes: int = 0
    undefined: int = 0
    """Documents on which the signal is not defined: the rule keeps them."""
    absent: int = 0
    """Documents that left before its step: by an extraction, an edit or an exchange."""
    counts: list[int] = field(default_factory=lambda: [0] * (BINS + 2))
    """Documents by value: below the rule's span, BINS bins, above."""
    least: float = math.nan
    most: float = math.nan
    now: Effect = field(default_factory=Effect)
    """At the recipe's threshold."""
    then: Effect = field(default_factory=Effect)
    """At the threshold that is looked at."""
    dropped: list[Example] = field(default_factory=list)
    kept: list[Example] = field(default_factory=list)
    """Random documents that the rule keeps (other rules may drop them)."""

    @property
    def histogram(self) -> dict[str, Any]:
        """As reports draw it."""
        low, high = self.rule.span
        bounds = {"at_least": self.rule.at_least, "at_most": self.rule.at_most}
        return {"signal": self.rule.signal, "low": low, "high": high, "counts": self.counts} | bounds


Named = tuple[int, str, Rule]
"""Place of the step, name of the step, rule."""


def check_rule(recipe: Recipe, name: str, *, at: float | None) -> None:
    """Refuse, before anything is measured, a name or a threshold that the recipe has no rule for."""
    rules = [
        (place, spec.name.rpartition(".")[2], rule)
        for place, spec in enumerate(recipe.steps)
        if spec.name != MATERIALISE and hasattr(step := spec.build(), "rules") and not isinstance(step, Exchange)
        for rule in step.rules()
    ]
    _checked(rules_named(rules, name), name, at)


def rules_named(rules: Sequence[Named], name: str) -> list[Named]:
    """The rules that a name means: a rule's own, or those of a signal. Raises InputError that lists them."""
    found = [each for each in rules if each[2].name == name]
    found = found or [each for each in rules if name in (each[2].signal, each[2].signal.partition("@")[0])]
    if found:
        return found
    close = _closest(name, [rule for _, _, rule in rules])
    hint = f" Did you mean {close!r}?" if close else ""
    if not rules:
        raise InputError(f"No rule or signal has the name {name!r}: the recipe has no rules.")
    known = sorted((rule for _, _, rule in rules), key=lambda rule: close not in (rule.name, rule.signal))
    lines = (f"  {rule.name} ({' '.join(filter(None, (rule.signal, _bounds(rule))))})" for rule in known)
    said = f"No rule or signal of the recipe has the name {name!r}.{hint} Its rules, with signal and threshold:"
    raise InputError("\n".join([said, *lines]))


def _closest(name: str, rules: Sequence[Rule]) -> str | None:
    """The rule or signal that is most like `name`, with its step's name or without."""
    known = [text for rule in rules for text in (rule.name, rule.signal)]
    without = {text.partition(".")[2]: text for text in reversed(known)}  # of two, the first stays
    if whole := get_close_matches(name, known, n=1):
        return whole[0]
    last = get_close_matches(name.rpartition(".")[2], without, n=1)
    return without[last[0]] if last else None


def _bounds(rule: Rule) -> str:
    low = f"≥ {rule.at_least:g}" if rule.at_least is not None else ""
    high = f"≤ {rule.at_most:g}" if rule.at_most is not None else ""
    return " and ".join(filter(None, (low, high)))


def _checked(named: list[Named], name: str, at: float | None) -> list[tuple[Named, Rule]]:
    """Each rule, and what it is at the threshold that is looked at."""
    if at is None:
        return [(each, each[2]) for each in named]
    if not math.isfinite(at):
        raise InputError(f"--at {at}: is no number that a threshold can be.")
    if len(named) > 1:
        names = ", ".join(rule.name for _, _, rule in named)
        raise InputError(f"{name} has {len(named)} rules ({names}): name the one whose threshold --at replaces.")
    return [(each, at_threshold(each[2], at)) for each in named]


def at_threshold(rule: Rule, value: float) -> Rule:
    """The rule with another threshold. Raises InputError for a rule with two or none."""
    if (rule.at_least is None) == (rule.at_most is None):
        raise InputError(
            f"{rule.name} has {'no' if rule.at_least is None else 'two'} thresholds: --at cannot move one."
        )
    moved = replace(rule, case=None, of_case=())  # one threshold for all languages
    return replace(moved, at_least=value) if rule.at_least is not None else replace(moved, at_most=value)


def tune(signals: SignalSet, name: str, *, at: float | None = None, seed: int = 0) -> list[Tuned]:
    """What the rules that `name` means do, at their thresholds or at `at`; one entry a rule."""
    named = _checked(rules_named(signals.rules, name), name, at)
    tuned = [Tuned(place, step, rule, was) for (place, step, was), rule in named]
    chosen: list[tuple[_Chosen, _Chosen]] = [(_Chosen(), _Chosen()) for _ in tuned]
    for part, table in enumerate(signals.tables()):
        _add(signals, table, part, tuned, chosen, seed)
    for each, (dropped, kept) in zip(tuned, chosen, strict=True):
        segment = next(s for s in signals.segments if any(step.step.place == each.place for step in s.steps))
        each.dropped = dropped.examples(segment, each.place)
        each.kept = kept.examples(segment, each.place)
    return tuned


def _add(
    signals: SignalSet,
    table: pa.Table,
    part: int,
    tuned: Sequence[Tuned],
    chosen: Sequence[tuple["_Chosen", "_Chosen"]],
    seed: int,
) -> None:
    """One part's documents."""
    from curate.kernels.hashing import hash_strings

    size = table.column("text_bytes").to_numpy()
    failures = np.sum([failing(table, rule) for _, _, rule in signals.rules], axis=0, dtype=np.int64)
    ids = array_of(table.column("id"))
    lots = _lots(hash_strings(ids), seed) if len(table) else np.empty(0, dtype=np.uint64)
    for each, (dropped, kept) in zip(tuned, chosen, strict=True):
        values = values_of(table, each.rule.signal)
        absent = table.column(each.rule.signal).is_null().to_numpy()
        defined = ~np.isnan(values)
        was, fails = failing(table, each.was), failing(table, each.rule)
        others = failures - was
        each.documents += len(table)
        each.text_bytes += int(size.sum())
        each.absent += int(absent.sum())
        each.undefined += int((~defined & ~absent).sum())
        _count(each, values[defined])
        for effect, drops in ((each.now, was), (each.then, fails)):
            alone = drops & (others == 0)
            effect.documents += int(drops.sum())
            effect.text_bytes += int(size[drops].sum())
            effect.only += int(alone.sum())
            effect.only_bytes += int(size[alone].sum())
        for side, members in ((dropped, fails), (kept, defined & ~fails)):
            side.offer(part, table, np.flatnonzero(members), lots, values)


def _count(each: Tuned, values: np.ndarray) -> None:
    if not len(values):
        return
    counts = binned(values, each.rule.span)
    each.counts = [int(a + b) for a, b in zip(each.counts, counts, strict=True)]
    each.least = float(np.fmin(each.least, values.min()))
    each.most = float(np.fmax(each.most, values.max()))


def _lots(hashes: np.ndarray, seed: int) -> np.ndarray:
    """A lot (uint64) for each id: the same wherever the document lies, another for each seed."""
    mixed = hashes ^ np.uint64((seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return mixed ^ (mixed >> np.uint64(33))


@dataclass(frozen=True)
class _Drawn:
    """A document that may be shown."""

    lot: int
    part: int
    id: str
    url: str
    value: float


class _Chosen:
    """The documents of one side with the smallest lots."""

    def __init__(self) -> None:
        self._drawn: list[_Drawn] = []

    def offer(self, part: int, table: pa.Table, rows: np.ndarray, lots: np.ndarray, values: np.ndarray) -> None:
        """The documents of a part that are on this side."""
        best = rows[np.argsort(lots[rows], kind="stable")[:EXAMPLES]]
        for row in best.tolist():
            key, url = table.column("id")[row].as_py(), table.column("url")[row].as_py() or ""
            self._drawn.append(_Drawn(int(lots[row]), part, key, url, float(values[row])))
        self._drawn = sorted(self._drawn, key=lambda drawn: (drawn.lot, drawn.part, drawn.id))[:EXAMPLES]

    def examples(self, segment: MeasuredSegment, place: int) -> list[Example]:
        """With their texts, by value."""
        texts: dict[tuple[int, str], str] = {}
        for part in sorted({drawn.part for drawn in self._drawn}):
            wanted = [drawn.id for drawn in self._drawn if drawn.part == part]
            texts |= {(part, key): text for key, text in _texts(segment, place, part, wanted)}
        shown = [Example(d.id, d.url, d.value, texts.get((d.part, d.id), "")) for d in self._drawn]
        return sorted(shown, key=lambda example: (example.value, example.id))


def _texts(segment: MeasuredSegment, place: int, part: int, wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The beginnings of the texts of some documents of a part, as the step at `place` sees them."""
    job, left = segment.jobs[part], set(wanted)
    number = next(number for number, step in enumerate(segment.segment.steps) if step.place == place)
    specs = [step.spec for step in segment.segment.steps[:number] if step.changes]
    steps = built_steps(replace(job, steps=tuple(specs), models=segment.segment.models))
    for batch, _ in input_batches(job):
        here = pc.is_in(batch.ids, value_set=pa.array(sorted(left), pa.string())).to_numpy(zero_copy_only=False)
        if not here.any():
            continue
        some = Batch(batch.data.filter(pa.array(here)))
        left -= set(some.ids.to_pylist())
        for step in steps:
            some = as_measured(step)(some).batch
        yield from zip(some.ids.to_pylist(), _beginnings(some), strict=True)
        if not left:
            return


def _beginnings(batch: Batch) -> Iterator[str]:
    name = "text" if "text" in batch.data.schema.names else "content"
    for value in batch.data.column(name).cast(pa.binary()):
        raw = value.as_buffer()
        start = raw.slice(0, min(4 * EXCERPT, raw.size)).to_pybytes() if raw is not None else b""
        yield start.decode("utf-8", "replace")[:EXCERPT]
