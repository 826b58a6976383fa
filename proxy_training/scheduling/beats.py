"""How far a group is, in a file: `progress.json` in its folder, a few bytes every few seconds while it trains.

Whoever started the training and whoever asks for its status read the same file, on any machine that sees the folder. A
file that was not touched for STALE_SECONDS belongs to a training that is dead or hangs; on the machine that wrote it
the lock of the folder tells of a dead one at once.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from curate.fingerprints import write_json

BEAT_SECONDS = 2.0
STALE_SECONDS = 90.0
"""Above the longest step and evaluation of a proxy; a stuck file system holds beats back, too."""


@dataclass(frozen=True)
class Beat:
    """How far a group was at a time."""

    tokens: int
    """Trained by all its runs, in all sessions; a kill may count some twice."""
    loss: float | None
    """Mean of its runs at the last step."""
    session_tokens: int
    """Of these, since it was started last."""
    session_seconds: float
    """How long ago that was, the wait for the first step included."""
    where: str
    """host:process."""
    at: float
    """Unix time."""
    ended: bool = False
    """The last one of its session."""

    @property
    def tokens_per_second(self) -> float:
        """Since it was started last; 0 before the first step."""
        return self.session_tokens / self.session_seconds if self.session_seconds > 0 else 0.0

    def is_fresh(self, now: float) -> bool:
        """Whether the training lives, as far as a file can tell."""
        return not self.ended and now - self.at < STALE_SECONDS

    @property
    def is_from_here(self) -> bool:
        """Whether it was written on this machine."""
        return self.where.rpartition(":")[0] == socket.gethostname()


class Beats:
    """Writes the beats of one group; give its `advanced` to the trainer's watch."""

    def __init__(self, folder: Path) -> None:
        before = read_beat(folder)
        self._folder, self._before = folder, before.tokens if before else 0
        self._tokens, self._loss = 0, before.loss if before else None
        self._began = self._told = time.monotonic()
        self.write()

    def advanced(self, tokens: int, loss: float) -> None:
        """A step is done."""
        self._tokens += tokens
        self._loss = loss
        if time.monotonic() - self._told >= BEAT_SECONDS:
            self.write()

    def write(self, *, ended: bool = False) -> None:
        """Write a beat now: at the start, and at the end."""
        self._told = time.monotonic()
        seconds = self._told - self._began
        where = f"{socket.gethostname()}:{os.getpid()}"
        beat = Beat(self._before + self._tokens, self._loss, self._tokens, seconds, where, time.time(), ended)
        write_json(self._folder / "progress.json", asdict(beat), indent=None)


def read_beat(folder: Path) -> Beat | None:
    """The last beat, or None before the first."""
    try:
        return Beat(**json.loads((folder / "progress.json").read_text()))
    except FileNotFoundError:
        return None
