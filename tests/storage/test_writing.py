"""A file is there whole, or as it was before: after errors, kills, full disks and lost answers."""

import io
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from curate.errors import StorageError
from curate.storage import WholeFile, at, put, whole, writing

DATA = random.Random(0).randbytes(1 << 20)


def test_nothing_is_seen_before_the_end_and_nothing_stays_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with whole(path) as file:
        file.write(DATA)
        assert not path.exists()
    assert path.read_bytes() == DATA
    with pytest.raises(RuntimeError), whole(path) as file:
        file.write(b"half")
        raise RuntimeError
    file = WholeFile(path)
    file.write(b"forgotten")
    del file
    assert path.read_bytes() == DATA and [item.name for item in path.parent.iterdir()] == ["file"]


def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole(path) as one, whole(path) as other:
        for _ in range(100):
            one.write(b"a" * 1000)
            other.write(b"b" * 1000)
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


WRITE_FOR_EVER = """
import sys
from curate.storage import at, whole
with whole(at(sys.argv[1])) as file:
    while True:
        file.write(bytes(1 << 20))
        file.flush()
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    put(path, b"old")
    process = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(path)])
    while process.poll() is None and not any(item.stat().st_size > len(DATA) for item in tmp_path.iterdir()):
        time.sleep(0.01)
    process.kill()
    assert process.wait() < 0
    assert path.read_bytes() == b"old"
    assert [item.name[:6] for item in tmp_path.iterdir() if item != path] == [".file."], "hidden, so no reader takes it"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WholeFile, "_opened", lambda _: io.FileIO("/dev/full", "w"))
    file = WholeFile(tmp_path / "file")
    with pytest.raises(StorageError, match=r"file: cannot be written \(No space left on device\)\. Make room"):
        file.write(DATA)
        file.finish()


@pytest.mark.parametrize("kind", ["throttle", "reset", "internal", "lost"])
@pytest.mark.parametrize("size", [0, 1000, pytest.param(11 << 20, marks=pytest.mark.slow)])
def test_an_object_is_sent_again_until_it_is_there(
    store: Any, fault: Any, kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PUT_BYTES", 1 << 20)
    monkeypatch.setattr(writing, "UPLOAD_BLOCK_BYTES", 5 << 20)
    data = (DATA * (1 + size // len(DATA)))[:size]
    # An upload whose begin was not answered is known to nobody: the bucket's own rule must remove it.
    where = "uploadId=" if kind == "lost" and size > 1 << 20 else ""
    store.proxy.faults.append(fault(kind, every=2, methods=("PUT", "POST"), times=5, containing=where))
    put(at(store.url("one")), data)
    put(at(store.url("one")), data)
    assert store.get("one") == data and store.proxy.struck(kind) >= 1
    assert store.unfinished_uploads() == 0


def test_an_object_is_not_there_before_it_is_finished(store: Any) -> None:
    with whole(at(store.url("one"))) as file:
        for _ in range(5):
            file.write(DATA)
        assert not store.keys() and not store.unfinished_uploads()
    assert store.get("one") == DATA * 5
    with pytest.raises(RuntimeError), whole(at(store.url("one"))) as file:
        file.write(b"half")
        raise RuntimeError
    abandoned = WholeFile(at(store.url("two")))
    abandoned.write(DATA)
    del abandoned
    assert store.keys() == ["one"] and store.get("one") == DATA * 5


def test_an_upload_that_cannot_be_finished_is_aborted(store: Any, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PUT_BYTES", 1 << 20)
    monkeypatch.setenv("CURATE_STORAGE_PATIENCE", "0.1")
    # Starting and aborting succeed, every part that is sent fails.
    store.proxy.faults.append(fault("throttle", every=1, methods=("PUT",), containing="partNumber"))
    with pytest.raises(StorageError, match="one: storage did not answer"):
        put(at(store.url("one")), DATA * 6)
    assert not store.keys() and store.unfinished_uploads() == 0
