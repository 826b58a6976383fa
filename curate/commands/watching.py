"""`--progress` and `--metrics`: who watches a run. A command takes `watched(options)`: its view, and its listener."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from curate.errors import CurateError

if TYPE_CHECKING:
    from curate.engine.events import Listeners
    from curate.report.progress import View


def watching_options(parser: argparse.ArgumentParser) -> None:
    """How progress is shown."""
    parser.add_argument(
        "--progress",
        choices=("live", "plain", "json", "none"),
        default="live",
        help="live: a screen (plain lines over a pipe); plain; json: events as JSON lines on standard error; none",
    )
    parser.add_argument(
        "--metrics",
        default=None,
        metavar="[HOST:]PORT",
        help="serve /metrics for Prometheus; on 127.0.0.1 unless a host is named",
    )


@contextmanager
def watched(options: argparse.Namespace) -> "Iterator[tuple[View, Listeners]]":
    """The view, and the listener that fills it, the logs in the work folder, and the metrics."""
    from curate.engine.event_log import RunLogs
    from curate.engine.events import Hearer, Listeners
    from curate.report.progress import progress_for

    with ExitStack() as open_things:
        view = open_things.enter_context(progress_for(options.progress))
        logs = RunLogs(options.work)
        open_things.callback(logs.close)
        hearers: list[Hearer] = [logs, view]
        if options.metrics is not None:
            from curate.engine.prometheus import Metrics

            host, port = _address(options.metrics)
            metrics = open_things.enter_context(Metrics(port, host))
            view.note(f"metrics at {metrics.address}")
            hearers.append(metrics)
        yield view, Listeners(hearers)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise CurateError(f"--metrics {text}: is [HOST:]PORT, for example 9464.")
    return host.strip("[]") or "127.0.0.1", int(port)
