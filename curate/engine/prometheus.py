"""A run's state for Prometheus: `http://127.0.0.1:PORT/metrics` in its text format, written from the RunState.

Counters, gauges, and shares by stage and rule; rules are the most frequent ones of a stage, so the number of series is
bounded by the plan. What is unknown is absent. It listens on the loopback unless a host is named.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from curate.engine.events import Event
from curate.engine.run_fold import ENDED, Fold
from curate.engine.run_state import RunState
from curate.errors import CurateError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATUSES = ("starting", "running", "waiting", *ENDED)


class Metrics:
    """Serves the state of the run that it hears; a second run takes the place of the first."""

    title = "The metrics endpoint"

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen on `port` (0: any free one). Raises CurateError if that cannot be."""
        self._fold = Fold()
        self._lock = threading.Lock()
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                known = self.path.partition("?")[0] == "/metrics"
                body = (metrics.text() if known else "The metrics are at /metrics.\n").encode()
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are not worth a line each."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise CurateError(
                f"--metrics {host}:{port}: cannot listen there ({error}); name a port that is free, or 0 for any."
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it is."""
        host, port = self._server.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}/metrics"

    def hear(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            if event.kind == "run_started" and self._fold.status in ENDED:
                self._fold = Fold()
            self._fold.hear(event)

    def text(self) -> str:
        """What a scrape gives now."""
        with self._lock:
            state = self._fold.state(time.time())
        return exposition(state)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exposition(state: RunState) -> str:
    """The state in Prometheus' text format."""
    lines: list[str] = []

    def metric(name: str, kind: str, what: str, samples: Iterable[tuple[Mapping[str, str], float | None]]) -> None:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines.extend((f"# HELP curate_{name} {what}", f"# TYPE curate_{name} {kind}"))
            lines.extend(f"curate_{name}{_labels(labels)} {value:.15g}" for labels, value in known)

    run = {"run": state.run, "name": state.name, "recipe": state.recipe, "fingerprint": state.fingerprint}
    # Labels of one stage alone would be ambiguous where two recipes of a run have stages of one name.
    stages = [({"stage": stage.label, "folder": stage.folder}, stage) for stage in state.stages]
    metric("run_info", "gauge", "The run.", [(run, 1)])
    metric(
        "run_status",
        "gauge",
        "1 for how the run stands.",
        [({"status": status}, float(status == state.status)) for status in STATUSES],
    )
    metric("run_start_time_seconds", "gauge", "When the run started.", [({}, state.started)])
    metric("run_last_event_time_seconds", "gauge", "When anything happened last.", [({}, state.heard)])
    metric("run_last_part_time_seconds", "gauge", "When a part ended last.", [({}, state.advanced)])
    metric("run_time_left_seconds", "gauge", "Of the stages that are running.", [({}, state.seconds_left)])
    metric("run_stages_to_come", "gauge", "Stages that have not begun.", [({}, state.stages_after)])
    metric("run_slow_parts", "gauge", "Parts that take much longer than others.", [({}, len(state.stragglers))])
    metric("run_lost_events", "gauge", "Events that the log could not take.", [({}, state.lost_events)])
    metric("run_retries_total", "counter", "Parts tried again.", [({}, state.retries)])
    metric("run_failed_parts", "gauge", "Parts that failed and that no other attempt finished.", [({}, state.failed)])
    metric(
        "stage_parts",
        "gauge",
        "Parts of the stage's present phase: all, those there before the run, done, failed.",
        [
            (labels | {"phase": stage.phase, "state": name}, value)
            for labels, stage in stages
            for name, value in (
                ("total", stage.parts),
                ("found", stage.found),
                ("done", stage.done),
                ("failed", stage.failed),
            )
        ],
    )
    counters = (
        ("stage_documents_in_total", "Documents that came into finished parts.", "records_in"),
        ("stage_documents_out_total", "Documents that finished parts passed on.", "records_out"),
        ("stage_bytes_in_total", "Bytes that came into finished parts.", "bytes_in"),
        ("stage_bytes_out_total", "Bytes that finished parts passed on.", "bytes_out"),
        ("stage_retries_total", "Parts tried again.", "retries"),
    )
    for name, what, field in counters:
        metric(name, "counter", what, [(labels, float(getattr(stage, field))) for labels, stage in stages])
    kept = [(labels, stage.kept) for labels, stage in stages]
    metric("stage_kept_ratio", "gauge", "Share of documents passed on.", kept)
    metric(
        "stage_time_left_seconds",
        "gauge",
        "Of the stage's present phase.",
        [(labels, stage.seconds_left) for labels, stage in stages],
    )
    left = [
        (labels, stage, rule, documents)
        for labels, stage in stages
        for rule, documents in (*stage.rules, *([("other", stage.other_rules)] if stage.other_rules else []))
    ]
    metric(
        "rule_documents_left_total",
        "counter",
        "Documents left by rule; other: rules that are not among a stage's most frequent.",
        [(labels | {"rule": rule}, documents) for labels, _, rule, documents in left],
    )
    metric(
        "rule_left_ratio",
        "gauge",
        "Share of the stage's documents left by rule.",
        [
            (labels | {"rule": rule}, documents / stage.records_ruled)
            for labels, stage, rule, documents in left
            if stage.records_ruled
        ],
    )
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    said = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{said}}}"


def _escaped(value: str) -> str:
    text = value.encode("utf-8", "replace").decode()
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
