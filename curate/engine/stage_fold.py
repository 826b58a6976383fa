"""Folds the events of one stage: its phases with their parts, what passed through them, rates and the time left.

A phase holds one set entry a part. `text_of`, `number_of` and `count_of` read the fields of events: what makes no sense
in a damaged log is empty or 0.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.engine.run_state import StageState

WINDOW_SECONDS = 60.0
"""Rates are over so many seconds, or over WINDOW_PARTS parts if that is longer."""
WINDOW_PARTS = 20
LEAST_PARTS = 3
"""No rate and no time left are stated before so many parts are done."""
TOP_RULES = 20
MOST_HELD = 10_000
"""Failures, stragglers and names of rules that a fold holds, whatever a log says."""


@dataclass
class _Phase:
    """One pass over the parts of a stage."""

    parts: int = 0
    found: int = 0
    """Parts that were there and that no event tells of."""
    found_size: int = 0
    began: float | None = None
    done: set[int] = field(default_factory=set)
    sized: int = 0
    """Parts done whose size is known, and their bytes in the measure of the stage's bytes."""
    size: int = 0
    recent: "deque[list[float]]" = field(default_factory=lambda: deque(maxlen=120))
    """Second, and in that second: parts, documents, bytes, size."""

    @property
    def complete(self) -> bool:
        return self.parts > 0 and self.found + len(self.done) >= self.parts

    def finished(self) -> int:
        return min(self.found + len(self.done), self.parts) if self.parts else self.found + len(self.done)

    def window(self, now: float) -> list[float] | None:
        """Seconds, parts, documents, bytes and size of the recent past; None before there are enough parts."""
        total = [0.0, 0.0, 0.0, 0.0, 0.0]
        start = self.began
        for second, *amounts in reversed(self.recent):
            if total[1] >= WINDOW_PARTS and second < now - WINDOW_SECONDS:
                start = second + 1
                break
            total[1:] = [a + b for a, b in zip(total[1:], amounts, strict=True)]
        else:
            if len(self.recent) == self.recent.maxlen:  # older parts are forgotten
                start = self.recent[0][0]
        total[0] = now - start if start is not None else 0.0
        return total if total[1] >= LEAST_PARTS and total[0] > 0 else None


@dataclass
class _Totals:
    """What passed through the finished parts of a stage."""

    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    records_ruled: int = 0
    other_rules: int = 0
    rules: Counter[str] = field(default_factory=Counter)

    def add(self, said: Mapping[str, Any]) -> None:
        self.records_in += count_of(said, "records_in")
        self.records_out += count_of(said, "records_out")
        self.bytes_in += count_of(said, "bytes_in")
        self.bytes_out += count_of(said, "bytes_out")
        self.other_rules += count_of(said, "other_rules")
        rules = said.get("rules")
        if isinstance(rules, Mapping):
            self.records_ruled += count_of(said, "records_in")
            for rule in rules:
                if len(self.rules) < MOST_HELD or rule in self.rules:
                    self.rules[rule] += count_of(rules, rule)


class StageFold:
    """One stage while it is folded."""

    def __init__(self, label: str, folder: str) -> None:
        self.label, self.folder = label, folder
        self.planned_parts = self.bytes = 0
        self.phases: dict[str, _Phase] = {}
        self.last = ""
        self.was_there = False
        self.began: float | None = None
        self.ended: float | None = None
        self.seconds: float | None = None
        self.totals = _Totals()
        self.largest_cluster: tuple[int, float] | None = None

    def phase(self, name: str) -> _Phase:
        if name not in self.phases:
            if len(self.phases) >= 100:
                return _Phase()
            self.phases[name] = _Phase()
        return self.phases[name]

    def start(self, time: float, said: Mapping[str, Any]) -> None:
        name, parts, found = text_of(said, "phase") or "part", count_of(said, "parts"), count_of(said, "found")
        phase = self.phase(name)
        if phase.complete and found < parts:  # another round of reducing, or a finished stage whose files were deleted
            phase = self.phases[name] = _Phase()
            if name in ("part", "apply"):
                self.totals = _Totals()
        self.began = time if self.began is None else self.began
        self.was_there = False
        if found < parts or not self.last:  # else another process looks at a phase that the first is beyond
            self.last = name
            self.ended = self.seconds = None
        phase.began = time if phase.began is None else phase.began
        phase.parts = max(phase.parts, parts)
        self.bytes = count_of(said, "bytes") or self.bytes
        # What another log of this fold did is no find: only what no event tells of.
        unknown = min(found, parts) - len(phase.done)
        if unknown > phase.found:
            if not phase.found and not phase.done and name in ("part", "apply"):
                self.totals.add(said)
                phase.found_size = count_of(said, "size")
            phase.found = unknown

    def part(self, time: float, said: Mapping[str, Any]) -> None:
        name, number = text_of(said, "phase") or "part", count_of(said, "part")
        phase = self.phase(name)
        if number in phase.done:
            return  # two workers did it; their bytes are equal
        phase.done.add(number)
        phase.began = time if phase.began is None else phase.began
        self.began = time if self.began is None else self.began
        self.last = self.last or name
        if name in ("part", "apply"):
            self.totals.add(said)
        size = count_of(said, "size")
        phase.sized += size > 0
        phase.size += size
        if not phase.recent or int(time) > phase.recent[-1][0]:
            phase.recent.append([float(int(time)), 0.0, 0.0, 0.0, 0.0])
        bucket = phase.recent[-1]
        for place, amount in enumerate((1, count_of(said, "records_in"), count_of(said, "bytes_in"), size), start=1):
            bucket[place] += amount

    def is_done(self, phase: str, part: int) -> bool:
        """Whether the part is done in the phase (default: in the last that began)."""
        passed = self.phases.get(phase or self.last)
        return self.finished or (passed is not None and part in passed.done)

    @property
    def finished(self) -> bool:
        """Ended, by all who work on it: one of several workers ends when its share is done."""
        phase = self.phases.get(self.last)
        return self.ended is not None and (phase is None or not phase.parts or phase.complete)

    def whole(self, records_out: int) -> None:
        """The stage was there before the run."""
        if not self.phases:
            self.was_there = True
            self.totals.records_out = records_out

    def end(self, time: float, said: Mapping[str, Any]) -> None:
        self.ended = time
        self.seconds = number_of(said, "seconds")
        if isinstance(cluster := said.get("largest_cluster"), Mapping):
            self.largest_cluster = count_of(cluster, "size"), number_of(cluster, "lowest_similarity")
        if "records_in" in said:
            # More than the sum where no event told of found parts, less where a worker tells of its share.
            self.totals.records_in = max(self.totals.records_in, count_of(said, "records_in"))
            self.totals.records_out = max(self.totals.records_out, count_of(said, "records_out"))

    def state(self, now: float, *, ended: bool) -> StageState:
        phase, totals = self.phases.get(self.last) or _Phase(), self.totals
        rules = sorted(totals.rules.items(), key=lambda item: (-item[1], item[0]))
        parts = phase.parts or self.planned_parts
        finished = self.finished
        status = "done" if finished else "found" if self.was_there else "planned"
        if status == "planned" and self.phases:
            status = "stopped" if ended else "running"
        window = phase.window(now) if status == "running" else None
        left, by = self._left(phase, window)
        seconds = self.seconds if finished else now - self.began if self.began is not None and not ended else None
        rates = [amount / window[0] for amount in window[1:4]] if window else [None] * 3
        found = parts if self.was_there else min(phase.found, parts) if parts else phase.found
        return StageState(
            label=self.label,
            folder=self.folder,
            status=status,
            phase=self.last,
            parts=parts,
            found=found,
            done=len(phase.done) if not parts else min(len(phase.done), parts - found),
            failed=0,
            records_in=totals.records_in,
            records_out=totals.records_out,
            bytes_in=totals.bytes_in,
            bytes_out=totals.bytes_out,
            rules=tuple(rules[:TOP_RULES]),
            other_rules=totals.other_rules + sum(left for _, left in rules[TOP_RULES:]),
            records_ruled=totals.records_ruled,
            retries=0,
            seconds=seconds,
            seconds_left=left,
            left_by=by,
            parts_per_second=rates[0],
            records_per_second=rates[1],
            bytes_per_second=rates[2],
            largest_cluster=self.largest_cluster,
        )

    def _left(self, phase: _Phase, window: list[float] | None) -> tuple[float | None, str]:
        """Seconds for what remains at the recent throughput: by bytes where every part says its size, else by parts."""
        remaining = phase.parts - phase.finished()
        if window is None or not phase.parts:
            return None, ""
        if remaining <= 0:
            return 0.0, "parts"
        seconds, parts, _, _, size = window
        if self.bytes and size and phase.sized == len(phase.done) and phase.size <= self.bytes:
            rest = max(0, self.bytes - phase.size - phase.found_size)
            if phase.found and not phase.found_size:  # parts that were there count as average ones of the rest
                rest = int(rest * remaining / (phase.parts - len(phase.done)))
            return rest / (size / seconds), "bytes"
        return remaining / (parts / seconds), "parts"


def text_of(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def number_of(said: Mapping[str, Any], name: str) -> float:
    """A number of 0 or more; whatever else a damaged log holds is 0."""
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(min(value, 1e18)) if value > 0 else 0.0


def count_of(said: Mapping[str, Any], name: str) -> int:
    return int(number_of(said, name))
