"""Deduplication that is killed at any moment goes on, and ends with the bytes of a run that nobody touched."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.engine import exchange
from tests.engine.test_exchange import corpus, decided, in_memory, written

CHILD = """
import sys
from pathlib import Path
from curate.dedup import linked
from curate.engine import exchange
from tests.engine.test_exchange import Finish, decided

def run(work, jobs):
    for number, job in enumerate(jobs):
        print(job.manifest, flush=True)
        yield number, work(job)

exchange.WHOLE_BYTES, exchange.RANGE_BYTES, linked.ONE_TASK_BYTES = -1, 700, 0
decided(sys.argv[1], Path(sys.argv[2]), sys.argv[3:], Finish(run))
"""
ROOT = Path(__file__).resolve().parents[2]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.arrow")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "guarded"])
def test_twenty_kills_at_random_moments_change_no_byte(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = corpus(3, families=40)
    parents = written(tmp_path / "parent", rows, 8)
    monkeypatch.setattr(exchange, "WHOLE_BYTES", -1)
    monkeypatch.setattr(exchange, "RANGE_BYTES", 700)
    monkeypatch.setattr("curate.dedup.linked.ONE_TASK_BYTES", 0)
    expected = decided(name, tmp_path / "untouched", parents)
    assert expected == in_memory(name, rows, 1, 1)
    chance, folder = random.Random(name), tmp_path / "killed"
    killed, stopped = 0, set[str]()
    while killed < 20:
        command = [sys.executable, "-c", CHILD, name, str(folder), *parents]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        assert child.stdout is not None
        begun = [child.stdout.readline() for _ in range(chance.randint(1, 9))]
        time.sleep(chance.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
        stopped.add(begun[-1])
        if child.returncode == 0:  # it came to its end: the next starts from nothing
            assert files_of(folder) == files_of(tmp_path / "untouched")
            shutil.rmtree(folder)
    assert decided(name, folder, parents) == expected
    assert files_of(folder) == files_of(tmp_path / "untouched")
    assert len(stopped) > 10, "the kills fell on different moments"
