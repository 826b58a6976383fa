"""Local processes: long-lived workers that import once and take jobs in order. With one worker, this process does them.

A worker that dies (out of memory, a crash in native code) fails the run with the part it held; what was finished stays.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from curate.errors import StageError


class LocalExecutor:
    """`workers` processes on this machine."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise StageError(f"The number of workers must be at least 1 (found {workers}).")
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(
        self, function: Callable[[Any], Any], jobs: Sequence[Any], *, resources: Any = None, listener: Any = None
    ) -> Iterator[tuple[int, Any]]:
        """Apply `function` to each job; two jobs a worker wait in its queue at most."""
        if self.workers == 1:
            for number, job in enumerate(jobs):
                yield number, function(job)
            return
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start)
        pending: dict[Future[Any], int] = {}
        waiting = iter(enumerate(jobs))
        try:
            while True:
                while len(pending) < 2 * self.workers and (following := next(waiting, None)):
                    number, job = following
                    pending[self._pool.submit(function, job)] = number
                if not pending:
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda item: pending[item]):
                    number = pending.pop(future)
                    yield number, future.result()
        except BrokenProcessPool:
            self._pool = None
            held = ", ".join(f"{jobs[number].stage} part {jobs[number].part}" for number in sorted(pending.values()))
            raise StageError(
                f"A worker process died while it had: {held}. Perhaps memory ran out, or native code crashed; "
                "finished parts are kept, run the same command again to go on."
            ) from None
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _start() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C goes to the whole process group: the parent decides, workers finish what they hold. One thread each,
    # as one part is one core's work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)


def _end_with_parent() -> None:
    # A parent that is killed cannot say so, and its pipes stay open in the other workers: watch the process itself.
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
