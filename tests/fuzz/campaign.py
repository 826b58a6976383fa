"""A fuzzing campaign: child processes that try inputs, watched from outside; findings are saved with what replays them.

`campaign(...)` is deterministic for a seed, a number of inputs and of children (each child's pool is its own). A child
that dies is a crash of the input it had; one that computes for more than HANG_S on an input is killed: a hang.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.seeds import ROOT

HANG_S = 10.0
"""Seconds of processor time that an input may take; four times as much of the clock, as machines are shared."""
START_S = 180.0


@dataclass(frozen=True)
class Finding:
    """One input that showed a fault."""

    number: int
    kind: str
    problem: str
    saved: Path | None


@dataclass
class Outcome:
    """What a campaign did."""

    inputs: Counter[str] = field(default_factory=Counter)
    """By kind."""
    findings: list[Finding] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)
    """What happened, without numbers: how much of the behaviour was seen."""
    slowest: float = 0.0
    """Processor seconds of the slowest input."""
    seconds: float = 0.0

    def summary(self) -> str:
        """A few lines for people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.inputs.items()))
        lines = [
            f"{self.inputs.total():,} inputs in {self.seconds:.0f} s ({kinds})",
            f"{len(self.signatures)} different outcomes; slowest input {self.slowest:.1f} s of work",
            f"{len(self.findings)} findings",
        ]
        return "\n".join(lines + [f"#{item.number} {item.kind} {item.saved}\n{item.problem}" for item in self.findings])


def campaign(
    folder: Path,
    *,
    inputs: int,
    seed: int,
    children: int = 2,
    real: bool = True,
    planted: dict[int, str] | None = None,
) -> Outcome:
    """Try `inputs` inputs; work and findings go into `folder`. `planted` makes faults, to try the fuzzer itself."""
    outcome = Outcome()
    began = time.monotonic()
    common = {"seed": seed, "real": real, "planted": planted or {}}
    watchers = [
        threading.Thread(target=_watch, args=(folder / f"child-{place}", outcome, inputs, place, children, common))
        for place in range(children)
    ]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    outcome.seconds = time.monotonic() - began
    outcome.findings.sort(key=lambda finding: finding.number)
    return outcome


def _watch(folder: Path, outcome: Outcome, inputs: int, first: int, step: int, common: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    while first < inputs:
        settings = {"folder": str(folder), "first": first, "last": inputs, "step": step, **common}
        with (folder / "stderr.txt").open("wb") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.child", json.dumps(settings)],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
            try:
                last = _listen(child, folder, outcome)
            finally:
                _end(child)
        if last is None:
            return
        first = last + step


def _listen(child: "subprocess.Popen[bytes]", folder: Path, outcome: Outcome) -> int | None:
    """Follow one child to its end: None if it did all it had, else the input at which it died or was killed."""
    assert child.stdout is not None
    held: tuple[int, str, Path] | None = None
    ready, waiting = False, b""
    began, spent = time.monotonic(), 0.0
    while True:
        if select.select([child.stdout], [], [], 0.5)[0]:
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                break
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                facts = json.loads(line)
                ready = ready or "ready" in facts
                if "seed" in facts:
                    outcome.findings.append(Finding(-1, facts["seed"], "an unharmed seed: " + facts["problem"], None))
                elif "start" in facts:
                    held = (facts["start"], facts["kind"], Path(facts["path"]))
                    began, spent = time.monotonic(), _cpu_s(child.pid)
                elif "done" in facts and held:
                    outcome.inputs[held[1]] += 1
                    outcome.signatures.update(facts["new"])
                    outcome.slowest = max(outcome.slowest, facts["seconds"])
                    if facts["problem"]:
                        _found(outcome, held, facts["problem"], folder)
                    held = None
        elif held and (_cpu_s(child.pid) - spent > HANG_S or time.monotonic() - began > 4 * HANG_S):
            child.send_signal(signal.SIGABRT)  # faulthandler writes where it was
            time.sleep(1)
            _found(outcome, held, f"no end after {HANG_S:.0f} s of work:\n{_said(folder)}", folder)
            return held[0]
        elif not ready and time.monotonic() - began > START_S:
            raise RuntimeError(f"the fuzzer's child did not start: {_said(folder)}")
    code = child.wait()
    if held is None and code == 0:
        return None
    if held is None:
        raise RuntimeError(f"the fuzzer's child ended with {code}: {_said(folder)}")
    _found(outcome, held, f"the process ended with {code}:\n{_said(folder)}", folder)
    return held[0]


def _found(outcome: Outcome, held: tuple[int, str, Path], problem: str, folder: Path) -> None:
    number, kind, path = held
    saved = folder.parent / "findings" / f"{number:06d}-{path.name}"
    saved.parent.mkdir(exist_ok=True)
    shutil.copy(path, saved)
    outcome.findings.append(Finding(number, kind, problem, saved))


def _said(folder: Path) -> str:
    text = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")
    return text.partition("\nExtension modules:")[0][-4000:]


def _cpu_s(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End the child and whatever it started (it leads a process group of its own)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout:
        child.stdout.close()
