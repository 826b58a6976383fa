"""Remote bytes come whole or with an error: never short, never of another version of the file."""

import gzip
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import InputError, StorageError
from curate.readers import JsonlReader, ParquetReader, list_files
from curate.storage import at, put
from curate.storage.reading import FIRST_BYTES, MOST_BYTES, RUNS, RemoteFile

DATA = random.Random(0).randbytes(1 << 20)


def test_any_order_of_reads_gives_the_files_bytes(store: Any) -> None:
    store.put("data", DATA)
    chance = random.Random(1)
    with at(store.url("data")).open("rb") as file:
        for _ in range(300):
            start, count = chance.randrange(len(DATA)), chance.choice((1, 10, 1000, 100_000, len(DATA)))
            assert file.seek(start) == start
            assert file.read(count) == DATA[start : start + count] and file.tell() == min(start + count, len(DATA))


def test_a_long_file_is_read_in_few_requests_and_a_footer_in_a_small_one(store: Any) -> None:
    store.put("data", DATA * 24)
    store.proxy.requests.clear()
    with at(store.url("data")).open("rb") as file:
        while file.read(1000):
            pass
    assert store.proxy.requests["GET"] <= 2 + 24 // 4 + 6 and store.proxy.requests["HEAD"] == 1
    place: Any = at(store.url("data"))
    raw = RemoteFile(place.fs, place.path, str(place), expected=None, first_bytes=None)
    raw.seek(-8, 2)
    assert raw.readinto(bytearray(8)) == 8 and sum(map(len, raw._runs.values())) <= FIRST_BYTES
    for number in range(20):  # columns that are read in turn
        for start in range(0, RUNS << 20, 1 << 20):
            raw.seek(start + number * 100)
            raw.readinto(bytearray(100))
    assert len(raw._runs) <= RUNS and max(map(len, raw._runs.values())) <= MOST_BYTES


@pytest.mark.parametrize("kind", ["cut", "throttle", "reset", "internal", "lost"])
def test_requests_that_fail_are_made_again(store: Any, fault: Any, kind: str) -> None:
    store.put("data", DATA)
    store.proxy.faults.append(fault(kind, every=2))
    assert at(store.url("data")).read_bytes() == DATA
    assert store.proxy.struck(kind) >= 3


def test_a_short_body_that_looks_complete_is_read_on(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("data", DATA)
    place: Any = at(store.url("data"))
    raw = RemoteFile(place.fs, place.path, str(place), expected=None, first_bytes=None)
    read, calls = raw._file.read, []

    def short(count: int) -> bytes:
        calls.append(count)
        return read(count)[: max(1, count // 3)] if len(calls) % 3 else b""  # and sometimes nothing at all

    raw._file.read = short
    got = bytearray()
    buffer = bytearray(1 << 20)
    while count := raw.readinto(buffer):
        got += buffer[:count]
    assert bytes(got) == DATA and len(calls) > 10


def test_a_file_that_changed_since_the_plan_is_refused(store: Any) -> None:
    store.put("in/a.jsonl", b'{"text": "one"}\n' * 10)
    (file,) = list_files(store.url("in/*.jsonl"))
    store.put("in/a.jsonl", b'{"text": "two"}\n' * 10)
    with pytest.raises(InputError, match=r"in/a\.jsonl: the file has changed since the run was planned"):
        file.open()


def test_a_file_that_changes_while_it_is_read_is_refused(store: Any) -> None:
    store.put("in/a.bin", DATA)
    (file,) = list_files(store.url("in/*.bin"))
    with file.open() as stream:
        assert stream.read(10) == DATA[:10]
        store.put("in/a.bin", DATA[::-1])
        with pytest.raises(InputError, match="changed while it was read"):
            while stream.read(1 << 20):
                pass


def test_a_local_file_that_changed_since_the_plan_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n')
    (file,) = list_files(str(path))
    path.write_text('{"text": "one and more"}\n')
    with pytest.raises(InputError, match="the file has changed since the run was planned"):
        file.open()


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "jsonl.gz"])
def test_a_store_that_is_gone_is_an_error_and_no_damaged_file(
    store: Any, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader writes a failed row for a damaged stretch; a store that breaks off must never look like one."""
    chance = random.Random(2)
    texts = [chance.randbytes(60_000).hex() for _ in range(60)]
    if suffix == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": list(map(str, range(60))), "text": texts}), sink, row_group_size=10)
        data, reader = sink.getvalue().to_pybytes(), ParquetReader()
    else:
        data, reader = b"".join(b'{"text": "%s"}\n' % text.encode() for text in texts), JsonlReader()  # type: ignore[assignment]
        data = gzip.compress(data, 1, mtime=0) if suffix.endswith("gz") else data
    store.put(f"in/a.{suffix}", data)
    monkeypatch.setenv("CURATE_STORAGE_PATIENCE", "0.3")
    (file,) = list_files(store.url(f"in/a.{suffix}"))
    store.proxy.away_for(60, after=2)
    with pytest.raises(StorageError, match=r"in/a\..*: storage did not answer in .* tries"):
        for read in reader.read(file):
            assert not read.refused.num_rows
    store.proxy.come_back()
    assert sum(len(read.batch) for read in reader.read(file)) == 60


def test_forbidden_is_said_at_once(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = at(store.url("data"))
    put(place, b"x")

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(place.fs, "info", forbidden)  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"cannot be reached \(Access Denied\)"):
        place.exists()
