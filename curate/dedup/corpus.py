"""What a part says of its documents, and values of documents anywhere in the corpus by their places.

Partials of every method have the columns of `described`, then some of their own, then `best`. A document's *place* is
its part and its row (curate.rounds): ids may repeat, places never do. Documents of one part that certainly match each
other (equal digest) are one *group*, and the part speaks for its best document only: 100,000 copies of one page cost no
pair, and no more rows on the way than there are parts.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.documents import Batch
from curate.errors import InputError, MismatchError
from curate.kernels.hashing import hash_strings
from curate.rounds import View

Keep = Literal["first", "longest", "newest"]
"""Which document of a cluster survives; ties go to the smallest id, then to the smallest hash of the text.

`first`: the smallest id; `longest`: most bytes of text; `newest`: the greatest `date` (ISO 8601, so that text order is
time order; a document without a date is the oldest).
"""

SETTINGS = b"curate.dedup"
"""Key of the schema's metadata under which a partial says by which parameters it was made."""

BEST = pa.field("best", pa.int64(), nullable=False)
"""The row, within the part, of the document that speaks for those of equal digest."""


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


def fixed_rows(column: pa.ChunkedArray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """A column of values of fixed size as a matrix of `dtype`, one row each."""
    matrices = [_fixed_values(chunk, dtype) for chunk in column.chunks]
    return np.concatenate(matrices) if matrices else np.empty((0, column.type.byte_width // np.dtype(dtype).itemsize))


def _fixed_values(chunk: pa.FixedSizeBinaryArray, dtype: np.typing.DTypeLike) -> np.ndarray:
    width = chunk.type.byte_width
    values = np.frombuffer(chunk.buffers()[1], dtype=dtype, offset=chunk.offset * width)
    per_row = width // values.itemsize
    return values[: len(chunk) * per_row].reshape(len(chunk), per_row)


def with_best(partial: pa.Table, keep: Keep, matched: np.ndarray | None = None) -> pa.Table:
    """The partial with the column `best`; documents that are not `matched` (bool) speak for themselves alone."""
    digests = fixed_rows(partial.column("digest"), np.uint64)
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    if matched is not None:
        same &= matched[order[1:]] & matched[order[:-1]]
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.concatenate(([0], np.cumsum(~same))) if len(order) else 0
    best = np.arange(len(order))
    repeated = np.flatnonzero(np.bincount(group)[group] > 1) if len(order) else order
    if len(repeated):
        preferred_first = repeated[preference(partial.take(pa.array(repeated)), repeated, keep)]
        first = np.empty(len(order), dtype=np.int64)
        first[group[preferred_first[::-1]]] = preferred_first[::-1]
        best[repeated] = first[group[repeated]]
    return partial.append_column(BEST, pa.array(best))


def preference(documents: pa.Table, place: np.ndarray, keep: Keep) -> np.ndarray:
    """Positions of the documents from the most to the least preferred; `place` settles what nothing else does."""
    columns = {"id": documents.column("id"), "text_hash": documents.column("text_hash"), "place": pa.array(place)}
    keys = [(name, "ascending") for name in columns]
    if keep == "longest":
        columns["bytes"] = documents.column("bytes")
        keys = [("bytes", "descending"), *keys]
    if keep == "newest":
        columns["date"] = documents.column("date")
        keys = [("date", "descending"), *keys]
    return pc.sort_indices(pa.table(columns), sort_keys=keys).to_numpy().astype(np.int64)


def check_settings(partial: pa.Table, part: int, settings: bytes) -> None:
    """Raise MismatchError that names the part if its partial was made with other parameters."""
    made_by = (partial.schema.metadata or {}).get(SETTINGS)
    if made_by != settings:
        raise MismatchError(
            f"The partial of part {part} was made with {(made_by or b'no stated settings').decode()}, "
            f"this step has {settings.decode()}: run `map` of that part again."
        )


@dataclass(frozen=True)
class Corpus:
    """Values of documents anywhere in the corpus, from their parts' partials."""

    view: View

    def numbers(self, name: str, place: np.ndarray) -> np.ndarray:
        """A numeric column at ascending places."""
        taken = [array.to_numpy() for array in self.view.take(name, place)]
        return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)

    def matrix(self, name: str, place: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
        """A column of fixed-size values at ascending places, as a matrix of `dtype`."""
        taken = [_fixed_values(array, dtype) for array in self.view.take(name, place)]
        return np.concatenate(taken) if taken else np.empty((0, 1), dtype=dtype)
