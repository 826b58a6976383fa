"""Which windows of a corpus have an equal one elsewhere: rows of windows, met by anchor, cut finer, and met again.

A window is `length` bytes (or words) in a row. Map cuts the windows of each text into rows by their anchors
(curate.kernels.substrings); rows are met with all others of the same anchor. Rows of equal text are all claimed by the
first of them. Rows of one anchor but different text may still share windows: those that are not claimed are cut into
finer rows, by anchors that span more of the window, and at last into single windows. Each time, few go on: the two rows
at the ends of a repeat, and what shares half a window (then seven eighths) by chance.

Complete: let u be the first of all windows equal to v. As long as neither is claimed, both are in a row: equal windows
have equal anchors, so that their rows meet. If v's row is claimed, v stands elsewhere. Else both rows are cut: u's row
is claimed by none, since a row that claims it would hold an equal window before u, and v's row is another one that
meets it. In the end the rows are u and v themselves, and u claims v.
Linear: nothing is compared pair by pair; a copy is held against the first of its class only.

Copies that overlap do not count: of a text that repeats itself every few bytes, one window stays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from curate.documents import Batch
from curate.kernels.strings import string_buffers
from curate.kernels.substrings import hash_ranges, sampled_windows
from curate.kernels.text_index import TextIndex, Words
from curate.rounds import KEY, first_of_equals, key_order, repeated_order

Unit = Literal["bytes", "words"]

_WINDOW = [
    pa.field("order", pa.uint64(), nullable=False),  # of the document among all: the least keeps its copy
    pa.field("place", pa.uint64(), nullable=False),
    pa.field("start", pa.int64(), nullable=False),  # bytes from the text's start
    pa.field("stop", pa.int64(), nullable=False),
]
MET_SCHEMA = pa.schema([KEY, pa.field("other", pa.uint64(), nullable=False), *_WINDOW])
"""Rows of windows (key: hash of the anchor; other: of the row's text, which makes 128 bits)."""
WANTED_SCHEMA = pa.schema(
    [KEY, pa.field("start", pa.int64(), nullable=False), pa.field("stop", pa.int64(), nullable=False)]
)
"""Rows of windows that are to be cut finer, by place."""
CLAIMS_SCHEMA = pa.schema(
    [
        KEY,  # place
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("source", pa.uint64(), nullable=False),  # place of the copy
        pa.field("source_start", pa.int64(), nullable=False),
    ]
)
"""Bytes of a document that stand elsewhere too."""

TEXTS_AT_ONCE = 1 << 23
"""Bytes of rows of windows that a task cuts and writes at once."""


@dataclass(frozen=True)
class Windows:
    """What a window is."""

    unit: Unit
    length: int
    """Of a window, in units."""

    @property
    def cores(self) -> tuple[int, ...]:
        """Units that an anchor spans, coarse to fine. Shorter ones would make fewer rows, of which more meet for
        nothing."""
        return max(self.length // 2, 1), self.length - self.length // 8, self.length

    def rows(self, batch: Batch) -> tuple[np.ndarray, "Rows"]:
        """The windows of a batch's texts in coarse rows; those of text i are [first[i], first[i + 1])."""
        if self.unit == "bytes":
            data, offsets = string_buffers(batch.texts)
            symbols = Symbols(data, data, offsets[:-1], offsets[:-1], offsets[1:], None)
        else:
            index = batch.index
            begin = index.offsets[index.rows]
            first, last = index.words.first[index.rows], index.words.first[index.rows + 1]
            symbols = Symbols(index.data, index.words.hash, begin, first, last, index.words)
        rows = self._rows(symbols, self.cores[0])
        return np.searchsorted(rows.text, np.arange(len(batch) + 1)), rows

    def cut(
        self, texts: pa.Array, text: np.ndarray, start: np.ndarray, stop: np.ndarray, *, core: int
    ) -> Iterator["Rows"]:
        """Rows cut into finer ones, some at a time; rows are of texts in order, and in order within each."""
        data, offsets = string_buffers(texts)
        base = offsets[text]
        if self.unit == "bytes":
            symbols = Symbols(data, data, base, base + start, base + stop, None)
        else:
            words = TextIndex.of(texts).words
            here = np.repeat(offsets[:-1], np.diff(words.first))
            first = np.searchsorted(here + words.start, base + start)
            last = np.searchsorted(here + words.end, base + stop, side="right")
            symbols = Symbols(data, words.hash, base, first, last, words)
        total = np.cumsum(stop - start)
        low = 0
        while low < len(text):
            spent = total[low - 1] if low else 0
            high = max(int(np.searchsorted(total, spent + TEXTS_AT_ONCE, side="right")), low + 1)
            rows = self._rows(symbols.between(low, high), core)
            yield replace(rows, text=text[low + rows.text])
            low = high

    def _rows(self, symbols: "Symbols", core: int) -> "Rows":
        key, text, start, count = sampled_windows(
            symbols.values, symbols.first, symbols.last, length=self.length, core=core
        )
        begin, base = symbols.first[text] + start, symbols.base[text]
        end = begin + count + self.length - 1
        if symbols.words is None:
            start, stop = begin - base, end - base
        else:
            start = symbols.words.start[begin].astype(np.int64)
            stop = symbols.words.end[end - 1].astype(np.int64)
        return Rows(text, key, hash_ranges(symbols.data, base + start, base + stop), start, stop)


@dataclass(frozen=True)
class Symbols:
    """Stretches of texts, as symbols."""

    data: np.ndarray
    """The bytes of all texts."""
    values: np.ndarray
    """The symbols of all texts: bytes, or hashes of words."""
    base: np.ndarray
    """Where the text of each stretch begins in `data`."""
    first: np.ndarray
    last: np.ndarray
    """The symbols of each stretch are [first, last)."""
    words: Words | None

    def between(self, low: int, high: int) -> "Symbols":
        """Some of the stretches."""
        some = {name: getattr(self, name)[low:high] for name in ("base", "first", "last")}
        return replace(self, **some)


@dataclass(frozen=True)
class Rows:
    """Rows of windows."""

    text: np.ndarray
    key: np.ndarray
    """Hash of the anchor."""
    other: np.ndarray
    """Hash of the row's text."""
    start: np.ndarray
    stop: np.ndarray


@dataclass(frozen=True)
class Meeting:
    """Rows of which others have the same key, in order of key, hash, order, place and start."""

    key: np.ndarray
    other: np.ndarray
    place: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    first: np.ndarray
    """bool: the first of those of equal text."""
    claims: np.ndarray
    """int64: by which one it is claimed, -1 for none."""
    last: np.ndarray
    """int64: the last of those of equal text."""

    @classmethod
    def of(cls, rows: pa.Table, *, keep_one: bool) -> "Meeting":
        """Who meets whom among the rows of a task, and who claims whom."""
        some = np.sort(repeated_order(rows.column("key").to_numpy()))
        # Rows come by place and start wherever these decide; so three stable sorts are enough.
        for name in ("order", "other", "key"):
            some = some[key_order(rows.column(name).to_numpy()[some])]
        names = ("key", "other", "place", "start", "stop")
        key, other, place, start, stop = (rows.column(name).to_numpy()[some] for name in names)
        first = first_of_equals(key, other)
        begins = np.flatnonzero(first)
        group = np.cumsum(first) - 1
        last = np.append(begins[1:], len(key))[group] - 1
        claims = np.full(len(key), -1, dtype=np.int64)
        for by in (begins[group],) if keep_one else (last, begins[group]):
            apart = (place != place[by]) | (start >= stop[by]) | (start[by] >= stop)
            claims = np.where(apart, by, claims)
        return cls(key, other, place, start, stop, first, claims, last)

    @property
    def claimed(self) -> pa.Table:
        """CLAIMS_SCHEMA."""
        some = np.flatnonzero(self.claims >= 0)
        by = self.claims[some]
        columns = [self.place[some], self.start[some], self.stop[some], self.place[by], self.start[by]]
        return pa.table(columns, schema=CLAIMS_SCHEMA)

    def wanted(self, *, keep_one: bool) -> pa.Table:
        """The rows that may share windows with rows of another text, or with others too close to them.

        Of each text the first; if no copy is kept also the last: of all equal windows, one of the two is apart from any
        other.
        """
        unclaimed = self.claims < 0
        ends = unclaimed | self.first
        if not keep_one:
            ends |= self.last == np.arange(len(self.last))
        anchor = np.cumsum(first_of_equals(self.key)) - 1
        several = np.bincount(anchor, weights=unclaimed | self.first)[anchor] > 1
        some = np.flatnonzero(ends & several)
        return pa.table([self.place[some], self.start[some], self.stop[some]], schema=WANTED_SCHEMA)
