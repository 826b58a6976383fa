"""Groups as Ray tasks, over a shared folder: the same files, beats and results as processes on one machine.

The caller is connected to the cluster. A task asks for one CPU, and on a cluster with GPUs for the part of one that its
group fills. A worker that dies, or its node, costs the seconds since the last checkpoint: its group is sent again,
RETRIES times. To stop, a file in the group's folder asks the task to save; Ray's own way would lose the step. All nodes
must see the ladder's folder and have the same curate installed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import CurateError, TrainingError
from curate.proxy_training.scheduling.devices import Device, Place, memory_bytes, sharing
from curate.proxy_training.scheduling.grouping import Group
from curate.proxy_training.scheduling.watching import Watcher
from curate.proxy_training.scheduling.workers import PATIENCE_SECONDS, failed_group, settle_in
from curate.proxy_training.training.faults import Stopped

if TYPE_CHECKING:
    from curate.proxy_training.scheduling.one_group import Work

RETRIES = 3
"""How often a group is sent again when its worker was lost."""
POLL_SECONDS = 1.0
GPU_BYTES = 16 << 30
"""Taken for the memory of a GPU that the cluster does not tell."""


@dataclass
class _Flight:
    """A group on its way."""

    group: Group
    tries: int = 1


def train_on_ray(
    groups: Sequence[Group],
    work: "Work",
    *,
    device: Device,
    watcher: Callable[[int], Watcher],
    stop: Callable[[], bool],
) -> list[str]:
    """Train `groups` on the cluster that this process is connected to; a sentence for each group that failed.

    Raises Stopped when `stop` says so, after the tasks have saved, and TrainingError if there is no cluster.
    """
    import ray

    gpus = 0.0 if device == "cpu" else cluster_gpus()
    if device == "cuda" and not gpus:
        raise TrainingError("The Ray cluster has no GPU; add one, or train on its CPUs (device cpu).")
    watch = watcher(max(1, int(ray.cluster_resources().get("CPU", 1))))
    shared = ray.put(work)
    task = ray.remote(_train)
    flights: dict[Any, _Flight] = {}

    def send(flight: _Flight) -> None:
        _stop_file(flight.group, work.out).unlink(missing_ok=True)
        share = 1 / sharing(memory_bytes(flight.group), GPU_BYTES) if gpus else 0.0
        options = task.options(num_cpus=1, num_gpus=share, max_retries=0, name=flight.group.name)
        flights[options.remote(flight.group, shared, share > 0)] = flight
        watch.started(flight.group)

    failures: list[str] = []
    try:
        for group in groups:
            send(_Flight(group))
        while flights:
            if stop():
                raise Stopped("The ladder was stopped; the same command goes on where it was.")
            for reference in ray.wait(list(flights), num_returns=1, timeout=POLL_SECONDS)[0]:
                flight = flights.pop(reference)
                failures += _landed(ray, reference, flight, watch, again=send)
            watch.look()
    finally:
        _stop(ray, flights, work.out)
    return failures


def cluster_gpus() -> float:
    """GPUs of the cluster that this process is connected to; raises TrainingError if there is none."""
    import ray

    if not ray.is_initialized():
        raise TrainingError("This process is not connected to a Ray cluster.")
    return float(ray.cluster_resources().get("GPU", 0.0))


def _landed(
    ray: Any, reference: Any, flight: _Flight, watch: Watcher, *, again: Callable[[_Flight], None]
) -> list[str]:
    """What came of a group; it is sent again when its worker was lost."""
    group = flight.group
    try:
        notes, why = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        notes, why = [], str(error)
    except ray.exceptions.RayError as error:
        if flight.tries <= RETRIES:
            watch.note(f"{group.name}: its worker was lost ({type(error).__name__}); it resumes elsewhere.")
            again(_Flight(group, flight.tries + 1))
            return []
        notes, why = [], f"its worker was lost {flight.tries} times; the same command resumes it"
    for note in notes:
        watch.note(note)
    watch.ended(group)
    return [failed_group(group, why)] if why else []


def _stop(ray: Any, flights: dict[Any, _Flight], out: Path) -> None:
    """Let what is in flight save itself, and cancel what has not begun."""
    if not flights or not ray.is_initialized():
        return
    for reference, flight in flights.items():
        _stop_file(flight.group, out).touch()
        ray.cancel(reference, force=False, recursive=False) if not _began(flight.group, out) else None
    ray.wait(list(flights), num_returns=len(flights), timeout=PATIENCE_SECONDS)
    for reference, flight in flights.items():
        ray.cancel(reference, force=True)
        _stop_file(flight.group, out).unlink(missing_ok=True)


def _stop_file(group: Group, out: Path) -> Path:
    return group.folder(out) / "stop"


def _began(group: Group, out: Path) -> bool:
    return (group.folder(out) / "progress.json").exists()


def _train(group: Group, work: "Work", on_gpu: bool) -> tuple[list[str], str]:
    """In a Ray worker: notes, and why the group failed if it did."""
    import os

    world = settle_in(Place(0, os.environ.get("CUDA_VISIBLE_DEVICES", "0") if on_gpu else None))

    from curate.proxy_training.scheduling.one_group import train_recorded

    notes: list[str] = []
    asked = _Asked(_stop_file(group, work.out))
    try:
        with world:
            train_recorded(group, work, world=world, stop=asked, warn=notes.append)
    except Stopped:
        return notes, ""
    except CurateError as error:
        return notes, str(error)
    return notes, ""


class _Asked:
    """Whether a file is there, looked up once a second."""

    def __init__(self, path: Path) -> None:
        self._path, self._looked = path, 0.0
        self._there = False

    def __call__(self) -> bool:
        if not self._there and time.monotonic() - self._looked > POLL_SECONDS:
            self._looked = time.monotonic()
            self._there = self._path.exists()
        return self._there
