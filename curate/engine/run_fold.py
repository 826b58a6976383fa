"""Folds events into the state of a run: `Fold.hear` takes one, `Fold.state` says how things stand.

Costs one set entry a part, and `state` nothing a part. What a stage makes of its events is in stage_fold.py.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from curate.engine.events import Event
from curate.engine.run_state import RunState, Trouble
from curate.engine.stage_fold import MOST_HELD, StageFold, count_of, number_of, text_of

MOST_SHOWN = 100
"""Failures, stragglers and artifacts in a state; all are counted."""
MOST_STAGES = 1000
ENDED = ("finished", "failed", "interrupted", "silent")


class Fold:
    """Takes events as they come (in the order of their times) and gives the state at any moment."""

    def __init__(self) -> None:
        self._text = {"run": "", "name": "", "recipe": "", "fingerprint": ""}
        self._status, self._error = "starting", ""
        self._started: float | None = None
        self._heard: float | None = None
        self._advanced: float | None = None
        self._stages: dict[str, StageFold] = {}
        self._current: dict[str, StageFold] = {}
        """By label: two recipes of one run may have stages of one name, one after the other."""
        self._artifacts: dict[str, str] = {}
        self._failures: dict[tuple[str, str, int], Trouble] = {}
        self._stragglers: dict[tuple[str, str, int], Trouble] = {}
        self._retries: Counter[str] = Counter()
        self._last_retry: Trouble | None = None
        self._waiting = ""
        self._warnings: list[str] = []
        self._documents: int | None = None
        self._text_bytes: int | None = None
        self._lost = 0

    def hear(self, event: Event) -> None:
        """Take one event; kinds that are not known here change nothing."""
        said, kind = event.fields, event.kind
        self._heard = event.time if self._heard is None else max(self._heard, event.time)
        if kind not in ("alive", "warning", "log_gap", "waiting"):
            self._waiting = ""
        if kind == "log_opened":
            self._text["run"] = self._text["run"] or text_of(said, "run")
        elif kind == "run_started":
            self._run_started(event.time, said)
        elif kind == "found":
            self._stage(said).whole(count_of(said, "records_out"))
        elif kind == "stage_started":
            self._stage_started(event.time, said)
        elif kind == "part_done":
            self._part_done(event.time, said)
        elif kind == "part_failed":
            if len(self._failures) < MOST_HELD:
                self._failures.setdefault(_key(said), _trouble(said, text_of(said, "error")))
        elif kind == "retry":
            self._retry(said)
        elif kind == "straggler":
            self._straggler(said)
        elif kind == "stage_done":
            self._stage(said).end(event.time, said)
        elif kind in ("artifact_started", "artifact_done"):
            if len(self._artifacts) < MOST_SHOWN:
                self._artifacts[text_of(said, "artifact")] = "running" if kind == "artifact_started" else "done"
        elif kind == "waiting":
            limit = number_of(said, "limit_seconds")
            until = f" of at most {limit:.0f} s" if limit else ""
            self._waiting = f"{text_of(said, 'reason')} ({number_of(said, 'seconds'):.0f} s{until})"
        elif kind == "warning":
            self._warnings = [*self._warnings, text_of(said, "text")][-MOST_SHOWN:]
        elif kind == "log_gap":
            self._lost += count_of(said, "lost")
        elif kind == "run_done":
            # A recipe sampled by another may end inside its run: that is not the end of the run.
            if text_of(said, "fingerprint") in ("", self._text["fingerprint"]):
                self._status, self._error = "finished", ""
                self._documents, self._text_bytes = count_of(said, "documents"), count_of(said, "text_bytes")
        elif kind == "run_failed":
            self._status, self._error = "failed", text_of(said, "error")
        elif kind in ("run_interrupted", "run_silent"):
            self._status = kind.removeprefix("run_")

    @property
    def status(self) -> str:
        """starting, running, or how it ended."""
        return self._status

    def state(self, now: float | None = None) -> RunState:
        """The state at `now` (default: at the last event). Costs nothing a part."""
        moment = max(now or 0.0, self._heard or 0.0)
        stages = tuple(stage.state(moment, ended=self._status in ENDED) for stage in self._stages.values())
        failed: Counter[str] = Counter()
        failures = []
        for (label, phase, part), trouble in self._failures.items():
            if not self._is_done(label, phase, part):
                failures.append(trouble)
                failed[label] += 1
        stages = tuple(
            replace(stage, failed=failed[stage.label], retries=self._retries[stage.label]) for stage in stages
        )
        slow = [trouble for key, trouble in self._stragglers.items() if not self._is_done(*key)]
        return RunState(
            **self._text,
            status="waiting" if self._waiting and self._status not in ENDED else self._status,
            error=self._error,
            started=self._started,
            heard=self._heard,
            advanced=self._advanced,
            at=moment,
            stages=stages,
            artifacts=tuple(self._artifacts.items()),
            failures=tuple(failures[:MOST_SHOWN]),
            failed=len(failures),
            retries=self._retries.total(),
            last_retry=self._last_retry,
            stragglers=tuple(slow[:MOST_SHOWN]) if self._status not in ENDED else (),
            waiting=self._waiting if self._status not in ENDED else "",
            warnings=tuple(self._warnings),
            documents=self._documents,
            text_bytes=self._text_bytes,
            lost_events=self._lost,
        )

    def _run_started(self, time: float, said: Mapping[str, Any]) -> None:
        if self._started is None:
            self._started = time
            self._text |= {name: text_of(said, name) for name in ("name", "recipe", "fingerprint")}
            self._text["run"] = self._text["run"] or text_of(said, "run")
        self._status, self._error = "running", ""
        stages = said.get("stages")
        for planned in stages if isinstance(stages, list) else ():
            if isinstance(planned, dict):
                stage = self._named(text_of(planned, "label"), text_of(planned, "folder"))
                stage.planned_parts = max(stage.planned_parts, count_of(planned, "parts"))
                stage.bytes = stage.bytes or count_of(planned, "bytes")

    def _stage_started(self, time: float, said: Mapping[str, Any]) -> None:
        self._advanced = self._advanced if self._advanced is not None else time
        self._named(text_of(said, "stage"), text_of(said, "folder")).start(time, said)
        if self._status == "starting":
            self._status = "running"

    def _part_done(self, time: float, said: Mapping[str, Any]) -> None:
        self._advanced = time if self._advanced is None else max(self._advanced, time)
        if text_of(said, "phase") != "artifact":
            self._stage(said).part(time, said)

    def _retry(self, said: Mapping[str, Any]) -> None:
        self._last_retry = _trouble(said, f"attempt {count_of(said, 'attempt')}: {text_of(said, 'reason')}")
        self._retries[text_of(said, "stage") if len(self._retries) < MOST_STAGES else ""] += 1

    def _straggler(self, said: Mapping[str, Any]) -> None:
        median = number_of(said, "median_seconds")
        copied = ", a second attempt runs beside it" if said.get("copied") else ""
        text = f"{number_of(said, 'seconds'):.0f} s so far, half of the others took {median:.0f} s or less{copied}"
        if len(self._stragglers) < MOST_HELD:
            self._stragglers[_key(said)] = _trouble(said, text)

    def _stage(self, said: Mapping[str, Any]) -> StageFold:
        label = text_of(said, "stage")
        return self._current[label] if label in self._current else self._named(label, text_of(said, "folder"))

    def _named(self, label: str, folder: str) -> StageFold:
        """The stage of this label and folder; a stage that was only known by its label takes the folder that comes."""
        known = self._current.get(label)
        if known is not None and folder in ("", known.folder):
            return known
        if known is not None and not known.folder:
            known.folder = folder
            return known
        key = f"{label}\n{folder}"
        if key not in self._stages and len(self._stages) < MOST_STAGES:
            self._stages[key] = StageFold(label, folder)
        self._current[label] = self._stages.get(key) or StageFold(label, folder)
        return self._current[label]

    def _is_done(self, label: str, phase: str, part: int) -> bool:
        return any(stage.label == label and stage.is_done(phase, part) for stage in self._stages.values())


def _key(said: Mapping[str, Any]) -> tuple[str, str, int]:
    return text_of(said, "stage"), text_of(said, "phase"), count_of(said, "part")


def _trouble(said: Mapping[str, Any], text: str) -> Trouble:
    stage, phase, part = _key(said)
    return Trouble(stage, part, phase, text)
