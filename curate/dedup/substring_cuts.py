"""From claims to cuts: bytes that were found elsewhere by hash are compared with that copy, joined, and cut whole.

A claim holds only if its bytes are those of its copy; what hashes got wrong is refused and counted. Claims that
overlap or touch are one cut, which shrinks to whole characters. One task goes over its parts, some documents at a time:
it holds their claims (40 bytes each) and maps the text of the parts that have the copies.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.kernels.strings import string_buffers
from curate.kernels.substrings import compare_ranges, shrink_to_characters
from curate.rounds import KEY, Span, View, key_order, part_of, places, row_of

CUTS_SCHEMA = pa.schema(
    [
        KEY,  # place
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("survivor", pa.string(), nullable=False),  # id of the document that has the copy
        pa.field("survivor_part", pa.int64(), nullable=False),
        pa.field("survivor_start", pa.int64(), nullable=False),
    ]
)
"""Spans of a document that stand elsewhere too, apart from each other and at character boundaries."""

TEXT_AT_ONCE = 64 << 20
"""Bytes of text of the documents whose claims are held at once, if they are several."""


@dataclass(frozen=True)
class Texts:
    """Where the texts of a part lie in memory."""

    held: pa.Table
    """Keeps them there."""
    address: np.ndarray
    """int64[n]"""
    size: np.ndarray
    """int64[n], in bytes"""

    @classmethod
    def of(cls, view: View, part: int) -> Self:
        """The texts as they are mapped."""
        held = view.partial(part)
        address, size = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for chunk in held.column("text").chunks:
            data, offsets = string_buffers(chunk)
            address.append(data.ctypes.data + offsets[:-1])
            size.append(np.diff(offsets))
        return cls(held, np.concatenate(address), np.concatenate(size))

    def shares(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows, TEXT_AT_ONCE or one text each."""
        total = np.cumsum(self.size)
        edges = [0]
        while edges[-1] < len(total):
            spent = total[edges[-1] - 1] if edges[-1] else 0
            edges.append(max(int(np.searchsorted(total, spent + TEXT_AT_ONCE, side="right")), edges[-1] + 1))
        return pairwise(edges)


def cuts_of(view: View, part: int, tables: tuple[str, ...]) -> Iterator[tuple[pa.Table, int, int]]:
    """Of some documents of a part at a time: CUTS_SCHEMA, and how many claims held and were refused."""
    own = Texts.of(view, part)
    for rows in own.shares():
        low, high = places(part, np.array(rows)).tolist()
        here = View(view.shelf, view.tables, Span(low, high, range(part, part + 1)))
        claims = Claims.of(pa.concat_tables([here.rows(table) for table in tables]))
        holds = claims.proven(view, own)
        yield claims.where(holds).joined(view, own), int(holds.sum()), int((~holds).sum())


@dataclass(frozen=True)
class Claims:
    """Claims on documents of one part, in order of place and start."""

    place: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    source: np.ndarray
    source_start: np.ndarray

    @classmethod
    def of(cls, rows: pa.Table) -> Self:
        """From CLAIMS_SCHEMA."""
        columns = [column.to_numpy() for column in rows.columns]
        order = key_order(columns[1].astype(np.uint64))
        order = order[key_order(columns[0][order])]
        return cls(*(column[order] for column in columns))

    def where(self, some: np.ndarray) -> "Claims":
        """Some of them."""
        return Claims(*(getattr(self, each.name)[some] for each in fields(self)))

    def proven(self, view: View, own: Texts) -> np.ndarray:
        """bool: which claims hold, byte by byte."""
        holds = np.zeros(len(self.place), dtype=bool)
        address, size = own.address[row_of(self.place)] + self.start, self.stop - self.start
        order = key_order(self.source)
        parts = part_of(self.source[order])
        edges = np.flatnonzero(np.diff(parts, prepend=-1, append=-1))
        for low, high in pairwise(edges.tolist()):
            some = order[low:high]
            texts = Texts.of(view, int(parts[low]))
            others = texts.address[row_of(self.source[some])] + self.source_start[some]
            same = np.empty(len(some), dtype=bool)
            compare_ranges(address[some], others, size[some], same)
            holds[some] = same
            view.release()
        return holds

    def joined(self, view: View, own: Texts) -> pa.Table:
        """CUTS_SCHEMA: the union of the claims of each document; the copy is that of its first claim."""
        if not len(self.place):
            return CUTS_SCHEMA.empty_table()
        # In the order of all documents, with a byte between two of them, a cut begins behind the farthest end so far.
        rows = row_of(self.place)
        base = (np.cumsum(own.size + 1) - own.size)[rows]
        farthest = np.maximum.accumulate(base + self.stop)
        begins = np.flatnonzero(np.concatenate(([True], (base + self.start)[1:] > farthest[:-1])))
        ends = np.append(begins[1:], len(rows)) - 1
        start, stop = self.start[begins], farthest[ends] - base[begins]
        whole_start, whole_stop = start.copy(), stop.copy()
        shrink_to_characters(own.address[rows[begins]], own.size[rows[begins]], whole_start, whole_stop)
        survivors, which = np.unique(self.source[begins], return_inverse=True)
        ids = pa.chunked_array(view.take("id", survivors), pa.string()).take(pa.array(which))
        view.release()
        copied = self.source_start[begins] + whole_start - start
        columns = [self.place[begins], whole_start, whole_stop, ids, part_of(self.source[begins]), copied]
        cuts = pa.table(columns, schema=CUTS_SCHEMA)
        return cuts.filter(pc.less(cuts.column("start"), cuts.column("stop")))
