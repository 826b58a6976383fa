"""Whatever a run was about to write when it ended, the same command again ends with the same bytes, and nothing beside.

Every change of a name on the disk (a file put in its place, a file removed) is a point where a small run with an
exchange and an output, written over an earlier publication, is ended.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from curate.errors import CurateError, StageError

sys.path.insert(0, str(Path(__file__).parent / "own"))
from crash_points import Small, fault, full


@pytest.fixture
def small(tmp_path: Path) -> Small:
    small = Small(tmp_path / "small")
    small.write()
    small.run(small.again(), "longer")
    shutil.copytree(small.out, small.folder / "before")
    return small


def test_a_disk_that_is_full_at_any_write_is_said_and_costs_nothing_else(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for the test's own time
    work = small.again()
    with fault(0, full) as changed:
        small.run(work)
    wanted = small.made(work)
    assert len(changed) > 40 and sum(name.startswith("out/") for name in wanted) == 2
    for number, name in enumerate(changed, start=1):
        work = small.again()
        with fault(number, full), pytest.raises(CurateError, match="No space left on device"):
            small.run(work)
        small.run(work)
        assert small.made(work) == wanted, name


@pytest.mark.parametrize("stride", [30, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_dies_before_or_after_any_write_goes_on(small: Small, stride: int) -> None:
    command = [sys.executable, str(Path(__file__).parent / "own" / "crash_points.py"), str(small.folder), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "not the same" not in done.stdout, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("changes of names") == 2


def test_an_output_is_not_mixed_with_files_of_nobody(small: Small) -> None:
    work = small.again()
    small.run(work)
    (small.out / "manifest.json").unlink()
    shutil.copy(small.out / "part-00001.jsonl.gz", small.out / "part-00007.jsonl.gz")
    with pytest.raises(StageError, match=r"part-00007.jsonl.gz lies there, and no manifest says of which dataset"):
        small.run(work)
    (small.out / "part-00007.jsonl.gz").unlink()
    small.run(work)
    assert (small.out / "manifest.json").exists()
