"""Long work drawn with rich: a bar for each open task on a terminal; elsewhere one plain line a finished task."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.progress import (
    Task as BarTask,
)
from rich.text import Text

from curate.progress import Progress, Task
from curate.report.markup import shortened, visible
from curate.report.numbers import compact, duration


class RichProgress(Progress):
    """Draws progress on `console` (default: standard error) while it is entered as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars: Bars | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bars = Bars(
                SpinnerColumn(),
                _Name(),
                BarColumn(bar_width=24),
                _Amount(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                _Words(),
                console=self.console,
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    @contextmanager
    def task(self, name: str, *, total: float, unit: str = "") -> Iterator[Task]:
        """Open a task of `total` units; its bar goes with the block, and a line says how long it took."""
        began = time.monotonic()
        shown = _Shown(self._bars, name, total, unit)
        try:
            yield shown
        except BaseException:
            self._say(Text.assemble(("✗ ", "red"), _words(name), f"  stopped after {_took(began)}"))
            raise
        else:
            amount = f"{compact(shown.done)} {unit}".strip()
            done = f"  {amount}, {_took(began)}" if total else f"  {_took(began)}"
            self._say(Text.assemble(("✓ ", "green"), _words(name), (done, "dim")))
        finally:
            shown.close()

    def note(self, text: str) -> None:
        """Say one line that stays on the screen."""
        self._say(_words(text, 1000))

    def _say(self, line: Text) -> None:
        (self._bars.console if self._bars is not None else self.console).print(line, soft_wrap=True)


class _Shown(Task):
    """A task with its bar; without bars it only counts."""

    def __init__(self, bars: Bars | None, name: str, total: float, unit: str) -> None:
        self.done = 0.0
        self._bars = bars
        self._id: TaskID | None = None
        if bars is not None:
            self._id = bars.add_task("", total=total, label=_words(name, 40), unit=unit, words=Text(""))

    def advance(self, amount: float = 1.0) -> None:
        self.done += amount
        if self._bars is not None and self._id is not None:
            self._bars.advance(self._id, amount)

    def describe(self, text: str) -> None:
        if self._bars is not None and self._id is not None:
            self._bars.update(self._id, words=_words(text, 80))

    def close(self) -> None:
        if self._bars is not None and self._id is not None:
            self._bars.refresh()  # else a short task is never seen at its end
            self._bars.remove_task(self._id)
            self._id = None


class _Name(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        return task.fields["label"].copy()


class _Words(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        return task.fields["words"].copy()


class _Amount(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        unit = task.fields["unit"]
        if unit == "%":
            return Text(f"{task.percentage:.0f}%", "dim")
        total = compact(task.total) if task.total else "?"
        return Text(f"{compact(task.completed)}/{total} {unit}".strip(), "dim")


def _words(text: object, most: int = 80) -> Text:
    return Text(shortened(visible(str(text)).replace("\n", " "), most))


def _took(began: float) -> str:
    return duration(time.monotonic() - began)
