"""Work in a process of its own, and the most memory of its own that a block of it held (RssAnon, every 5 ms)."""

import os
import pickle
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Peak:
    """The most memory of its own that this process held within a block, and the seconds that it took."""

    def __enter__(self) -> "Peak":
        self.megabytes, self._over = 0.0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = self.wall + time.perf_counter(), self.cpu + time.process_time()
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._look()
        self._look()

    def _look(self) -> None:
        self.megabytes = max(self.megabytes, resident_mb()[0])

    def figures(self) -> dict[str, float]:
        """CPU and wall seconds, and the peak."""
        return {"cpu_s": round(self.cpu, 2), "wall_s": round(self.wall, 2), "peak_MB": round(self.megabytes)}


def resident_mb() -> tuple[float, float]:
    """What this process holds of its own, and with mapped pages."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    facts = {line[0]: int(line[1]) * 1024 / 1e6 for line in lines if line[0] in ("RssAnon:", "VmRSS:")}
    return facts["RssAnon:"], facts["VmRSS:"]


def forked(what: object, work: Callable[[], Any]) -> tuple[Any, resource.struct_rusage]:
    """The result of the work in a forked process, and what that used; SystemExit that names `what` if it fails."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(read)
        result = work()
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if status or not data:
        raise SystemExit(f"{what}: the process ended with {status}")
    return pickle.loads(data), usage  # of our own child
