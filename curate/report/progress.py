"""Progress of long work on the terminal: `progress_for(mode)` gives a view that takes tasks (a study, a training) and a
run's events, both on one screen.

`live` redraws a screen on a terminal (over a pipe it is `plain`), `plain` prints single lines, `json` prints events and
tasks as JSON lines for machines, `none` prints warnings alone.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, TextIO, get_args

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as BarTask
from rich.text import Text

from curate.engine.events import Event
from curate.engine.run_fold import ENDED, Fold
from curate.errors import CurateError
from curate.progress import Progress, Task
from curate.report.markup import shortened, visible
from curate.report.numbers import compact, duration
from curate.report.run_view import (
    done_line,
    end_line,
    failure_text,
    progress_line,
    run_screen,
    start_line,
    trouble_text,
)

Mode = Literal["live", "plain", "json", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)
LINE_SECONDS = 30.0
"""A plain line comes after so many seconds, or after a tenth of the parts; but never within LEAST_SECONDS."""
LEAST_SECONDS = 2.0
LONGEST_SECONDS = 600.0
"""While no part ends, the pauses between plain lines double up to this."""


class View(Progress):
    """A progress that also hears a run's events, and is entered while there is something to show."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        """Stop showing."""

    def hear(self, event: Event) -> None:
        """Something happened in a run."""


def progress_for(mode: str = "live", *, stream: TextIO | None = None, console: Console | None = None) -> View:
    """The view of a mode, on `stream` (default: standard error, so that results can be piped)."""
    stream = stream or sys.stderr
    if mode not in MODES:
        raise CurateError(f"--progress {mode}: is one of {', '.join(MODES)}.")
    if mode == "json":
        return JsonProgress(stream)
    if mode == "none":
        return SilentProgress(stream)
    return RichProgress(console or Console(file=stream), plain=mode == "plain")


class SilentProgress(View):
    """Prints warnings, nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def hear(self, event: Event) -> None:
        """Print a warning."""
        if event.kind == "warning":
            print(f"curate: {visible(str(event.fields.get('text')))}", file=self._stream, flush=True)


class JsonProgress(View):
    """Every event as a line of JSON, and tasks and notes in the same form: task_started, task_done, note."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def hear(self, event: Event) -> None:
        """Print the event's line."""
        with self._lock:
            print(event.line, file=self._stream, flush=True)

    @contextmanager
    def task(self, name: str, *, total: float, unit: str = "") -> Iterator[Task]:
        """Say that it starts, and how it ended."""
        began, task = time.monotonic(), _Counted()
        self._say("task_started", name=name, total=total, unit=unit)
        ended = "stopped"
        try:
            yield task
            ended = "done"
        finally:
            took = time.monotonic() - began
            self._say(f"task_{ended}", name=name, done=task.done, total=total, unit=unit, seconds=took)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._say("note", text=text)

    def _say(self, kind: str, **fields: Any) -> None:
        self.hear(Event.of(kind, fields, now=time.time()))


class RichProgress(View):
    """Draws tasks and runs on `console` (default: standard error) while it is entered as a context manager."""

    def __init__(self, console: Console | None = None, *, plain: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self._live_wanted = self.console.is_terminal and not plain
        self._live: Live | None = None
        self._bars = Bars(
            SpinnerColumn(),
            _Name(),
            BarColumn(bar_width=24),
            _Amount(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            _Words(),
            console=self.console,
            auto_refresh=False,
        )
        self._lock = threading.RLock()
        self._fold: Fold | None = None
        self._said: dict[str, _Said] = {}
        self._stop = threading.Event()
        self._clock: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._live_wanted:
            self._live = Live(
                get_renderable=self._screen, console=self.console, refresh_per_second=4, transient=True, screen=False
            )
            self._live.start()
        else:
            self._stop.clear()
            self._clock = threading.Thread(target=self._tick, name="progress lines", daemon=True)
            self._clock.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._clock is not None:
            self._stop.set()
            self._clock.join()
            self._clock = None

    @contextmanager
    def task(self, name: str, *, total: float, unit: str = "") -> Iterator[Task]:
        """Open a task of `total` units; its bar goes with the block, and a line says how long it took."""
        began = time.monotonic()
        shown = _Shown(self._bars if self._live is not None else None, self._live, name, total, unit)
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

    def hear(self, event: Event) -> None:
        """Take an event into the picture; ends, failures and warnings stay as lines."""
        with self._lock:
            if self._fold is None and event.kind == "run_started":
                self._fold, self._said = Fold(), {}
            if self._fold is not None:
                self._fold.hear(event)
            lines = self._lines(event)
        # Never under the lock: printing waits for the screen, which another thread draws and which waits for the lock.
        for line in lines:
            self._say(line)

    def _lines(self, event: Event) -> list[Text]:
        """What stays on the screen of an event; over a pipe, that is all there is to see."""
        kind, piped = event.kind, self._live is None
        if kind == "warning":
            return [_styled(f"! {event.fields.get('text')}", "yellow")]
        if self._fold is None:
            return []
        if kind == "part_done":
            return self._progress(event.time) if piped else []
        state = self._fold.state(event.time)
        label = str(event.fields.get("stage", ""))
        stage = next((stage for stage in state.stages if stage.label == label), None)
        lines: list[Text] = []
        if kind in ("stage_done", "found") and stage is not None:
            lines.append(Text.assemble(("✓ ", "green" if kind == "stage_done" else "cyan"), done_line(stage)))
        elif kind == "part_failed" and state.failures:
            lines.append(_styled(f"✗ {failure_text(state.failures[-1])}", "red"))
        elif kind == "stage_started" and stage is not None and piped:
            self._said[label] = _Said(stage.finished_parts)
            lines.append(Text(start_line(stage)))
        elif kind == "retry" and state.last_retry is not None and piped:
            lines.append(_styled(f"! {trouble_text(state.last_retry)}", "yellow"))
        elif kind == "straggler" and state.stragglers and piped:
            lines.append(_styled(f"! slow: {trouble_text(state.stragglers[-1])}", "yellow"))
        elif kind in ("artifact_started", "artifact_done") and (piped or kind == "artifact_done"):
            name = _words(event.fields.get("artifact"))
            trained = kind == "artifact_done"
            lines.append(
                Text.assemble(("✓ ", "green") if trained else "", "trained " if trained else "training ", name)
            )
        elif kind == "waiting" and piped and self._waits():
            lines.append(_styled(f"! waiting: {state.waiting}", "yellow"))
        if state.status in ENDED:
            line, style = end_line(state)
            sign = {"green": "✓", "yellow": "!"}.get(style, "✗")
            lines.append(Text.assemble((f"{sign} ", style), line))
            self._fold = None
        return lines

    def _waits(self) -> bool:
        """Whether it is time for another line on waiting."""
        if "" in self._said and self._said[""].age() < LINE_SECONDS:
            return False
        self._said[""] = _Said(0)
        return True

    def _progress(self, now: float) -> list[Text]:
        """A line for each stage of which enough happened since its last one, or that was silent for long."""
        due = [(label, said) for label, said in self._said.items() if label and said.age() >= LEAST_SECONDS]
        if self._fold is None or not due:
            return []
        state = self._fold.state(now)
        running = {stage.label: stage for stage in state.running}
        lines = []
        for label, said in due:
            stage = running.get(label)
            if stage is None or (stage.parts and stage.finished_parts >= stage.parts):
                continue
            moved = stage.finished_parts - said.count
            if (moved and 10 * moved >= stage.parts) or said.age() >= said.pause:
                pause = LINE_SECONDS if moved else min(2 * said.pause, LONGEST_SECONDS)
                self._said[label] = _Said(stage.finished_parts, pause)
                lines.append(Text(progress_line(stage, state)))
        return lines

    def _tick(self) -> None:
        while not self._stop.wait(LEAST_SECONDS):
            with self._lock:
                lines = self._progress(time.time())
            for line in lines:
                self._say(line)

    def _screen(self) -> RenderableType:
        with self._lock:
            state = self._fold.state(time.time()) if self._fold is not None else None
        shown: list[RenderableType] = []
        if state is not None:
            shown.append(run_screen(state, width=self.console.width))
        if self._bars.tasks:
            shown.append(self._bars.get_renderable())
        return Group(*shown)

    def _say(self, line: Text) -> None:
        self.console.print(line, soft_wrap=True)


class _Said:
    """What was last said of a stage over a pipe."""

    def __init__(self, count: int, pause: float | None = None) -> None:
        self.count, self.pause = count, pause or LINE_SECONDS
        self._at = time.monotonic()

    def age(self) -> float:
        return time.monotonic() - self._at


class _Counted(Task):
    """A task that only counts."""

    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, amount: float = 1.0) -> None:
        self.done += amount


class _Shown(_Counted):
    """A task with its bar; without bars it only counts."""

    def __init__(self, bars: Bars | None, live: Live | None, name: str, total: float, unit: str) -> None:
        super().__init__()
        self._bars, self._live = bars, live
        self._id: TaskID | None = None
        if bars is not None:
            self._id = bars.add_task("", total=total, label=_words(name, 40), unit=unit, words=Text(""))

    def advance(self, amount: float = 1.0) -> None:
        super().advance(amount)
        if self._bars is not None and self._id is not None:
            self._bars.advance(self._id, amount)

    def describe(self, text: str) -> None:
        if self._bars is not None and self._id is not None:
            self._bars.update(self._id, words=_words(text, 80))

    def close(self) -> None:
        if self._bars is not None and self._id is not None:
            if self._live is not None:
                self._live.refresh()  # else a short task is never seen at its end
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


def _styled(text: object, style: str) -> Text:
    line = _words(text, 1000)
    line.stylize(style)
    return line


def _took(began: float) -> str:
    return duration(time.monotonic() - began)
