"""Footers and page headers read by ourselves: as pyarrow reads sound ones, and no hostile one ends the process."""

import io
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.readers import ParquetReader, list_files
from curate.readers.parquet_footer import largest_page, read_footer
from curate.readers.thrift import I32, Compact
from tests.fuzz.seeds import seeds

SEEDS = seeds()["parquet"]


@pytest.mark.parametrize("data", SEEDS)
def test_the_footer_says_what_pyarrow_says(data: bytes) -> None:
    footer, metadata = read_footer(io.BytesIO(data), len(data)), pq.ParquetFile(io.BytesIO(data)).metadata
    assert len(footer) == metadata.num_row_groups
    for number, group in enumerate(footer):
        theirs = metadata.row_group(number)
        assert group.rows == theirs.num_rows and len(group.chunks) == theirs.num_columns
        for place, chunk in enumerate(group.chunks):
            column = theirs.column(place)
            assert chunk.path == column.path_in_schema and chunk.has_dictionary == column.has_dictionary_page
            assert chunk.stored == column.total_compressed_size and chunk.decoded == column.total_uncompressed_size
            size, name = largest_page(io.BytesIO(data), [chunk])
            assert name == chunk.path and 0 < size <= chunk.decoded


def test_no_damaged_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    """pyarrow 26 aborts on some, for example where the histogram of levels does not fit the schema."""
    (tmp_path / "seed.parquet").write_bytes(SEEDS[0])
    script = """
        import sys
        from pathlib import Path
        from curate.errors import CurateError
        from curate.readers import ParquetReader, list_files
        folder = Path(sys.argv[1])
        data = (folder / "seed.parquet").read_bytes()
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        for place in [*range(start, start + 100, 2), *range(start, len(data), 23)]:
            damaged = bytearray(data)
            damaged[place] ^= 2
            (folder / "x.parquet").write_bytes(damaged)
            try:
                reader = ParquetReader()
                (file,) = list_files(str(folder / "x.parquet"))
                for read in reader.read(file):
                    read.batch.data.validate(full=True)
                reader.cut(file, target_bytes=1000)
            except CurateError as error:
                assert "x.parquet" in str(error), error
        print("whole")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.returncode == 0 and done.stdout == b"whole\n", done.stderr.decode()[-2000:]


def test_random_bytes_are_a_value_error_or_numbers() -> None:
    dice = random.Random(3)
    for _ in range(3000):
        data = dice.randbytes(dice.randrange(1, 60))
        try:
            assert all(isinstance(value, int) for value in Compact(data).struct({2: I32, 3: I32}).values())
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize("codec", ["zstd", "brotli"])
def test_a_page_that_would_fill_the_memory_is_one_failed_row_a_row_group(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.readers.parquet.MAX_PAGE_BYTES", 8 << 20)
    size = 9 << 20
    bomb = pa.table({"text": pa.array(["y" * size])})
    with pq.ParquetWriter(tmp_path / "b.parquet", bomb.schema, compression=codec, use_dictionary=False) as writer:
        writer.write_table(bomb)
        writer.write_table(pa.table({"text": ["small"]}))
    del bomb
    reads = list(ParquetReader().read(list_files(str(tmp_path / "b.parquet"))[0]))
    assert [text for read in reads for text in read.batch.texts.to_pylist()] == ["small"]
    (failed,) = [row for read in reads for row in read.refused.to_pylist()]
    assert "a page of column 'text' decompresses to" in failed["error"] and failed["offset"] == 0


def test_more_rows_than_a_file_can_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"text": pa.nulls(9_000_000, pa.string())}), path, row_group_size=10_000_000)
    assert path.stat().st_size < 20_000  # 540 rows a byte, and a run of nulls can be longer
    (read,) = ParquetReader().read(list_files(str(path))[0])
    assert "it says it has" in read.refused.column("error")[0].as_py()
