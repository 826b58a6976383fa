"""Worker processes that end before they have begun."""

import multiprocessing.util
import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from curate.proxy_training.run import Run
from curate.proxy_training.scheduling import workers
from curate.proxy_training.scheduling.devices import Place
from curate.proxy_training.scheduling.grouping import Group

LONG = b"held-out text, longer than the 64 KiB that a pipe holds" * (1 << 14)


@pytest.fixture
def stillborn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every child that is started is dead before it has read a byte, as a signal to the whole group leaves it."""
    born: list[int] = []
    start = multiprocessing.util.spawnv_passfds

    def start_and_kill(path: bytes, args: Sequence[str], passfds: Sequence[int]) -> int:
        pid = start(path, args, passfds)
        if "--multiprocessing-fork" in args:  # not the tracker of resources, which serves all
            os.kill(pid, signal.SIGKILL)
            born.append(pid)
        return pid

    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", start_and_kill)
    return born


def within_seconds(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` gives; it fails, and does not wait for ever, when that takes longer."""
    given: list[Any] = []
    thread = threading.Thread(target=lambda: given.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert given, "it waits for a child that is dead"
    return given[0]


def test_a_worker_that_dies_while_it_is_started_is_not_waited_for(
    make_run: Callable[..., Run], stillborn: list[int]
) -> None:
    groups = [Group((make_run(seed=seed),)) for seed in (0, 1)]
    said: list[Group] = []
    watcher = SimpleNamespace(started=lambda group: None, ended=said.append, note=pytest.fail, look=lambda: None)
    failures = within_seconds(
        20,
        lambda: workers.train_in_processes(
            groups,
            LONG,  # type: ignore[arg-type]
            places=[Place(0)],
            watcher=watcher,  # type: ignore[arg-type]
            stop=lambda: False,
        ),
    )
    assert len(stillborn) == 2
    assert said == groups
    for group, failure in zip(groups, failures, strict=True):
        assert group.name in str(failure)
        assert "the worker process ended by signal 9 (out of memory?); the same command resumes it" in str(failure)
