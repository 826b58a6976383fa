"""`curate diff`: which documents entered, left or changed between two datasets, by which step and rule, and why.

Why a document is missing on one side is asked of that side's ledgers, so recipes with their work folder answer, and
published output alone cannot. Memory is bounded (see id_join); files that both sides have, byte for byte, are not read.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from difflib import unified_diff
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from curate.errors import InputError
from curate.housekeeping.datasets import Dataset, Made
from curate.housekeeping.files import DataFile
from curate.housekeeping.id_join import (
    DOCUMENT,
    REASON,
    Codes,
    Spill,
    bits_for,
    documents,
    joined,
    looked_up,
    reasons,
)
from curate.housekeeping.recipe_changes import Change, changes, first_difference, origin

SAMPLES = 3
"""Documents shown for a reason, and for edits."""
EXCERPT = 300
"""Characters of a shown document."""
MOST_DIFF_LINES = 12
LONGEST_DIFFED = 20_000
"""Characters of each text that are compared line by line."""


@dataclass(frozen=True)
class Sample:
    """A document as it is where it is, and the numbers of the rule that made it leave the other side."""

    id: str
    url: str
    text: str
    value: float | None = None
    threshold: float | None = None
    survivor: str | None = None
    error: str | None = None


@dataclass
class Reason:
    """Why documents of one side are not on the other."""

    step: str
    rule: str
    fate: str
    documents: int = 0
    bytes: int = 0
    samples: list[Sample] = field(default_factory=list)
    _places: list[tuple[np.void, np.void | None]] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Edited:
    """A document whose text differs."""

    id: str
    url: str
    lines: list[str]
    """Unified difference, a few lines."""


@dataclass
class Diff:
    """The whole answer."""

    first: str
    second: str
    changes: list[Change] | None
    """None: one side does not say where it came from."""
    first_stage: str = ""
    because: str = ""
    compared: bool = False
    """Whether documents were compared; not so if a recipe did not run to its end."""
    documents: tuple[int, int] = (0, 0)
    bytes: tuple[int, int] = (0, 0)
    """Of text, in the files that were read."""
    same: int = 0
    edited: int = 0
    edited_bytes: int = 0
    """Bytes that the second has more in edited documents."""
    left: list[Reason] = field(default_factory=list)
    """Only in the first: why they are not in the second."""
    entered: list[Reason] = field(default_factory=list)
    edits: list[Edited] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        for reason in (*plain["left"], *plain["entered"]):
            del reason["_places"]
        return plain


def diff(first: Dataset, second: Dataset, *, texts: bool = True, workers: int = 4) -> Diff:
    """Compare them. Without `texts`, edits are not looked for and no text is read but that of samples."""
    here, there = origin(first), origin(second)
    found = Diff(first.title, second.title, changes(here, there) if here and there else None)
    if here and there:
        found.first_stage, found.because = first_difference(here, there)
    if any(isinstance(side, Made) and not side.finished for side in (first, second)):
        return found
    found.compared = True
    found.documents = (sum(part.rows for part in first.parts), sum(part.rows for part in second.parts))
    shared = _shared(first.parts, second.parts)
    found.same = sum(part.rows for part in first.parts if (part.hash, part.rows) in shared)
    sides = [[part for part in side.parts if (part.hash, part.rows) not in shared] for side in (first, second)]
    with TemporaryDirectory(prefix="curate-diff-") as folder, ThreadPoolExecutor(max(1, workers)) as threads:
        _compare(found, sides, [_ledgers(first), _ledgers(second)], Path(folder), threads, texts=texts)
    return found


def _shared(first: Sequence[DataFile], second: Sequence[DataFile]) -> set[tuple[str, int]]:
    once = [Counter((part.hash, part.rows) for part in parts) for parts in (first, second)]
    return {key for key, count in once[0].items() if count == 1 and once[1].get(key) == 1}


def _ledgers(dataset: Dataset) -> list[DataFile]:
    return [ledger for made in dataset.stages for ledger in made.ledgers] if isinstance(dataset, Made) else []


def _compare(
    found: Diff,
    sides: list[list[DataFile]],
    ledgers: list[list[DataFile]],
    folder: Path,
    threads: ThreadPoolExecutor,
    *,
    texts: bool,
) -> None:
    bits = bits_for(max(sum(part.rows for side in sides for part in side), *(_rows(side) // 2 for side in ledgers)))
    spilled = [Spill(folder, f"documents-{number}", DOCUMENT, bits=bits) for number in range(2)]
    gone = [Spill(folder, f"ledger-{number}", REASON, bits=bits) for number in range(2)]
    codes = [Codes(), Codes()]
    for number in range(2):
        for place, part in enumerate(sides[number]):
            for records in documents(part, place, texts=texts):
                spilled[number].add(records)
        for place, ledger in enumerate(ledgers[number]):
            for records in reasons(ledger, place, codes[number]):
                gone[number].add(records)
    told = [bool(side) for side in ledgers]
    left, entered = _Reasons(codes[1], told[1]), _Reasons(codes[0], told[0])
    edits: list[tuple[np.void, np.void]] = []
    sizes = [0, 0]
    for number in range(1 << bits):
        before, after = (spill.load(number) for spill in spilled)
        sizes = [
            total + int(side["bytes"].sum(dtype=np.int64)) for total, side in zip(sizes, (before, after), strict=True)
        ]
        range_ = joined(before, after)
        before, after = range_.both
        other = np.flatnonzero(before["text"] != after["text"])
        found.same += len(before) - len(other)
        found.edited += len(other)
        found.edited_bytes += int(
            after["bytes"][other].sum(dtype=np.int64) - before["bytes"][other].sum(dtype=np.int64)
        )
        edits += [(before[row], after[row]) for row in other[: SAMPLES - len(edits)]]
        left.add(range_.left, gone[1].load(number))
        entered.add(range_.entered, gone[0].load(number))
    found.bytes = (sizes[0], sizes[1])
    found.left, found.entered = left.sorted(), entered.sorted()
    _show(found.left, sides[0], ledgers[1], threads)
    _show(found.entered, sides[1], ledgers[0], threads)
    found.edits = _edits(edits, sides)


def _rows(files: Sequence[DataFile]) -> int:
    return sum(file.rows for file in files)


class _Reasons:
    """Reasons counted over ranges, with the first documents of each."""

    def __init__(self, codes: Codes, told: bool) -> None:
        self._codes, self._told = codes, told
        self._found: dict[int, Reason] = {}

    def add(self, records: np.ndarray, known: np.ndarray) -> None:
        """Documents of one side only, and what left on the other side."""
        places = looked_up(records, known)
        codes = np.where(places < 0, -1, known["code"][np.maximum(places, 0)].astype(np.int64) if len(known) else -1)
        for code in np.unique(codes).tolist():
            rows = np.flatnonzero(codes == code)
            reason = self._found.setdefault(code, self._reason(code))
            reason.documents += len(rows)
            reason.bytes += int(records["bytes"][rows].sum(dtype=np.int64))
            for row in rows[: SAMPLES - len(reason._places)]:
                reason._places.append((records[row], known[places[row]] if code >= 0 else None))

    def _reason(self, code: int) -> Reason:
        if code >= 0:
            return Reason(*self._codes.names[code])
        return Reason("", "", "not read" if self._told else "not known")

    def sorted(self) -> list[Reason]:
        """Most documents first."""
        return sorted(self._found.values(), key=lambda reason: (-reason.documents, reason.step, reason.rule))


def _show(
    found: list[Reason], parts: Sequence[DataFile], ledgers: Sequence[DataFile], threads: ThreadPoolExecutor
) -> None:
    """Fill in the samples."""
    wanted = [place for reason in found for place in reason._places]
    texts = _fetched([each[0] for each in wanted], parts, ("id",), ("url", "text"), threads)
    columns = ("value", "threshold", "survivor", "error")
    rows = _fetched([each[1] for each in wanted if each[1] is not None], ledgers, columns, (), threads)
    for reason in found:
        for document, departure in reason._places:
            row = texts[int(document["file"]), int(document["row"])]
            why = rows[int(departure["file"]), int(departure["row"])] if departure is not None else {}
            text = (row.get("text") or "")[:EXCERPT]
            reason.samples.append(Sample(row["id"], row.get("url") or "", text, **why))


def _fetched(
    places: Sequence[np.void],
    files: Sequence[DataFile],
    columns: tuple[str, ...],
    optional: tuple[str, ...],
    threads: ThreadPoolExecutor,
) -> dict[tuple[int, int], dict[str, Any]]:
    """Rows by file and number."""
    by_file: dict[int, list[int]] = {}
    for place in places:
        by_file.setdefault(int(place["file"]), []).append(int(place["row"]))

    def one(item: tuple[int, list[int]]) -> dict[tuple[int, int], dict[str, Any]]:
        number, rows = item
        return {(number, row): values for row, values in files[number].rows_at(rows, columns, optional=optional)}

    return {key: row for some in threads.map(one, by_file.items()) for key, row in some.items()}


def _edits(pairs: Sequence[tuple[np.void, np.void]], sides: list[list[DataFile]]) -> list[Edited]:
    found = []
    for before, after in pairs:
        rows = []
        for place, side in ((before, sides[0]), (after, sides[1])):
            file = side[int(place["file"])]
            rows += [row for _, row in file.rows_at([int(place["row"])], ("id",), optional=("url", "text"))]
        if len(rows) != 2:
            raise InputError("A file changed while it was compared; give the command again.")
        here, there = ((row.get("text") or "")[:LONGEST_DIFFED].splitlines() for row in rows)
        lines = [line for line in unified_diff(here, there, lineterm="", n=0) if not line.startswith(("---", "+++"))]
        cut = [line[:EXCERPT] for line in lines[:MOST_DIFF_LINES]]
        more = [f"… {len(lines) - MOST_DIFF_LINES} more lines"] if len(lines) > MOST_DIFF_LINES else []
        found.append(Edited(rows[0]["id"], rows[0].get("url") or "", cut + more))
    return found
