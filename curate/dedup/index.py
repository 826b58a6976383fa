"""An index: what earlier dumps left, so that a new one is compared with all of them and none is read again.

`index.json` in its folder names the dumps, the oldest first, with the parameters that all of them were made with, and
the hash of each one's files. It is written last, whole; a folder that it does not name is no dump. Documents of a dump
are never removed by a later one, and survive over its documents whatever `keep` says, the oldest dump first.
Where each duplicate must be similar to its survivor, only survivors are in the index; where similar documents join in
chains, all documents are, as a removed one still connects those that come later with its survivor.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError, MismatchError
from curate.fingerprints import fingerprint, write_json
from curate.rounds import Attached, Stored, View, moved, places, row_of, with_values
from curate.storage import Location, at
from curate.yamlfile import NAME_RULE, is_name

FILE = "index.json"
FORMAT = 1
SEAL = "seal"
"""The file's hash of itself."""

STANDING = pa.field("standing", pa.int32(), nullable=False)
"""Of a member of a cluster: the age of its dump, OWN, or LAST of what a dump removed: it connects, and never stays."""
OWN, LAST = 1 << 30, (1 << 31) - 1
DUMP = pa.field("survivor_dump", pa.string())
"""Of a document's state: the dump of the index that its survivor is in; null if it is none."""
GONE = np.uint64(2**64 - 1)
"""Instead of the place of a survivor whose dump was withdrawn."""


@dataclass(frozen=True)
class Dump(Stored):
    """A dump as the index names it; `folder` is relative to the index there."""

    compared_with: tuple[str, ...]
    """Dumps that it was held against when it ran."""
    removed_for_older: int
    """Documents of it that left as duplicates of documents of those."""
    source: str
    """Fingerprint of what it was made of."""
    all_bytes: int
    """Of all its files."""


@dataclass(frozen=True)
class Index:
    """The dumps of an index."""

    folder: Location
    made_with: Mapping[str, Any]
    """The step and its parameters; empty while there is no dump."""
    dumps: tuple[Dump, ...] = ()

    def dump(self, name: str) -> Dump | None:
        """The dump of that name."""
        return next((dump for dump in self.dumps if dump.name == name), None)

    def stored(self, dump: Dump) -> Stored:
        """Where a dump's files are."""
        return Stored(
            dump.name, str(self.folder / dump.folder), dump.parts, dump.documents, dump.bytes, dump.fingerprint
        )

    def older_than(self, name: str) -> tuple[Stored, ...]:
        """The dumps before the one of that name; all, if it is not there yet."""
        names = [dump.name for dump in self.dumps]
        return tuple(self.stored(dump) for dump in self.dumps[: names.index(name) if name in names else None])

    def check_made_with(self, made_with: Mapping[str, Any]) -> None:
        """Raise MismatchError that names the parameter in which a step differs from that of the index."""
        if not self.dumps:
            return
        for name in sorted({*self.made_with, *made_with}):
            theirs, own = self.made_with.get(name), made_with.get(name)
            if theirs != own:
                raise MismatchError(
                    f"The index {self.folder} was made with {name} {theirs!r}, and this step has {own!r}: use the "
                    "same, or start another index."
                )

    def save(self, made_with: Mapping[str, Any], dumps: Sequence[Dump]) -> "Index":
        """The index with these dumps, written."""
        changed = replace(self, made_with=dict(made_with) if dumps else {}, dumps=tuple(dumps))
        plain = {"format": FORMAT, "made_with": changed.made_with, "dumps": [asdict(dump) for dump in dumps]}
        plain = json.loads(json.dumps(plain))
        write_json(self.folder / FILE, plain | {SEAL: fingerprint(plain)})
        return changed


def load_index(folder: Location) -> Index:
    """The index in a folder; an empty folder, or none, is an index without dumps.

    Raises InputError if the folder holds something else, or a damaged index.
    """
    path = folder / FILE
    try:
        if not path.exists():
            if problem := index_problem(folder):
                raise InputError(f"{folder} {problem}.")
            return Index(folder, {})
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop(SEAL) != fingerprint(plain) or plain["format"] != FORMAT:
            raise ValueError("it is not as it was written, or of another version of curate")
        dumps = [Dump(**dump | {"compared_with": tuple(dump["compared_with"])}) for dump in plain["dumps"]]
        for name in (name for dump in dumps for name in (dump.name, dump.folder, *dump.bytes)):
            if not is_name(name):  # they become paths: none must lead out
                raise ValueError(f"{name!r} is no name of a dump or table")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: cannot be read as an index ({error}): bring it back from a copy, or index the dumps again."
        ) from error
    return Index(folder, plain["made_with"], tuple(dumps))


def index_problem(folder: Path) -> str | None:
    """Why a path can be no index; None if it may be."""
    if (folder / FILE).exists() or not folder.exists():
        return None
    if not folder.is_dir():
        return "is a file, and an index is a folder"
    # Folders alone are what an indexing that was killed left.
    if any(not path.is_dir() for path in folder.iterdir()):
        return f"holds files, but no {FILE}: it is no index"
    return None


def check_dump_name(name: str) -> None:
    """Raise InputError for a name that no dump may have."""
    if not is_name(name):
        raise InputError(f"{NAME_RULE} (a dump was named {name!r}).")


def with_standing(members: pa.Table, part: int, view: View) -> pa.Table:
    """The members of a part with their standing; of a part of the index those whose cluster has an own document.

    Own documents have the lowest places, and a cluster's root is its lowest.
    """
    attached = view.shelf.attached
    if attached is None or part < view.shelf.own:
        return members.append_column(STANDING, pa.array(np.full(members.num_rows, OWN, dtype=np.int32)))
    members = members.filter(pa.array(members.column("root").to_numpy() < np.uint64(view.end)))
    number = part - view.shelf.own
    gone = np.isin(row_of(members.column("place").to_numpy()), attached.removed(number)[0])
    standing = np.where(gone, LAST, attached.age(number)).astype(np.int32)
    count = np.where(gone, 0, members.column("count").to_numpy())
    members = with_values(members, "count", pa.array(count))
    return members.append_column(STANDING, pa.array(standing))


def joined_before(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of places that belong to one cluster in any case: removed documents of the index with their survivors, and
    documents of the index with the node of their digest."""
    attached, own = view.shelf.attached, view.shelf.own
    left, right = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.uint64)]
    if attached is None:
        return left[0], right[0]
    for part in view.span.parts:
        if part >= own:
            rows, survivor = attached.removed(part - own)
            known = survivor != GONE
            left.append(places(part, rows[known]))
            right.append(moved(survivor[known], own))
            view.release()
    alike = view.rows("alike")
    theirs = alike.column("key").to_numpy() >= np.uint64(view.end)
    left.append(alike.column("key").to_numpy()[theirs])
    right.append(alike.column("node").to_numpy()[theirs])
    return np.concatenate(left), np.concatenate(right)


def with_dumps(state: pa.Table, attached: Attached, own: int) -> pa.Table:
    """The state of a part with the dumps of those survivors that are not of this corpus, and whose part means nothing
    here."""
    part = state.column("survivor_part")
    theirs = pc.greater_equal(part, own)
    numbers = pc.if_else(theirs, pc.subtract(part, own), None)
    known = numbers.is_valid().to_numpy()
    names = pa.nulls(len(state), pa.string())
    if known.any():
        names = pc.replace_with_mask(names, pa.array(known), attached.names(numbers.drop_null().to_numpy()))
    state = with_values(state, "survivor_part", pc.if_else(theirs, None, part))
    return state.append_column(DUMP, names)


def open_index(folder: str) -> Index:
    """The index of a step's parameter."""
    return load_index(at(folder))
