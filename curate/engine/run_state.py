"""The state of a run as a pure fold over its events: the one truth behind the live view, plain lines, `curate status`,
JSON and Prometheus.

Events are taken in the order of their times, a part counts once however many workers did it, and the logs of several
processes on one recipe may be folded together. How each event is taken is in run_fold.py; here is what comes of it.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from curate.engine.events import Event

OPENING = {"log_opened": 0, "run_started": 1, "stage_started": 2, "stage_done": 10, "run_done": 11}


@dataclass(frozen=True)
class Trouble:
    """A part that failed, was tried again, or takes long."""

    stage: str
    part: int
    phase: str
    text: str


@dataclass(frozen=True)
class StageState:
    """One stage."""

    label: str
    folder: str
    status: str
    """planned, found (all was there), running, stopped (the run ended before it), done."""
    phase: str
    """part, map, reduce or apply; empty before it starts."""
    parts: int
    """Of the phase; 0 is unknown."""
    found: int
    """Parts that were there already."""
    done: int
    """Parts done, those found apart."""
    failed: int
    records_in: int
    """Of the documents whose part's figures are known: all of them once the stage is done."""
    records_out: int
    bytes_in: int
    bytes_out: int
    rules: tuple[tuple[str, int], ...]
    """Documents left by rule, most first. Lower bounds where `other_rules` is not 0: events name a part's top rules."""
    other_rules: int
    records_ruled: int
    """Documents that came into the parts whose rules are known: what the shares of rules are of."""
    retries: int
    seconds: float | None
    """How long it took, or has been running."""
    seconds_left: float | None
    """Of the phase; None is unknown."""
    left_by: str
    """What the time left was computed from: bytes or parts."""
    parts_per_second: float | None
    records_per_second: float | None
    bytes_per_second: float | None
    largest_cluster: tuple[int, float] | None = None
    """Of a stage that removed duplicates: documents of its largest cluster, and the lowest similarity in it."""

    @property
    def finished_parts(self) -> int:
        """Found and done."""
        return self.found + self.done

    @property
    def kept(self) -> float | None:
        """Share of its documents that went on; None before anything is known."""
        return self.records_out / self.records_in if self.records_in else None


@dataclass(frozen=True)
class RunState:
    """A run at one moment."""

    run: str
    name: str
    recipe: str
    fingerprint: str
    status: str
    """starting, running, waiting, finished, failed, interrupted, silent (found by who reads the log: killed?)."""
    error: str
    started: float | None
    """Seconds since 1970, as all times here."""
    heard: float | None
    """Time of the last event."""
    advanced: float | None
    """Time of the last finished part."""
    at: float
    """The moment that this describes."""
    stages: tuple[StageState, ...]
    artifacts: tuple[tuple[str, str], ...]
    """Names with `running` or `done`."""
    failures: tuple[Trouble, ...]
    """The first MOST_SHOWN of `failed` parts; one that another attempt finished is no failure any more."""
    failed: int
    retries: int
    last_retry: Trouble | None
    stragglers: tuple[Trouble, ...]
    """Parts that are slow and not done yet."""
    waiting: str
    """What the run waits for, and how long yet."""
    warnings: tuple[str, ...]
    documents: int | None
    """Of the dataset, once it is finished."""
    text_bytes: int | None
    lost_events: int

    @staticmethod
    def of(events: Iterable[Event], *, now: float | None = None) -> "RunState":
        """The state after `events`, in whichever order they come; rates are as of `now` (default: the last event)."""
        from curate.engine.run_fold import Fold

        fold = Fold()
        # At one moment, what opens comes before what happens within, and that before what closes.
        for event in sorted(events, key=lambda event: (event.time, OPENING.get(event.kind, 9), event.line)):
            fold.hear(event)
        return fold.state(now)

    @property
    def running(self) -> tuple[StageState, ...]:
        """Stages under way."""
        return tuple(stage for stage in self.stages if stage.status == "running")

    @property
    def stages_after(self) -> int:
        """Stages that have not begun."""
        return sum(stage.status == "planned" for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """Since the start."""
        return None if self.started is None else max(0.0, self.at - self.started)

    @property
    def seconds_left(self) -> float | None:
        """Of what is running now; None is unknown. Stages that have not begun are not in it."""
        left = [stage.seconds_left for stage in self.running]
        return None if not left or None in left else max(each for each in left if each is not None)

    @property
    def found_parts(self) -> int:
        """Parts of running and finished stages that were there before the run."""
        return sum(stage.found for stage in self.stages)

    def rate(self, name: str) -> float | None:
        """`parts`, `records` or `bytes` a second over all that is running; None is unknown."""
        known = [value for stage in self.running if (value := getattr(stage, f"{name}_per_second")) is not None]
        return sum(known) if known else None

    def top_rules(self, most: int) -> list[tuple[str, int, float]]:
        """Rules over all stages, the documents that they left, and their share of what came into the stage."""
        rows = [
            (rule, left, left / stage.records_ruled)
            for stage in self.stages
            if stage.records_ruled
            for rule, left in stage.rules
        ]
        return sorted(rows, key=lambda row: (-row[2], row[0]))[:most]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with what is derived: for machines."""
        plain = asdict(self)
        for stage, shown in zip(self.stages, plain["stages"], strict=True):
            shown["kept"] = stage.kept
            shown["rules"] = dict(stage.rules)
        plain["artifacts"] = dict(self.artifacts)
        plain |= {"seconds": self.seconds, "seconds_left": self.seconds_left, "stages_after": self.stages_after}
        return plain | {f"{name}_per_second": self.rate(name) for name in ("parts", "records", "bytes")}
