"""What this machine has, how many parts it can do at once, and a sentence about what it lacks.

Cores, memory and GPUs are those that this process may use: limits of its container, Slurm job or CUDA_VISIBLE_DEVICES
count. Nothing here loads torch or asks a driver; it reads files of the kernel, in less than a millisecond.
"""

import contextlib
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from curate.engine.resources import Resources
from curate.errors import StageError
from curate.units import shown_bytes

_UNLIMITED = 1 << 60
"""cgroup v1 says "no limit" with a number near 2**63."""


@dataclass(frozen=True)
class Machine:
    """What this process may use."""

    cores: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()
    """Names as CUDA_VISIBLE_DEVICES has them."""

    def at_once(self, resources: Resources, *, workers: int) -> int:
        """How many parts run at once. Raises StageError for what this machine can never give.

        Parts that ask for one core or less are bounded by `workers` alone: more processes than cores are the user's
        choice.
        """
        self._check(resources)
        bounds = [workers]
        if resources.cpus > 1:
            bounds.append(math.floor(self.cores / resources.cpus))
        if resources.memory:
            bounds.append(self.memory_bytes // resources.memory)
        if resources.gpus:
            bounds.append(_sharing(resources.gpus, len(self.gpus)))
        if resources.pool and resources.pool.max:
            bounds.append(resources.pool.max)
        return max(1, min(bounds))

    def gpus_of(self, place: int, gpus: float) -> str | None:
        """CUDA_VISIBLE_DEVICES of the worker at `place`, so that no two share a GPU unless parts ask for a fraction."""
        if not gpus:
            return None
        if gpus < 1:
            return self.gpus[place // math.floor(1 / gpus)]
        each = math.ceil(gpus)
        return ",".join(self.gpus[place * each : (place + 1) * each])

    def _check(self, resources: Resources) -> None:
        lacking = []
        if resources.cpus > self.cores:
            lacking.append(f"{resources.cpus:g} cores, and it has {self.cores}")
        if resources.memory and resources.memory > self.memory_bytes:
            lacking.append(f"{shown_bytes(resources.memory)} of memory, and it has {shown_bytes(self.memory_bytes)}")
        if math.ceil(resources.gpus) > len(self.gpus):
            seen = f"{len(self.gpus)} visible" if self.gpus else "none visible"
            lacking.append(f"{resources.gpus:g} GPUs, and it has {seen}")
        for name, amount in resources.custom.items():
            lacking.append(f"{amount:g} of {name!r}, which only nodes of a Ray cluster can declare")
        if lacking:
            raise StageError(
                f"This machine cannot do a part that needs {'; '.join(lacking)}. Ask for less under `resources:`, or "
                "run it where there is more (--ray ADDRESS)."
            )


@cache
def this_machine() -> Machine:
    """The machine of this process."""
    return Machine(_cores(), _memory_bytes(), _gpus())


def _sharing(gpus: float, there_are: int) -> int:
    return there_are * math.floor(1 / gpus) if gpus < 1 else there_are // math.ceil(gpus)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def _memory_bytes() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _control_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # not there, or the word "max"
                limit = int((folder / name).read_text())
                if limit < _UNLIMITED:
                    memory = min(memory, limit)
    return memory


def _control_groups(controller: str) -> list[Path]:
    """Folders of the kernel's control groups that this process is in, its own first (v2 and v1)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = Path("/sys/fs/cgroup", controller if names else "")
        here = root / path.lstrip("/")
        found += [here, *(folder for folder in here.parents if folder.is_relative_to(root))]
    return found


def _gpus() -> tuple[str, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA itself stops at the first name that is none
        ends = [place for place, name in enumerate(names) if not name or name.startswith("-")]
        return tuple(names[: ends[0]] if ends else names)
    return tuple(str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
