"""Data sets of the hub, on a file system in memory that stands in for `hf://`."""

import io
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate.errors import InputError
from curate.readers import HuggingFaceReader, huggingface


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(huggingface, "PREFIX", "memory://hub/")
    system = fsspec.filesystem("memory")
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ["a"], "text": ["from the hub"]}), sink)
    system.pipe("/hub/owner/name/data/train-0.parquet", sink.getvalue())
    system.pipe("/hub/owner/name/data/extra.jsonl", b'{"text": "a line"}\n')
    system.pipe("/hub/owner/name/README.md", b"# A data set")
    yield system
    system.rm("/hub", recursive=True)


def test_a_data_set_is_read_as_its_files_of_one_format(hub: Any) -> None:
    for reader, name, text in (
        (HuggingFaceReader(), "data/train-0.parquet", "from the hub"),
        (HuggingFaceReader(format="jsonl"), "data/extra.jsonl", "a line"),
    ):
        (file,) = reader.files("owner/name")
        assert file.name == name
        (part,) = reader.read(file)
        assert part.batch.data.schema == reader.schema and part.batch.texts.to_pylist() == [text]


def test_a_data_set_without_such_files_is_an_input_error(hub: Any) -> None:
    with pytest.raises(InputError, match=r"README\.md: no file that ends in \.parquet"):
        HuggingFaceReader().files("owner/name/README.md")
    with pytest.raises(InputError, match="no file found"):
        HuggingFaceReader().files("owner/other/*")


def test_wrong_columns_are_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="unknown column type 'text'"):
        HuggingFaceReader(columns={"a": "text"})
