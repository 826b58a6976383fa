"""`curate status` on the terminal: a run's screen with what its silence means, and the list of a work folder's runs."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from curate.engine.status import BEAT_SECONDS, Process, Status
from curate.report.numbers import count, duration
from curate.report.run_view import LOOK, run_screen, words
from curate.storage import redacted

FAILURES_NAMED = 100
QUIET_SECONDS = 300.0
"""A run that lives, but ended no part for so long, is told."""


def status_screen(status: Status, *, width: int) -> Group:
    """A run, and what to do where it stands still."""
    state = status.state
    shown: list[RenderableType] = [run_screen(state, width=width, failures=FAILURES_NAMED)]
    advice = _what_now(status)
    shown += [advice] if advice is not None else []
    if len(status.processes) > 1:
        shown.append(_processes(status))
    return Group(*shown)


def run_list(runs: Sequence[Status], work: str) -> RenderableType:
    """A line a run, newest first."""
    if not runs:
        return Text(f"{redacted(work)}: no runs. Start one: curate run RECIPE.yaml")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")  # it is copied from here; the time it started (UTC) is in it
    table.add_column("status", no_wrap=True)
    for name in ("took", "stages", "documents"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        state = run.state
        done = sum(stage.status in ("done", "found") for stage in state.stages)
        took = (state.heard or 0) - state.started if state.started is not None else None
        table.add_row(
            words(state.run, 60),
            Text("killed?" if state.status == "silent" else state.status, LOOK.get(state.status, "")),
            Text(duration(took)),
            Text(f"{done}/{len(state.stages)}"),
            Text(count(state.documents)),
        )
    return table


def _what_now(status: Status) -> Text | None:
    state = status.state
    if state.status == "silent":
        return Text(
            f"No sign of life for {duration(status.silence)}: killed? What was finished is kept; run the same command "
            "again to go on.",
            "red",
        )
    if state.status in ("failed", "interrupted"):
        return Text("What was finished is kept; run the same command again to go on.", "dim")
    if status.ended:
        return None
    quiet = status.at - state.advanced if state.advanced is not None else 0.0
    if status.silence > 2 * BEAT_SECONDS:
        return Text(f"Nothing was heard for {duration(status.silence)}.", "yellow")
    if quiet > QUIET_SECONDS:
        return Text(f"It lives, but no part ended for {duration(quiet)}.", "yellow")
    return None


def _processes(status: Status) -> RenderableType:
    """Who works on it: those in trouble by name, the others by number."""
    states: dict[str, list[Process]] = {}
    for process in status.processes:
        states.setdefault(process.status, []).append(process)
    line = Text(f"{len(status.processes)} processes: ", "dim")
    for number, (name, members) in enumerate(sorted(states.items())):
        line.append(", " if number else "").append(f"{len(members)} {name}", LOOK.get(name, ""))
    lines = [line]
    for process in [*states.get("silent", []), *states.get("failed", [])][:20]:
        age = duration(max(0.0, status.at - process.heard))
        said = f"no sign of life for {age}" if process.status == "silent" else f"failed {age} ago"
        lines.append(words(f"{process.run} on {process.host}, process {process.pid}: {said}", 200, "red"))
    return Group(*lines)
