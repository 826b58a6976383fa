"""Rounds of an exchange: small map-reduce steps over tables that are sorted by a 64-bit key and cut into key ranges.

A part's `map` gives its *partial* (one row a document) and, through `scatter`, rows for the first round. A task of a
round sees the rows whose keys lie in its range, in all runs that were written, and writes rows addressed to later
rounds. A *run* is a table in ascending order of its first column, `key` (uint64): a task finds its slice by binary
search and touches no other page of a memory-mapped file. Keys are hashes (ranges share the key space evenly), or
*places*: the part in the upper 32 bits, the row within it in the lower ones, so that a range is a run of parts.

The same rounds run here in memory (`run_in_memory`: one batch as the whole corpus, datatrove, small corpora), and in
curate.engine.exchange as jobs on files. Neither the number of parts nor of ranges changes a result.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from curate.errors import MismatchError

KEY = pa.field("key", pa.uint64(), nullable=False)
"""The first column of every table that goes from round to round."""

KEYS = 1 << 64
_ROW_BITS = 32
_CHUNK = 1 << 16
_MIX_1, _MIX_2, _FOLD = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)

Tables = Mapping[str, pa.Schema]
Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


@dataclass(frozen=True)
class Round:
    """One step of an exchange: what its tasks read and write, and how they share the keys."""

    name: str
    """The exchange's method that does one task, `(view, out)`; also names the files of the tasks."""
    reads: tuple[str, ...]
    """Tables of which a task reads its slice: their bytes give the ranges."""
    gives: tuple[str, ...]
    """Tables that it writes."""
    by: Literal["hash", "part", "once"]
    """`hash`, `part`: a task for each range of keys. `once`: one task, which goes through tables file by file."""
    row_bytes: int = 0
    """`part`: bytes a document that a task reads of the partials themselves."""
    tasks: int | None = None
    """`hash`: so many ranges of equal width, where the method says how many; None: by the bytes."""
    one_task_bytes: int = 0
    """Up to so many bytes one task does the round, whatever a range holds."""
    until: str = ""
    """The round is done again, in turns, on the tables that it gives, until its tasks tell 0 of this, added up."""


MOST_TURNS = 200
"""Turns of a round after which something is wrong."""


class Out(Protocol):
    """Where a task leaves what it found."""

    def write(self, table: str, rows: pa.Table) -> None:
        """Add a run; rows need no order, they are sorted by key."""
        ...

    def tell(self, **facts: Any) -> None:
        """Something for the summary: numbers add up over all that is told, dicts by key, lists are joined."""
        ...


@dataclass(frozen=True)
class Stored:
    """A dump of an index: partials and sorted runs of parts that an earlier run left."""

    name: str
    folder: str
    parts: int
    documents: int
    """Rows of its partials."""
    bytes: Mapping[str, int]
    """Of each table."""
    fingerprint: str
    """Of the content of its files."""


class Attached(Protocol):
    """Parts that earlier runs left, beside a corpus' own: the rounds see them, nothing is applied to them. Part `n` of
    them is part `own + n` to the rounds; the groups (dumps) that they lie in are in order of age."""

    @property
    def parts(self) -> int:
        """How many."""
        ...

    @property
    def documents(self) -> int:
        """Documents in them, for the number of tasks."""
        ...

    @property
    def bytes(self) -> Mapping[str, int]:
        """Bytes of each table."""
        ...

    def runs(self, table: str, *, low: int = 0, high: int = KEYS) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Runs as those of a shelf, each with the number of the part that its `place`s count from."""
        ...

    def partial(self, number: int) -> pa.Table:
        """What `map` said of a part."""
        ...

    def release(self) -> None:
        """Let go of what was read of partials."""
        ...

    def damaged(self, number: int, what: str) -> Exception:
        """What to raise where a partial is not as it was made."""
        ...

    def age(self, number: int) -> int:
        """Which dump a part lies in; 0 is the oldest."""
        ...

    def names(self, numbers: np.ndarray) -> pa.Array:
        """The name of the dump of each part."""
        ...

    def removed(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a part that left as duplicates, and the places of their survivors; 2^64 - 1 where that is gone."""
        ...


class Shelf(Protocol):
    """Where runs and partials are kept."""

    @property
    def own(self) -> int:
        """Parts of the corpus itself."""
        ...

    @property
    def attached(self) -> Attached | None:
        """Parts beside them, numbered from `own` on."""
        ...

    def runs(self, table: str, *, low: int = 0, high: int = KEYS) -> Iterator[pa.RecordBatch]:
        """The runs of a table, one after the other, none of them empty. Runs (and pieces of runs) without a key in
        low <= key < high may be left out."""
        ...

    def partial(self, part: int) -> pa.Table:
        """What `map` said of a part, one row a document in their order."""
        ...

    def release(self) -> None:
        """Let go of what was read of partials, so that their pages can leave memory."""
        ...

    def damaged(self, part: int, what: str) -> Exception:
        """What to raise where a partial is not as it was made; it will be made again."""
        ...


@dataclass(frozen=True)
class Span:
    """The share of one task: keys, parts."""

    low: int = 0
    high: int = KEYS
    """Keys: low <= key < high."""
    parts: range = range(0)
    """The parts of the task (`by="part"`), else all."""
    whole: bool = False
    """The task has no other beside it."""


@dataclass(frozen=True)
class View:
    """What one task of a round sees."""

    shelf: Shelf
    tables: Tables
    span: Span
    turn: int = 0
    """How often a round with `until` was done before."""

    def rows(self, table: str) -> pa.Table:
        """The rows of a table within the task's range; runs one after the other, each sorted by key."""
        return pa.Table.from_batches(list(self.slices(table)), self.tables[table])

    def slices(self, table: str) -> Iterator[pa.RecordBatch]:
        """The same, run by run in the order of writing: by part, then as `scatter` wrote them."""
        low, high = self.span.low, self.span.high
        for run in self.shelf.runs(table, low=low, high=high):
            part = between(run, low, high)
            if part.num_rows:
                yield part

    def all_rows(self, table: str) -> pa.Table:
        """All rows of a table."""
        return pa.Table.from_batches(list(self.shelf.runs(table)), self.tables[table])

    @property
    def end(self) -> int:
        """The first place that is not the corpus' own."""
        return self.shelf.own << _ROW_BITS

    def met(self, table: str) -> pa.Table:
        """The rows of `rows`, then those of attached parts that have a key of theirs: no more of these, however many
        there are."""
        own, attached = self.rows(table), self.shelf.attached
        if attached is None or not own.num_rows:
            return own
        known = np.sort(own.column("key").to_numpy())  # ten times as fast as np.unique, which hashes
        found = []
        for part, run in attached.runs(table, low=self.span.low, high=self.span.high):
            run = between(run, self.span.low, self.span.high)
            hit = _held(run.column(0).to_numpy(), known)
            if hit.any():
                some = run.filter(pa.array(hit))
                place = moved(some.column("place").to_numpy(), self.shelf.own + part)
                found.append(with_values(some, "place", pa.array(place)))
        return pa.concat_tables([own, pa.Table.from_batches(found, own.schema).combine_chunks()])

    def runs(self, table: str) -> Iterator[pa.RecordBatch]:
        """All runs, each let go before the next is opened."""
        return self.shelf.runs(table)

    def lookup(self, table: str, keys: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Whether each key is in a table of distinct keys, and the other (numeric) columns of those that are."""
        order = np.argsort(keys)
        wanted = keys[order]
        known = np.zeros(len(keys), dtype=bool)
        others = list(self.tables[table])[1:]
        found = {other.name: np.empty(len(keys), dtype=other.type.to_pandas_dtype()) for other in others}
        low, high = (int(wanted[0]), int(wanted[-1]) + 1) if len(keys) else (0, 0)
        for run in self.shelf.runs(table, low=low, high=high):
            held = run.column(0).to_numpy()
            first, last = np.searchsorted(wanted, held[0]), np.searchsorted(wanted, held[-1], side="right")
            at = np.searchsorted(held, wanted[first:last])
            hit = held[at] == wanted[first:last]
            places = order[first:last][hit]
            known[places] = True
            for other in others:
                found[other.name][places] = run.column(other.name).to_numpy()[at[hit]]
        return known, {name: values[known] for name, values in found.items()}

    def partial(self, part: int) -> pa.Table:
        """What `map` said of a part."""
        return self.shelf.partial(part)

    def take(self, column: str, place: np.ndarray) -> list[pa.Array]:
        """A column of the partials at ascending places, in order: one array for each piece of them that has any."""
        found = []
        parts, rows = part_of(place), row_of(place)
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        for low, high in pairwise([*starts.tolist(), len(parts)]):
            wanted, start = rows[low:high], 0
            for chunk in self.shelf.partial(int(parts[low])).column(column).chunks:
                first, last = np.searchsorted(wanted, (start, start + len(chunk)))
                if last > first:
                    found.append(chunk.take(pa.array(wanted[first:last] - start)))
                start += len(chunk)
        return found

    def release(self) -> None:
        """Let go of the partials that were read."""
        self.shelf.release()

    def of_part(self, part: int) -> "View":
        """The same for the places of one part."""
        return View(self.shelf, self.tables, span_of(range(part, part + 1)))


class Exchanging(Protocol):
    """What an exchange tells of its rounds (see curate.steps.Exchange)."""

    @abstractmethod
    def tables(self) -> Tables:
        """Schemas of the tables between rounds."""

    @abstractmethod
    def rounds(self) -> Sequence[Round]:
        """The rounds in order."""

    @abstractmethod
    def scatter(self, partial: pa.Table, part: int, out: Out) -> None:
        """What goes from a part to the rounds."""


def add_facts(total: dict[str, Any], facts: Mapping[str, Any]) -> None:
    """Add what a task told to what is known: numbers add up, dicts by key, lists are joined."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            add_facts(total.setdefault(name, {}), value)
        else:
            total[name] = total[name] + value if name in total else value


def between(run: pa.RecordBatch, low: int, high: int) -> pa.RecordBatch:
    """The rows of a run with low <= key < high."""
    keys = run.column(0).to_numpy()
    start = int(np.searchsorted(keys, np.uint64(low))) if low else 0
    end = int(np.searchsorted(keys, np.uint64(high))) if high < KEYS else len(keys)
    return run.slice(start, end - start)


def with_values(rows: Rows, column: str, values: pa.Array) -> Rows:
    """The rows with other values in a column, whose field stays as it is."""
    at = rows.schema.get_field_index(column)
    return rows.set_column(at, rows.schema.field(at), values)


def _held(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool: which of these sorted keys are among the sorted `known` ones, which may repeat."""
    if not len(keys):
        return np.zeros(0, dtype=bool)
    near = known[np.searchsorted(known, keys[0]) : np.searchsorted(known, keys[-1], side="right")]
    if not len(near):
        return np.zeros(len(keys), dtype=bool)
    return near[np.minimum(np.searchsorted(near, keys), len(near) - 1)] == keys


def sorted_run(rows: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of a table as one run: in order of key, equal keys as they came."""
    rows = rows.select(schema.names).cast(schema)
    keys = rows.column(0).to_numpy()
    if len(keys) and bool((keys[1:] < keys[:-1]).any()):
        rows = rows.take(pa.array(key_order(keys)))
    columns = [_one_array(column) for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def key_order(keys: np.ndarray) -> np.ndarray:
    """Positions of `keys` (uint64) in ascending order of key, equal keys in order of position."""
    if not np.any(keys[1:] < keys[:-1]):
        return np.arange(len(keys))
    packed, low = _packed(keys)
    order = (packed & low).view(np.int64)
    _settle(order, np.flatnonzero(_repeats(packed, low)), keys)
    return order


def repeated_order(keys: np.ndarray) -> np.ndarray:
    """Positions of the `keys` (uint64) that occur more than once, in the order of `key_order`."""
    packed, low = _packed(keys)
    order = (packed[_repeats(packed, low)] & low).view(np.int64)
    _settle(order, np.arange(len(order)), keys)
    return order[_repeats(keys[order], np.uint64(0))]


def _packed(keys: np.ndarray) -> tuple[np.ndarray, np.uint64]:
    """The keys' upper bits with the position in the lower ones, in order; and which bits those are.

    Several times faster than an indirect sort. Chunks stay in the processor's cache.
    """
    low = np.uint64((1 << max(len(keys) - 1, 1).bit_length()) - 1)
    spread, packed = _spread(keys), np.empty_like(keys)
    for start in range(0, len(keys), _CHUNK):
        chunk = packed[start : start + _CHUNK]
        np.bitwise_and(spread[start : start + _CHUNK], ~low, out=chunk)
        chunk |= np.arange(start, start + len(chunk), dtype=np.uint64)
    packed.sort()
    return packed, low


def _spread(keys: np.ndarray) -> np.ndarray:
    """The keys in the same order, with their highest bits in use (those of places differ in the lower ones)."""
    least, most = (int(keys.min()), int(keys.max())) if len(keys) else (0, 0)
    unused = 64 - (most - least).bit_length()
    return (keys - np.uint64(least)) << np.uint64(unused) if 0 < unused < 64 else keys


def _settle(order: np.ndarray, unsure: np.ndarray, keys: np.ndarray) -> None:
    """Put the positions at the places `unsure` of `order` (whole runs of equal upper bits) in order of the key."""
    held = keys[order[unsure]]
    if np.any(held[1:] < held[:-1]):  # two keys that differ in lower bits only
        order[unsure] = order[unsure][np.argsort(held, kind="stable")]


def _repeats(ordered: np.ndarray, low: np.uint64) -> np.ndarray:
    """bool: which of these sorted values occur more than once, whatever their bits `low` are."""
    equal = np.zeros(len(ordered) + 1, dtype=bool)
    for start in range(0, len(ordered) - 1, _CHUNK):
        chunk = ordered[start : start + _CHUNK + 1]
        equal[start + 1 : start + len(chunk)] = (chunk[1:] ^ chunk[:-1]) <= low
    return equal[1:] | equal[:-1]


def first_of_equals(*columns: np.ndarray) -> np.ndarray:
    """bool: which rows differ in any column from the row before; in sorted rows, the first of each that are equal."""
    first = np.zeros(len(columns[0]), dtype=bool)
    first[:1] = True
    for column in columns:
        first[1:] |= column[1:] != column[:-1]
    return first


def mixed(keys: np.ndarray) -> np.ndarray:
    """uint64 values spread over the key space, one to one (the finaliser of MurmurHash3)."""
    keys = (keys ^ (keys >> _FOLD)) * _MIX_1
    keys = (keys ^ (keys >> _FOLD)) * _MIX_2
    return keys ^ (keys >> _FOLD)


def places(part: int, rows: np.ndarray) -> np.ndarray:
    """uint64: the places of rows of a part; in ascending order they are in the corpus' order."""
    return np.uint64(part << _ROW_BITS) | rows.astype(np.uint64)


def moved(place: np.ndarray, parts: int | np.ndarray) -> np.ndarray:
    """The places, as many parts further on."""
    return place + (np.asarray(parts, dtype=np.uint64) << np.uint64(_ROW_BITS))


def part_of(place: np.ndarray) -> np.ndarray:
    """int64: the part of each place."""
    return (place >> np.uint64(_ROW_BITS)).astype(np.int64)


def row_of(place: np.ndarray) -> np.ndarray:
    """int64: the row of each place within its part."""
    return (place & np.uint64((1 << _ROW_BITS) - 1)).astype(np.int64)


def span_of(parts: range) -> Span:
    """The places of a run of parts."""
    return Span(parts.start << _ROW_BITS, min(parts.stop << _ROW_BITS, KEYS), parts)


def spans(by: str, ranges: int, parts: int, attached: int = 0) -> list[Span]:
    """How the tasks of a round share its work; no task has own and attached parts unless it has all."""
    if attached and by == "part" and ranges > 1:
        theirs = [
            span_of(range(parts + span.parts.start, parts + span.parts.stop)) for span in spans(by, ranges, attached)
        ]
        return [replace(span, whole=False) for span in (*spans(by, ranges, parts), *theirs)]
    parts += attached
    everything = range(parts)
    found = [Span(parts=everything)]
    if by == "hash":
        edges = [KEYS * number // ranges for number in range(ranges + 1)]
        found = [Span(low, high, everything) for low, high in pairwise(edges)]
    elif by == "part":
        edges = [parts * number // ranges for number in range(ranges + 1)]
        found = [span_of(range(low, high)) for low, high in pairwise(edges) if high > low]
    return [replace(found[0], whole=True)] if len(found) == 1 else found


class MemoryShelf:
    """Runs and partials in memory (or memory-mapped by whoever made them)."""

    def __init__(
        self,
        partials: Sequence[pa.Table],
        tables: Tables,
        *,
        release: Callable[[], None] = lambda: None,
        attached: Attached | None = None,
    ) -> None:
        self.partials = partials
        self.tables = tables
        self.attached = attached
        self._release = release
        self.kept: dict[str, list[pa.RecordBatch]] = {}
        self.told: dict[str, Any] = {}

    def runs(self, table: str, *, low: int = 0, high: int = KEYS) -> Iterator[pa.RecordBatch]:
        """The runs of a table."""
        yield from self.kept.get(table, ())

    @property
    def own(self) -> int:
        """Parts of the corpus itself."""
        return len(self.partials)

    def partial(self, part: int) -> pa.Table:
        """What `map` said of a part."""
        return self.attached.partial(part - self.own) if self.attached and part >= self.own else self.partials[part]

    def release(self) -> None:
        """Let go of what was read."""
        self._release()
        if self.attached:
            self.attached.release()

    def damaged(self, part: int, what: str) -> Exception:
        """A sentence that names the part."""
        if self.attached and part >= self.own:
            return self.attached.damaged(part - self.own, what)
        return MismatchError(f"The partial of part {part} is damaged ({what}): run `map` of that part again.")

    def out(self, gives: Iterable[str]) -> "_MemoryOut":
        """The place of one round's output, which `keep` adds to the shelf."""
        return _MemoryOut({table: [] for table in gives}, self.tables)

    def keep(self, out: "_MemoryOut", *, instead: bool = False) -> None:
        """Add what was written and told; `instead`: of what the shelf has of these tables."""
        for table, runs in out.into.items():
            self.kept[table] = runs if instead else [*self.kept.get(table, ()), *runs]
        add_facts(self.told, out.told)


@dataclass(frozen=True)
class _MemoryOut:
    into: dict[str, list[pa.RecordBatch]]
    tables: Tables
    told: dict[str, Any] = field(default_factory=dict)

    def write(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self.into[table].append(sorted_run(rows, self.tables[table]))

    def tell(self, **facts: Any) -> None:
        add_facts(self.told, facts)


def run_in_memory(exchange: Exchanging, shelf: MemoryShelf, *, ranges: int = 1, scattered: bool = False) -> View:
    """All rounds over the partials of `shelf`; gives the view of everything, and `shelf.told` for the summary.

    `scattered`: the shelf holds what `scatter` says already. `ranges` only serves to show that it changes nothing.
    """
    parts, tables = len(shelf.partials), exchange.tables()
    attached = shelf.attached.parts if shelf.attached else 0
    if not scattered:
        out = shelf.out(scattered_tables(exchange))
        for part, partial in enumerate(shelf.partials):
            exchange.scatter(partial, part, out)
        shelf.keep(out)
    for one in exchange.rounds():
        for turn in turns(one):
            out = shelf.out(one.gives)
            for span in spans(one.by, one.tasks or ranges, parts, attached):
                getattr(exchange, one.name)(View(shelf, tables, span, turn), out)
            shelf.keep(out, instead=bool(one.until))
            if not out.told.get(one.until):
                break
    return View(shelf, tables, Span(parts=range(parts + attached), whole=True))


def turns(one: Round) -> Iterator[int]:
    """0, 1, ...: the turns of a round, until who asks has enough. Raises RuntimeError after MOST_TURNS."""
    yield from range(MOST_TURNS)
    raise RuntimeError(f"Round `{one.name}` still tells of `{one.until}` after {MOST_TURNS} turns: it does not end.")


def scattered_tables(exchange: Exchanging) -> tuple[str, ...]:
    """The tables that no round writes: `scatter` does."""
    given = {table for one in exchange.rounds() for table in one.gives}
    return tuple(table for table in exchange.tables() if table not in given)
