"""Copies on this machine: mapped as local files are, fetched once, whole, bounded."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.errors import StorageError
from curate.storage import at, cache_folder, local_copy, local_folder, put


def test_a_local_path_is_its_own_copy(tmp_path: Path) -> None:
    assert local_copy(tmp_path / "a") == tmp_path / "a" and local_folder(str(tmp_path)) == tmp_path


def test_a_remote_file_is_fetched_once_and_again_when_it_changed(store: Any) -> None:
    table = pa.table({"n": list(range(1000))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    url = store.url("state.arrow")
    put(at(url), sink.getvalue())
    copy = local_copy(url)
    assert pa.ipc.open_file(pa.memory_map(str(copy))).read_all().equals(table) and copy.suffix == ".arrow"
    store.proxy.requests.clear()
    assert local_copy(at(url)) == copy and store.proxy.requests["GET"] == 0
    put(at(url), b"other")
    assert local_copy(url).read_bytes() == b"other" and copy.exists()
    with pytest.raises(FileNotFoundError):
        local_copy(store.url("nothing"))


def test_a_folder_is_copied_with_its_files_names(store: Any) -> None:
    put(at(store.url("model/model.bin")), b"weights")
    put(at(store.url("model/card.json")), b"{}")
    folder = local_folder(store.url("model"))
    assert {item.name: item.read_bytes() for item in folder.iterdir()} == {"model.bin": b"weights", "card.json": b"{}"}
    assert local_folder(store.url("model")) == folder
    put(at(store.url("model/model.bin")), b"trained anew")
    assert (local_folder(store.url("model")) / "model.bin").read_bytes() == b"trained anew"
    with pytest.raises(FileNotFoundError):
        local_folder(store.url("nothing"))


def test_the_least_recently_used_copies_make_room(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE_BYTES", "3500")
    copies = []
    for number in range(4):
        put(at(store.url(str(number))), b"x" * 1000)
        if number == 3:
            local_copy(store.url("0"))  # used again, so it is not the oldest any more
            for age, copy in enumerate((copies[0], copies[2], copies[1])):
                os.utime(copy, (0, 1000 - age))
        copies.append(local_copy(store.url(str(number))))
    assert [copy.exists() for copy in copies] == [True, False, True, True]
    put(at(store.url("large")), b"x" * 3000)
    local_copy(store.url("large"))
    assert [copy.exists() for copy in copies] == [False, False, False, True], "one that was just named is not removed"


COPY = """
import sys
from curate.storage import local_copy
copy = local_copy(sys.argv[1])
print(copy, copy.stat().st_size)
"""


def test_processes_share_one_copy(store: Any, fault: Any) -> None:
    data = os.urandom(6 << 20)
    put(at(store.url("model.bin")), data)
    store.proxy.requests.clear()
    store.proxy.faults.append(fault("cut", every=2, methods=("GET",)))
    command = [sys.executable, "-c", COPY, store.url("model.bin")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate(timeout=60)[0] for process in processes}
    ((path, size),) = (line.split() for line in found)
    assert int(size) == len(data) and Path(path).read_bytes() == data
    assert store.proxy.requests["GET"] < 8, "one of them downloads"
    assert not list(cache_folder().glob("*.tmp"))


def test_a_copy_that_breaks_off_is_not_there(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(at(store.url("a")), os.urandom(6 << 20))
    monkeypatch.setenv("CURATE_STORAGE_PATIENCE", "0.2")
    place: Any = at(store.url("a"))
    store.proxy.away_for(60, after=2)
    with pytest.raises(StorageError, match="a: storage did not answer"):
        local_copy(place)
    assert [item.name for item in cache_folder().iterdir() if not item.name.startswith("lock-")] == []
