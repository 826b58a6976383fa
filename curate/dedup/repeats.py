"""The exchange that removes repeated pieces of text, lines or spans of sentences, but for the first of each.

First is the lowest place in the corpus, then the lowest number within its text. Rounds: `repeats` joins pieces of equal
key over the parts; `address` chooses, for each document that loses something, a copy that stays to be named by, and
`naming` finds its document's id. Bytes on the way: 8 a piece in the partial, 24 a distinct piece of a part (so that one
line in every document costs no more than there are parts), 36 a repeated one, some 100 a document that is touched.
In one task: a range of these rows; for state and address, the keys of one part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.dedup.corpus import list_rows
from curate.dedup.edits import numbered
from curate.dedup.told import rows_told
from curate.documents import Batch
from curate.kernels.hashing import hash_strings
from curate.rounds import (
    KEY,
    Out,
    Round,
    Tables,
    View,
    first_of_equals,
    key_order,
    mixed,
    part_of,
    places,
    repeated_order,
    row_of,
)
from curate.steps import Exchange

NO_KEY = np.uint64(0)
"""Of a piece that is never removed."""

PARTIAL_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("keys", pa.large_list(pa.uint64()), nullable=False),  # of each piece, or NO_KEY
    ]
)
COPIES_SCHEMA = pa.schema(
    [
        KEY,  # of a piece
        pa.field("place", pa.uint64(), nullable=False),  # of the first document of a part that has it
        pa.field("piece", pa.uint32(), nullable=False),  # its number there
        pa.field("count", pa.uint32(), nullable=False),  # how often the part has it
    ]
)
VERDICTS_SCHEMA = pa.schema(
    [
        KEY,  # place, as above
        pa.field("piece", pa.uint32(), nullable=False),
        pa.field("first", pa.uint64(), nullable=False),  # place of the first copy in the corpus
        pa.field("first_piece", pa.uint32(), nullable=False),
    ]
)
ASKED_SCHEMA = pa.schema(
    [
        KEY,  # place of a copy that stays
        pa.field("piece", pa.uint32(), nullable=False),
        pa.field("place", pa.uint64(), nullable=False),  # of the document that loses its own
        pa.field("lost", pa.uint32(), nullable=False),  # the number of what it loses
        pa.field("losses", pa.uint32(), nullable=False),  # how many pieces it loses
    ]
)
NAMED_SCHEMA = pa.schema(
    [
        KEY,  # place of a document that loses something
        pa.field("survivor", pa.string(), nullable=False),  # id of one that keeps a copy
        pa.field("survivor_part", pa.int64(), nullable=False),
    ]
)
SAMPLES = 20
"""Documents that a summary shows with what they lost and where its copy is."""


class Repeats(Exchange):
    """Base of the exchanges that remove repeated pieces of texts."""

    state_tables: ClassVar[tuple[str, ...]] = ("verdicts", "named")

    keep: Literal["first", "none"]
    max_copies: int = Field(ge=1)
    shards: int = Field(ge=1)

    def keys(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Offsets int64[d + 1] and keys uint64 of the pieces of each text; NO_KEY for one that is never removed."""
        raise NotImplementedError

    def map(self, batches: Iterator[Batch]) -> pa.Table:
        """One row a document: its id, and the keys of its pieces."""
        return pa.Table.from_batches([self._described(batch) for batch in batches], PARTIAL_SCHEMA)

    def _described(self, batch: Batch) -> pa.RecordBatch:
        offsets, keys = self.keys(batch)
        if self.shards > 1:
            shard = mixed(hash_strings(batch.ids)) % np.uint64(self.shards)
            keys = np.where(keys == NO_KEY, NO_KEY, mixed(keys + np.repeat(shard, np.diff(offsets))))
        lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(keys))
        return pa.RecordBatch.from_arrays([batch.ids, lists], schema=PARTIAL_SCHEMA)

    def tables(self) -> Tables:
        """What goes from round to round."""
        return {
            "copies": COPIES_SCHEMA,
            "verdicts": VERDICTS_SCHEMA,
            "asked": ASKED_SCHEMA,
            "named": NAMED_SCHEMA,
        }

    def rounds(self) -> Sequence[Round]:
        """Repeats, address, naming."""
        return (
            Round("repeats", reads=("copies",), gives=("verdicts",), by="hash"),
            Round("address", reads=("verdicts",), gives=("asked",), by="part", row_bytes=256),
            Round("naming", reads=("asked",), gives=("named",), by="part", row_bytes=40),
        )

    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """Each distinct key of the part, with its first place and its count."""
        held = _Keys.of(partial)
        order, starts = held.grouped()
        first = order[starts]
        count = np.diff(np.append(starts, len(order)))
        columns = [held.keys[first], places(part, held.row[first]), held.number(first), count]
        out.write("copies", pa.table(columns, schema=COPIES_SCHEMA))
        out.tell(documents=partial.num_rows, pieces=len(held.keys))

    def repeats(self, view: View, out: Out) -> None:
        """Keys that the corpus has more than `max_copies` times, and where each is first."""
        rows = view.rows("copies")
        keys, count = rows.column("key").to_numpy(), rows.column("count").to_numpy().astype(np.int64)
        several = np.zeros(len(keys), dtype=bool)
        several[repeated_order(keys)] = True
        some = np.flatnonzero(several | (count > self.max_copies))
        key, count, place = keys[some], count[some], rows.column("place").to_numpy()[some]
        order = np.lexsort((place, key))
        key, count, place = key[order], count[order], place[order]
        piece = rows.column("piece").to_numpy()[some][order]
        first = first_of_equals(key)
        group = np.cumsum(first) - 1
        total = np.bincount(group, weights=count, minlength=int(first.sum())).astype(np.int64)
        many = (total > self.max_copies)[group] if len(group) else first
        own = [place[many], piece[many], place[first][group][many], piece[first][group][many]]
        out.write("verdicts", pa.table(own, schema=VERDICTS_SCHEMA))
        repeated = int((total > self.max_copies).sum())
        gone = int(total[total > self.max_copies].sum()) - (repeated if self.keep == "first" else 0)
        out.tell(repeated=repeated, removed=gone, most_copies=[int(total.max(initial=0))])

    def address(self, view: View, out: Out) -> None:
        """For each document that loses something, a copy that stays: in another document, if there is one."""
        if self.keep == "none":
            return
        for part in view.span.parts:
            own = view.of_part(part)
            verdicts = own.rows("verdicts")
            if verdicts.num_rows:
                out.write("asked", self._asked(view.partial(part), part, verdicts))
            view.release()

    def _asked(self, partial: pa.Table, part: int, verdicts: pa.Table) -> pa.Table:
        held = _Keys.of(partial)
        lost, first, first_piece = self._lost(held, part, verdicts)
        row = held.row[lost]
        elsewhere = first != places(part, row)
        order = np.lexsort((lost, ~elsewhere, row))
        chosen = order[first_of_equals(row[order])]
        losses = np.bincount(row, minlength=partial.num_rows)[row[chosen]]
        columns = [first[chosen], first_piece[chosen], places(part, row[chosen]), held.number(lost[chosen]), losses]
        return pa.table(columns, schema=ASKED_SCHEMA)

    def naming(self, view: View, out: Out) -> None:
        """Ids of the documents that keep a copy; a few of them for the summary."""
        samples: list[dict[str, Any]] = []
        for part in view.span.parts:
            asked = view.of_part(part).rows("asked")
            if asked.num_rows:
                keeper = row_of(asked.column("key").to_numpy())
                names = view.partial(part).column("id").take(pa.array(keeper))
                out.write(
                    "named", pa.table([asked.column("place"), names, np.full(len(keeper), part)], schema=NAMED_SCHEMA)
                )
                samples = _lowest(samples + _samples(asked, names))
            view.release()
        out.tell(samples=samples)

    def state(self, view: View, part: int) -> pa.Table:
        """Of each document: its id, the pieces that go, id and part of a document that keeps a copy."""
        partial = view.partial(part)
        held = _Keys.of(partial)
        gone = np.zeros(len(held.keys), dtype=bool)
        lost, _, _ = self._lost(held, part, view.rows("verdicts"))
        gone[lost] = True
        offsets, numbers = numbered(gone, held.offsets)
        named = view.rows("named")
        at = rows_told(row_of(named.column("key").to_numpy()), partial.num_rows)
        survivors = named.select(["survivor", "survivor_part"]).take(at)
        removed = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(numbers))
        columns = dict(zip(survivors.column_names, survivors.columns, strict=True))
        return pa.table({"id": partial.column("id"), "removed": removed} | columns)

    def _lost(self, held: "_Keys", part: int, verdicts: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ascending: which pieces of a part go; place and number of the first copy of each."""
        speaker = held.offsets[row_of(verdicts.column("key").to_numpy())] + verdicts.column("piece").to_numpy()
        told = np.full(len(held.keys), -1)
        told[speaker] = np.arange(len(speaker))
        order, starts = held.grouped()
        sizes = np.diff(np.append(starts, len(order)))
        verdict = np.repeat(told[order[starts]], sizes)
        lost, verdict = order[verdict >= 0], verdict[verdict >= 0]
        first = verdicts.column("first").to_numpy()[verdict]
        first_piece = verdicts.column("first_piece").to_numpy()[verdict]
        if self.keep == "first":
            stays = (first == places(part, held.row[lost])) & (first_piece == held.number(lost))
            lost, first, first_piece = lost[~stays], first[~stays], first_piece[~stays]
        ascending = np.argsort(lost)
        return lost[ascending], first[ascending], first_piece[ascending]

    def summary(self, told: dict[str, Any]) -> dict[str, Any]:
        """Counts, and samples of what was removed with the place of the copy that stays."""
        numbers = {name: told.get(name, 0) for name in ("documents", "pieces", "repeated", "removed")}
        return numbers | {
            "most_copies": max(told.get("most_copies", []), default=0),
            "samples": _lowest(told.get("samples", [])),
        }


@dataclass(frozen=True)
class _Keys:
    """The keys of all pieces of a part."""

    offsets: np.ndarray
    """int64[documents + 1]"""
    keys: np.ndarray
    row: np.ndarray
    """int64, of each piece: its document"""

    @classmethod
    def of(cls, partial: pa.Table) -> "_Keys":
        offsets, keys = list_rows(partial.column("keys"))
        return cls(offsets, keys, np.repeat(np.arange(partial.num_rows), np.diff(offsets)))

    def number(self, piece: np.ndarray) -> np.ndarray:
        """Numbers of pieces within their documents."""
        return piece - self.offsets[self.row[piece]]

    def grouped(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the pieces that have a key, equal keys together in order of position; where each key begins."""
        some = np.flatnonzero(self.keys != NO_KEY)
        order = some[key_order(self.keys[some])]
        return order, np.flatnonzero(first_of_equals(self.keys[order]))


def _lowest(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(samples, key=lambda sample: (sample["part"], sample["row"]))[:SAMPLES]


def _samples(asked: pa.Table, names: pa.ChunkedArray) -> list[dict[str, Any]]:
    """Those of the lowest places."""
    place = asked.column("place").to_numpy()
    rows = np.argsort(place, kind="stable")[:SAMPLES]
    some, survivors = asked.take(pa.array(rows)), names.take(pa.array(rows)).to_pylist()
    keeper = some.column("key").to_numpy()
    columns = {
        "part": part_of(place[rows]),
        "row": row_of(place[rows]),
        "removed": some.column("losses").to_numpy(),
        "piece": some.column("lost").to_numpy(),
        "survivor_part": part_of(keeper),
        "survivor_row": row_of(keeper),
        "survivor_piece": some.column("piece").to_numpy(),
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        dict(zip(columns, row, strict=True)) | {"survivor": name} for row, name in zip(values, survivors, strict=True)
    ]
