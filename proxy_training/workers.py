"""Worker processes that train runs, one torch thread each, fed by one parent over pipes.

Workers are spawned, live as long as there is work (so compiled code is reused) and never outlive it: they stop
when told (SIGTERM), when their pipe closes, and when their parent disappears, each time with a checkpoint. A
worker that dies takes only its run with it. SIGINT is the parent's: Ctrl-C in a terminal reaches all of them,
and only the parent answers.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from curate.errors import CurateError
from curate.progress import Progress, Task
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.run import Run

REPORT_STEPS = 10  # steps between two messages to the parent
PATIENCE_SECONDS = 60.0  # for a stopping worker to write its checkpoint


@dataclass
class _Worker:
    """A process, its pipe, and what it is doing."""

    process: BaseProcess
    pipe: Connection
    run: Run | None = None
    reported_tokens: int = 0


def train_runs(
    runs: Sequence[Run],
    heldout: Mapping[str, HeldOutSet],
    *,
    folders: Mapping[str, Path],
    costs: Mapping[str, float],
    workers: int,
    progress: Progress,
    title: str,
) -> list[str]:
    """Train `runs` in order over `workers` processes; returns a sentence for each that failed."""
    waiting = list(runs)
    failures: list[str] = []
    total = sum(costs[run.fingerprint] for run in runs)
    crew: list[_Worker] = []
    with progress.task(title, total=100.0, unit="%") as task:
        try:
            while waiting or any(worker.run for worker in crew):
                crew = [worker for worker in crew if worker.run or worker.process.is_alive()]
                while waiting and len(crew) < workers and len([w for w in crew if not w.run]) == 0:
                    crew.append(_hire(heldout))
                for worker in crew:
                    if worker.run is None and waiting:
                        worker.run, worker.reported_tokens = waiting.pop(0), 0
                        worker.pipe.send((worker.run, folders[worker.run.fingerprint]))
                busy = [worker for worker in crew if worker.run]
                for pipe in wait([worker.pipe for worker in busy]):
                    worker = next(worker for worker in busy if worker.pipe is pipe)
                    _listen(worker, task=task, progress=progress, share=100.0 / total, costs=costs, failures=failures)
        finally:
            _dismiss(crew)
    return failures


def _listen(
    worker: _Worker, *, task: Task, progress: Progress, share: float, costs: Mapping[str, float], failures: list[str]
) -> None:
    """Take one message from a busy worker; a closed pipe means that it died."""
    run = worker.run
    assert run is not None
    percent = share * costs[run.fingerprint]
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
        kind, value = "failed", f"the worker process ended {why}; the same command resumes the run"
    if kind == "note":
        progress.note(value)
    elif kind == "trained":
        tokens, loss = value
        task.advance(percent * tokens / run.trained_tokens)
        worker.reported_tokens += tokens
        task.describe(f"{run.name}: loss {loss:.3f}")
    else:
        task.advance(percent * max(0.0, 1 - worker.reported_tokens / run.trained_tokens))
        if kind == "failed":
            failures.append(f"- {run.name} ({run.fingerprint}): {value}")
        worker.run = None


def _hire(heldout: Mapping[str, HeldOutSet]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, dict(heldout), os.getpid()), name="proxy-training", daemon=True
    )
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _dismiss(crew: Sequence[_Worker]) -> None:
    """End all workers; busy ones save first."""
    for worker in crew:
        if worker.run and worker.process.is_alive():
            worker.process.terminate()
        worker.pipe.close()
    for worker in crew:
        worker.process.join(PATIENCE_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection, heldout: dict[str, HeldOutSet], parent: int) -> None:
    """Life of a worker: take a run, train it, say how it went, until the pipe closes."""
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    import torch

    from curate.proxy_training.train import Stopped, Watch, train_run

    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone: so are we
        while not stopping:
            run, folder = pipe.recv()
            reporter = _Reporter(pipe)
            watch = Watch(
                advanced=reporter.advanced,
                stop=lambda: stopping or os.getppid() != parent,
                warn=lambda text: pipe.send(("note", text)),
            )
            try:
                train_run(run, heldout, folder=folder, watch=watch)
                pipe.send(("done", None))
            except Stopped:
                return
            except CurateError as error:
                pipe.send(("failed", str(error)))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # torch raises many kinds; the traceback goes to the person
                pipe.send(("failed", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


class _Reporter:
    """Tells the parent how far a run is, every few steps."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.steps = self.tokens = 0

    def advanced(self, tokens: int, loss: float) -> None:
        """One step is done."""
        self.steps += 1
        self.tokens += tokens
        if self.steps % REPORT_STEPS == 0:
            with suppress(BrokenPipeError):  # the parent is gone: the next step notices and saves
                self.pipe.send(("trained", (self.tokens, loss)))
            self.tokens = 0


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: it else returns every activation above 128 kB to the system and pays
    page faults to get it back (10 to 15% of an eager step). Elsewhere nothing happens."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL("libc.so.6").mallopt
            mallopt(ctypes.c_int(-3), ctypes.c_int(1 << 30))  # M_MMAP_THRESHOLD
            mallopt(ctypes.c_int(-1), ctypes.c_int(2**31 - 1))  # M_TRIM_THRESHOLD


def compile_problem() -> str | None:
    """Compile a tiny function in a process of its own; what went wrong in one line, or None."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_try_compile, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return "the compiling process ended without an answer"
    finally:
        process.join()


def _try_compile(pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        compiled = torch.compile(lambda x: (x * 2).sin().sum())
        compiled(torch.ones(64, requires_grad=True)).backward()
        pipe.send(None)
    except Exception as error:  # any failure means: no compilation here
        pipe.send((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
