"""What goes wrong in a training, told apart and put into sentences: divergence, loss spikes, memory, disk, preemption.

A spike is a loss more than SPIKE_DEVIATIONS robust standard deviations (1.4826 median absolute deviations, at least
SPIKE_FLOOR of the median) above the median of the last SPIKE_WINDOW losses; on noise of a normal shape one in
10^9 steps. Slurm warns with the signal of `--signal`; its users take SIGUSR1 or SIGUSR2, and a node that goes down
sends SIGTERM: all three save and end with EXIT_REQUEUE. No torch at import.
"""

import errno
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from curate.errors import CurateError, TrainingError, first_line
from curate.out_of_memory import is_out_of_memory

EXIT_REQUEUE = 75
"""EX_TEMPFAIL of sysexits.h: the same command, run again, goes on."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SPIKE_WINDOW = 64
SPIKE_EARLIEST = 16
"""Losses that the window must hold before one can be a spike."""
SPIKE_DEVIATIONS = 6.0
SPIKE_FLOOR = 0.01


class Stopped(TrainingError):
    """The run was asked to stop; it saved a checkpoint and can be resumed."""

    exit_code = EXIT_REQUEUE


class OutOfMemory(TrainingError):
    """A rung does not fit into memory, even one sequence at a time."""


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """While inside, SIGTERM, SIGUSR1 and SIGUSR2 only make the given function answer True; the main thread only."""
    caught: list[int] = []
    with _handled(caught.append):
        yield lambda: bool(caught)


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """While inside, SIGTERM, SIGUSR1 and SIGUSR2 interrupt as Ctrl-C does, and Stopped is raised: for work whose
    finished parts are kept anyway; the main thread only."""
    caught: list[int] = []

    def interrupt(number: int) -> None:
        caught.append(number)
        if len(caught) == 1:  # another one must not interrupt the cleaning up
            raise KeyboardInterrupt

    said = "Stopped; what was finished is kept, and the same command goes on."
    with _handled(interrupt):
        try:
            yield
        except KeyboardInterrupt:
            if caught:
                raise Stopped(said) from None
            raise
        if caught:  # somebody took the interrupt for theirs
            raise Stopped(said)


@contextmanager
def _handled(handle: Callable[[int], None]) -> Iterator[None]:
    """While inside, `handle` hears of STOP_SIGNALS; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda number, _: handle(number)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Spikes:
    """Counts the loss spikes of each member of a group; its arrays are all its state."""

    def __init__(self, members: int) -> None:
        self.window = np.full((members, SPIKE_WINDOW), np.nan)
        self.seen = 0
        self.count = np.zeros(members, dtype=np.int64)

    def note(self, losses: Sequence[float]) -> np.ndarray:
        """Take the losses of one step; which members spiked."""
        some = np.asarray(losses)
        spiked = np.zeros(len(some), dtype=bool)
        if self.seen >= SPIKE_EARLIEST:
            window = self.window[:, : min(self.seen, SPIKE_WINDOW)]
            median = np.median(window, axis=1)
            deviation = 1.4826 * np.median(np.abs(window - median[:, None]), axis=1)
            spiked = some > median + SPIKE_DEVIATIONS * np.maximum(deviation, SPIKE_FLOOR * np.abs(median))
        self.window[:, self.seen % SPIKE_WINDOW] = some
        self.seen += 1
        self.count += spiked
        return spiked


def is_full_disk(error: BaseException) -> bool:
    """Whether `error` says that a disk or a quota is full; safetensors gives the number in its text only."""
    number = error.errno if isinstance(error, OSError) else None
    if found := re.search(r"os error (\d+)", str(error)):
        number = int(found[1])
    return number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explained(error: Exception, *, rung: str, folder: Path) -> Exception:
    """`error`, or the TrainingError that says what to do about it."""
    if isinstance(error, CurateError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(
            f"Out of memory at rung {rung} outside of a step ({first_line(error)}); take more memory or fewer workers."
        )
    if is_full_disk(error):
        return TrainingError(
            f"No room on the disk of {folder} ({first_line(error)}); free some: the same command goes on from the "
            "last checkpoint."
        )
    return error
