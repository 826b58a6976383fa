"""A run on the screen: live on a terminal, lines over a pipe, JSON for machines; tasks of a study beside it."""

import io
import json
import re
import threading
import time
from collections.abc import Sequence

import pytest
from rich.console import Console

from curate.engine.events import Event, Listeners
from curate.engine.run_state import RunState
from curate.errors import CurateError
from curate.report import progress as module
from curate.report.progress import RichProgress, View, progress_for
from curate.report.run_view import end_line, progress_line, run_screen
from tests.engine.stories import LABELS, story

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def screen(events: Sequence[Event], width: int, now: float | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(run_screen(RunState.of(events, now=now), width=width))
    return out.getvalue()


def told(view: View, events: Sequence[Event]) -> None:
    for event in events:
        view.hear(event)


def piped(width: int = 400) -> tuple[RichProgress, io.StringIO]:
    out = io.StringIO()
    return RichProgress(Console(file=out, width=width)), out


def terminal(width: int = 100, height: int = 60) -> tuple[RichProgress, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, legacy_windows=False)
    return RichProgress(console), out


# The screen


@pytest.mark.parametrize("width", [60, 80, 110, 200])
@pytest.mark.parametrize("stop_after", [1, 50, 300, 550])
def test_the_screen_fits_its_width(width: int, stop_after: int) -> None:
    lines = screen(story(stop_after=stop_after, found=20), width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < 20


def test_the_screen_names_stages_parts_rates_rules_failures_and_time_left() -> None:
    text = " ".join(screen(story(found=20, fail={(0, 150), (0, 160)}, stop_after=177), 160).split())
    for said in (*LABELS, "197/200", "documents/s", "MB/s", "kept", "60.0%", "left by", "c4.sentences"):
        assert said in text, said
    assert "left in this stage, 2 more stages after it" in text and "20 parts were there already" in text
    assert "2 parts failed" in text and text.count("gzip is damaged") == 2


def test_the_largest_cluster_of_duplicates_is_named_by_its_size_and_how_unlike_it_is() -> None:
    events = [
        Event.of(
            event.kind, event.fields | {"largest_cluster": {"size": 12345, "lowest_similarity": 0.0125}}, now=event.time
        )
        if event.kind == "stage_done" and event.fields["stage"] == LABELS[-1]
        else event
        for event in story()
    ]
    said = " ".join(screen(events, 160).split())
    assert f"largest cluster {LABELS[-1]}: 12,345 documents, similar from 0.0125" in said
    assert "largest cluster" not in screen(story(), 160)


def test_before_there_is_anything_to_know_it_says_unknown() -> None:
    assert "time left unknown in this stage" in " ".join(screen(story(stop_after=1), 120).split())


def test_an_exchange_says_which_phase_it_is_in() -> None:
    text = screen(story(stop_after=450), 120)
    assert "minhash · map" in text and "left in the map of this stage" in text


def test_hostile_names_move_no_cursor_and_are_no_markup() -> None:
    events = story(stop_after=4)
    evil = "\x1b[2J[bold]\u202e\x07"
    fields = {"stage": evil, "part": 1, "phase": "part", "error": evil, "records_in": 5, "rules": {evil: 3}}
    for kind in ("part_done", "part_failed", "retry", "straggler"):
        events.append(Event.of(kind, fields | {"part": len(events)}, now=events[-1].time))
    text = screen(events, 120)
    assert not CONTROL.search(text) and "\u202e" not in text and "[bold]" in text


def test_a_bar_is_full_only_when_all_is_done() -> None:
    almost = screen(story(found=199, stop_after=1)[:-1], 120)
    assert "199/200" in almost and "━" * 20 not in almost
    assert "━" * 20 in screen(story(parts=20), 120)
    assert "━" in next(line for line in screen(story(stop_after=1), 80).splitlines() if LABELS[0] in line)


# Over a pipe


def test_a_pipe_gets_plain_lines_a_start_some_progress_and_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.0)
    view, out = piped()
    with view:
        told(view, story(found=120))
    lines = out.getvalue().splitlines()
    assert not CONTROL.search(out.getvalue().replace("\n", ""))
    assert lines[0] == f"{LABELS[0]}: 120 of 200 parts already done"
    running = [line for line in lines if line.startswith(f"{LABELS[0]}: ") and "documents/s" in line]
    assert 3 <= len(running) <= 10 and "MB/s" in running[1] and "left in this stage, 2 more stages" in running[1]
    assert any(
        re.match(rf"✓ {re.escape(LABELS[0])}  200 parts \(120 already done\), \S+ → \S+ documents", line)
        for line in lines
    )
    assert re.match(r"✓ fineweb  120,\d\d\d documents, 60\d MB of text, ", lines[-1])


def test_lines_come_no_faster_than_anybody_reads() -> None:
    view, out = piped()
    with view:
        told(view, story())
    told_of = [line for line in out.getvalue().splitlines() if "documents/s" in line]
    assert not told_of  # all of it took a moment


def test_a_long_silence_gets_a_line_and_then_ever_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.02)
    monkeypatch.setattr(module, "LINE_SECONDS", 0.1)
    view, out = piped()
    with view:
        told(view, story(stop_after=10, start=time.time() - 10))
        time.sleep(1.2)
    lines = [line for line in out.getvalue().splitlines() if "10/200" in line]
    assert 2 <= len(lines) <= 5


def test_failures_retries_and_warnings_are_lines_of_their_own() -> None:
    view, out = piped()
    with view:
        told(view, story(fail={(0, 150)}, seed=4))
        view.hear(Event.of("warning", {"text": "the log cannot be written"}, now=0))
    text = out.getvalue()
    assert "✗ Stage read warc+extract, part 150, file a.warc.gz: gzip is damaged" in text
    assert "attempt 2: the worker was lost" in text and "! the log cannot be written" in text
    assert "✗ fineweb  failed after" in text


def test_each_failure_is_said_as_it_is() -> None:
    view, out = piped()
    with view:
        told(view, story(fail={(0, 3), (0, 4), (0, 5)}))
    for part in (3, 4, 5):
        assert out.getvalue().count(f"part {part}, file") == 1


# On a terminal


def test_a_terminal_shows_the_screen_and_keeps_a_line_a_stage() -> None:
    view, out = terminal()
    events = story()
    with view:
        told(view, events[:300])
        view._live.refresh()  # type: ignore[union-attr]
        during = out.getvalue()
        told(view, events[300:])
    assert "fineweb" in during and "━" in during and "left in this stage" in during
    kept = [line for line in out.getvalue().splitlines() if "✓" in line and "→" in line]
    assert len(kept) >= 3


def test_a_run_and_a_study_share_the_screen() -> None:
    view, out = terminal()
    with view, view.task("train ladder", total=4, unit="runs") as task:
        told(view, story(stop_after=50))
        task.advance()
        view._live.refresh()  # type: ignore[union-attr]
        text = out.getvalue()
    assert "1/4 runs" in text and "50/200" in text


def test_two_runs_follow_each_other() -> None:
    view, out = piped()
    with view:
        told(view, story(parts=5))
        told(view, story(parts=7, run="b"))
    lines = out.getvalue().splitlines()
    assert sum(line.startswith("✓ fineweb") for line in lines) == 2
    assert f"{LABELS[0]}: 5 parts" in lines and f"{LABELS[0]}: 7 parts" in lines


def test_events_and_redrawing_from_many_threads_never_wait_for_each_other() -> None:
    view, _ = terminal()
    listeners = Listeners([view])
    with view:
        listeners.emit("run_started", name="x", fingerprint="f", stages=[])
        listeners.emit("stage_started", stage="s", folder="s", parts=2000, found=0, phase="part")
        live = view._live
        assert live is not None

        def redraw() -> None:
            for _ in range(60):
                live.refresh()

        def work(first: int) -> None:
            for part in range(first, first + 60):
                listeners.emit("part_done", stage="s", part=part, phase="part", records_in=1)
                listeners.emit("part_failed", stage="s", part=part + 1000, phase="part", error="broken")

        threads = [threading.Thread(target=redraw) for _ in range(2)]
        threads += [threading.Thread(target=work, args=(100 * n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in threads)


# Modes


def test_json_lines_are_the_events_and_the_tasks() -> None:
    out = io.StringIO()
    events = story(parts=5)
    with progress_for("json", stream=out) as view:
        told(view, events)
        with view.task("train", total=2, unit="runs") as task:
            task.advance(2)
        view.note("done")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["kind"] for line in lines[-3:]] == ["task_started", "task_done", "note"]
    read = [Event.read(line) for line in out.getvalue().splitlines()[:-3]]
    assert RunState.of([event for event in read if event]) == RunState.of(events)


def test_a_stopped_task_is_told_in_json() -> None:
    out = io.StringIO()
    with pytest.raises(KeyError), progress_for("json", stream=out) as view, view.task("train", total=2):
        raise KeyError("x")
    assert json.loads(out.getvalue().splitlines()[-1])["kind"] == "task_stopped"


def test_none_prints_warnings_alone() -> None:
    out = io.StringIO()
    with progress_for("none", stream=out) as view, view.task("train", total=1):
        told(view, story(parts=3))
        view.note("hm")
        view.hear(Event.of("warning", {"text": "the log cannot be written"}, now=0))
    assert out.getvalue() == "curate: the log cannot be written\n"


def test_plain_is_plain_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, legacy_windows=False, color_system=None)
    with progress_for("plain", console=console) as view:
        told(view, story(parts=5))
    assert not CONTROL.search(out.getvalue().replace("\n", ""))


def test_live_over_a_pipe_is_plain() -> None:
    out = io.StringIO()
    with progress_for("live", stream=out) as view:
        told(view, story(parts=5))
    assert not CONTROL.search(out.getvalue().replace("\n", "")) and "✓ fineweb" in out.getvalue()


def test_an_unknown_mode_gets_a_sentence() -> None:
    with pytest.raises(CurateError, match="live, plain, json, none"):
        progress_for("loud")


def test_the_lines_of_one_state_agree_with_its_screen() -> None:
    state = RunState.of(story(stop_after=120))
    line, text = progress_line(state.running[0], state), screen(story(stop_after=120), 160)
    for figure in ("120/200", "60.0%"):
        assert figure in line and figure in text
    left = re.search(r"([\d.]+ s|\d+ min \d+ s) left in this stage", line)
    assert left is not None and left.group(1) in text


def test_an_interrupted_run_says_that_nothing_is_lost() -> None:
    events = [*story(stop_after=20)]
    events.append(Event.of("run_interrupted", {}, now=events[-1].time))
    assert "interrupted after" in end_line(RunState.of(events))[0]


def test_an_error_that_was_said_of_its_part_is_not_said_again_of_the_run() -> None:
    view, out = piped()
    events = story(fail={(0, 150)}, seed=4)
    error = "Stage read warc+extract, part 150, file a.warc.gz: gzip is damaged"
    with view:
        told(view, [*events[:-1], Event.of("run_failed", {"error": error}, now=events[-1].time)])
    assert out.getvalue().count("gzip is damaged") == 1 and "✗ fineweb  failed after" in out.getvalue()
