"""All parts of a corpus seen as one table of dense rows, read from the partials without joining them.

A row is a document's place in the parts' order, 0 .. n-1: ids may repeat, rows never do. Partials of every method have
the columns of `described` and some of their own. A *node* is a set of rows that certainly match each other (equal
digest): pairs are sought between nodes, so that 100,000 copies of one page cost no pair at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.documents import Batch
from curate.errors import InputError, MismatchError
from curate.kernels.hashing import hash_strings

Keep = Literal["first", "longest", "newest"]
"""Which document of a cluster survives; ties go to the smallest id, then to the smallest hash of the text.

`first`: the smallest id; `longest`: most bytes of text; `newest`: the greatest `date` (ISO 8601, so that text order is
time order; a document without a date is the oldest).
"""

SETTINGS = b"curate.dedup"
"""Key of the schema's metadata under which a partial says by which parameters it was made."""


def described(batch: Batch, digests: np.ndarray, keep: Keep) -> dict[str, pa.Array]:
    """The columns that every method needs: `id`, `bytes`, `text_hash` (uint64), `digest` (uint64[n, 2] as 16 bytes).

    Pages that are not extracted yet count with their `content`.
    `date` comes with `keep="newest"`; raises InputError if the documents have none.
    """
    body = batch.data.column("text" if "text" in batch.data.schema.names else "content")
    columns: dict[str, pa.Array] = {
        "id": batch.ids,
        "bytes": pc.fill_null(pc.binary_length(body), 0).cast(pa.int64()),
        "text_hash": pa.array(hash_strings(body)),
        "digest": fixed_binary(digests),
    }
    if keep == "newest":
        if "date" not in batch.data.schema.names:
            raise InputError(
                "`keep: newest` needs a `date` column, and these documents have none: "
                "add it at the source, or use `keep: longest` or `keep: first`."
            )
        columns["date"] = batch.data.column("date").cast(pa.string())
    return columns


def described_schema(keep: Keep) -> list[pa.Field]:
    """The fields of `described`, in its order."""
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("text_hash", pa.uint64(), nullable=False),
        pa.field("digest", pa.binary(16), nullable=False),
    ]
    return [*fields, pa.field("date", pa.string())] if keep == "newest" else fields


def fixed_binary(rows: np.ndarray) -> pa.FixedSizeBinaryArray:
    """A matrix as one value of fixed size a row."""
    width = rows.shape[1] * rows.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])


@dataclass(frozen=True)
class Corpus:
    """The partials of all parts."""

    partials: Sequence[pa.Table]
    starts: np.ndarray
    """int64[parts + 1]: the row at which each part begins."""

    @classmethod
    def of(cls, partials: Sequence[pa.Table], settings: bytes) -> "Corpus":
        """The partials, if all were made by `settings`; raises MismatchError that names the part which was not."""
        for number, partial in enumerate(partials):
            made_by = (partial.schema.metadata or {}).get(SETTINGS)
            if made_by != settings:
                raise MismatchError(
                    f"The partial of part {number} was made with {(made_by or b'no stated settings').decode()}, "
                    f"this step has {settings.decode()}: run `map` of that part again."
                )
        return cls(partials, np.cumsum([0, *(partial.num_rows for partial in partials)], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def numbers(self, name: str) -> np.ndarray:
        """A numeric column of all rows."""
        columns = [partial.column(name).to_numpy() for partial in self.partials]
        return np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)

    def bytes_at(self, name: str, rows: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
        """A column of fixed-size values at ascending `rows`, as a matrix of `dtype` with one row each."""
        taken = [_fixed_values(chunk, dtype)[local] for chunk, local in self._chunks(name, rows)]
        return np.concatenate(taken) if taken else np.empty((0, 1), dtype=dtype)

    def take(self, name: str, rows: np.ndarray) -> list[pa.Array]:
        """A column at ascending `rows`, in order, in one array for each piece of the partials that has any."""
        return [chunk.take(pa.array(local)) for chunk, local in self._chunks(name, rows)]

    def strings(self, name: str, rows: np.ndarray) -> pa.LargeStringArray:
        """A string column at ascending `rows`."""
        taken = [array.cast(pa.large_string()) for array in self.take(name, rows)]
        return pa.concat_arrays(taken) if taken else pa.array([], pa.large_string())

    def digests(self) -> np.ndarray:
        """uint64[n, 2] of all rows."""
        return self.bytes_at("digest", np.arange(len(self)), np.uint64).reshape(-1, 2)

    def _chunks(self, name: str, rows: np.ndarray) -> list[tuple[pa.Array, np.ndarray]]:
        found = []
        for start, partial in zip(self.starts, self.partials, strict=False):
            for chunk in partial.column(name).chunks:
                low, high = np.searchsorted(rows, (start, start + len(chunk)))
                if high > low:
                    found.append((chunk, rows[low:high] - start))
                start += len(chunk)
        return found


def _fixed_values(chunk: pa.FixedSizeBinaryArray, dtype: np.typing.DTypeLike) -> np.ndarray:
    width = chunk.type.byte_width
    values = np.frombuffer(chunk.buffers()[1], dtype=dtype, offset=chunk.offset * width)
    per_row = width // values.itemsize
    return values[: len(chunk) * per_row].reshape(len(chunk), per_row)


@dataclass(frozen=True)
class Nodes:
    """Rows of equal digest as one node; nodes are numbered by `size`, then digest, whatever the order of the parts."""

    of_row: np.ndarray
    """int64[rows]: the node of each row."""
    row: np.ndarray
    """int64[nodes]: one row of each node."""
    size: np.ndarray
    """int64[nodes]: distinct shingles of its documents (0 where they have no words, or where shingles play no part)."""

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def of(cls, digests: np.ndarray, sizes: np.ndarray) -> "Nodes":
        """Nodes of uint64[n, 2] digests and int64[n] sizes (equal digests have equal sizes)."""
        order = np.lexsort((digests[:, 1], digests[:, 0], sizes))
        ordered = digests[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        of_row = np.empty(len(order), dtype=np.int64)
        of_row[order] = np.cumsum(first) - 1
        return cls(of_row, order[first], sizes[order[first]])
