"""Lines that the corpus, or a shard of it, has seen before: CCNet's paragraph hash (Wenzek et al. 2020, section 3.1).

The paper normalises a line by lower case, digits as 0, and no punctuation and accents, and compares 64 bits of SHA-1;
ours is a 64-bit hash of our own. Its code (`cc_net/text_normalizer.py`, `normalize_for_dedup`) removes 34 marks that
are not ASCII and control characters, and neither accents nor ASCII punctuation. As run (`mine.py`, two passes), it
removes the first copy too: that is `keep: none`. C4's code (`c4_utils.py`) keeps one copy of each line by its lower
case, of those of marks alone too (its filters before leave no braces or rules): `c4`; `lower` leaves these alone.
Costs: `map` 200 MB/s a core; the exchange as in curate.dedup.repeats.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.edits import Pieces, edits, lines_of, sizes_of, without_lines
from curate.dedup.repeats import NO_KEY, Repeats
from curate.documents import Batch
from curate.kernels.normal_forms import ACCENTS, DIGITS, PUNCTUATION, normal_hashes
from curate.kernels.strings import string_buffers
from curate.steps import STEP_CONFIG, Outcome, departures

FORMS = {"ccnet": ACCENTS | DIGITS | PUNCTUATION, "ccnet-code": DIGITS | PUNCTUATION, "lower": 0, "c4": 0}

_LETTER_OR_DIGIT = np.array([chr(byte).isalnum() for byte in range(128)] + [False] * 128)
"""Of a byte: whether it is one of ASCII's."""


@dataclass(kw_only=True, config=STEP_CONFIG)
class DuplicateLines(Repeats):
    """Removes lines that occur more than once, and drops documents of which too little is left.

    Documents that stay get the column `duplicate_lines.removed` (int64): lines that went.
    """

    name: ClassVar[str] = "duplicate_lines"
    version: ClassVar[int] = 2

    form: Literal["ccnet", "ccnet-code", "lower", "c4"] = "ccnet"
    """What counts as the same line: `ccnet` as the paper has it, `ccnet-code` with accents, `lower` by lower case and
    white space alone, `c4` as `lower` but for lines of marks alone, which go too."""
    min_chars: int = Field(default=1, ge=1)
    """Lines whose normal form is shorter, in code points, always stay; so do blank ones, and those of marks alone
    (but with `c4`)."""
    max_copies: int = Field(default=1, ge=1)
    """Lines that occur up to so many times all stay."""
    keep: Literal["first", "none"] = "first"
    """Of the others, keep the first copy, or none."""
    shards: int = Field(default=1, ge=1, le=1 << 16)
    """Parts of the corpus that know nothing of each other; documents are dealt by a hash of their id."""
    min_bytes_left: int = Field(default=1, ge=0)
    """Drop documents that lost lines and have fewer bytes left, white space at the ends not counted."""

    def keys(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The hash of each line's normal form."""
        data, offsets = string_buffers(batch.texts)
        lines = lines_of(batch.texts)
        hashes, chars = normal_hashes(data, offsets, np.arange(len(batch)), lines, flags=FORMS[self.form])
        hashes[hashes == NO_KEY] = 1
        stay = chars < self.min_chars
        if self.form == "lower":
            stay |= _are_marks(data, offsets, lines)
        return lines[0], np.where(stay, NO_KEY, hashes)

    def apply(self, batches: Iterator[Batch], state: pa.Table) -> Iterator[Outcome]:
        """Documents that have lost too much leave by `duplicate_lines.min_bytes_left`, for one that keeps a copy."""
        for edited in edits(batches, state, name=self.name, cut=without_lines):
            size = sizes_of(pc.utf8_trim_whitespace(edited.texts))
            gone = edited.rows[size < self.min_bytes_left]
            left = departures(
                gone,
                "dropped",
                rule="duplicate_lines.min_bytes_left",
                value=size[size < self.min_bytes_left].astype(np.float64),
                threshold=self.min_bytes_left,
                **edited.survivors(gone),
            )
            stay = np.ones(len(edited.batch), dtype=bool)
            stay[gone] = False
            after = edited.after.filter(stay).with_column("duplicate_lines.removed", pa.array(edited.pieces[stay]))
            yield Outcome(after, left, edited=edited.removed[stay])


def _are_marks(data: np.ndarray, offsets: np.ndarray, lines: Pieces) -> np.ndarray:
    """bool: which lines have nothing but punctuation, as the forms that drop it see them, and white space. Only those
    that begin with no letter or digit of ASCII are looked at."""
    first, starts, ends = lines
    begins = np.repeat(offsets[: len(first) - 1], np.diff(first)) + starts
    filled = np.flatnonzero(ends > starts)
    some = filled[~_LETTER_OR_DIGIT[data[begins[filled]]]]
    within = np.searchsorted(some, first)
    rows = np.arange(len(first) - 1)
    _, chars = normal_hashes(data, offsets, rows, (within, starts[some], ends[some]), flags=PUNCTUATION)
    marks = ends == starts
    marks[some] = chars == 0
    return marks
