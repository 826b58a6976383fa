"""`curate why`: what became of one record, from the ledgers of a run, and every rule that it fails.

The record is named by its id, or by its URL (found in the parts of the first stage, or in its ledger if it left there).
A document that was dropped goes through all steps again (curate.engine.replay): the answer lists every rule that
it fails, in the recipe's order, not only the first. One that was a duplicate comes with the text that was kept in its
place, both as the exchange saw them.
"""

from collections.abc import Iterator
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


def why(recipe: Recipe, record: str, *, work: Path) -> Iterator[str | Duplicate]:
    """Lines that say, stage by stage, what became of `record`, and the two texts if it was a duplicate. Raises
    InputError if the run is not there or no ledger knows the record."""
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
            if row["fate"] == "duplicate":
                yield from _two_texts(stage, work, part, row)
        if first and not any(row["fate"] in STAYED for _, row in rows):
            break
    if first and left:
        yield from _other_rules(plan, work, *first, left)
    if first is None:
        raise InputError(f"No ledger of {recipe.name} in {work} has the record {record!r}; give an id or an exact URL.")


def _two_texts(stage: Stage, work: Path, part: int, row: dict[str, Any]) -> Iterator[str | Duplicate]:
    """The texts of a duplicate and of its survivor, from what the exchange received."""
    received = stage.parent.folder(work) if stage.parent else None
    texts = {row["id"]: None, row["survivor"]: None} | (_texts(received, part, row) if received else {})
    if gone := [key for key, text in texts.items() if text is None]:
        yield f"             (what {stage.label} received holds no text of {' and '.join(gone)}: no comparison)"
    else:
        yield Duplicate(row["id"], texts[row["id"]] or "", row["survivor"], texts[row["survivor"]] or "")


def _texts(folder: Path, part: int, row: dict[str, Any]) -> dict[str, str]:
    """Texts by id: of the document in its part, and of the survivor in the first part that has it."""
    own = folder / f"part-{part:05d}.parquet"
    found = {}
    for key, paths in ((row["id"], [own]), (row["survivor"], sorted(folder.glob("part-*.parquet")))):
        for path in filter(Path.exists, paths):
            if "text" not in pq.read_schema(path).names:  # pages that are not extracted yet
                continue
            rows = _table(path, "id", key, columns=["text"])
            if rows.num_rows:
                found[key] = rows.column("text")[0].as_py() or ""
                break
    return found


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
    with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        found = [file.schema_arrow.empty_table().select(columns or file.schema_arrow.names)]
        for group in range(file.num_row_groups):
            same = pc.equal(file.read_row_group(group, columns=[column], use_threads=False).column(0), value)
            if pc.any(same).as_py():
                found.append(file.read_row_group(group, columns=columns, use_threads=False).filter(same))
    return pa.concat_tables(found)


def _sentence(stage: Stage, row: dict[str, Any]) -> str:
    where = f"({row['source']} at {row['offset']})"
    fate = row["fate"]
    if fate == "kept":
        return f"kept by      {stage.label}"
    if fate == "edited":
        noted = "" if row["error"] is None else f" ({row['error']})"
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
    noted = "" if row["error"] is None else f" ({row['error']})"
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
