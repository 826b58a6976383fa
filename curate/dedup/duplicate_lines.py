"""Lines that the corpus, or a shard of it, has seen before: CCNet's paragraph hash (Wenzek et al. 2020, section 3.1).

The paper normalises a line by lower case, digits as 0, and no punctuation and accents, and compares 64 bits of SHA-1;
ours is a 64-bit hash of our own. Its code (`cc_net/text_normalizer.py`, `normalize_for_dedup`) removes 34 marks that
are not ASCII and control characters, and neither accents nor ASCII punctuation. As run (`mine.py`, two passes), it
removes the first copy too: that is `keep: none`. C4's code keeps one copy of each line by its lower case: `lower`.
Costs: `map` 200 MB/s a core; the exchange as in curate.dedup.repeats.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.dedup.edits import edits, lines_of, sizes_of, without_lines
from curate.dedup.repeats import NO_KEY, Repeats
from curate.documents import Batch
from curate.kernels.normal_forms import ACCENTS, DIGITS, PUNCTUATION, normal_hashes
from curate.kernels.strings import string_buffers
from curate.steps import STEP_CONFIG, Outcome, departures

FORMS = {"ccnet": ACCENTS | DIGITS | PUNCTUATION, "ccnet-code": DIGITS | PUNCTUATION, "lower": 0}


@dataclass(kw_only=True, config=STEP_CONFIG)
class DuplicateLines(Repeats):
    """Removes lines that occur more than once, and drops documents of which too little is left.

    Documents that stay get the column `duplicate_lines.removed` (int64): lines that went.
    """

    name: ClassVar[str] = "duplicate_lines"
    version: ClassVar[int] = 1

    form: Literal["ccnet", "ccnet-code", "lower"] = "ccnet"
    """What counts as the same line: `ccnet` as the paper has it, `ccnet-code` with accents, `lower` by lower case and
    white space alone."""
    min_chars: int = Field(default=1, ge=1)
    """Lines whose normal form is shorter, in code points, always stay; so do blank ones, and those of marks alone."""
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
        return lines[0], np.where(chars < self.min_chars, NO_KEY, hashes)

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
