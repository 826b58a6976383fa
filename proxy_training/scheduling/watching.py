"""One view of a whole ladder while it trains: percent, what trains now, and the time left; from the groups' beats."""

import time
from collections.abc import Sequence
from pathlib import Path

from curate.progress import Progress, Task
from curate.proxy_training.scheduling.beats import read_beat
from curate.proxy_training.scheduling.grouping import Group
from curate.proxy_training.scheduling.time_left import TimeLeft

LOOK_SECONDS = 2.0
SETTLING_SECONDS = 10.0
"""Before this the time left is not told: nothing is known yet."""


class Watcher:
    """Hears which groups start and end, looks at the files of those that train, and tells a task of 100 percent."""

    def __init__(self, groups: Sequence[Group], *, out: Path, workers: int, task: Task, progress: Progress) -> None:
        self._out, self._task, self._progress = out, task, progress
        estimates = {group.fingerprint: group.estimated_seconds for group in groups}
        kinds = {group.fingerprint: group.kind for group in groups}
        self._time = TimeLeft(estimates, kinds, workers)
        self._groups = {group.fingerprint: group for group in groups}
        self._running: dict[str, float] = {}
        """When each running group started here."""
        self._began = time.monotonic()
        self._looked = self._began
        self._percent = 0.0
        self._said = ""

    def note(self, text: str) -> None:
        """A line that stays."""
        self._progress.note(text)

    def started(self, group: Group) -> None:
        """A worker has taken it."""
        self._running[group.fingerprint] = time.monotonic()

    def ended(self, group: Group) -> None:
        """Nothing of it is left to do, whether it failed or not."""
        self._look_at(group.fingerprint)
        self._running.pop(group.fingerprint, None)
        self._time.ended(group.fingerprint)
        self._tell()

    def look(self) -> None:
        """Read the beats of what runs."""
        self._looked = time.monotonic()
        for group in list(self._running):
            self._look_at(group)
        self._tell()

    def look_sometimes(self) -> None:
        """As `look`, from a loop that is faster than anybody reads."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.look()

    def _look_at(self, group_id: str) -> None:
        group = self._groups[group_id]
        beat = read_beat(group.folder(self._out))
        if beat is None:
            return
        self._time.heard(group_id, beat.tokens / group.trained_tokens, time.monotonic() - self._running[group_id])
        if beat.loss is not None:
            self._said = f"{group.name}: loss {beat.loss:.3f}"

    def _tell(self) -> None:
        elapsed = time.monotonic() - self._began
        left = self._time.left(list(self._running))
        self._advance(100.0 * elapsed / (elapsed + left) if elapsed + left > 0 else 100.0)
        if self._said:
            known = elapsed > SETTLING_SECONDS and left >= 1
            self._task.describe(f"{self._said}, {shown_time(left)} left" if known else self._said)

    def _advance(self, percent: float) -> None:
        """A bar never goes back, even when the estimate does."""
        if percent > self._percent:
            self._task.advance(percent - self._percent)
            self._percent = percent


def shown_time(seconds: float) -> str:
    """A duration that is only guessed, for people: `40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} days"
