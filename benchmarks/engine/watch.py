"""The memory of a run and of its workers, sampled while it runs."""

import contextlib
import threading
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
