"""Publishes a dataset: parts in the format that the recipe's `output` names, then the manifest: that makes it whole."""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow.parquet as pq

from curate.engine.stages import Plan
from curate.errors import StageError
from curate.writers import writer_for

if TYPE_CHECKING:
    from curate.engine.run import Dataset

SUFFIX = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}


def check_outputs(plan: Plan) -> None:
    """Refuse, before the work, an output that would mix with the recipe's own input (or overwrite it)."""
    inputs = {
        os.path.dirname(file.path if "://" in file.path else os.path.realpath(file.path))
        for file in plan.stages[0].inputs
    }
    for target in plan.recipe.output.values():
        if (folder := _folder(plan, target)) in inputs:
            raise StageError(
                f"{plan.recipe.path}: the output {folder} is the folder that the recipe reads; name another."
            )


def publish(dataset: "Dataset", plan: Plan, *, kind: str, target: str) -> None:
    """Write the dataset to the folder or URL `target` (relative: to the recipe); a whole one is left as it is.

    Raises StageError that names the target if it cannot be written.
    """
    folder = _folder(plan, target)
    try:
        _publish(dataset, plan, kind, folder)
    except (OSError, ValueError, ImportError) as error:
        raise StageError(f"{plan.recipe.name}: the output {folder} cannot be written ({error}).") from error


def _folder(plan: Plan, target: str) -> str:
    return target.rstrip("/") if "://" in target else str((plan.recipe.folder / target).resolve())


def _publish(dataset: "Dataset", plan: Plan, kind: str, folder: str) -> None:
    files = fsspec.open(f"{folder}/manifest.json").fs
    path = f"{folder}/manifest.json"
    names = [f"part-{number:05d}{SUFFIX[kind]}" for number in range(len(dataset.parts))]
    if files.exists(path):
        with files.open(path, "r") as file:
            old = _named_parts(file.read())
        if old is not None and _whole(files, folder, old, names, dataset.fingerprint):
            return
        # Another dataset's manifest must not name the files that change now, and its files must not stay beside them.
        for name in sorted(set(old["parts"] if old else ()) - set(names)):
            if files.exists(f"{folder}/{name}"):
                files.rm(f"{folder}/{name}")
        files.rm(path)
    parts = [_write(part, f"{folder}/{name}", kind) for name, part in zip(names, dataset.parts, strict=True)]
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


def _named_parts(text: str) -> dict[str, Any] | None:
    """Fingerprint and parts (name -> bytes) of a published manifest; None if it is not one of ours."""
    try:
        manifest = json.loads(text)
        parts = {part["name"]: part["bytes"] for part in manifest["parts"]}
        ours = all(re.fullmatch(r"part-\d+\.(parquet|jsonl\.gz)", name) for name in parts)
        return {"fingerprint": manifest["fingerprint"], "parts": parts} if ours else None
    except (ValueError, KeyError, TypeError):
        return None


def _whole(files: Any, folder: str, old: dict[str, Any], names: list[str], fingerprint: str) -> bool:
    return (
        old["fingerprint"] == fingerprint
        and list(old["parts"]) == names
        and all(files.exists(f"{folder}/{name}") for name in names)
        and all(files.size(f"{folder}/{name}") == size for name, size in old["parts"].items())
    )


def _write(part: Path, target: str, kind: str) -> dict[str, Any]:
    with pq.ParquetFile(part, pre_buffer=False) as source:
        writer = writer_for(kind)(target, source.schema_arrow)
        with writer:
            for group in range(source.num_row_groups):
                for batch in source.read_row_group(group).to_batches():
                    writer.write(batch)
        info = writer.close()
    return {"name": target.rsplit("/", 1)[-1], "bytes": info.bytes, "rows": info.rows, "hash": info.hash}
