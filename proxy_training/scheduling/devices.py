"""Where the groups of a ladder train on this machine: a process a core, or several sharing each GPU.

How many share a GPU follows from an estimate of the largest group's memory. Nothing here loads torch in this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from curate.child_process import ask_child
from curate.errors import TrainingError
from curate.proxy_training.planning import device_costs
from curate.proxy_training.scheduling.grouping import Group
from curate.units import shown_bytes

Device = Literal["auto", "cpu", "cuda"]
GPU_FILLED = 0.9
"""Part of a GPU's memory that is given away."""
MOST_ON_A_GPU = 8
"""More processes only wait for each other: kernels of two processes take turns (without MPS)."""


@dataclass(frozen=True)
class Place:
    """Where one worker computes."""

    number: int
    """Of all places."""
    gpu: str | None = None
    """As CUDA_VISIBLE_DEVICES names it; None: a core."""


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use."""

    name: str
    """As CUDA_VISIBLE_DEVICES names it."""
    memory_bytes: int
    """All of it."""


def gpus_here(device: Device) -> tuple[Gpu, ...]:
    """The GPUs to train on; none for `cpu`. Raises TrainingError where `cuda` is wanted and there is none."""
    there = device != "cpu" and (device == "cuda" or Path("/dev/nvidia0").exists() or Path("/dev/nvidiactl").exists())
    found: tuple[Gpu, ...] = ()
    if there:
        answer = ask_child(_tell_gpus)
        assert isinstance(answer, tuple)
        found = answer
    if device == "cuda" and not found:
        raise TrainingError("No GPU is visible to torch here; train on the CPU (device cpu), or on a machine with one.")
    return found


def places_for(groups: Sequence[Group], gpus: Sequence[Gpu], *, workers: int) -> tuple[tuple[Place, ...], str]:
    """Places for at most `workers` processes, and a sentence on GPUs that are shared."""
    if not gpus:
        return tuple(Place(number) for number in range(workers)), ""
    largest = max(map(memory_bytes, groups), default=0.0)
    each = sharing(largest, min(gpu.memory_bytes for gpu in gpus))
    count = min(workers, each * len(gpus))
    places = tuple(Place(number, gpus[number % len(gpus)].name) for number in range(count))
    said = f"training on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} in {count} processes"
    return (
        places,
        f"{said}; the largest group takes about {shown_bytes(largest)} of {shown_bytes(gpus[0].memory_bytes)}",
    )


def sharing(group_bytes: float, gpu_bytes: int) -> int:
    """How many groups of this size train on one GPU at once."""
    return max(1, min(MOST_ON_A_GPU, int(GPU_FILLED * gpu_bytes / max(1, group_bytes))))


def memory_bytes(group: Group) -> float:
    """An estimate of what a group takes on a GPU: as much as its runs one beside the other."""
    run = group.runs[0]
    bf16 = run.procedure.precision == "bf16"
    return len(group.runs) * device_costs.memory_bytes(run.shape, tokens_at_once=run.batch_tokens, bf16=bf16)


def _tell_gpus(pipe: Connection) -> None:
    """In a child: the visible GPUs."""
    import os

    import torch

    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    pipe.send(
        tuple(
            Gpu(names[i] if i < len(names) else str(i), torch.cuda.get_device_properties(i).total_memory)
            for i in range(count)
        )
    )
