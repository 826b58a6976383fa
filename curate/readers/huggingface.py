"""Data sets on the Hugging Face hub, read as the Parquet or JSON lines files they consist of (`hf://` of fsspec).

A pattern is `owner/name`, a folder or a glob in it, or with `@revision`: `owner/name@main/data/*.parquet`. Name a
revision to have the same files tomorrow. Needs `huggingface_hub`, which gives fsspec the `hf://` file system.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from curate.errors import InputError
from curate.readers.base import MAX_RECORD_BYTES, InputFile, Piece, Read, Reader
from curate.readers.files import list_files
from curate.readers.jsonl import JsonlReader
from curate.readers.parquet import ParquetReader
from curate.steps import STEP_CONFIG

PREFIX = "hf://datasets/"
ENDINGS = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst", ".ndjson"),
}


@dataclass(kw_only=True, config=STEP_CONFIG)
class HuggingFaceReader(Reader):
    """Documents of a data set on the hub; all its files of one format."""

    name = "huggingface"
    version = 2  # 2: as of its readers

    format: Literal["parquet", "jsonl"] = "parquet"
    text_key: str = "text"
    id_key: str = "id"
    columns: dict[str, str] = Field(default_factory=dict)
    max_record_bytes: PositiveInt = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        self._reader()  # a wrong `columns` is refused now, not at the first file

    @property
    def schema(self) -> pa.Schema:
        """The schema of the format's reader."""
        return self._reader().schema

    def files(self, pattern: str | Sequence[str], *, base: Path | None = None) -> list[InputFile]:
        """The data files of the format in the repository, folder or glob."""
        patterns = [pattern] if isinstance(pattern, str) else list(pattern)
        urls = [item if item.startswith("hf://") else PREFIX + item.strip("/") for item in patterns]
        files = [file for file in list_files(urls) if file.path.endswith(ENDINGS[self.format])]
        if not files:
            endings = ", ".join(ENDINGS[self.format])
            raise InputError(f"{', '.join(urls)}: no file that ends in {endings}. Is `format` right?")
        return files

    def cut(self, file: InputFile, *, target_bytes: int) -> list[Piece]:
        """The pieces that the format's reader would make."""
        return self._reader().cut(file, target_bytes=target_bytes)

    def read(self, file: InputFile, *, start: int = 0, stop: int | None = None) -> Iterator[Read]:
        """The documents of one file, or of a piece of it, in order."""
        return self._reader().read(file, start=start, stop=stop)

    def _reader(self) -> ParquetReader | JsonlReader:
        columns, limit = self.columns, self.max_record_bytes
        if self.format == "jsonl":
            return JsonlReader(text_key=self.text_key, id_key=self.id_key, columns=columns, max_record_bytes=limit)
        key = None if self.id_key == "id" else self.id_key
        return ParquetReader(text_key=self.text_key, id_key=key, columns=columns, max_record_bytes=limit)
