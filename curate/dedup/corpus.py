"""What a part says of its documents, and values of documents anywhere in the corpus by their places.

Partials of every method have the columns of `described`, then some of their own, then `best`. A document's *place* is
its part and its row (curate.rounds): ids may repeat, places never do. Documents of one part that certainly match each
other (equal digest) are one *group*, and the part speaks for its best document only: 100,000 copies of one page cost no
pair, and no more rows on the way than there are parts.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.keep import Keep, merit_fields, merits, preference
from curate.documents import Batch
from curate.errors import MismatchError
from curate.kernels.hashing import hash_strings
from curate.rounds import View, part_of

SETTINGS = b"curate.dedup"
"""Key of the schema's metadata under which a partial says by which parameters it was made."""

BEST = pa.field("best", pa.int64(), nullable=False)
"""The row, within the part, of the document that speaks for those of equal digest."""


def described(batch: Batch, digests: np.ndarray, keep: Keep) -> dict[str, pa.Array]:
    """The columns that every method needs: `id`, `bytes`, `text_hash` (uint64), `digest` (uint64[n, 2] as 16 bytes).

    Pages that are not extracted yet count with their `content`. What the policy must know follows (curate.dedup.keep).
    """
    body = batch.data.column("text" if "text" in batch.data.schema.names else "content")
    columns: dict[str, pa.Array] = {
        "id": batch.ids,
        "bytes": pc.fill_null(pc.binary_length(body), 0).cast(pa.int64()),
        "text_hash": pa.array(hash_strings(body)),
        "digest": fixed_binary(digests),
    }
    return columns | merits(batch, keep)


def described_schema(keep: Keep) -> list[pa.Field]:
    """The fields of `described`, in its order."""
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("text_hash", pa.uint64(), nullable=False),
        pa.field("digest", pa.binary(16), nullable=False),
    ]
    return [*fields, *merit_fields(keep)]


def sums_of(rows: np.ndarray) -> np.ndarray:
    """uint64[n]: the sum of each row of unsigned numbers, which any one change of a row changes."""
    return rows.sum(axis=1, dtype=np.uint64)


def fixed_binary(rows: np.ndarray) -> pa.FixedSizeBinaryArray:
    """A matrix as one value of fixed size a row."""
    width = rows.shape[1] * rows.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])


def fixed_rows(column: pa.ChunkedArray, dtype: np.typing.DTypeLike) -> np.ndarray:
    """A column of values of fixed size as a matrix of `dtype`, one row each."""
    matrices = [_fixed_values(chunk, dtype) for chunk in column.chunks]
    return np.concatenate(matrices) if matrices else np.empty((0, column.type.byte_width // np.dtype(dtype).itemsize))


def list_rows(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists as offsets int64[n + 1] and values: those of row i are [offsets[i], offsets[i + 1])."""
    sizes = pc.list_value_length(column).to_numpy()
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))), pc.list_flatten(column).to_numpy()


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

    def check_sets(self, place: np.ndarray, offsets: np.ndarray, hashes: np.ndarray) -> None:
        """Raise MismatchError that names the part if the shingles at a place are not those that its digest is of."""
        digests = self.matrix("digest", place, np.uint64)
        whole = np.diff(offsets) > 0
        sums = np.add.reduceat(hashes, offsets[:-1][whole]) if whole.any() else np.empty(0, dtype=np.uint64)
        self._check_unchanged("shingles", place[whole], sums, digests[whole, 0])

    def check_signatures(self, place: np.ndarray, signatures: np.ndarray) -> None:
        """Raise MismatchError that names the part if the signature at a place does not have the sum noted beside it."""
        self._check_unchanged("signatures", place, sums_of(signatures), self.numbers("signature_sum", place))

    def _check_unchanged(self, what: str, place: np.ndarray, found: np.ndarray, written: np.ndarray) -> None:
        changed = place[found != written]
        if len(changed):
            raise self.view.shelf.damaged(int(part_of(changed[:1])[0]), f"{what} are not as they were written")

    def matrix(self, name: str, place: np.ndarray, dtype: np.typing.DTypeLike) -> np.ndarray:
        """A column of fixed-size values at ascending places, as a matrix of `dtype`."""
        taken = [_fixed_values(array, dtype) for array in self.view.take(name, place)]
        return np.concatenate(taken) if taken else np.empty((0, 1), dtype=dtype)
