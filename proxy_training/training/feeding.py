"""Batches on their way to a device: on a GPU the next one is drawn and pinned while a step runs.

A batch is a function of its position, so there is no state to save, and a resumed training asks for the one it stands
at. On a CPU nothing runs ahead: drawing costs 1% of a step, and a thread would take a core from another run.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


class Feed:
    """`draw(position)` gives a batch as an int64 array; `batch(position)` gives it as a tensor on `device`."""

    def __init__(
        self, draw: Callable[[int], np.ndarray], device: torch.device, *, read_ahead: bool | None = None
    ) -> None:
        self.draw = draw
        self.device = device
        ahead = device.type == "cuda" if read_ahead is None else read_ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed") if ahead else None
        self._next: tuple[int, Future[Tensor]] | None = None

    def batch(self, position: int, *, then: int) -> Tensor:
        """The batch at `position`; the one at `then` is begun."""
        if self._thread is None:
            return self._host(position).to(self.device)
        if self._next is not None and self._next[0] == position:
            host = self._next[1].result()
        else:
            host = self._host(position)
        self._next = (then, self._thread.submit(self._host, then))
        # torch keeps a pinned block until the copies that read it have ended
        return host.to(self.device, non_blocking=True)

    def close(self) -> None:
        """End the thread; what it has drawn is forgotten."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _host(self, position: int) -> Tensor:
        host = torch.from_numpy(self.draw(position))
        return host.pin_memory() if self.device.type == "cuda" else host
