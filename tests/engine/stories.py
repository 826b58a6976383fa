"""Runs that were never run, as events: three stages, parts in random order, retries, failures, a resume."""

import random
from collections.abc import Collection

from curate.engine.events import Event

LABELS = ("read warc+extract", "gopher_quality+c4", "minhash")
RULES = ("gopher_quality.words", "gopher_quality.mean_word_length", "c4.sentences", "c4.javascript")
START = 1_763_800_000.0
FINGERPRINT = "f" * 32
RUN = "20261122T062830Z-fineweb-3fa9c1"


def story(
    *,
    parts: int = 200,
    found: int = 0,
    fail: Collection[tuple[int, int]] = (),
    stop_after: int | None = None,
    seed: int = 0,
    start: float = START,
    run: str = RUN,
    pid: int = 1,
    host: str = "elsewhere",
    pause: float = 0.8,
    share: tuple[int, int] = (0, 1),
    sizes: bool = True,
) -> list[Event]:
    """The events of a run; `found` parts of the first stage are there, `fail` (stage, part) fail, it is killed after
    `stop_after` parts, and does the parts number `share[0]` of each `share[1]`."""
    chance = random.Random(seed)
    now, events, ended = start, [], 0
    documents = 0

    def say(kind: str, **fields: object) -> None:
        events.append(Event.of(kind, fields, now=now))

    say("log_opened", run=run, host=host, pid=pid, version="0")
    stages = [
        {"label": label, "folder": f"{label[:4]}-{n}", "parts": parts, "bytes": parts * 10**7 if n == 0 else 0}
        for n, label in enumerate(LABELS)
    ]
    say("run_started", run=run, recipe="recipes/fineweb.yaml", name="fineweb", fingerprint=FINGERPRINT, stages=stages)
    for number, label in enumerate(LABELS):
        began, totals = now, [0, 0]
        for phase in ("map", "reduce", "apply") if label == "minhash" else ("part",):
            there = found if number == 0 else 0
            everything = range(1) if phase == "reduce" else range(parts)
            todo = [part for part in everything if part >= there and part % share[1] == share[0]]
            chance.shuffle(todo)
            say(
                "stage_started",
                stage=label,
                folder=f"{label[:4]}-{number}",
                parts=len(everything),
                found=there,
                phase=phase,
            )
            for part in todo:
                now += chance.expovariate(1 / pause)
                about = {"stage": label, "part": part, "phase": phase}
                if chance.random() < 0.02:
                    say("retry", stage=label, part=part, attempt=2, reason="the worker was lost")
                if chance.random() < 0.02:
                    say("straggler", stage=label, part=part, seconds=91.2, median_seconds=12.3, copied=True)
                if (number, part) in fail:
                    say("part_failed", **about, error=f"Stage {label}, part {part}, file a.warc.gz: gzip is damaged")
                    continue
                say("part_done", **about, **figures(number, part, sizes=sizes), seconds=pause, worker="elsewhere:7")
                if phase != "map":
                    totals[0] += 1000 + part % 7
                    totals[1] += (1000 + part % 7) * 6 // 10
                ended += 1
                if ended == stop_after:
                    return events
        if any(stage == number for stage, _ in fail):
            say("run_failed", error=f"Stage {label}: some parts failed")
            return events
        documents = totals[1]
        say("stage_done", stage=label, seconds=now - began, records_in=totals[0], records_out=totals[1], fates={})
    say("run_done", documents=documents, text_bytes=documents * 5000, fingerprint=FINGERPRINT)
    return events


def figures(stage: int, part: int, *, sizes: bool = True) -> dict[str, object]:
    """What a part comes to: the same whoever does it."""
    documents = 1000 + part % 7
    kept = documents * 6 // 10
    counts = {"records_in": documents, "records_out": kept, "bytes_in": documents * 5000, "bytes_out": kept * 5000}
    rules = {rule: (part + 11 * place) % 90 for place, rule in enumerate(RULES)}
    return {**counts, "rules": rules} | ({"size": 10**7} if sizes and stage == 0 else {})
