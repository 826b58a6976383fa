"""Signals as files for other tools: `signals-00000.parquet` ... with the documents' ids, and `signals.json`, last.

One file a part of the recipe, in its order: join them with the data by `id`. The JSON says which column belongs to
which rule at which threshold, and names the lineage; a folder without it is not whole.
"""

import json
import re
from pathlib import Path
from typing import Any

from curate import __version__
from curate.engine.manifest import written_entry
from curate.engine.recipe import Recipe
from curate.engine.signals import SignalSet, rule_facts
from curate.errors import StageError
from curate.storage import Location, put, redacted, sync_folder
from curate.writers import ParquetWriter

MANIFEST = "signals.json"
_OURS = re.compile(r"signals-\d+\.parquet")


def export(signals: SignalSet, recipe: Recipe, folder: Location) -> dict[str, Any]:
    """Write the tables to `folder`; what the JSON says. Raises StageError where other Parquet files lie, or the disk
    refuses."""
    try:
        return _export(signals, recipe, folder)
    except OSError as error:
        raise StageError(f"{redacted(folder)}: the signals cannot be written ({redacted(error)}).") from error


def _export(signals: SignalSet, recipe: Recipe, folder: Location) -> dict[str, Any]:
    _check_alone(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    parts = []
    for number, table in enumerate(signals.tables()):
        with ParquetWriter(folder / f"signals-{number:05d}.parquet", signals.schema) as writer:
            for batch in table.combine_chunks().to_batches():
                writer.write(batch)
        parts.append(written_entry(writer.close()))
    for path in folder.iterdir():  # of an export of more parts
        if _OURS.fullmatch(path.name) and path.name not in {part["name"] for part in parts}:
            path.unlink()
    facts = described(signals, recipe) | {"parts": parts}
    put(folder / MANIFEST, json.dumps(facts, ensure_ascii=False, indent=1).encode("utf-8"))
    sync_folder(folder)
    return facts


def described(signals: SignalSet, recipe: Recipe) -> dict[str, Any]:
    """What the signals are: rules with thresholds, columns, and the lineage as the work folder names it."""
    return {
        "name": recipe.name,
        "recipe": recipe.path.name,
        "curate_version": __version__,
        "documents": signals.documents,
        "text_bytes": signals.text_bytes,
        "columns": list(signals.columns),
        "rules": [rule_facts(*each) for each in signals.rules],
        "lineage": [
            {
                "documents": each.segment.documents,
                "steps": {step.folder.name: list(step.renamed.values()) for step in each.steps},
            }
            for each in signals.segments
        ],
    }


def _check_alone(folder: Location) -> None:
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        raise StageError(f"{folder}: is a file; name a folder for the signals.")
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    if strangers := sorted(name for name in there if name.endswith(".parquet") and not _OURS.fullmatch(name)):
        raise StageError(
            f"{redacted(folder)}: {strangers[0]} lies there: whoever reads that folder would take the signals for "
            "documents. Name a folder of its own, beside the data."
        )
