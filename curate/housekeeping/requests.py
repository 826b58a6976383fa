"""The list of a takedown: ids or URLs, one a line, or a Parquet or JSON lines file with a column `id` or `url`."""

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.storage import Location, redacted

COLUMNS = ("id", "url")
MOST_BYTES = 1 << 30


def read_requests(path: Location) -> list[str]:
    """The ids and URLs, each once, in order. Raises InputError that names the file and the line."""
    title = redacted(str(path))
    try:
        if path.name.endswith(".parquet"):
            return _unique(_from_parquet(path, title))
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{title}: is larger than {MOST_BYTES >> 30} GiB; give it in pieces, or as Parquet.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{title}: no such file of ids or URLs.") from None
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{title}: cannot be read ({' '.join(str(error).split())[:200]}).") from error
    if path.name.endswith((".jsonl", ".ndjson")):
        return _unique([value for number, line in enumerate(lines, 1) for value in _from_json(line, title, number)])
    return _unique([line.strip() for line in lines if not line.lstrip().startswith("#")])


def _from_parquet(path: Location, title: str) -> list[str]:
    with path.open("rb") as raw, pq.ParquetFile(raw, pre_buffer=False) as file:
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        if not names:
            raise InputError(f"{title}: has neither a column `id` nor `url`.")
        table = file.read(columns=names)
    return [str(value) for name in names for value in table.column(name).to_pylist() if value is not None]


def _from_json(line: str, title: str, number: int) -> list[str]:
    if not line.strip():
        return []
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{title}, line {number}: is no JSON ({error}).") from None
    values = [row.get(name) for name in COLUMNS] if isinstance(row, dict) else []
    found = [value for value in values if isinstance(value, str)]
    if not found:
        raise InputError(f"{title}, line {number}: has neither `id` nor `url` as text.")
    return found


def _unique(values: list[str]) -> list[str]:
    found = [value for value in dict.fromkeys(values) if value]
    if not found:
        raise InputError("The list of ids or URLs is empty: nothing to remove.")
    return found
