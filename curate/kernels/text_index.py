"""`TextIndex`: the words and lines of a batch of texts, found once and shared by all filters.

Costs about 17 bytes a word and 8 a line beside the Arrow buffer, which is not copied. Positions are bytes from the
text's start; a text may have up to 4 GB. Words are the segments of UAX #29 that are not whitespace, punctuation
included (see words.py); lines come in two senses (see lines.py). Text is UTF-8; invalid bytes count as U+FFFD.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.kernels.lines import find_lines
from curate.kernels.memory import BLOCK
from curate.kernels.strings import string_buffers
from curate.kernels.words import find_words

LONGEST_TEXT_BYTES = 2**32 - BLOCK


class Words(NamedTuple):
    """Words of all indexed texts; those of text i are [first[i], first[i + 1])."""

    first: np.ndarray
    """int64[d + 1]"""
    start: np.ndarray
    """uint32[w], bytes from the text's start"""
    end: np.ndarray
    """uint32[w], one past the last byte"""
    hash: np.ndarray
    """uint64[w], of the bytes as they are"""
    flags: np.ndarray
    """uint8[w]: LETTER, NOT_PUNCTUATION, LETTER_OR_NUMBER, NOT_ASCII of words.py (without it, code points are bytes)"""


class Lines(NamedTuple):
    """Lines of all indexed texts; those of text i are [first[i], first[i + 1])."""

    first: np.ndarray
    """int64[d + 1]"""
    start: np.ndarray
    """uint32[l], bytes from the text's start"""
    end: np.ndarray
    """uint32[l], the line break excluded"""


@dataclass(frozen=True, slots=True, eq=False)
class TextIndex:
    """Words and lines of texts. `rows` says which of the indexed texts this view holds, in its order."""

    kind: pa.DataType
    """Arrow type of the texts"""
    rows: np.ndarray = field(repr=False)
    """int64[n]: rows of the arrays below"""
    data: np.ndarray = field(repr=False)
    """uint8[...], read-only: Arrow's buffer"""
    offsets: np.ndarray = field(repr=False)
    """int64[d + 1]: where each text begins in `data`"""
    code_points: np.ndarray = field(repr=False)
    """int64[d]: length of each text"""
    words: Words = field(repr=False)
    """words, in order"""
    lines: Lines = field(repr=False)
    """lines between newlines, empty ones included: one more than there are newlines"""
    split_lines: Lines = field(repr=False)
    """lines as `str.splitlines` gives them"""

    @classmethod
    def of(cls, texts: pa.Array) -> TextIndex:
        """Index an Arrow array of (large) strings; a null counts as an empty text.

        Raises InputError for another type, or a text of 4 GB or more.
        """
        data, offsets = string_buffers(texts)
        sizes = np.diff(offsets)
        if sizes.size and sizes.max() > LONGEST_TEXT_BYTES:
            raise InputError(
                f"Text {int(sizes.argmax())} of the batch has {sizes.max()} bytes; the limit is 4 GB. Split it."
            )
        first, start, end, hashed, flags, code_points = find_words(data, offsets)
        lines, split_lines = find_lines(data, offsets, np.empty(BLOCK, dtype=np.uint8))
        return cls(
            kind=texts.type,
            rows=np.arange(len(offsets) - 1, dtype=np.int64),
            data=data,
            offsets=offsets,
            code_points=code_points,
            words=Words(first, start, end, hashed, flags),
            lines=Lines(*lines),
            split_lines=Lines(*split_lines),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: np.ndarray) -> TextIndex:
        """A view of some texts: a mask bool[len(self)], or rows of this view in any order. Shares all arrays."""
        keep = np.asarray(keep)
        if keep.dtype == bool and len(keep) != len(self):
            raise ValueError(f"The mask has {len(keep)} values for {len(self)} texts.")
        if keep.dtype != bool and keep.dtype.kind not in "iu" and keep.size:
            raise ValueError(f"Rows to keep must be booleans or integers, not {keep.dtype}.")
        return replace(self, rows=self.rows[keep if keep.dtype == bool else keep.astype(np.int64)])

    @property
    def n_words(self) -> np.ndarray:
        """int64[len(self)]: words of each text, punctuation included."""
        return self.words.first[self.rows + 1] - self.words.first[self.rows]

    @property
    def n_chars(self) -> np.ndarray:
        """int64[len(self)]: code points of each text."""
        return self.code_points[self.rows]

    @property
    def n_bytes(self) -> np.ndarray:
        """int64[len(self)]: bytes of each text."""
        return self.offsets[self.rows + 1] - self.offsets[self.rows]
