"""Progress: bars on a terminal, one plain line a finished task elsewhere."""

import io

import pytest
from rich.console import Console

from curate.progress import Progress
from curate.report.progress import RichProgress


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=100, force_terminal=terminal, legacy_windows=False), out


def work(progress: Progress) -> None:
    with progress.task("train [red]ladder", total=4, unit="runs") as task:
        for number in range(4):
            task.describe(f"loss {number}")
            task.advance()
    progress.note("one \x1b[2Jnote")


def test_a_pipe_gets_one_line_for_each_finished_task() -> None:
    screen, out = console(terminal=False)
    with RichProgress(screen) as progress:
        work(progress)
    assert out.getvalue().splitlines() == ["✓ train [red]ladder  4 runs, 0.0 s", "one ⟨U+001B⟩[2Jnote"]


def test_a_terminal_gets_a_bar_and_keeps_the_line() -> None:
    screen, out = console(terminal=True)
    with RichProgress(screen) as progress:
        work(progress)
    text = out.getvalue()
    assert "4/4 runs" in text and "loss 3" in text
    assert "✓" in text and "4 runs, 0.0 s" in text
    assert "\x1b[2J" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_task_that_fails_says_so_and_the_error_goes_on(terminal: bool) -> None:
    screen, out = console(terminal=terminal)
    with pytest.raises(KeyError), RichProgress(screen) as progress, progress.task("read", total=2):
        raise KeyError("x")
    assert "read  stopped after" in out.getvalue()


def test_tasks_may_overlap_and_have_no_total() -> None:
    screen, out = console(terminal=True)
    with (
        RichProgress(screen) as progress,
        progress.task("outer", total=0),
        progress.task("inner", total=100, unit="%") as inner,
    ):
        inner.advance(50)
    assert "50%" in out.getvalue()


def test_it_works_before_it_is_entered() -> None:
    screen, out = console(terminal=True)
    work(RichProgress(screen))
    assert "4 runs" in out.getvalue()
