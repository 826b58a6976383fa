"""`curate why`: what became of one record, from the ledgers of a run, and every rule that it fails.

The record is named by its id, or by its URL (found in the parts of the first stage, or in its ledger if it left there).
A document that was dropped goes through all steps again (curate.engine.replay): the answer lists every rule that
it fails, in the recipe's order, not only the first. One that was a duplicate, or of which too little was left, comes
with the text that was kept in its place, both as the exchange saw them; one that a stage after the first edited, with
its text before and after that stage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.engine.as_run import plan_as_run
from curate.engine.ledger import STAYED
from curate.engine.recipe import Recipe
from curate.engine.replay import asked, replayed
from curate.engine.stages import Plan, Stage
from curate.errors import InputError
from curate.storage import at


@dataclass(frozen=True)
class Duplicate:
    """A removed document and the one that was kept in its place."""

    id: str
    text: str
    survivor: str
    """Its id."""
    survivor_text: str


@dataclass(frozen=True)
class Edit:
    """A document that a stage edited, before and after."""

    by: str
    """The steps of the stage that edited it."""
    before: str
    after: str


Answer = str | Duplicate | Edit


def why(recipe: Recipe, record: str, *, work: Path) -> Iterator[Answer]:
    """Lines that say, stage by stage, what became of `record`, with the two texts if it was a duplicate or edited.
    Raises InputError if the run is not there or no ledger knows the record."""
    if not work.is_dir():
        raise InputError(f"{work}: no such work folder; name the one of the run with --work.")
    plan = plan_as_run(recipe, at(work))
    folders = [(stage, stage.folder(work)) for stage in plan.stages]
    if not (folders[0][1] / "manifest.json").exists():
        raise InputError(
            f"{work}: this recipe was not run here with these files; run `curate run {recipe.path}` first."
        )
    key = record
    first: tuple[int, dict[str, Any]] | None = None
    """Part and row of the first ledger that knows it."""
    left: dict[str, Any] | None = None
    if found := _id_of_url(folders[0][1], record):
        key = found
        yield f"{record} is {key}"
    for stage, folder in folders:
        if not (folder / "manifest.json").exists():
            yield f"stage {stage.label}: not finished"
            break
        rows = _ledger_rows(folder, key)
        for part, row in rows:
            first = first or (part, row)
            yield _sentence(stage, row)
            left = row if row["fate"] not in STAYED else None
            if left and row["survivor"] is not None:
                yield from _two_texts(stage, work, part, row)
            if row["fate"] == "edited" and stage.parent:
                yield from _before_and_after(stage.parent.folder(work), folder, part, row)
        if first and not any(row["fate"] in STAYED for _, row in rows):
            break
    if first and left:
        yield from _other_rules(plan, work, *first, left)
    if first is None:
        raise InputError(f"No ledger of {recipe.name} in {work} has the record {record!r}; give an id or an exact URL.")


def _two_texts(stage: Stage, work: Path, part: int, row: dict[str, Any]) -> Iterator[Answer]:
    """The texts of a removed document and of its survivor, from what the exchange received."""
    received = stage.parent.folder(work) if stage.parent else None
    own = _text(row["id"], [_part(received, part)]) if received else None
    kept = _text(row["survivor"], _parts_of_survivor(received, row)) if received else None
    gone = [key for key, text in ((row["id"], own), (row["survivor"], kept)) if text is None]
    if own is None or kept is None:
        yield f"             (what {stage.label} received holds no text of {' and '.join(gone)}: no comparison)"
    elif row["fate"] != "duplicate" and (row["id"], own) == (row["survivor"], kept):
        yield "             (it keeps the first copy itself: what it lost is repeated within it)"
    else:
        yield Duplicate(row["id"], own, row["survivor"], kept)


def _before_and_after(received: Path, made: Path, part: int, row: dict[str, Any]) -> Iterator[Answer]:
    before, after = (_text(row["id"], [_part(folder, part)]) for folder in (received, made))
    if before is None or after is None:
        yield "             (its text before or after is not on disk any more: what went cannot be shown)"
    else:
        yield Edit(row["edited_by"], before, after)


def _part(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.parquet"


def _parts_of_survivor(folder: Path, row: dict[str, Any]) -> list[Path]:
    """The part that the ledger names first; the others only matter if it does not hold it."""
    named = row.get("survivor_part")
    first = [] if named is None else [_part(folder, named)]
    return first + [path for path in sorted(folder.glob("part-*.parquet")) if path not in first]


def _text(key: str, paths: Sequence[Path]) -> str | None:
    """Text of a document, from the first of these files that has it."""
    for path in filter(Path.exists, paths):
        if "text" not in pq.read_schema(path).names:  # pages that are not extracted yet
            continue
        rows = _table(path, "id", key, columns=["text"])
        if rows.num_rows:
            return rows.column("text")[0].as_py() or ""
    return None


def _id_of_url(folder: Path, url: str) -> str | None:
    for path in [*sorted(folder.glob("part-*.parquet")), *sorted(folder.glob("ledger-*.parquet"))]:
        table = _table(path, "url", url, columns=["id", "url"])
        if table.num_rows:
            return str(table.column("id")[0].as_py())
    return None


def _ledger_rows(folder: Path, key: str) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for path in sorted(folder.glob("ledger-*.parquet")):
        table = _table(path, "id", key)
        found += [(int(path.stem.rpartition("-")[2]), row) for row in table.to_pylist()]
    return found


def _table(path: Path, column: str, value: str, *, columns: list[str] | None = None) -> pa.Table:
    """The rows with that value; other columns are read of row groups that have one. Read by this thread alone: a file
    object that Arrow's threads still hold when Python ends aborts the process."""
    try:
        with (
            path.open("rb") as stream,
            pq.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True) as file,
        ):
            found = [file.schema_arrow.empty_table().select(columns or file.schema_arrow.names)]
            for group in range(file.num_row_groups):
                same = pc.equal(file.read_row_group(group, columns=[column], use_threads=False).column(0), value)
                if pc.any(same).as_py():
                    found.append(file.read_row_group(group, columns=columns, use_threads=False).filter(same))
        return pa.concat_tables(found)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read ({error}): run the recipe again with --verify, and what is damaged is made again."
        ) from error


def _sentence(stage: Stage, row: dict[str, Any]) -> str:
    where = f"({row['source']} at {row['offset']})"
    fate = row["fate"]
    noted = "" if row["error"] is None else f" ({row['error']})"
    if fate == "kept":
        return f"kept by      {stage.label}"
    if fate == "edited":
        return f"kept by      {stage.label}; edited by {row['edited_by']}: {row['edited_bytes']:,} bytes{noted}"
    if fate == "failed":
        return f"failed in    {row['step']} {where}: {row['error']}"
    if fate == "duplicate":
        value = "" if row["value"] is None else f": similarity {row['value']:.6g}"
        value += "" if None in (row["value"], row["threshold"]) else f", duplicates are from {row['threshold']:.6g} on"
    else:
        value = "" if row["value"] is None else f": {row['value']:.6g}{asked(row['value'], row['threshold'])}"
    survivor = "" if row["survivor"] is None else f"; kept in its place: {row['survivor']}"
    if row.get("survivor_part") is not None:
        survivor += f" (part {row['survivor_part']})"
    return f"{fate} by {row['step']} {where}: {row['rule'] or row['step']}{value}{survivor}{noted}"


def _other_rules(plan: Plan, work: Path, part: int, entered: dict[str, Any], left: dict[str, Any]) -> Iterator[str]:
    """The other rules that the document fails, asked of it on its way from its source."""
    if entered["step"] and entered["step"].startswith("read "):
        return  # it never became a document
    try:
        for failed in replayed(plan, work, part=part, source=entered["source"] or "", key=entered["id"]):
            if failed.rule != left["rule"]:
                yield f"             also fails {failed.sentence}"
            elif failed.labels:
                yield f"             as {failed.step} found: {failed.labels}"
    except LookupError:
        yield "             (its source does not hold it any more: other rules cannot be asked)"
