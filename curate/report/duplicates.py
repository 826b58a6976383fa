"""A few duplicates with their survivors: ledgers (who left, for whom) joined with the texts of the stage before.

Bounded: of all duplicates the CANDIDATES with the smallest ids are looked at, of these EXAMPLES are shown, spread
evenly over their similarities. Texts are read from the row groups that hold them, after a look at the ids alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.report.content import DuplicateContent

if TYPE_CHECKING:
    from curate.engine.run import Dataset

EXAMPLES = 12
CANDIDATES = 512
EXCERPT = 900
"""Characters shown of each text."""
LEAD = 200
"""Characters shown before the first difference, where that lies beyond the excerpt."""
_LOOKED_AT = 100_000
"""Bytes of each text that are looked at for the first difference."""


def duplicate_examples(dataset: "Dataset", *, most: int = EXAMPLES) -> list[DuplicateContent]:
    """At most `most` duplicates of all stages; the stages share the number, the last one comes first."""
    examples: list[DuplicateContent] = []
    deciding = [
        (stage, before)
        for before, stage in zip(dataset.stages, dataset.stages[1:], strict=False)
        if stage.manifest["fates"].get("duplicate")
    ]
    for left, (stage, before) in zip(range(len(deciding), 0, -1), reversed(deciding), strict=True):
        chosen = _spread(_candidates(stage.ledgers), -(-(most - len(examples)) // left))
        wanted = {row[key] for row in chosen for key in ("id", "survivor") if row[key]}
        texts = _texts(before.parts, wanted)
        examples += [_example(row, texts) for row in chosen]
    return examples


def _candidates(ledgers: Sequence[Path]) -> list[dict[str, Any]]:
    """Ledger rows of duplicates: the CANDIDATES with the smallest ids, over all parts."""
    columns = ["id", "survivor", "value"]
    best: pa.Table | None = None
    for path in ledgers:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["fate", *columns]):
                found = batch.filter(pc.equal(batch.column("fate"), "duplicate")).select(columns)
                if found.num_rows:
                    table = pa.Table.from_batches([found])
                    best = table if best is None else pa.concat_tables([best, table])
                    best = best.sort_by("id").slice(0, CANDIDATES)
    return [] if best is None else best.to_pylist()


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` of the rows, evenly over their order by similarity, least similar first."""
    ordered = sorted(rows, key=lambda row: (row["value"] if row["value"] is not None else 2.0, row["id"]))
    if len(ordered) <= count:
        return ordered
    return [ordered[place * (len(ordered) - 1) // max(1, count - 1)] for place in range(count)]


def _texts(parts: Sequence[Path], wanted: set[str]) -> dict[str, tuple[str, str]]:
    """URL and text of the wanted ids."""
    found: dict[str, tuple[str, str]] = {}
    ids = pa.array(sorted(wanted), pa.string())
    for path in parts:
        if len(found) == len(wanted):
            break
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("id", "url", "text") if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                hits = pc.is_in(file.read_row_group(group, columns=["id"]).column("id"), value_set=ids)
                if pc.any(hits).as_py():
                    rows = file.read_row_group(group, columns=columns).filter(hits)
                    found |= {row["id"]: _shown(row) for row in rows.to_pylist()}
    return found


def _shown(row: dict[str, Any]) -> tuple[str, str]:
    return row.get("url") or "", (row.get("text") or "")[:_LOOKED_AT]


def _example(row: dict[str, Any], texts: dict[str, tuple[str, str]]) -> DuplicateContent:
    survivor = row["survivor"] or ""
    url, text = texts.get(row["id"], ("", ""))
    survivor_url, survivor_text = texts.get(survivor, ("", ""))
    text, survivor_text = excerpts(text, survivor_text)
    return DuplicateContent(
        id=row["id"],
        url=url,
        text=text,
        survivor_id=survivor,
        survivor_url=survivor_url,
        survivor_text=survivor_text,
        similarity=row["value"],
    )


def excerpts(first: str, second: str) -> tuple[str, str]:
    """EXCERPT characters of both texts, moved on together if what differs would lie beyond them."""
    common = next((place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if common is None:
        common = min(len(first), len(second))
    if common == len(first) == len(second) or common < EXCERPT // 2:
        return _cut(first, 0), _cut(second, 0)
    return _cut(first, common - LEAD), _cut(second, common - LEAD)


def _cut(text: str, start: int) -> str:
    end = start + EXCERPT
    return ("… " if start else "") + text[start:end] + (" …" if end < len(text) else "")
