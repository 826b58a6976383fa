"""What all writers share: one output file, local or fsspec, its hash computed while writing, and its end.

The hash is BLAKE2b with 16 bytes over the bytes as they are stored, the same that `curate.fingerprints` computes.
"""

import hashlib
import os
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import fsspec
import pyarrow as pa

from curate.errors import MismatchError


@dataclass(frozen=True)
class FileInfo:
    """A whole file: what a manifest says of it."""

    path: str
    bytes: int
    rows: int
    hash: str


class HashingFile:
    """A binary file, open for writing, that hashes and counts what passes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.local = "://" not in path
        if self.local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file: Any = open(path, "wb") if self.local else fsspec.open(path, "wb").open()  # noqa: SIM115
        self._digest = hashlib.blake2b(digest_size=16)
        self.bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Write and hash."""
        self._digest.update(data)
        count = memoryview(data).nbytes
        self.bytes += count
        self._file.write(data)
        return count

    def tell(self) -> int:
        """Bytes written so far."""
        return self.bytes

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Put a local file safely on the disk, then close it."""
        if not self.closed:
            self.closed = True
            if self.local:
                self._file.flush()
                os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Close without keeping: the local file is deleted, an upload is aborted where the store can."""
        if self.closed:
            return
        self.closed = True
        if not self.local and hasattr(self._file, "discard"):
            self._file.discard()
            return
        self._file.close()
        if self.local:
            Path(self.path).unlink(missing_ok=True)

    def writable(self) -> bool:
        """True, as pyarrow asks."""
        return True

    def readable(self) -> bool:
        """False, as pyarrow asks."""
        return False

    def seekable(self) -> bool:
        """False, as pyarrow asks."""
        return False

    @property
    def hash(self) -> str:
        """32 hex digits over what was written."""
        return self._digest.hexdigest()


class FileWriter:
    """Base of the writers: checks the schema, counts rows, ends well or leaves nothing."""

    def __init__(self, path: str | Path, schema: pa.Schema) -> None:
        self.path = str(path)
        self.schema = schema
        self.rows = 0
        self.info: FileInfo | None = None
        self._out = HashingFile(self.path)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of `batch`; raises MismatchError that names the column if its schema is another."""
        if not batch.schema.equals(self.schema):
            raise MismatchError(f"{self.path}: {_difference(self.schema, batch.schema)}")
        self._append(batch)
        self.rows += batch.num_rows

    def close(self) -> FileInfo:
        """Finish the file. Calling it again gives the same answer."""
        if self.info is None:
            self._finish()
            self._out.close()
            self.info = FileInfo(self.path, self._out.bytes, self.rows, self._out.hash)
        return self.info

    def __enter__(self) -> "FileWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self.info is None:
            self._finish()
            self._out.discard()

    @abstractmethod
    def _append(self, batch: pa.RecordBatch) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...


def _difference(wanted: pa.Schema, found: pa.Schema) -> str:
    for name in wanted.names:
        if name not in found.names:
            return f"a batch has no column {name!r}; all batches of one file have the same columns."
        if found.field(name).type != wanted.field(name).type:
            return f"column {name!r} is {found.field(name).type} in a batch and {wanted.field(name).type} in the file."
    extra = [name for name in found.names if name not in wanted.names]
    if extra:
        return f"a batch has a column {extra[0]!r} that the file does not have."
    return "the columns of a batch stand in another order, or differ in what may be null."
