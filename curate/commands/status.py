"""`curate status`: how a run stands, from another terminal or after it."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from curate.commands.options import Commands, command

if TYPE_CHECKING:
    from rich.console import Console

    from curate.engine.status import Run

WATCH_SECONDS = 2.0
LINES_SECONDS = 30.0
"""Between lines of `--watch` over a pipe."""
MOST_LISTED = 50


def add(commands: Commands) -> None:
    """Define the command."""
    status = command(
        commands,
        "status",
        "how a run stands: from another terminal, or after it",
        "Stages, rates, what rules left, failures and the time left of a run, read from its log in the work folder. "
        "Works while the run goes on, after it, and when it was killed; processes of `curate worker` on one recipe are "
        "shown as one.",
        "curate status",
        "curate status --watch",
        "curate status recipe.yaml --work s3://bucket/work",
        "curate status 20261122T062830Z-fineweb-3fa9c1 --json",
        "curate status --all",
    )
    status.add_argument(
        "run", nargs="?", default=None, metavar="RUN", help="a run's id or a part of it, a recipe, or a work folder"
    )
    status.add_argument("--work", default="curate-work", help="the run's work folder or URL (default curate-work)")
    status.add_argument("--json", action="store_true", help="as JSON; with --watch a line whenever something changed")
    status.add_argument("--watch", action="store_true", help="go on until the run ends")
    status.add_argument("--all", action="store_true", help=f"list the newest {MOST_LISTED} runs of the work folder")
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console

    from curate.engine.status import all_runs, find_run

    console = Console()
    if options.all:
        runs = all_runs(options.run or options.work, most=MOST_LISTED)
        if options.json:
            print(json.dumps([run.to_dict() for run in runs], allow_nan=False))
        else:
            from curate.report.status_view import run_list

            console.print(run_list(runs, options.run or options.work))
        return 0
    run = find_run(options.run, options.work)
    if options.watch:
        return _watch(run, console, as_json=options.json)
    status = run.status()
    if options.json:
        print(json.dumps(status.to_dict(), allow_nan=False, indent=1))
    else:
        from curate.report.status_view import status_screen

        console.print(status_screen(status, width=console.width))
    return 0


def _watch(run: "Run", console: "Console", *, as_json: bool) -> int:
    """Until the run ends: a screen on a terminal, lines over a pipe."""
    if as_json:
        return _watch_json(run)
    from rich.live import Live

    from curate.report.run_view import progress_line
    from curate.report.status_view import status_screen

    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not (status := run.status()).ended:
                live.update(status_screen(status, width=console.width), refresh=True)
                time.sleep(WATCH_SECONDS)
    else:
        while not (status := run.status()).ended:
            for stage in status.state.running:
                print(progress_line(stage, status.state), flush=True)
            _wait_for_end(run, LINES_SECONDS)
    console.print(status_screen(status, width=console.width))
    return 0


def _wait_for_end(run: "Run", seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not run.status().ended:
        time.sleep(WATCH_SECONDS)


def _watch_json(run: "Run") -> int:
    heard = None
    while True:
        status = run.status()
        if status.state.heard != heard or status.ended:
            heard = status.state.heard
            print(json.dumps(status.to_dict(), allow_nan=False), flush=True)
        if status.ended:
            return 0
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)
