"""A `curate run` from outside: its seconds, and the memory of its driver and of its workers, sampled while it runs."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil


class Watch(threading.Thread):
    """Largest private memory (unique set size) of a process, and of any of its descendants; ten samples a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.driver_mb = self.worker_mb = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        """Sample until the block has ended."""
        while not self._over.wait(0.1):
            with contextlib.suppress(psutil.Error):
                self.driver_mb = max(self.driver_mb, self.process.memory_full_info().uss / 1e6)
                for child in self.process.children(recursive=True):
                    self.worker_mb = max(self.worker_mb, child.memory_full_info().uss / 1e6)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()


@dataclass(frozen=True)
class Watched:
    """One run of the command."""

    seconds: float
    """On the clock."""
    driver_mb: float
    worker_mb: float
    """Largest private memory of any worker."""


def watched_run(recipe: Path, work: Path, workers: int, environment: Mapping[str, str] | None = None) -> Watched:
    """`curate run` to its end. Raises SystemExit with what it said if it fails."""
    command = [sys.executable, "-m", "curate.cli", "run", str(recipe), "--work", str(work), "--workers", str(workers)]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | dict(environment or {})
    )
    with Watch(process.pid) as watch:
        _, said = process.communicate()
    if process.returncode:
        raise SystemExit(said)
    return Watched(time.perf_counter() - began, watch.driver_mb, watch.worker_mb)
