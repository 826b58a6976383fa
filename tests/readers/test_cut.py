"""Pieces of a file give what the whole file gives, with the same ids, wherever it is cut; tiny files are gathered."""

import gzip
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.documents import stable_id
from curate.errors import CurateError, InputError
from curate.readers import (
    READERS,
    HuggingFaceReader,
    InputFile,
    JsonlReader,
    ParquetReader,
    Piece,
    Reader,
    WarcReader,
    WetReader,
    list_files,
    warc_borders,
)
from curate.readers.cutting import MOST_FILES, cut_parts

ARCHIVES = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "warc"
REAL = sorted(path for path in ARCHIVES.rglob("*.w*") if path.is_file())
needs_archives = pytest.mark.skipif(not REAL, reason="the real archives lie beside the project, and are not here")
TARGETS = (300, 1000, 3000, 7001, 20_000, 100_000, 400_000)


class Given:
    """What the pieces of a file gave, one after the other."""

    def __init__(self, reader: Reader, pieces: list[Piece]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.ignored: Counter[str] = Counter()
        for piece in pieces:
            for read in reader.read(piece.file, start=piece.start, stop=piece.stop):
                self.rows += read.batch.data.to_pylist()
                self.refused += read.refused.to_pylist()
                self.ignored.update(read.ignored)

    @property
    def all(self) -> tuple[Any, ...]:
        return self.rows, self.refused, self.ignored

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Documents without the ids: one that a source repeats is seen within a piece only."""
        return [{name: value for name, value in row.items() if name != "id"} for row in self.rows]

    @property
    def lost(self) -> list[list[int]]:
        """Stretches of stored bytes that could not be read, those that touch as one."""
        merged: list[list[int]] = []
        for start, end in sorted((row["offset"], row["offset"] + row["bytes"]) for row in self.refused if row["bytes"]):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        return merged


def file_at(folder: Path, name: str, data: bytes) -> InputFile:
    path = folder / name
    path.write_bytes(data)
    return list_files(str(path))[0]


def cut(reader: Reader, file: InputFile, target: int) -> list[Piece]:
    """The pieces, after checking that they cover the file."""
    pieces = reader.cut(file, target_bytes=target)
    assert (pieces[0].start, pieces[-1].stop) == (0, None)
    assert all(piece.stop == after.start for piece, after in itertools.pairwise(pieces))
    assert all(piece.file == file for piece in pieces)
    return pieces


def targets(file: InputFile) -> Iterator[int]:
    return (target for target in TARGETS if file.size / 300 < target < file.size)


@needs_archives
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_pieces_of_a_real_archive_give_the_records_of_the_whole(path: Path) -> None:
    reader = WetReader() if ".wet" in path.name else WarcReader()
    (file,) = list_files(str(path))
    whole = Given(reader, [Piece(file)])
    made = []
    for target in targets(file):
        pieces = cut(reader, file, target)
        assert Given(reader, pieces).all == whole.all, target
        made.append(len(pieces))
    if path.name == "sample-1.warc.gz":
        assert max(made) > 20


def test_pieces_of_hostile_files_give_the_documents_of_the_whole(hostile_files: list[Any]) -> None:
    several, across = 0, set()
    for item in hostile_files:
        reader = READERS[item.kind](**item.options)
        (file,) = list_files(str(item.path))
        sizes = [target for target in (1000, 7001, 100_000) if file.size / 60 < target < file.size]
        if item.hangs or not sizes or file.size > 2_000_000:
            continue
        try:
            whole = Given(reader, [Piece(file)])
        except CurateError:
            continue  # said for the whole file, in its own test
        for target in sizes:
            pieces = cut(reader, file, target)
            several += len(pieces) > 1
            try:
                given = Given(reader, pieces)
            except InputError:
                across.add(item.path.name)
                continue
            assert given.documents == whole.documents, (item.path.name, target)
            assert given.ignored == whole.ignored
            assert given.lost == whole.lost
    assert several > 50
    assert across == {"embedded.warc"}  # a WARC as the page of a WARC


def mixed_record(hostile: Any, number: int, chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.5:
        return bytes(hostile.warc_record(number, hostile.http(hostile.page(number)[: chance.randrange(100, 3000)])))
    if kind < 0.7:
        return bytes(hostile.warc_record(number, b"GET / HTTP/1.1\r\n\r\n", kind="request"))
    if kind < 0.8:
        return bytes(hostile.warc_record(number, chance.randbytes(chance.choice([50, 3000, 80_000])), kind="metadata"))
    if kind < 0.9:
        picture = hostile.http(chance.randbytes(chance.choice([50, 70_000])), headers="Content-Type: image/png")
        return bytes(hostile.warc_record(number, picture))
    length = chance.choice([10, 500, 3000, 9000, 100_000])
    return bytes(hostile.warc_record(number, hostile.http(hostile.page(number)), length=length))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), packed=st.booleans(), damages=st.integers(0, 4))
def test_pieces_of_any_damaged_archive_lose_and_double_nothing(
    seed: int, packed: bool, damages: int, hostile: Any, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    records = [mixed_record(hostile, number, chance) for number in range(chance.randrange(3, 16))]
    data = b"".join(map(hostile.member, records)) if packed else b"".join(records)
    for _ in range(damages):
        at = chance.randrange(len(data))
        data = data[:at] + chance.randbytes(chance.choice([0, 1, 80])) + data[at + chance.choice([0, 1, 40, 400]) :]
    file = file_at(tmp_path, "a.warc.gz" if packed else "a.warc", data)
    reader = WarcReader(max_record_bytes=60_000)
    whole = Given(reader, [Piece(file)])
    for target in (500, 4000, 30_000):
        try:
            given = Given(reader, cut(reader, file, target))
        except InputError as error:
            assert "part_bytes: none" in str(error)  # a record whose wrong length ends well: refused, never doubled
            continue
        assert given.documents == whole.documents
        assert given.ignored == whole.ignored


def crawl(hostile: Any, count: int, *, packed: bool = True) -> bytes:
    """An archive whose pages do not compress, so that their records are 60 kB stored."""
    chance = random.Random(5)
    blocks = (hostile.http(b"<html><p>" + chance.randbytes(60_000)) for _ in range(count))
    records = (hostile.warc_record(number, block) for number, block in enumerate(blocks))
    return b"".join(map(hostile.member, records) if packed else records)


def inner_archive(hostile: Any, *, packed: bool = True) -> bytes:
    """More of an archive than fits into one stored block of deflate."""
    records = (hostile.warc_record(number, hostile.http(hostile.page(number))) for number in range(240))
    return b"".join(map(hostile.member, records) if packed else records)


def stored(data: bytes) -> bytes:
    """A gzip member that shows what it holds, as compressors make them of what is compressed already."""
    return gzip.compress(data, 0, mtime=0)


def test_an_archive_inside_a_gzip_record_is_never_cut_in(hostile: Any, tmp_path: Path) -> None:
    small = inner_archive(hostile)
    inner = hostile.http(small, headers="Content-Type: application/gzip")
    outer = crawl(hostile, 5) + stored(hostile.warc_record(9, inner)) + crawl(hostile, 5)
    file = file_at(tmp_path, "a.warc.gz", outer)
    reader, inside = WarcReader(), outer.find(small[:1000])
    assert inside > 0
    whole = Given(reader, [Piece(file)])
    for target in (3000, 10_000, 50_000, 200_000):
        pieces = cut(reader, file, target)
        assert len(pieces) > 2
        assert not any(inside <= piece.start < inside + len(small) for piece in pieces)
        assert Given(reader, pieces).documents == whole.documents


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_that_runs_across_a_border_is_an_error_that_says_what_to_do(
    packed: bool, hostile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warc_borders, "CHAIN_BYTES", 1)  # so that the archive inside is taken for the one outside
    inner = (
        b"".join(hostile.member(record) for record in hostile.RECORDS) if packed else b"".join(hostile.RECORDS)
    ) * 9
    wrap = stored if packed else bytes
    block = hostile.http(inner, headers="Content-Type: application/octet-stream")
    data = wrap(hostile.RECORDS[0]) + wrap(hostile.warc_record(9, block)) + wrap(hostile.RECORDS[1])
    for whole in (data, data[: -len(wrap(hostile.RECORDS[1]))]):  # in the middle, and as the last record
        file = file_at(tmp_path, "crawl.warc.gz" if packed else "crawl.warc", whole)
        pieces = cut(WarcReader(), file, 5000)
        first = next(piece for piece in pieces if len(wrap(hostile.RECORDS[0])) < (piece.stop or 0))
        with pytest.raises(InputError, match=rf"crawl\.warc.*end at byte {first.stop:,}, but .*part_bytes: none"):
            Given(WarcReader(), pieces)


def test_a_border_costs_the_same_however_large_the_file_is(
    hostile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted:
        def __init__(self, stream: BinaryIO) -> None:
            self.stream, self.read_bytes = stream, 0

        def __enter__(self) -> "Counted":
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def seek(self, place: int) -> int:
            return self.stream.seek(place)

        def read(self, count: int) -> bytes:
            data = self.stream.read(count)
            self.read_bytes += len(data)
            return data

    def counting(opens: Any, opened: list[Counted]) -> Any:
        def open_counted(file: InputFile, **_: Any) -> Counted:
            opened.append(Counted(opens(file)))
            return opened[-1]

        return open_counted

    for name, data in (("a.warc.gz", crawl(hostile, 150)), ("a.warc", crawl(hostile, 150, packed=False))):
        file = file_at(tmp_path, name, data)
        opened: list[Counted] = []
        with monkeypatch.context() as patch:
            patch.setattr(InputFile, "open", counting(InputFile.open, opened))
            pieces = cut(WarcReader(), file, 2_000_000)
        assert len(pieces) == round(file.size / 2_000_000)
        assert opened[0].read_bytes < 400_000 * len(pieces) < file.size / 4
        assert all(900_000 < piece.size < 3_100_000 for piece in pieces)


def test_streams_that_cannot_be_entered_are_one_piece(hostile: Any, tmp_path: Path) -> None:
    data = b"".join(hostile.RECORDS) * 3
    lines = b'{"text": "a line of some length"}\n' * 1000
    for reader, name, content in (
        (WarcReader(), "one-member.warc.gz", gzip.compress(crawl(hostile, 160, packed=False), 1)),
        (WarcReader(), "a.warc.zst", zstandard.ZstdCompressor().compress(data)),
        (JsonlReader(), "a.jsonl.gz", gzip.compress(lines)),
        (JsonlReader(), "a.jsonl.zst", zstandard.ZstdCompressor().compress(lines)),
    ):
        file = file_at(tmp_path, name, content)
        assert cut(reader, file, 50) == [Piece(file, 0, None, file.size)]


def test_a_file_that_changed_since_it_was_cut_is_an_error(hostile: Any, tmp_path: Path) -> None:
    table = pa.table({"text": [str(number) * 50 for number in range(1000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    first = b"".join(map(hostile.member, hostile.RECORDS))
    for reader, file, after in (
        (WarcReader(), file_at(tmp_path, "a.warc.gz", first), b"x" + first),
        (WarcReader(), file_at(tmp_path, "b.warc.gz", first), first[:3000]),
        (WarcReader(), file_at(tmp_path, "a.warc", b"".join(hostile.RECORDS)), b"x" + b"".join(hostile.RECORDS)),
        (ParquetReader(), list_files(str(tmp_path / "a.parquet"))[0], b"PAR1"),
    ):
        pieces = cut(reader, file, 3000)
        assert len(pieces) > 1
        Path(file.path).write_bytes(after)
        with pytest.raises(InputError, match=file.name):
            Given(reader, pieces)


# ---- JSON lines


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.one_of(
            st.text(max_size=40).map(lambda text: json.dumps({"text": text}).encode()),
            st.just(b""),
            st.just(b"nonsense"),
            st.just(b'{"text": "' + b"x" * 700 + b'"}'),
        ),
        max_size=40,
    ),
    end=st.sampled_from([b"\n", b"\r\n"]),
    bom=st.booleans(),
    target=st.integers(1, 400),
)
def test_pieces_of_json_lines_give_the_lines_of_the_whole(
    lines: list[bytes], end: bytes, bom: bool, target: int, tmp_path: Path
) -> None:
    file = file_at(tmp_path, "a.jsonl", (b"\xef\xbb\xbf" if bom else b"") + end.join(lines))
    reader = JsonlReader(max_record_bytes=600)
    assert Given(reader, cut(reader, file, target)).all == Given(reader, [Piece(file)]).all


def test_ids_and_offsets_of_lines_are_where_they_start_in_any_packing(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "word " * number}).encode() + b"\n" for number in range(200)]
    data = b"".join(lines)
    places = [sum(map(len, lines[:number])) for number in range(200)]
    for pack in (bytes, gzip.compress, zstandard.ZstdCompressor().compress):
        file = file_at(tmp_path, "a.jsonl", pack(data))
        rows = Given(JsonlReader(), cut(JsonlReader(), file, 2000)).rows
        assert [row["offset"] for row in rows] == places
        assert [row["id"] for row in rows] == [stable_id("a.jsonl", place) for place in places]


# ---- Parquet


def table_file(folder: Path, rows: int = 1000, group: int = 50) -> InputFile:
    chance = random.Random(3)
    texts = [chance.randbytes(50).hex() for _ in range(rows)]
    table = pa.table({"text": texts, "vector": [chance.randbytes(2000) for _ in range(rows)]})
    pq.write_table(table, folder / "a.parquet", row_group_size=group)
    return list_files(str(folder / "a.parquet"))[0]


def test_parquet_is_cut_between_row_groups_by_the_columns_that_are_read(tmp_path: Path) -> None:
    file = table_file(tmp_path)
    whole = Given(ParquetReader(), [Piece(file)])
    assert [row["offset"] for row in whole.rows] == list(range(1000))
    counts = []
    for target in (1, 3000, 10_000, 40_000, 10**6):
        pieces = cut(ParquetReader(), file, target)
        assert Given(ParquetReader(), pieces).all == whole.all
        assert sum(piece.size for piece in pieces) < file.size / 10, "the vectors are not read"
        counts.append(len(pieces))
    assert counts[0] == 20 and counts[-1] == 1 and counts == sorted(counts, reverse=True)


def test_a_hub_file_is_cut_as_the_file_that_it_is(tmp_path: Path) -> None:
    file = table_file(tmp_path)
    pieces = cut(HuggingFaceReader(), file, 10_000)
    assert pieces == cut(ParquetReader(), file, 10_000) and len(pieces) > 5
    assert Given(HuggingFaceReader(), pieces).all == Given(ParquetReader(), [Piece(file)]).all


# ---- parts


def made_files(*sizes: int) -> list[InputFile]:
    return [InputFile(f"/nowhere/{number:05}", f"{number:05}", size, "") for number, size in enumerate(sizes)]


class Halving(Reader):
    """Cuts each file in two, and notes which it was asked for."""

    schema = pa.schema([])

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def read(self, file: InputFile, *, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        raise AssertionError("nobody reads here")

    def cut(self, file: InputFile, *, target_bytes: int) -> list[Piece]:
        self.asked.append((file.name, target_bytes))
        half = file.size // 2
        return [Piece(file, 0, half, half), Piece(file, half, None, file.size - half)]


def names(parts: list[tuple[Piece, ...]]) -> list[str]:
    return [" ".join(f"{int(piece.file.name)}@{piece.start}" for piece in part) for part in parts]


def test_tiny_files_are_gathered_in_order_and_only_large_ones_are_opened() -> None:
    reader = Halving()
    parts = cut_parts(reader, made_files(10, 0, 60, 40, 200, 0, 150, 90, 20, 151), part_bytes=100)
    assert names(parts) == ["0@0 1@0 2@0", "3@0", "4@0", "4@100", "5@0", "6@0", "7@0", "8@0", "9@0", "9@75"]
    assert reader.asked == [("00004", 100), ("00009", 100)]


def test_the_target_comes_from_the_input_alone() -> None:
    for total, target in ((10**6, 10**6), (2 * 10**9, 2 * 10**9 // 512), (10**12, 128 * 10**6)):
        reader = Halving()
        cut_parts(reader, made_files(total // 2, total - total // 2))
        assert {asked for _, asked in reader.asked} <= {target}
        assert bool(reader.asked) == (total > 10**6)


def test_a_part_has_a_thousand_files_at_most() -> None:
    parts = cut_parts(Halving(), made_files(*[0] * 2500))
    assert [len(part) for part in parts] == [MOST_FILES, MOST_FILES, 500]


def test_part_bytes_none_is_a_part_a_file() -> None:
    reader = Halving()
    assert names(cut_parts(reader, made_files(0, 10**12, 5), part_bytes="none")) == ["0@0", "1@0", "2@0"]
    assert not reader.asked


def test_part_bytes_that_make_too_many_parts_are_refused() -> None:
    with pytest.raises(InputError, match=r"part_bytes of 10 would cut 1\.0 TB into about 100,000,000,000 parts"):
        cut_parts(Halving(), made_files(10**12), part_bytes=10)
    with pytest.raises(InputError, match="part_bytes is a number of bytes, or none"):
        cut_parts(Halving(), made_files(10), part_bytes="some")


def test_remote_files_are_cut_in_their_order(hostile: Any) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for number in range(5):
        records = hostile.RECORDS[number % 3 :]
        system.pipe(f"/cut/{number}.warc.gz", b"".join(map(hostile.member, records)))
    files = list_files("memory://cut/*.warc.gz")
    parts = cut_parts(WarcReader(), files, part_bytes=3000)
    assert [piece.file.name for part in parts for piece in part] == sorted(
        piece.file.name for part in parts for piece in part
    )
    pieces = [piece for part in parts for piece in part]
    assert len(pieces) > 8
    assert Given(WarcReader(), pieces).all == Given(WarcReader(), [Piece(file) for file in files]).all


def test_a_large_file_that_is_gone_is_an_error_with_its_name(tmp_path: Path) -> None:
    gone = replace(made_files(10**7)[0], path=str(tmp_path / "gone.warc.gz"))
    for reader in (WarcReader(), JsonlReader(), ParquetReader()):
        with pytest.raises(InputError, match=r"gone\.warc\.gz: cannot be opened"):
            cut_parts(reader, [gone], part_bytes=10**6)
