"""The dumps of an index as parts beside a corpus' own (curate.rounds.Attached): memory-mapped, numbered when attached.

A dump's folder is laid out as a stage's: partials and sorted runs, a manifest for each part. Places in it count from
its own first part, and are moved when a run is read; so no file changes when dumps come or go. What is attached is
pinned by its content: a task that finds other dumps than the exchange began with refuses to go on.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.index import GONE
from curate.engine.manifest import part_manifest, read_valid
from curate.engine.shuffle import FileShelf, Written
from curate.errors import MismatchError
from curate.fingerprints import fingerprint
from curate.rounds import KEYS, Stored, Tables, add_facts, moved
from curate.steps import Exchange
from curate.storage import at

DUMP_PART = "dump"
"""Kind of the manifest of a dump's part."""
SURVIVOR, SURVIVOR_DUMP = "survivor", "survivor_dump"
"""Columns of partials in an index that has removed documents, too: place of the document that was kept for this one,
within its dump; and that dump's fingerprint, null if it is this one. Both null of a document that stayed."""


class AttachedDumps:
    """Dumps, the oldest first."""

    def __init__(self, dumps: Sequence[Stored], tables: Tables) -> None:
        self.dumps = tuple(dumps)
        self.bytes: dict[str, int] = {}
        for dump in dumps:
            add_facts(self.bytes, dump.bytes)
        self.documents = sum(dump.documents for dump in dumps)
        self.dump_names = pa.array([dump.name for dump in dumps], pa.string())
        self.contents = pa.array([dump.fingerprint for dump in dumps], pa.string())
        """Fingerprints of the dumps."""
        self._starts = np.array([0, *accumulate(dump.parts for dump in dumps)])
        self.parts = int(self._starts[-1])
        self._shelves = [_shelf(dump, tables) for dump in dumps]

    @property
    def fingerprint(self) -> str:
        """Of names and contents."""
        return attached_content(self.dumps)

    def runs(self, table: str, *, low: int = 0, high: int = KEYS) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Blocks of a table, each with the number of its dump's first part."""
        for start, shelf in zip(self._starts.tolist(), self._shelves, strict=False):
            for run in shelf.runs(table, low=low, high=high):
                yield start, run

    def partial(self, number: int) -> pa.Table:
        """What `map` said of a part."""
        dump, part = self._of(number)
        return self._shelves[dump].partial(part)

    def release(self) -> None:
        """Let go of the partials."""
        for shelf in self._shelves:
            shelf.release()

    def damaged(self, number: int, what: str) -> Exception:
        """A sentence that names the file."""
        dump, part = self._of(number)
        return self._shelves[dump].damaged(part, what)

    def age(self, number: int) -> int:
        """Which dump a part lies in."""
        return self._of(number)[0]

    def within(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dump of each part, and its number within that."""
        dumps = np.searchsorted(self._starts, numbers, side="right") - 1
        return dumps, numbers - self._starts[dumps]

    def names(self, numbers: np.ndarray) -> pa.Array:
        """The name of the dump of each part."""
        dumps, _ = self.within(numbers)
        return self.dump_names.take(pa.array(dumps))

    def removed(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a part that left as duplicates, and places of their survivors, counted from the first part of all."""
        partial, (own, _) = self.partial(number), self._of(number)
        if SURVIVOR not in partial.schema.names:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
        survivor = partial.column(SURVIVOR)
        rows = np.flatnonzero(survivor.is_valid().to_numpy())
        place = survivor.take(pa.array(rows)).to_numpy()
        named = partial.column(SURVIVOR_DUMP).take(pa.array(rows)).fill_null(self.dumps[own].fingerprint)
        known = pc.index_in(named, value_set=self.contents)
        first = self._starts[known.fill_null(0).to_numpy()]
        return rows, np.where(known.is_valid().to_numpy(), moved(place, first), GONE)

    def _of(self, number: int) -> tuple[int, int]:
        dump = int(np.searchsorted(self._starts, number, side="right")) - 1
        return dump, number - int(self._starts[dump])


def attached_content(dumps: Sequence[Stored]) -> str:
    """Names and contents of dumps, in their order; empty for none."""
    return fingerprint([[dump.name, dump.fingerprint] for dump in dumps]) if dumps else ""


def open_attached(exchange: Exchange, *, check: bool = False) -> AttachedDumps | None:
    """The dumps that an exchange looks at; `check`: that their files are there, with their sizes.

    Raises MismatchError that names the dump and the file.
    """
    dumps = exchange.older()
    if check:
        for dump in dumps:
            check_dump(dump)
    return AttachedDumps(dumps, exchange.tables()) if dumps else None


def same_attached(exchange: Exchange, content: str) -> AttachedDumps | None:
    """The dumps that the exchange began with. Raises MismatchError if the index has changed since."""
    if not content:
        return None
    dumps = exchange.older()
    if attached_content(dumps) != content:
        raise MismatchError(
            f"The index that `{exchange.name}` looks at changed while the recipe ran: run the same command again."
        )
    return AttachedDumps(dumps, exchange.tables())


def check_dump(dump: Stored, *, verify: bool = False) -> list[dict[str, Any]]:
    """The manifests of its parts. Raises MismatchError for the first file that is not as it was written."""
    found = []
    for number in range(dump.parts):
        path = part_manifest(at(dump.folder), number, DUMP_PART)
        manifest = read_valid(path, ("part", "files", "told"), verify=verify)
        if manifest is None:
            raise MismatchError(
                f"{at(dump.folder)}: part {number} of dump {dump.name!r} is damaged or missing ({path.name}, or a file "
                f"that it names): {_mend(dump.name)}."
            )
        found.append(manifest)
    return found


def _shelf(dump: Stored, tables: Tables) -> FileShelf:
    written = {table: Written(table, DUMP_PART, dump.parts) for table in dump.bytes}
    return FileShelf(dump.folder, dump.parts, tables, written, mend=_mend(dump.name))


def _mend(name: str) -> str:
    return f"index the dump {name!r} again, which makes it anew, or withdraw it (`curate dedup`)"
