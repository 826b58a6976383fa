"""The documents of a part beside what an exchange decided of them, checked to be the same ones in the same order."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curate.documents import Batch
from curate.errors import MismatchError


def with_what_is_told(batches: Iterator[Batch], state: pa.Table, *, name: str) -> Iterator[tuple[Batch, pa.Table]]:
    """Each batch with its rows of the state, whose column `id` says of whom they are.

    Raises MismatchError, naming the step, if the documents are not those that `map` saw, in that order.
    """
    row = 0
    for batch in batches:
        told = state.slice(row, len(batch))
        if told.num_rows != len(batch) or not pa.chunked_array([batch.ids]).equals(told.column("id")):
            raise changed(
                f"`{name}`: from document {row} of this part on, the documents are not those that were compared"
            )
        row += len(batch)
        yield batch, told
    if row != state.num_rows:
        raise changed(f"`{name}`: this part has {row} documents, but {state.num_rows} were compared")


def rows_told(rows: np.ndarray, count: int) -> pa.Array:
    """Of each of `count` documents, where in `rows` it stands, to `take` what is told of it; null: nothing is.

    `rows`: the documents of which something is told, each once.
    """
    at = np.full(count, -1)
    at[rows] = np.arange(len(rows))
    return pa.array(at, mask=at < 0)


def changed(what: str) -> MismatchError:
    """What to raise where the documents are others than those that were compared."""
    return MismatchError(f"{what}: its input has changed since. Run the stage again from its first part.")
