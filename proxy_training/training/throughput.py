"""How fast a training is and could be: tokens a second, and the share of what the device's matrix products reach.

The peak is measured, once a process, on square products in the training's precision with the process's threads: under
load, or on a GPU held at a lower power, it is what the device really gives. FLOPs are those of the model's shape with
attention and the head, backward pass included. Costs 20 ms on a CPU core.
"""

import functools
import time

import torch


@functools.cache
def peak_flops_per_second(device: torch.device, *, bf16: bool) -> float:
    """Best of a few square matrix products on `device`, in multiplications and additions a second."""
    if device.type == "cuda":
        size = 8192
    else:
        size = 512 if torch.get_num_threads() == 1 else 1536
    kind = torch.bfloat16 if bf16 else torch.float32
    chance = torch.Generator(device).manual_seed(0)  # constant matrices multiply up to a tenth faster on a GPU
    left, right = torch.randn((2, size, size), generator=chance, device=device).to(kind)
    best = float("inf")
    began = time.perf_counter()
    for _ in range(8):
        start = _now(device)
        torch.mm(left, right)
        best = min(best, _now(device) - start)
        if time.perf_counter() - began > 0.5:  # bfloat16 without hardware for it
            break
    return 2 * size**3 / best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def device_name(device: torch.device) -> str:
    """What the measurements call it: the GPU's name, or `cpu` with the threads in use and the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}, {_processor()}"


@functools.cache
def _processor() -> str:
    import platform

    try:
        with open("/proc/cpuinfo") as file:
            lines = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0] if lines else platform.processor() or platform.machine()


class Clock:
    """Wall and processor time of a training that may have been interrupted: it goes on from what a checkpoint says."""

    def __init__(self) -> None:
        self.set(0.0, 0.0)

    def set(self, seconds: float, cpu_seconds: float) -> None:
        """Go on from here."""
        self._seconds = time.monotonic() - seconds
        self._cpu_seconds = time.process_time() - cpu_seconds

    @property
    def seconds(self) -> float:
        """Wall time."""
        return time.monotonic() - self._seconds

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process."""
        return time.process_time() - self._cpu_seconds
