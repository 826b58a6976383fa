"""What a part notes while documents pass: the funnel of its steps, histograms of signals, samples of what was dropped.

Small, mergeable by addition, and the same whichever worker did the part; reports are drawn from nothing else.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.documents import Batch
from curate.engine.ledger import REMOVED
from curate.rounds import add_facts
from curate.steps import Outcome, Step

BINS = 48
"""Bins of a histogram, between one for values below and one for values above the span."""
SAMPLES = 4
"""Dropped documents shown for a rule."""
EXCERPT = 400
"""Characters of a shown document."""


@dataclass
class Account:
    """The notes of one part."""

    funnel: list[dict[str, Any]] = field(default_factory=list)
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    from_signals: set[str] = field(default_factory=set)
    """Steps that decided from stored signals: their seconds say nothing of measuring."""
    file: str = ""
    """The input file that is being read; errors name it."""

    def row(self, number: int, step: str) -> dict[str, Any]:
        """The funnel's row of step `number`; rows are opened in order."""
        if len(self.funnel) == number:
            empty = {"in": 0, "in_bytes": 0, "out": 0, "out_bytes": 0, "edited": 0, "edited_bytes": 0}
            self.funnel.append({"step": step, **empty, "fates": {}, "rules": {}})
        return self.funnel[number]

    def refused(self, number: int, step: str, batch: Batch, refused: pa.RecordBatch) -> None:
        """Count what a reader delivered and what it refused."""
        row = self.row(number, step)
        row["in"] += len(batch) + refused.num_rows
        row["out"] += len(batch)
        size = batch.nbytes if len(batch) else 0
        row["in_bytes"] += size
        row["out_bytes"] += size
        _count(row, refused.column("fate"), refused.column("rule"))
        for fate, rule, key, url, source, offset, error in zip(
            *(refused.column(name).to_pylist() for name in ("fate", "rule", "id", "url", "source", "offset", "error")),
            strict=True,
        ):
            named = rule or f"{step}.{fate}"
            if rule == REMOVED:  # shown nowhere
                continue
            if len(self.samples.setdefault(named, [])) < SAMPLES:
                where = f"{source} at {offset}"
                self.samples[named].append(
                    {
                        "key": key,
                        "id": key,
                        "url": url or "",
                        "text": f"{where}: {error or ''}"[:EXCERPT],
                        "value": None,
                        "threshold": None,
                        "survivor": None,
                        "error": error,
                    }
                )

    def step(self, number: int, name: str, step: Step, before: Batch, outcome: Outcome, began: float) -> None:
        """Count what a step did to one batch."""
        row = self.row(number, name)
        row["in"] += len(before)
        row["in_bytes"] += before.nbytes
        row["out"] += len(outcome.batch)
        row["out_bytes"] += outcome.batch.nbytes if len(outcome.batch) else 0
        if outcome.edited is not None:
            row["edited"] += int((outcome.edited > 0).sum())
            row["edited_bytes"] += int(outcome.edited.sum())
        _count(row, outcome.left.column("fate"), outcome.left.column("rule"))
        self._histograms(step, outcome)
        self._samples(name, before, outcome.left)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def _histograms(self, step: Step, outcome: Outcome) -> None:
        rules = step.rules() if hasattr(step, "rules") else ()
        for rule in rules:
            if rule.signal not in outcome.signals:
                continue
            low, high = rule.span
            entry = self.histograms.setdefault(
                rule.name,
                {
                    "signal": rule.signal,
                    "low": low,
                    "high": high,
                    "at_least": rule.at_least,
                    "at_most": rule.at_most,
                    "counts": [0] * (BINS + 2),
                },
            )
            values = outcome.signals[rule.signal]
            counts = binned(values[~np.isnan(values)], rule.span)
            entry["counts"] = [int(a + b) for a, b in zip(entry["counts"], counts, strict=True)]

    def _samples(self, name: str, before: Batch, left: pa.RecordBatch) -> None:
        if not left.num_rows:
            return
        from curate.kernels.hashing import hash_strings

        rows = left.column("row")
        keys = hash_strings(before.ids.take(rows))
        reasons = pc.coalesce(left.column("rule"), pc.binary_join_element_wise(name, left.column("fate"), "."))
        for reason in reasons.unique().to_pylist():
            these = np.flatnonzero(pc.equal(reasons, reason).to_numpy(zero_copy_only=False))
            chosen = these[np.argsort(keys[these], kind="stable")[:SAMPLES]]
            known = self.samples.get(reason, [])
            # Taking a document out costs more than its key, and after some batches hardly any is among the smallest.
            last = max(sample["key"] for sample in known) if len(known) == SAMPLES else None
            shown = [which for which in chosen if last is None or _key(keys[which]) < last]
            merged = known + [self._sample(before, left, int(which), _key(keys[which])) for which in shown]
            self.samples[reason] = sorted(merged, key=lambda sample: sample["key"])[:SAMPLES]

    def _sample(self, before: Batch, left: pa.RecordBatch, which: int, key: str) -> dict[str, Any]:
        row = left.column("row")[which].as_py()
        names = before.data.schema.names
        if "text" in names:
            raw = before.data.column("text").slice(row, 1).cast(pa.binary())[0].as_py() or b""
        else:
            raw = before.data.column("content")[row].as_py() or b"" if "content" in names else b""
        return {
            "key": key,
            "id": before.ids[row].as_py(),
            "url": before.data.column("url")[row].as_py() or "" if "url" in names else "",
            "text": raw[: 4 * EXCERPT].decode("utf-8", "replace")[:EXCERPT],
            "value": left.column("value")[which].as_py(),
            "threshold": left.column("threshold")[which].as_py(),
            "survivor": left.column("survivor")[which].as_py(),
            "survivor_part": left.column("survivor_part")[which].as_py(),
            "error": left.column("error")[which].as_py(),
        }

    def fates(self, kept: int, edited: int) -> dict[str, int]:
        """Fates of the part's records over all its steps; `kept` counts the edited ones too."""
        fates = {"kept": kept - edited, "edited": edited}
        for row in self.funnel:
            add_facts(fates, row["fates"])
        return fates


def _key(hashed: np.uint64) -> str:
    return f"{int(hashed):016x}"


def binned(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """How many values lie below the span, in each of its BINS bins (the last one holds its end), and above."""
    low, high = span
    place = np.clip(np.floor((values - low) / ((high - low) or 1) * BINS), -1, BINS).astype(np.int64) + 1
    place[values == high] = BINS
    return np.bincount(place, minlength=BINS + 2)


def _count(row: dict[str, Any], fates: pa.Array, rules: pa.Array) -> None:
    for values, into in ((fates, row["fates"]), (rules, row["rules"])):
        for item in pc.value_counts(values).to_pylist() if len(values) else []:
            if item["values"] is not None:
                into[item["values"]] = into.get(item["values"], 0) + item["counts"]
