"""A plain way to read a whole file."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.readers import Reader, list_files


@dataclass
class Whole:
    """All that a reader gave of one file."""

    rows: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    ignored: Counter[str]
    batches: list[pa.RecordBatch]

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [row for row in self.refused if row["fate"] == "failed"]


@pytest.fixture(scope="session")
def read_all() -> Any:
    """A function of a reader and a path that gives a `Whole`."""

    def read(reader: Reader, path: Path | str) -> Whole:
        whole = Whole([], [], Counter(), [])
        (file,) = list_files(str(path))
        for part in reader.read(file):
            assert part.batch.data.schema == reader.schema
            whole.batches.append(part.batch.data)
            whole.rows += part.batch.data.to_pylist()
            whole.refused += part.refused.to_pylist()
            whole.ignored.update(part.ignored)
        return whole

    return read
