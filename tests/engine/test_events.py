"""Events, their log, and the state that is folded from them."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate.storage
from curate.engine import event_log
from curate.engine.event_log import EventLog, RunLogs, Tail, read_events, run_folder
from curate.engine.events import LINE, Event, Listeners, new_run_id
from curate.engine.run_state import RunState
from tests.engine.stories import FINGERPRINT, LABELS, START, story


class Ear:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


# Events


def test_an_event_is_one_short_line_that_gives_the_event_back() -> None:
    event = story()[10]
    assert "\n" not in event.line and len(event.line) < LINE
    assert Event.read(event.line) == event


def test_credentials_tracebacks_and_long_texts_never_enter() -> None:
    error = "Stage a, part 3, file s3://user:hunter22@bucket/x?token=abcdefgh: broken\nTraceback ...\n" + "x" * 5000
    event = Event.of("part_failed", {"error": error, "reason": "y" * 9000}, now=1.0)
    assert "hunter22" not in event.line and "abcdefgh" not in event.line and "Traceback" not in event.line
    assert "Stage a, part 3" in event.line and len(event.line) < LINE


def test_hundreds_of_long_rules_become_the_most_frequent_and_a_number_for_the_others() -> None:
    rules = {f"some_quite_long_filter.and_its_rule_number_{number}": number for number in range(500)}
    event = Event.of("part_done", {"stage": "s", "rules": rules}, now=1.0)
    assert len(event.line) < LINE
    named = event.fields["rules"]
    assert max(rules, key=lambda rule: rules[rule]) in named
    assert sum(named.values()) + event.fields["other_rules"] == sum(rules.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"\xff", {1, 2}, Path("a"), "\ud800 \x00 é", None])
def test_any_value_becomes_valid_json(value: object) -> None:
    event = Event.of("warning", {"text": value, "deep": {"er": [value]}}, now=1.0)
    assert json.loads(event.line)["kind"] == "warning"
    assert Event.read(event.line) is not None


def test_numpy_numbers_are_numbers() -> None:
    import numpy as np

    event = Event.of("part_done", {"records_in": np.int64(7), "seconds": np.float32(0.5)}, now=1.0)
    assert json.loads(event.line)["records_in"] == 7 and json.loads(event.line)["seconds"] == 0.5


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "1",
        "null",
        '{"time": "x", "kind": "a"}',
        '{"time": 1}',
        '{"time": 1e999, "kind": "a"}',
        "[" * 9999,
    ],
)
def test_what_is_no_event_is_none(line: str) -> None:
    assert Event.read(line) is None


# Listeners


def test_every_hearer_hears_everything_and_a_run_gets_an_id() -> None:
    one, two = Ear(), Ear()
    listeners = Listeners([one, two])
    listeners.emit("run_started", name="my recipe/../x", stages=[])
    listeners.emit("run_interrupted")
    assert one.kinds == two.kinds == ["run_started", "run_interrupted"]
    assert "/" not in one.events[0].fields["run"] and "my-recipe" in one.events[0].fields["run"]


def test_two_runs_of_one_second_have_two_ids() -> None:
    assert len({new_run_id("fineweb") for _ in range(50)}) == 50


def test_a_full_disk_is_warned_of_once_and_heard_again_when_there_is_room() -> None:
    class Full(Ear):
        full = True

        def hear(self, event: Event) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super().hear(event)

    full, ear = Full(), Ear()
    listeners = Listeners([full, ear])
    for _ in range(5):
        listeners.emit("alive")
    full.full = False
    listeners.emit("run_interrupted")
    assert ear.kinds.count("warning") == 1 and ear.kinds.count("alive") == 5
    assert "No space left" in next(event for event in ear.events if event.kind == "warning").fields["text"]
    assert full.kinds == ["run_interrupted"]


def test_a_broken_view_is_dropped_and_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        calls = 0

        def hear(self, event: Event) -> None:
            self.calls += 1
            raise ZeroDivisionError("of a view")

    broken = Broken()
    listeners = Listeners([broken])
    listeners.emit("alive")
    listeners.emit("alive")
    assert broken.calls == 1
    assert "of a view" in capsys.readouterr().err


def test_events_from_many_threads_come_one_after_another(tmp_path: Path) -> None:
    ear = Ear()
    with EventLog(tmp_path / "run") as log:
        listeners = Listeners([ear, log])
        threads = [
            threading.Thread(
                target=lambda n=n: [listeners.emit("part_done", stage="s", part=100 * n + k) for k in range(100)]
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    parts = [event.fields["part"] for event in read_events(tmp_path / "run") if event.kind == "part_done"]
    assert sorted(parts) == list(range(800))
    assert [event.fields["part"] for event in ear.events] == parts


# The log


def test_the_log_gives_back_what_was_told(tmp_path: Path) -> None:
    told = story(stop_after=50)
    with EventLog(tmp_path / "runs" / "r") as log:
        for event in told:
            log.hear(event)
    read = read_events(tmp_path / "runs" / "r")
    assert read[0].kind == "log_opened" and read[0].fields["pid"] == os.getpid()
    assert read[1:] == told


def test_ten_thousand_parts_are_ten_thousand_short_lines(tmp_path: Path) -> None:
    long = {f"gopher_repetition.duplicate_line_character_fraction_{n}": n for n in range(40)}
    began = time.process_time()
    with EventLog(tmp_path / "r") as log:
        listeners = Listeners([log])
        for part in range(10_000):
            listeners.emit(
                "part_done", stage=LABELS[1], part=part, phase="part", records_in=1000, rules=long, worker="h:1"
            )
    assert time.process_time() - began < 20  # about 0.1 ms an event; a part may cost 5 ms in all
    lines = (tmp_path / "r" / "events.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 10_002 and max(map(len, lines)) < LINE


def test_a_kill_leaves_whole_lines_and_at_most_a_torn_last_one(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from curate.engine.event_log import EventLog
        from curate.engine.events import Listeners
        listeners = Listeners([EventLog(sys.argv[1])])
        print("ready", flush=True)
        part = 0
        while True:
            listeners.emit("part_done", stage="s", part=part, rules={f"rule_{n}": 5 for n in range(16)})
            part += 1
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "r")], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    tail = Tail(tmp_path / "r")
    tail.more()
    parts = [event.fields["part"] for event in tail.events if event.kind == "part_done"]
    assert parts == list(range(len(parts))) and len(parts) > 10
    assert tail.broken <= 1


def test_a_torn_line_is_skipped_and_the_rest_read_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [event.line.encode() for event in story(stop_after=5)]
    path.write_bytes(b"\n".join(lines[:4]) + b"\n" + lines[4][:20])
    tail = Tail(tmp_path)
    assert tail.more() and len(tail.events) == 4 and not tail.more()
    with path.open("ab") as file:  # the writer was only half through
        file.write(lines[4][20:] + b"\n" + b"\x00garbage\xff\n" + lines[5] + b"\n")
    assert tail.more() and [event.line.encode() for event in tail.events] == lines[:6]
    assert tail.broken == 1


def test_lines_that_the_disk_had_no_room_for_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [10**9]

    def write(file: int, data: bytes) -> int:
        taken = min(len(data), room[0])
        room[0] -= taken
        if not taken:
            raise OSError(28, "No space left on device")
        return real(file, data[:taken])

    real = os.write
    ear = Ear()
    with EventLog(tmp_path / "r") as log:
        monkeypatch.setattr(event_log.os, "write", write)
        listeners = Listeners([log, ear])
        listeners.emit("part_done", stage="s", part=1)
        room[0] = 17  # a torn line, then none
        for part in (2, 3, 4):
            listeners.emit("part_done", stage="s", part=part)
        room[0] = 10**9
        listeners.emit("part_done", stage="s", part=5)
    read = read_events(tmp_path / "r")
    assert [event.fields["part"] for event in read if event.kind == "part_done"] == [1, 5]
    assert sum(event.fields["lost"] for event in read if event.kind == "log_gap") == 3
    assert RunState.of(read).lost_events == 3
    assert ear.kinds.count("warning") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_without_any_room_does_not_stop_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "events.jsonl").symlink_to("/dev/full")
    ear = Ear()
    with EventLog(folder) as log:
        listeners = Listeners([log, ear])
        for part in range(10):
            listeners.emit("part_done", stage="s", part=part)
    assert ear.kinds.count("part_done") == 10 and ear.kinds.count("warning") == 1


def test_a_work_folder_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    ear = Ear()
    logs = RunLogs(tmp_path)
    listeners = Listeners([logs, ear])
    listeners.emit("run_started", name="x", stages=[])
    listeners.emit("run_done", documents=1, text_bytes=1, fingerprint="")
    assert ear.kinds == ["run_started", "warning", "run_done"] or ear.kinds == ["warning", "run_started", "run_done"]


def test_a_silent_run_gives_signs_of_life(tmp_path: Path) -> None:
    with EventLog(tmp_path / "r", beat_seconds=0.05):
        time.sleep(0.5)
    beats = [event for event in read_events(tmp_path / "r") if event.kind == "alive"]
    assert 2 <= len(beats) <= 12


def test_each_run_of_a_command_has_its_own_log(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path)
    listeners = Listeners([logs])
    for name in ("a", "b"):
        listeners.emit("run_started", name=name, fingerprint=name, stages=[])
        listeners.emit("run_done", documents=1, text_bytes=1, fingerprint=name)
    listeners.emit("warning", text="between runs")
    folders = sorted((tmp_path / "runs").iterdir())
    assert [RunState.of(read_events(folder)).name for folder in folders] == ["a", "b"]
    assert all(read_events(folder)[-1].kind == "run_done" for folder in folders)


def test_a_log_on_a_url_is_put_in_segments_of_which_only_the_last_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "SEGMENT", 2000)
    puts: list[tuple[str, int]] = []
    real = curate.storage.put

    def counted(path: Path, data: bytes) -> None:
        puts.append((path.name, len(data)))
        real(path, data)

    monkeypatch.setattr(curate.storage, "put", counted)
    folder = run_folder(f"memory://work-{random.randrange(10**9)}", "r")
    told = story(stop_after=60)
    with EventLog(folder, put_seconds=0.05) as log:
        for event in told:
            log.hear(event)
            time.sleep(0.005)
        time.sleep(0.3)
        assert len(read_events(folder)) > len(told) // 2  # readable while the run goes on
    assert read_events(folder)[1:] == told
    names = [name for name, _ in puts]
    assert names == sorted(names) and len(set(names)) > 5
    assert all(size <= 2000 + LINE for _, size in puts)


def test_a_store_that_does_not_answer_loses_nothing_when_it_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False]
    real = curate.storage.put

    def put(path: Path, data: bytes) -> None:
        if not answers[0]:
            raise ConnectionError("no route to the store")
        real(path, data)

    monkeypatch.setattr(curate.storage, "put", put)
    folder = run_folder(f"memory://work-{random.randrange(10**9)}", "r")
    ear = Ear()
    with EventLog(folder, put_seconds=0.02) as log:
        listeners = Listeners([log, ear])
        for part in range(30):
            listeners.emit("part_done", stage="s", part=part)
            time.sleep(0.01)
        answers[0] = True
    assert [event.fields["part"] for event in read_events(folder) if event.kind == "part_done"] == list(range(30))
    assert ear.kinds.count("warning") == 1


def test_what_a_lost_store_cannot_take_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "SEGMENT", 1000)
    monkeypatch.setattr(event_log, "MOST_UNSENT", 10_000)
    answers = [False]
    real = curate.storage.put

    def put(path: Path, data: bytes) -> None:
        if not answers[0]:
            raise ConnectionError("no route to the store")
        real(path, data)

    monkeypatch.setattr(curate.storage, "put", put)
    folder = run_folder(f"memory://work-{random.randrange(10**9)}", "r")
    with EventLog(folder, put_seconds=5) as log:
        listeners = Listeners([log])
        for part in range(500):
            listeners.emit("part_done", stage="s", part=part)
        answers[0] = True
        listeners.emit("part_done", stage="s", part=500)
    read = read_events(folder)
    parts = [event.fields["part"] for event in read if event.kind == "part_done"]
    lost = sum(event.fields["lost"] for event in read if event.kind == "log_gap")
    assert parts[-1] == 500 and len(parts) < 200
    opened = sum(event.kind == "log_opened" for event in read)
    assert len(parts) + opened + lost == 502  # gaps that were themselves given up hand on what they counted


# The state


def test_a_whole_run_adds_up() -> None:
    state = RunState.of(story())
    assert state.status == "finished" and state.fingerprint == FINGERPRINT and state.name == "fineweb"
    assert [stage.status for stage in state.stages] == ["done"] * 3
    assert [stage.finished_parts for stage in state.stages] == [200] * 3
    first = state.stages[0]
    assert first.records_in == sum(1000 + part % 7 for part in range(200))
    assert first.kept == pytest.approx(0.6, abs=0.001)
    assert state.documents == state.stages[-1].records_out
    assert first.rules[0][1] == max(count for _, count in first.rules)


def test_a_running_run_says_what_is_left_and_what_comes_after() -> None:
    events = story(stop_after=100)
    state = RunState.of(events)
    (stage,) = state.running
    assert (stage.label, stage.done, stage.parts, stage.left_by) == (LABELS[0], 100, 200, "bytes")
    assert state.stages_after == 2
    # 100 parts of 0.8 s each remain.
    assert stage.seconds_left == pytest.approx(80, rel=0.35)
    assert state.rate("parts") == pytest.approx(1 / 0.8, rel=0.35)
    assert state.rate("records") == pytest.approx(1000 / 0.8, rel=0.35)


def test_without_sizes_the_time_left_is_by_parts() -> None:
    stage = RunState.of(story(stop_after=100, sizes=False)).running[0]
    assert stage.left_by == "parts" and stage.seconds_left == pytest.approx(80, rel=0.35)


def test_uneven_parts_are_weighted_by_their_bytes() -> None:
    sizes = [10**9] * 10 + [10**6] * 990
    events = [
        Event.of("run_started", {"stages": [{"label": "s", "folder": "f", "bytes": sum(sizes), "parts": 1000}]}, now=0)
    ]
    events.append(
        Event.of("stage_started", {"stage": "s", "folder": "f", "parts": 1000, "found": 0, "phase": "part"}, now=0)
    )
    for part in range(10, 500):  # the small ones first, 1 MB/s
        events.append(Event.of("part_done", {"stage": "s", "part": part, "phase": "part", "size": 10**6}, now=part - 9))
    stage = RunState.of(events).running[0]
    assert stage.left_by == "bytes" and stage.seconds_left == pytest.approx(10_510, rel=0.02)


@pytest.mark.parametrize("done", [0, 1, 2])
def test_nothing_is_known_before_three_parts_are_done(done: int) -> None:
    opening = [event for event in story(stop_after=1) if event.kind != "part_done"]
    parts = [event for event in story(stop_after=done) if event.kind == "part_done"] if done else []
    state = RunState.of([*opening, *parts])
    assert state.seconds_left is None and state.rate("parts") is None
    assert RunState.of(story(stop_after=3)).seconds_left is not None


def test_a_run_that_stands_still_gets_slower_with_every_second() -> None:
    events = story(stop_after=100)
    last = events[-1].time
    rates = [RunState.of(events, now=last + pause).rate("parts") for pause in (0, 60, 600)]
    assert rates[0] > rates[1] > rates[2] > 0  # type: ignore[operator]


def test_rates_are_of_the_recent_past() -> None:
    slow, fast = story(stop_after=60, pause=10.0), []
    last = slow[-1].time
    done = {event.fields["part"] for event in slow if event.kind == "part_done"}
    for number, part in enumerate(sorted(set(range(200)) - done)[:100]):
        at = last + 1 + number
        fast.append(Event.of("part_done", {"stage": LABELS[0], "part": part, "phase": "part"}, now=at))
    assert RunState.of([*slow, *fast]).rate("parts") == pytest.approx(1.0, rel=0.1)


def test_parts_that_were_there_are_shown_apart_and_no_work_of_this_run() -> None:
    state = RunState.of(story(found=120, stop_after=40))
    (stage,) = state.running
    assert (stage.found, stage.done, stage.finished_parts, stage.parts) == (120, 40, 160, 200)
    assert stage.records_in == pytest.approx(40 * 1003, abs=200)
    assert stage.seconds_left == pytest.approx(32, rel=0.4) and stage.left_by == "bytes"
    assert state.found_parts == 120


def test_a_stage_that_was_there_whole_is_found() -> None:
    events = story(stop_after=1)[:2]
    events.append(Event.of("found", {"stage": LABELS[0], "records_out": 77}, now=START + 1))
    stage = RunState.of(events).stages[0]
    assert (stage.status, stage.finished_parts, stage.records_out) == ("found", 200, 77)


def test_failures_carry_their_sentences_and_count() -> None:
    state = RunState.of(story(fail={(0, 17), (0, 18)}))
    assert state.status == "failed" and state.failed == 2 and state.stages[0].failed == 2
    assert {failure.part for failure in state.failures} == {17, 18}
    assert all("gzip is damaged" in failure.text for failure in state.failures)
    assert state.seconds_left is None


def test_a_failed_part_that_another_attempt_finished_is_no_failure() -> None:
    events = story(fail={(0, 17)}, stop_after=150)
    done = {"stage": LABELS[0], "part": 17, "phase": "part", "records_in": 5}
    assert RunState.of(events).failed == 1
    assert RunState.of([*events, Event.of("part_done", done, now=events[-1].time + 1)]).failed == 0


def test_a_straggler_is_one_until_it_is_done() -> None:
    events = story(stop_after=20)
    part = next(part for part in range(200) if all(event.fields.get("part") != part for event in events))
    slow = {"stage": LABELS[0], "part": part, "seconds": 90, "median_seconds": 3, "copied": True}
    events.append(Event.of("straggler", slow, now=events[-1].time + 1))
    assert [each.part for each in RunState.of(events).stragglers] == [part]
    done = {"stage": LABELS[0], "part": part, "phase": "part"}
    assert not RunState.of([*events, Event.of("part_done", done, now=events[-1].time + 1)]).stragglers


def test_waiting_is_over_when_anything_happens() -> None:
    events = story(stop_after=5)
    last = events[-1].time
    waiting = Event.of("waiting", {"reason": "2 GPUs", "seconds": 30, "limit_seconds": 600}, now=last + 1)
    state = RunState.of([*events, waiting])
    assert state.status == "waiting" and state.waiting == "2 GPUs (30 s of at most 600 s)"
    part = Event.of("part_done", {"stage": LABELS[0], "part": 199, "phase": "part"}, now=last + 2)
    assert RunState.of([*events, waiting, part]).status == "running"


def test_rounds_of_reducing_are_each_their_own() -> None:
    said = {"stage": "minhash", "folder": "m", "found": 0, "phase": "reduce"}
    events = [Event.of("stage_started", {**said, "parts": 8}, now=0)]
    events += [Event.of("part_done", {"stage": "minhash", "phase": "reduce", "part": p}, now=p + 1) for p in range(8)]
    events.append(Event.of("stage_started", {**said, "parts": 2}, now=10))
    events.append(Event.of("part_done", {"stage": "minhash", "phase": "reduce", "part": 0}, now=11))
    (stage,) = RunState.of(events).stages
    assert (stage.done, stage.parts) == (1, 2)


def test_two_stages_of_one_name_are_two() -> None:
    events = []
    for number, folder in enumerate(("sample", "main")):
        at = 10.0 * number
        events.append(
            Event.of("stage_started", {"stage": "read", "folder": folder, "parts": 1, "phase": "part"}, now=at)
        )
        events.append(Event.of("part_done", {"stage": "read", "part": 0, "phase": "part", "records_in": 5}, now=at + 1))
        events.append(Event.of("stage_done", {"stage": "read", "records_in": 5, "records_out": 5}, now=at + 2))
    assert [(stage.folder, stage.records_in) for stage in RunState.of(events).stages] == [("sample", 5), ("main", 5)]


def test_an_artifact_is_no_stage() -> None:
    events = [*story(stop_after=4), Event.of("artifact_started", {"artifact": "quality"}, now=START + 99)]
    events.append(Event.of("part_done", {"stage": "artifact quality", "part": 0, "phase": "artifact"}, now=START + 100))
    state = RunState.of(events)
    assert len(state.stages) == 3 and state.artifacts == (("quality", "running"),)


# Order and duplicates

STREAMS = st.fixed_dictionaries(
    {
        "parts": st.integers(1, 30),
        "found": st.integers(0, 10),
        "seed": st.integers(0, 10**6),
        "stop_after": st.none() | st.integers(1, 100),
        "sizes": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(STREAMS, st.randoms(use_true_random=False))
def test_the_state_is_the_same_for_any_order_and_after_duplicates(shape: dict, chance: random.Random) -> None:
    events = story(**shape)
    whole = RunState.of(events)
    mixed = list(events)
    chance.shuffle(mixed)
    assert RunState.of(mixed) == whole
    # Another worker did some parts too, a little later and in another time.
    doubles = [
        Event.of(event.kind, {**event.fields, "seconds": 9.0, "worker": "other:1"}, now=event.time + 0.001)
        for event in events
        if event.kind == "part_done" and chance.random() < 0.5
    ]
    again = [*events, *doubles]
    chance.shuffle(again)
    assert RunState.of(again, now=whole.at + 1) == RunState.of(events, now=whole.at + 1) or _only_heard_differs(
        RunState.of(again, now=whole.at + 1), RunState.of(events, now=whole.at + 1)
    )


def _only_heard_differs(one: RunState, two: RunState) -> bool:
    a, b = one.to_dict(), two.to_dict()
    return {key for key in a if a[key] != b[key]} <= {"heard", "advanced"}


@settings(max_examples=60, deadline=None)
@given(STREAMS, st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_when_the_parts_of_different_stages_came(shape: dict, chance: random.Random) -> None:
    events = story(**shape)
    parts = [event for event in events if event.kind == "part_done"]
    others = [event for event in events if event.kind not in ("part_done", "stage_done", "run_done")]
    times = [event.time for event in parts]
    chance.shuffle(times)
    moved = [Event.of(event.kind, event.fields, now=at) for event, at in zip(parts, times, strict=True)]

    def counts(events: list[Event]) -> list[object]:
        return [
            (stage.label, stage.records_in, stage.records_out, stage.bytes_in, stage.rules, stage.failed)
            for stage in RunState.of(events).stages
        ]

    assert counts([*others, *moved]) == counts([*others, *parts])


def test_two_workers_on_one_recipe_make_one_run() -> None:
    one = story(share=(0, 2), seed=1, run="a")
    two = story(share=(1, 2), seed=2, run="b", start=START + 5)
    first = RunState.of([event for event in [*one, *two] if event.kind != "run_done"]).stages[0]
    assert (first.done, first.found, first.parts) == (200, 0, 200)


def test_a_resumed_run_and_the_killed_one_before_it_count_nothing_twice() -> None:
    killed = story(stop_after=80, seed=3)
    done = {event.fields["part"] for event in killed if event.kind == "part_done"}
    last = killed[-1].time
    head = [Event.of(event.kind, event.fields, now=last + 60) for event in killed[:2]]
    again = {"stage": LABELS[0], "folder": "read-0", "parts": 200, "found": len(done) + 1, "phase": "part"}
    resumed = [*head, Event.of("stage_started", again, now=last + 61)]
    stage = RunState.of([*killed, *resumed]).stages[0]
    assert (stage.done, stage.found) == (80, 1)  # one part was finished, but not told of, when the kill came


def test_a_damaged_log_gives_a_state_and_no_error() -> None:
    chance = random.Random(1)
    junk = [None, -1, 1e300, "x", [], {}, True, {"label": 3}, [{"label": "a", "parts": "b"}, 3], 2**70, -(2**70)]
    for _ in range(300):
        events = []
        for event in story(parts=5):
            fields = {
                name: chance.choice(junk) if chance.random() < 0.3 else value for name, value in event.fields.items()
            }
            line = json.dumps({"time": event.time, "kind": event.kind, **fields})
            read = Event.read(line)
            assert read is not None
            events.append(read)
        json.dumps(RunState.of(events).to_dict(), allow_nan=False)


def test_the_state_of_thousands_of_parts_costs_little_time_and_memory() -> None:
    import tracemalloc

    from curate.engine.run_fold import Fold

    events = story(parts=2_000)
    tracemalloc.start()
    fold = Fold()
    for event in events:
        fold.hear(event)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    parts = sum(event.kind == "part_done" for event in events)
    assert held / parts < 150
    began = time.process_time()
    for _ in range(20):
        fold.state()
    assert (time.process_time() - began) / 20 < 0.02
