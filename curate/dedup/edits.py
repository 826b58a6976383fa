"""What an exchange decided about pieces of texts, carried out on one part: which lines or sentences go from which text.

State: a table with `id` and `removed` (a list of pieces' numbers), one row a document in the order of `map`. Only the
texts that lose something are cut into pieces again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.told import changed, with_what_is_told
from curate.documents import Batch
from curate.kernels.cutting import without_spans
from curate.kernels.lines import find_lines
from curate.kernels.memory import BLOCK
from curate.kernels.strings import string_buffers

Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""First piece of each text int64[d + 1], starts and ends in bytes from the text's start."""

Cut = Callable[[pa.Array, np.ndarray, np.ndarray], pa.Array]
"""(texts, text, piece) -> what is left of the texts without pieces: of which text, which of its pieces; ascending."""


def lines_of(texts: pa.Array) -> Pieces:
    """The lines of texts between newlines, these excluded."""
    data, offsets = string_buffers(texts)
    lines, *_ = find_lines(data, offsets, np.empty(BLOCK, dtype=np.uint8))
    return lines


@dataclass(frozen=True)
class Edited:
    """A batch, and what of it was cut."""

    batch: Batch
    """The documents as they came."""
    told: pa.Table
    """Their rows of the state."""
    rows: np.ndarray
    """int64: the documents that lost something."""
    texts: pa.Array
    """What is left of these."""
    removed: np.ndarray
    """int64, one a document of the batch: bytes that went."""
    pieces: np.ndarray
    """int64, one a document of the batch: pieces that went."""

    def survivors(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """Id and part of the document that keeps a copy of what each of `rows` lost, as `departures` takes them."""
        told = self.told.select(["survivor", "survivor_part"]).take(pa.array(rows))
        return {name: told.column(name).combine_chunks() for name in told.column_names}

    @property
    def after(self) -> Batch:
        """The batch with what is left."""
        if not len(self.rows):
            return self.batch
        mask = np.zeros(len(self.batch), dtype=bool)
        mask[self.rows] = True
        return self.batch.with_text(pc.replace_with_mask(self.batch.texts, mask, self.texts))


def edits(batches: Iterator[Batch], state: pa.Table, *, name: str, cut: Cut) -> Iterator[Edited]:
    """The batches of a part, with what goes taken out.

    Raises MismatchError if the documents are not those that `map` saw, in that order.
    """
    for batch, told in with_what_is_told(batches, state, name=name):
        yield _edited(batch, told, name, cut)


def _edited(batch: Batch, told: pa.Table, name: str, cut: Cut) -> Edited:
    lists = told.column("removed").combine_chunks()
    pieces = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.flatnonzero(pieces)
    removed = np.zeros(len(batch), dtype=np.int64)
    texts = batch.texts.take(pa.array(rows))
    if len(rows):
        before = sizes_of(texts)
        text = np.repeat(np.arange(len(rows)), pieces[rows])
        try:
            texts = cut(texts, text, lists.flatten().to_numpy().astype(np.int64))
        except (IndexError, ValueError) as error:
            first = batch.ids[int(rows[0])].as_py()
            raise changed(f"`{name}`: document {first!r} or one after it is not the text that was compared") from error
        removed[rows] = before - sizes_of(texts)
    return Edited(batch, told, rows, texts, removed, pieces)


def without_lines(texts: pa.Array, text: np.ndarray, line: np.ndarray) -> pa.Array:
    """The texts without some of their lines, the others joined by newlines as they were."""
    first, starts, ends = lines_of(texts)
    spans = np.concatenate(([0], np.cumsum(np.bincount(text, minlength=len(texts)))))
    at = first[text] + line
    leading = line == np.arange(len(line)) - spans[text]  # no line before it stays: the newline after it goes
    after = np.where(line + 1 < np.diff(first)[text], ends[at].astype(np.int64) + 1, ends[at])
    low = np.where(leading, starts[at], starts[at].astype(np.int64) - 1)
    return without_spans(texts, spans, low, np.where(leading, after, ends[at]))


def sizes_of(texts: pa.Array) -> np.ndarray:
    """int64: bytes of each text."""
    return pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def are_blank(texts: pa.Array) -> np.ndarray:
    """bool: whether each text holds nothing but white space."""
    sizes = pc.binary_length(pc.utf8_trim_whitespace(texts))
    return np.asarray(pc.equal(sizes, 0).to_numpy(zero_copy_only=False))


def numbered(removed: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces go (bool, over all texts; those of text i begin at offsets[i]) as lists of numbers: offsets int64,
    and values uint32."""
    places = np.flatnonzero(removed)
    counts = np.add.reduceat(np.append(removed, False), offsets[:-1], dtype=np.int64) if len(offsets) > 1 else offsets
    counts = np.where(np.diff(offsets) > 0, counts, 0)
    text = np.repeat(np.arange(len(offsets) - 1), counts)
    return np.concatenate(([0], np.cumsum(counts))), (places - offsets[text]).astype(np.uint32)
