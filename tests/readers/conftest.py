"""The hostile inputs, written once a session, and a plain way to read a whole file."""

import importlib.util
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from curate.readers import Reader, list_files


def _load_hostile() -> ModuleType:
    name = "curate_tests_hostile"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("hostile.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


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
def hostile() -> ModuleType:
    """The module tests/readers/hostile.py."""
    return _load_hostile()


@pytest.fixture(scope="session")
def hostile_files(hostile: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The hostile inputs, in a folder of the session."""
    return hostile.hostile_inputs(tmp_path_factory.mktemp("hostile"))


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
