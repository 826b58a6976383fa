"""The process that tries inputs, so that a crash, a hang or a lack of memory has a number and a file.

Settings come as JSON on the command line. Every input is made from the seed and its number, and written before it is
tried; what happened is one line of JSON on stdout. Inputs with a new signature join the pool, kept in files.
"""

import ctypes
import faulthandler
import json
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MEMORY_BYTES = 3 << 30
"""Address space that an input may ask for beyond what the process has when it starts."""
GROWTH_BYTES = 400 << 20
"""Resident memory that an input may add at its peak."""
MOST_POOLED = 400
ENGINE_SHARE = 0.25
"""How many of the readable inputs go through the whole engine."""


def main() -> None:
    """Try the inputs `first`, `first + step`, ... below `last`."""
    faulthandler.enable()
    settings = json.loads(sys.argv[1])
    from tests.fuzz.mutations import mutated
    from tests.fuzz.seeds import KINDS, REAL, seeds
    from tests.fuzz.targets import Broken, Targets

    folder = Path(settings["folder"])
    targets = Targets(folder)
    pool = seeds(REAL if settings["real"] and REAL.exists() else None)
    kept = folder / "pool"
    kept.mkdir(exist_ok=True)
    seen: set[str] = set()
    for path in sorted(kept.iterdir()):  # of the process before, which died
        kind = path.name.split("~")[1]
        pool[kind].append(path.read_bytes())
    kinds = [kind for kind, share in KINDS.items() for _ in range(share)]
    _warm_up(targets, pool, say := _Say())
    _limit_memory()
    for number in range(settings["first"], settings["last"], settings["step"]):
        dice = random.Random(f"{settings['seed']} {number}")
        kind = dice.choice(kinds)
        path = targets.path(kind)
        sources = pool[kind] or [b"?"]
        data = dice.randbytes(8) if kind == "work" else mutated(dice, kind, dice.choice(sources), dice.choice(sources))
        path.write_bytes(data)
        say(start=number, kind=kind, path=str(path))
        problem, told = None, set()
        before = _peak_bytes(reset=True)
        began = time.process_time()
        try:
            _plant(settings["planted"].get(str(number)))
            told = targets.try_input(kind, path, engine=dice.random() < ENGINE_SHARE)
        except Broken as error:
            problem = str(error)
        except Exception:
            problem = traceback.format_exc()
        grown = _peak_bytes() - before
        if problem is None and grown > GROWTH_BYTES:
            problem = f"{grown >> 20} MB more memory for an input of {len(data)} bytes"
        say(done=number, problem=problem, seconds=time.process_time() - began, new=sorted(told - seen))
        if told - seen and kind != "work" and len(pool[kind]) < MOST_POOLED and len(data) < 200_000:
            pool[kind].append(data)
            (kept / f"{number:07d}~{kind}").write_bytes(data)
        seen |= told


def _plant(fault: str | None) -> None:
    """A fault, where the fuzzer itself is tried."""
    if fault == "crash":
        ctypes.string_at(0)
    elif fault == "hang":
        while True:
            pass
    elif fault == "memory":
        bytearray(b"x") * (500 << 20)
    elif fault == "traceback":
        raise ZeroDivisionError("planted")


class _Say:
    def __call__(self, **facts: Any) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()


def _warm_up(targets: Any, pool: dict[str, list[bytes]], say: _Say) -> None:
    """Whatever is loaded or compiled once is no input's cost."""
    for kind, items in pool.items():
        path = targets.path(kind)
        path.write_bytes(items[0] if items else bytes(8))
        try:
            targets.try_input(kind, path, engine=True)
        except Exception:
            say(seed=kind, problem=traceback.format_exc())
    say(ready=True)


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, hard))


def _peak_bytes(*, reset: bool = False) -> int:
    """Peak of the resident memory since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
