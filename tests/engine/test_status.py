"""`curate status`: a run seen from another terminal, from its logs alone."""

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curate.cli import main
from curate.commands import status as command
from curate.engine.event_log import Tail
from curate.engine.events import Event
from curate.engine.status import SILENT_SECONDS, Status, all_runs, find_run
from curate.errors import InputError
from tests.engine.stories import LABELS, START, story


def write(work: Path, events: Sequence[Event]) -> Path:
    """The events as a log in `work`."""
    folder = work / "runs" / str(events[0].fields["run"])
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(f"{event.line}\n" for event in events))
    return folder


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers(required=True))
    options = parser.parse_args(["status", *arguments])
    return int(options.command(options))


def status(work: Path, target: str | None = None, *, at: float) -> Status:
    return find_run(target, str(work), clock=lambda: at).status()


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


# How a run stands


def test_a_run_that_goes_on_is_running_with_its_rates(tmp_path: Path) -> None:
    events = story(stop_after=100)
    write(tmp_path, events)
    found = status(tmp_path, at=events[-1].time + 1)
    assert found.state.status == "running" and not found.ended
    assert found.state.rate("parts") and found.state.seconds_left


def test_a_run_of_another_machine_is_silent_after_three_minutes(tmp_path: Path) -> None:
    events = story(stop_after=100)
    write(tmp_path, events)
    last = events[-1].time
    assert status(tmp_path, at=last + SILENT_SECONDS - 1).state.status == "running"
    silent = status(tmp_path, at=last + SILENT_SECONDS + 1)
    assert silent.state.status == "silent" and silent.ended and silent.silence > SILENT_SECONDS
    assert silent.state.rate("parts") is None and silent.state.seconds_left is None


def test_a_heartbeat_keeps_a_run_alive_while_its_parts_are_long(tmp_path: Path) -> None:
    events = story(stop_after=100)
    events.append(Event.of("alive", {}, now=events[-1].time + 600))
    write(tmp_path, events)
    assert status(tmp_path, at=events[-1].time + 5).state.status == "running"


def test_a_killed_process_of_this_machine_is_seen_sooner(tmp_path: Path) -> None:
    events = story(stop_after=10, host=socket.gethostname(), pid=dead_pid())
    write(tmp_path, events)
    assert status(tmp_path, at=events[-1].time + 45).state.status == "silent"
    alive = story(stop_after=10, host=socket.gethostname(), pid=os.getpid(), run="20301122T000000Z-x-1")
    write(tmp_path, alive)
    assert status(tmp_path, "20301122", at=alive[-1].time + 45).processes[0].status == "running"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (story(parts=5), "finished"),
        (story(parts=5, fail={(0, 2)}), "failed"),
        ([*story(parts=5, stop_after=3), Event.of("run_interrupted", {}, now=START + 100)], "interrupted"),
    ],
)
def test_what_ended_stays_as_it_ended(tmp_path: Path, events: list[Event], expected: str) -> None:
    write(tmp_path, events)
    assert status(tmp_path, at=START + 10**6).state.status == expected


def test_a_torn_last_line_is_no_trouble(tmp_path: Path) -> None:
    folder = write(tmp_path, story(stop_after=10))
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"time": 17')
    assert status(tmp_path, at=START + 60).state.stages[0].done == 10


# Which run


def test_the_newest_run_is_the_default_and_others_are_found_by_id_recipe_or_folder(tmp_path: Path) -> None:
    old = story(parts=3, run="20260101T000000Z-fineweb-aaaaaa")
    new = story(parts=4, run="20260102T000000Z-other-bbbbbb", start=START + 10**6)
    new[1] = Event.of(
        "run_started", {**new[1].fields, "recipe": "other.yaml", "name": "other", "fingerprint": "0"}, now=new[1].time
    )
    folder = write(tmp_path, old)
    write(tmp_path, new)
    at = START + 2 * 10**6
    parts = {
        None: 4,
        "20260101": 3,
        "20260101T000000Z-fineweb-aaaaaa": 3,
        "fineweb": 3,
        "other": 4,
        "recipes/fineweb.yaml": 3,
        "elsewhere/other.yaml": 4,
        str(folder): 3,
        str(tmp_path): 4,
    }
    for target, expected in parts.items():
        assert status(tmp_path, target, at=at).state.stages[0].parts == expected, target


def test_a_work_folder_without_runs_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run was started with this work folder.*curate run"):
        find_run(None, str(tmp_path / "none"))
    with pytest.raises(InputError, match="no run was started"):
        find_run("x", str(tmp_path))


def test_a_name_that_is_no_run_gets_the_names_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, story(parts=3))
    for target in ("nonsense", "nonsense.yaml", "no/such/folder"):
        with pytest.raises(InputError, match="there are 20261122T062830Z-fineweb-3fa9c1"):
            find_run(target, str(tmp_path))


def test_a_log_without_an_event_gets_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "20260101T000000Z-a-b"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text('{"time"')
    with pytest.raises(InputError, match="holds no event yet"):
        find_run(None, str(tmp_path)).status()
    assert all_runs(str(tmp_path), most=5) == []


# Several processes


def test_workers_on_one_recipe_are_one_run(tmp_path: Path) -> None:
    for number in range(4):
        events = story(share=(number, 4), seed=number, run=f"20260101T00000{number}Z-fineweb-x", start=START + number)
        write(tmp_path, [event for event in events if event.kind != "run_done"])
    found = status(tmp_path, at=START + 100)
    assert len(found.processes) == 4 and found.state.status == "running"
    assert (found.state.stages[0].done, found.state.stages[0].parts) == (200, 200)
    assert found.state.stages[0].records_in == RECORDS


RECORDS = sum(1000 + part % 7 for part in range(200))


def test_one_lost_worker_is_named_while_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    going = story(share=(0, 2), run="20260101T000000Z-fineweb-x", start=now - 990, stop_after=50)
    lost = story(share=(1, 2), run="20260101T000001Z-fineweb-y", start=now - 1000, stop_after=5, host="node-7", pid=77)
    going.append(Event.of("alive", {}, now=now - 1))
    lost.append(Event.of("alive", {}, now=now - 200))
    write(tmp_path, going)
    write(tmp_path, lost)
    assert call("--work", str(tmp_path)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 processes: 1 running, 1 silent" in out and "on node-7, process 77: no sign of life for 3 min" in out


def test_a_run_of_another_day_is_not_merged(tmp_path: Path) -> None:
    write(tmp_path, story(run="20260101T000000Z-fineweb-x", stop_after=100))
    write(tmp_path, story(run="20260102T000000Z-fineweb-y", stop_after=20, found=100, start=START + 86_400))
    found = status(tmp_path, at=START + 86_410)
    assert len(found.processes) == 1
    assert (found.state.stages[0].found, found.state.stages[0].done) == (100, 20)


def test_the_run_is_finished_when_a_worker_finished_it_though_another_was_killed(tmp_path: Path) -> None:
    write(tmp_path, story(run="20260101T000000Z-fineweb-x", stop_after=10))
    write(tmp_path, story(run="20260101T000001Z-fineweb-y", start=START + 1))
    found = status(tmp_path, at=START + 10**6)
    assert found.state.status == "finished" and {each.status for each in found.processes} == {"finished", "silent"}


# The command


def test_the_screen_says_what_matters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, story(found=120, fail={(0, 150)}))
    assert call("--work", str(tmp_path)) == 0
    out = " ".join(capsys.readouterr().out.split())
    for said in ("fineweb failed", "120 parts were there already", "199/200", "1 part failed", "gzip is damaged"):
        assert said in out, out
    assert "run the same command again" in out


def test_a_killed_run_says_so_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, story(stop_after=20))
    assert call("--work", str(tmp_path)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No sign of life for" in out and "killed?" in out and "run the same command again to go on" in out


def test_over_a_pipe_there_are_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = story(stop_after=20)
    evil = {"stage": "a\x1b[2Jb\x07\u202e", "part": 1, "phase": "part", "error": "[red]x\x1b]0;title\x07"}
    events.append(Event.of("part_failed", evil, now=events[-1].time))
    write(tmp_path, events)
    call("--work", str(tmp_path))
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out and "[red]" in out


def test_json_is_the_whole_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, story(fail={(0, 3)}))
    assert call("--work", str(tmp_path), "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["status"] == "failed" and value["stages"][0]["label"] == LABELS[0]
    assert value["failures"][0]["part"] == 3 and value["processes"][0]["host"] == "elsewhere"
    assert 0 < value["stages"][0]["kept"] < 1


def test_all_runs_are_listed_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, story(parts=3, run="20260101T000000Z-one-a"))
    write(tmp_path, story(parts=3, run="20260102T000000Z-two-b", stop_after=2))
    assert call("--all", "--work", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert out.index("two") < out.index("one") and "finished" in out and "killed?" in out
    assert call("--all", "--json", "--work", str(tmp_path)) == 0
    assert [run["status"] for run in json.loads(capsys.readouterr().out)] == ["silent", "finished"]


def test_all_of_nothing_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--all", "--work", str(tmp_path)) == 0
    assert "no runs" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("as_json", [True, False])
def test_watching_ends_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setattr(command, "WATCH_SECONDS", 0.05)
    now = time.time()
    events = story(parts=20, start=now - 10, pause=0.01)
    folder = write(tmp_path, events[:12])

    def go_on() -> None:
        for event in events[12:]:
            time.sleep(0.005)
            with (folder / "events.jsonl").open("a") as file:
                file.write(event.line + "\n")

    thread = threading.Thread(target=go_on)
    thread.start()
    assert call("--work", str(tmp_path), "--watch", *(["--json"] if as_json else [])) == 0
    thread.join()
    out = capsys.readouterr().out
    if as_json:
        states = [json.loads(line)["status"] for line in out.splitlines()]
        assert states[0] == "running" and states[-1] == "finished"
    else:
        assert f"{LABELS[0]}:" in out and "fineweb  finished" in out


def test_a_tail_reads_only_what_is_new(tmp_path: Path) -> None:
    events = story(stop_after=30)
    folder = write(tmp_path, events[:10])
    tail = Tail(folder)
    tail.more()
    with (folder / "events.jsonl").open("r+") as file:  # what was read is not read again
        file.write("x" * 20)
    with (folder / "events.jsonl").open("a") as file:
        file.write("".join(f"{event.line}\n" for event in events[10:]))
    assert tail.more() and tail.events == events and not tail.more()


def test_a_run_on_a_url_is_found(tmp_path: Path) -> None:
    from curate.storage import at, put

    events = story(parts=5)
    work = f"memory://status-{os.getpid()}"
    put(
        at(work) / "runs" / "20260101T000000Z-a-b" / "events-00000.jsonl",
        "".join(f"{e.line}\n" for e in events).encode(),
    )
    found = find_run(None, work, clock=lambda: START + 10**6).status()
    assert found.state.status == "finished"
    assert find_run(work, "elsewhere", clock=lambda: START + 10**6).status().state.status == "finished"


# Real runs


def test_a_real_run_is_told_as_it_was(
    tmp_path: Path, recipe: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, work = recipe("own_steps.MinChars: {chars: 100}", "minhash"), str(tmp_path / "work")
    assert main(["run", str(path), "--work", work, "--workers", "1", "--progress", "json"]) == 0
    printed = capsys.readouterr()
    kinds = [json.loads(line)["kind"] for line in printed.err.splitlines()]
    assert kinds[0] == "run_started" and kinds[-1] == "run_done" and "part_done" in kinds
    assert main(["status", str(path), "--work", work, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "finished" and f"{told['documents']:,} documents" in printed.out
    assert told["stages"][0]["records_in"] == 240
    assert [stage["status"] for stage in told["stages"]] == ["done"] * len(told["stages"])
    assert main(["run", str(path), "--work", work, "--workers", "1", "--progress", "plain"]) == 0
    assert capsys.readouterr().err.count("already done") == len(told["stages"])
    assert main(["status", "--work", work, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {stage["status"] for stage in again["stages"]} == {"found"} and again["documents"] == told["documents"]


def test_a_run_is_seen_from_outside_then_killed_then_resumed(
    tmp_path: Path, recipe: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, work = recipe("own_steps.Slow: {seconds: 0.4}"), str(tmp_path / "work")
    line = [sys.executable, "-m", "curate.cli", "run", str(path), "--work", work, "--workers", "1"]
    with subprocess.Popen([*line, "--progress", "none"], stderr=subprocess.DEVNULL, start_new_session=True) as child:
        deadline, seen = time.monotonic() + 60, 0
        while seen < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
            with contextlib.suppress(InputError):
                seen = max((stage.done for stage in find_run(None, work).status().state.stages), default=0)
        os.killpg(child.pid, signal.SIGKILL)
    assert seen >= 2
    later = find_run(None, work, clock=lambda: time.time() + 60).status()
    assert later.state.status == "silent" and 2 <= later.state.stages[0].done < 6
    assert main([*line[3:], "--progress", "plain"]) == 0
    err = capsys.readouterr().err
    found = re.search(r"(\d) of 6 parts already done", err)
    assert found is not None and int(found[1]) >= 2
    resumed = find_run(None, work).status().state
    assert resumed.status == "finished" and resumed.stages[0].found == int(found[1])
    assert resumed.stages[0].found + resumed.stages[0].done == 6 and resumed.stages[0].records_in == 240
