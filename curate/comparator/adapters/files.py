"""Files as Arrow tables or JSON, within stated sizes; every failure is a sentence that names the file.

CSV is UTF-8 text, also gzipped (.gz), its cells parted by what the header has most of: commas, semicolons or tabs.
"""

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from curate.errors import MeasurementError
from curate.measurements import SCHEMA

MAX_BYTES = 1 << 30
MAX_UNPACKED = 20  # times fewer bytes of a gzipped file: it may hold so many times more
MAX_RUNS = 200_000  # rows of a table with one row a run; more is a training curve
DELIMITERS = ",;\t"
HEADER_BYTES = 1 << 20
PARQUET = (".parquet", ".pq")
JSON = (".json", ".jsonl", ".ndjson")


def read_table(path: Path, *, text_columns: Mapping[str, str] | None = None) -> pa.Table:
    """A CSV or Parquet file; columns of SCHEMA that are text, and those of `text_columns` (ours: theirs) that stand
    for such, are read as text.
    """
    refuse_large(path)
    try:
        if is_parquet(path):
            refuse_repeated(path, pq.read_schema(path).names)
            return pq.read_table(path)
        delimiter, names = first_line(path)
        theirs = dict(text_columns or {})
        strings = {theirs.get(f.name, f.name): pa.string() for f in SCHEMA if pa.types.is_string(f.type)}
        return pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(
                column_names=names, skip_rows=1, use_threads=False
            ),  # rows then have numbers
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=pacsv.ConvertOptions(column_types=strings, strings_can_be_null=True),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeDecodeError) as error:
        # Arrow counts the header as row 1
        reason = re.sub(r"Row #(\d+)", lambda found: f"row {int(found[1]) - 1}", str(error).splitlines()[0])
        kind = "Parquet" if is_parquet(path) else "CSV"
        raise MeasurementError(f"{path}: cannot be read as {kind}: {reason}") from error


def is_parquet(path: Path) -> bool:
    return path.suffix.lower() in PARQUET


def open_text(path: Path) -> IO[str]:
    """A text file, unpacked where its name ends in .gz."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def first_line(path: Path) -> tuple[str, list[str]]:
    """What parts the cells of a CSV file, and the names of its columns."""
    try:
        with open_text(path) as file:
            line = file.readline(HEADER_BYTES)
    except UnicodeDecodeError as error:
        raise MeasurementError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV in UTF-8."
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise MeasurementError(f"{path}: cannot be read: {error}") from error
    if "\0" in line:
        raise MeasurementError(f"{path}: is no text; save it as CSV in UTF-8.")
    if not line.strip():
        raise MeasurementError(f"{path}: is empty, or its first line is; the first line names the columns.")
    plain = re.sub(r'"[^"]*"', "", line)
    delimiter = max(DELIMITERS, key=plain.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    refuse_repeated(path, names)
    return delimiter, names


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise MeasurementError(
            f"{path}: has {len(names)} columns, of which several are called {twice[0]!r}; rename them."
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A CSV or Parquet file as dicts with `_row`, counted from 1; text as it stands, an empty cell as None."""
    refuse_large(path)
    if is_parquet(path):
        table = read_table(path)
        refuse_long(path, table.num_rows)
        rows = table.to_pylist()
    else:
        rows = []
        delimiter, names = first_line(path)
        try:
            with open_text(path) as file:
                file.readline(HEADER_BYTES)
                reader = csv.DictReader(file, names, delimiter=delimiter, skipinitialspace=True)
                for number, row in enumerate(reader, start=1):
                    refuse_long(path, number)
                    if None in row or None in row.values():
                        raise MeasurementError(f"{path}, row {number}: has not as many cells as the header.")
                    rows.append({key: value if value != "" else None for key, value in row.items()})
        except (UnicodeDecodeError, csv.Error, OSError, EOFError, zlib.error) as error:
            raise MeasurementError(f"{path}: cannot be read as CSV: {error}") from error
    if not rows:
        raise MeasurementError(f"{path}: holds no rows.")
    return [row | {"_row": number} for number, row in enumerate(rows, start=1)]


def header(path: Path) -> list[str]:
    """Names of the columns of a CSV or Parquet file; empty for what is none."""
    refuse_large(path)
    try:
        return list(pq.read_schema(path).names) if is_parquet(path) else first_line(path)[1]
    except (pa.ArrowInvalid, OSError, MeasurementError, csv.Error):
        return []  # reading it for good will say what is wrong


def read_json(path: Path) -> Any:
    """A JSON document, or a list of the lines of a JSON Lines file."""
    refuse_large(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise MeasurementError(f"{path}: cannot be read as JSON: {error}") from error
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not lines[0].lstrip().startswith("{"):
            raise MeasurementError(f"{path}: is no JSON: {error}.") from error
    out = []
    for number, line in enumerate(lines, start=1):
        try:
            out.append(json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            raise MeasurementError(f"{path}, line {number}: is no JSON: {error}.") from error
    refuse_long(path, len(out))
    return out


def refuse_large(path: Path) -> None:
    if not path.exists():
        raise MeasurementError(f"{path}: there is no such file.")
    if path.is_dir():
        raise MeasurementError(f"{path}: is a folder; give its files.")
    size = path.stat().st_size
    most = MAX_BYTES // MAX_UNPACKED if path.suffix.lower() == ".gz" else MAX_BYTES
    if size > most:
        raise MeasurementError(
            f"{path}: has {size / 1e9:.2g} GB; at most {most / 1e9:.2g} are read. Give the ends of the runs, not "
            "their curves."
        )


def refuse_long(path: Path, rows: int) -> None:
    if rows > MAX_RUNS:
        raise MeasurementError(f"{path}: has more than {MAX_RUNS:,} rows; give the ends of the runs, not their curves.")
