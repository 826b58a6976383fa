"""Worker processes that train groups of runs, one torch thread each, fed by one parent over pipes.

Runs, not threads, share the machine: one process a core with one torch thread each is 1.2 to 1.35 x as fast as one
process with two. On GPUs several processes share a device while their groups fit its memory. Workers are spawned,
live as long as there is work (so compiled code is reused) and never outlive it: they stop when told (SIGTERM), when
their pipe closes, and when their parent disappears, each time with a checkpoint. A worker that dies takes only its
group with it. SIGINT is the parent's: Ctrl-C in a terminal reaches all of them, and only the parent answers.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from curate.errors import CurateError
from curate.proxy_training.scheduling.devices import Place
from curate.proxy_training.scheduling.grouping import Group
from curate.proxy_training.scheduling.watching import Watcher
from curate.proxy_training.training.faults import Stopped

if TYPE_CHECKING:
    from curate.proxy_training.scheduling.one_group import Work

POLL_SECONDS = 1.0
"""Between looks at the groups' progress files."""
PATIENCE_SECONDS = 25.0
"""For all stopping workers to write their checkpoints: Slurm kills 30 seconds (KillWait) after its SIGTERM."""


@dataclass
class _Worker:
    """A process, its pipe, where it computes, and what it is doing."""

    process: BaseProcess
    pipe: Connection
    place: Place
    group: Group | None = None


def train_in_processes(
    groups: Sequence[Group],
    work: "Work",
    *,
    places: Sequence[Place],
    watcher: Watcher,
    stop: Callable[[], bool],
) -> list[str]:
    """Train `groups` in order, a process at each of `places`; returns a sentence for each group that failed.

    Raises Stopped when `stop` says so, after the workers have saved.
    """
    waiting = list(groups)
    failures: list[str] = []
    crew: list[_Worker] = []
    try:
        while waiting or any(worker.group for worker in crew):
            if stop():
                raise Stopped("The ladder was stopped; the same command goes on where it was.")
            crew = [worker for worker in crew if worker.group or worker.process.is_alive()]
            while len(crew) < min(len(places), len(waiting) + sum(worker.group is not None for worker in crew)):
                taken = [worker.place for worker in crew]
                crew.append(_hire(next(place for place in places if place not in taken), work))
            for worker in crew:
                if worker.group is None and waiting:
                    worker.group = waiting.pop(0)
                    with suppress(BrokenPipeError, ConnectionResetError):  # it died just now: heard below
                        worker.pipe.send(worker.group)
                    watcher.started(worker.group)
            busy = [worker for worker in crew if worker.group]
            for pipe in wait([worker.pipe for worker in busy], timeout=POLL_SECONDS):
                worker = next(worker for worker in busy if worker.pipe is pipe)
                failures += _listen(worker, watcher)
            watcher.look()
    finally:
        _dismiss(crew)
    return failures


def _listen(worker: _Worker, watcher: Watcher) -> list[str]:
    """Take one message from a busy worker; a closed pipe means that it died."""
    group = worker.group
    assert group is not None
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode
        why = (
            f"by signal {-code}{' (out of memory?)' if code == -9 else ''}"
            if code and code < 0
            else f"with exit code {code}"
        )
        kind, value = "failed", f"the worker process ended {why}; the same command resumes it"
    if kind == "note":
        watcher.note(value)
        return []
    worker.group = None
    watcher.ended(group)
    return [failed_group(group, value)] if kind == "failed" else []


def failed_group(group: Group, why: str) -> str:
    """A line on a group that did not come to its end."""
    return f"- {group.name} ({', '.join(run.fingerprint[:12] for run in group.runs)}): {why}"


def _hire(place: Place, work: "Work") -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, place, os.getpid()), name="proxy-training", daemon=True)
    process.start()
    theirs.close()
    # Through our pipe, not as an argument: starting writes arguments into a pipe whose other end this process holds
    # open, and would wait for ever for a child that a signal ended before it read them.
    with suppress(BrokenPipeError, ConnectionResetError):  # it is gone already: whoever listens is told
        ours.send(work)
    return _Worker(process, ours, place)


def _dismiss(crew: Sequence[_Worker]) -> None:
    """End all workers; busy ones save first."""
    for worker in crew:
        if worker.group and worker.process.is_alive():
            worker.process.terminate()
        worker.pipe.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for worker in crew:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection, place: Place, parent: int) -> None:
    """Life of a worker: take a group, train it, say how it went, until the pipe closes."""
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    def warn(text: str) -> None:
        with suppress(BrokenPipeError):  # the parent is gone: the next step notices and saves
            pipe.send(("note", text))

    signal.signal(signal.SIGTERM, stop)
    for ignored in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):  # the parent's, who may send a SIGTERM
        signal.signal(ignored, signal.SIG_IGN)
    world = settle_in(place)

    from curate.proxy_training.scheduling.one_group import train_recorded

    with suppress(EOFError, BrokenPipeError, ConnectionResetError), world:  # the parent is gone: so are we
        work: Work = pipe.recv()
        while not stopping:
            group = pipe.recv()
            try:
                train_recorded(group, work, world=world, stop=lambda: stopping or os.getppid() != parent, warn=warn)
                pipe.send(("done", ""))
            except Stopped:
                return
            except CurateError as error:
                pipe.send(("failed", str(error)))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # torch raises many kinds; the traceback goes to the person
                pipe.send(("failed", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def settle_in(place: Place):  # type: ignore[no-untyped-def]  # a World, whose module loads torch
    """Make this process a good worker at `place`, before torch computes; returns its world of one."""
    if place.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu
    keep_freed_memory()
    import torch

    from curate.proxy_training.training.world import world_from_environment

    torch.set_num_threads(1)
    return world_from_environment(device="cpu" if place.gpu is None else "cuda", environment={})


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: it else returns every activation above 128 kB to the system and pays
    page faults to get it back (10 to 15% of an eager step). Elsewhere nothing happens."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(ctypes.c_int(-3), ctypes.c_int(1 << 30))  # M_MMAP_THRESHOLD
            mallopt(ctypes.c_int(-1), ctypes.c_int(2**31 - 1))  # M_TRIM_THRESHOLD
