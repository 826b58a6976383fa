"""Publishes a dataset: parts in the format that the recipe's `output` names, then the manifest: that makes it whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow.parquet as pq

from curate.engine.stages import Plan
from curate.writers import writer_for

if TYPE_CHECKING:
    from curate.engine.run import Dataset

SUFFIX = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}


def publish(dataset: "Dataset", plan: Plan, *, kind: str, target: str) -> None:
    """Write the dataset to the folder or URL `target` (relative: to the recipe); a whole one is left as it is."""
    folder = target if "://" in target else str((plan.recipe.folder / target).resolve())
    files = fsspec.open(f"{folder}/manifest.json").fs
    path = f"{folder}/manifest.json"
    if files.exists(path):
        with files.open(path, "r") as file:
            if json.load(file).get("fingerprint") == dataset.fingerprint:
                return
        files.rm(path)  # another dataset's manifest must not name the files that change now
    parts = [
        _write(part, f"{folder}/part-{number:05d}{SUFFIX[kind]}", kind) for number, part in enumerate(dataset.parts)
    ]
    manifest = {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "documents": dataset.documents,
        "text_bytes": dataset.text_bytes,
        "recipe": plan.recipe.path.name,
        "steps": [step for stage in dataset.stages for step in stage.manifest["steps"]],
        "parts": parts,
        "funnel": dataset.funnel,
    }
    files.makedirs(folder, exist_ok=True)
    with files.open(path, "w") as file:
        json.dump(manifest, file, ensure_ascii=False, indent=1)


def _write(part: Path, target: str, kind: str) -> dict[str, Any]:
    with pq.ParquetFile(part, pre_buffer=False) as source:
        writer = writer_for(kind)(target, source.schema_arrow)
        with writer:
            for group in range(source.num_row_groups):
                for batch in source.read_row_group(group).to_batches():
                    writer.write(batch)
        info = writer.close()
    return {"name": target.rsplit("/", 1)[-1], "bytes": info.bytes, "rows": info.rows, "hash": info.hash}
