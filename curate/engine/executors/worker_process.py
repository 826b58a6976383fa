"""One worker process: what it does on its side of the pipe, and the handle by which its parent holds it.

A worker imports once and answers each job that its pipe brings, in order, with (number, seconds, result); the number
alone takes a job back that it has not begun. It decides nothing, ends when its pipe or its parent does, and is its own
process group, so that what it started ends with it. Spawned, never forked: native libraries do not survive a fork.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate.engine.jobs import Failure
from curate.engine.processes import give_memory_back, keep_freed_memory

READY, TAKEN_BACK = "ready", "taken back"
IDLE_S = 1.0
"""After so long without a job a worker gives freed memory back to the system."""


@dataclass(frozen=True)
class Shape:
    """What is set in a worker before it starts and cannot be changed later."""

    threads: int = 1
    gpus: str | None = None
    """CUDA_VISIBLE_DEVICES; None: as the parent has it."""

    def environment(self) -> dict[str, str]:
        """Variables that native libraries read when they load; a user's own setting stays."""
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        threads = {name: str(self.threads) for name in names if name not in os.environ}
        return threads if self.gpus is None else threads | {"CUDA_VISIBLE_DEVICES": self.gpus}


class WorkerProcess:
    """A worker as its parent sees it."""

    def __init__(self, shape: Shape) -> None:
        context = multiprocessing.get_context("spawn")
        self.shape = shape
        self.pipe, theirs = context.Pipe(duplex=True)
        self._process = context.Process(target=serve, args=(theirs, shape.threads), name="curate-worker")
        with _environment(shape.environment()):
            self._process.start()
        theirs.close()
        self.started = time.monotonic()
        self.ready = False
        """It has imported what it needs and waits for jobs."""
        self.lost = False
        """It died or closed its pipe."""
        self.ending_since: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """Something to wait on, which is ready when the process has ended."""
        return self._process.sentinel

    def give(self, number: int, job: bytes | None) -> None:
        """Send a job, or with None take one back. One that died meanwhile is seen by `answers`."""
        with contextlib.suppress(OSError):
            self.pipe.send((number, job))

    def answers(self, *, ended: bool) -> Iterator[Any]:
        """What it has answered; sets `lost` after its last word (`ended`: the process is known to be dead)."""
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self.lost = True
        self.lost = self.lost or ended

    def end(self, now: float) -> None:
        """Ask it to end: an idle one does at once, a busy one when it is back in Python, cleaning up behind it."""
        self.ending_since = now
        with contextlib.suppress(OSError):
            self.pipe.close()
        self._process.terminate()

    def ended(self) -> bool:
        """Whether the process is gone, without waiting."""
        return bool(multiprocessing.connection.wait([self.sentinel], timeout=0))

    def kill(self) -> str:
        """Kill it with what it started, and say how it ended, or had ended by itself."""
        # The group before the process is reaped: until then its number belongs to nobody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(timeout=5)
        with contextlib.suppress(OSError):
            self.pipe.close()
        return _ending(self._process.exitcode)


def _ending(code: int | None) -> str:
    """A process's end as a clause for people."""
    if code is None:
        return "did not end when it was killed"
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL; perhaps memory ran out)"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        crash = name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")
        return f"died of {name} ({'native code crashed, or memory ran out' if crash else 'sent by somebody'})"
    return f"ended by itself with exit code {code}"


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """Variables for a child that must have them before its first import."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def limit_threads(threads: int = 1) -> None:
    """Keep Arrow to the cores that a part asked for; also for workers that others start (Ray)."""
    import pyarrow

    pyarrow.set_cpu_count(threads)
    pyarrow.set_io_thread_count(threads)


def release_memory() -> None:
    """Give memory that was freed and is kept for later back to the system."""
    import pyarrow

    pyarrow.default_memory_pool().release_unused()
    give_memory_back()


def serve(pipe: "multiprocessing.connection.Connection[Any, Any]", threads: int) -> None:
    """The life of a worker: start, answer jobs, and end without a word when it is told to."""
    try:
        _start(threads)
        _answer_all(pipe)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending: one that comes now would be printed as an error
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + signal.SIGTERM)


def _answer_all(pipe: "multiprocessing.connection.Connection[Any, Any]") -> None:
    """Say that it is ready, and answer jobs until the pipe closes."""
    waiting: deque[tuple[int, bytes]] = deque()
    taken_back: set[int] = set()
    try:
        pipe.send((READY, 0.0, None))
        while True:
            if not waiting and not pipe.poll(IDLE_S):
                release_memory()
            while not waiting or pipe.poll():
                number, job = pipe.recv()
                if job is not None:
                    waiting.append((number, job))
                elif any(number == held for held, _ in waiting):
                    taken_back.add(number)
            number, job = waiting.popleft()
            if number in taken_back:
                taken_back.remove(number)
                pipe.send((number, 0.0, TAKEN_BACK))
                continue
            pipe.send_bytes(answer(number, job))
    except (EOFError, OSError):
        return  # the parent closed the pipe: nothing more to do


def _start(threads: int) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # Ctrl-C and what else the terminal sends goes to the parent, which decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An exception rather than the end of the process: whoever writes a file removes the half of it. Not SystemExit,
    # which a step may raise, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    limit_threads(threads)
    keep_freed_memory()


def _end_with_parent() -> None:
    # A parent that is killed cannot say so, and a busy worker does not look at its pipe: watch the process itself.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL) if os.getpgid(0) == os.getpid() else os._exit(1)


def answer(number: int, job: bytes) -> bytes:
    """The answer to a job; work that raises, against its contract, or whose result cannot travel is a Failure."""
    began = time.monotonic()
    stage, part, file = "", 0, ""
    try:
        work, arguments = pickle.loads(job)
        stage, part, file = arguments.stage, arguments.part, arguments.file
        result = work(arguments)
        return pickle.dumps((number, time.monotonic() - began, result))
    except Exception as error:
        failure = Failure(
            stage=stage,
            part=part,
            file=file,
            record="",
            error=f"{type(error).__name__}: {error}",
            trace=traceback.format_exc(),
            expected=False,
        )
        return pickle.dumps((number, time.monotonic() - began, failure))
