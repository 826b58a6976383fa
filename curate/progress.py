"""What long work tells the person who waits: named tasks with a total, and notes. The command line draws it with rich;
everybody else gets the silent base class. Never part of a fingerprint, never needed for a result."""

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """One counted piece of work; `advance` may be called with fractions of the unit."""

    def advance(self, amount: float = 1.0) -> None:
        """Add `amount` units of finished work."""

    def describe(self, text: str) -> None:
        """Replace the short text beside the bar (loss, current file)."""


class Progress:
    """The silent base class: accepts everything, shows nothing."""

    @contextmanager
    def task(self, name: str, *, total: float, unit: str = "") -> Iterator[Task]:
        """Open a task of `total` units; it closes with the block."""
        yield Task()

    def note(self, text: str) -> None:
        """Say one line that stays on the screen."""
