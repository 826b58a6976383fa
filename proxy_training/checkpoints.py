"""Checkpoints: tensors in safetensors, facts in JSON, nothing pickled.

`<phase>-<step>.safetensors` is written and flushed first, then `<phase>-<step>.json`, which names it with its
hash: a checkpoint without its JSON does not exist. Two of each phase are kept, so that a damaged one costs a
few seconds of work, not the run.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.errors import TrainingError
from curate.fingerprints import file_fingerprint, write_json

KEPT = 2


def save_checkpoint(folder: Path, *, phase: str, step: int, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write one checkpoint and remove the older ones of its phase but one."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{phase}-{step:09d}.safetensors"
    temporary = folder / f".{data.name}.{os.getpid()}"
    save_file(tensors, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(data)
    record = {**facts, "phase": phase, "step": step, "file": data.name, "content": file_fingerprint(data)}
    write_json(data.with_suffix(".json"), record)
    for old in sorted(folder.glob(f"{phase}-*.json"))[:-KEPT]:
        _remove(old)


def newest_checkpoint(
    folder: Path, *, phase: str, facts: dict, warn: Callable[[str], None]
) -> tuple[int, dict[str, Tensor]] | None:
    """Step and tensors of the last good checkpoint of `phase`, or None if there never was one.

    A damaged one is passed over with a warning. Raises TrainingError when all are damaged, or one belongs to other
    `facts`.
    """
    records = sorted(folder.glob(f"{phase}-*.json"), reverse=True)
    for path in records:
        try:
            record = json.loads(path.read_text())
            data = folder / Path(record["file"]).name
            if file_fingerprint(data) != record["content"]:
                raise ValueError("the content does not match its hash")
            step, tensors = int(record["step"]), load_file(data)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            warn(f"Checkpoint {path} is damaged ({error}); the one before it is used.")
            continue
        for name, value in facts.items():
            if record.get(name) != value:
                raise TrainingError(
                    f"{path}: {name} is {record.get(name)!r}, this run has {value!r}; delete {folder} to train again."
                )
        return step, tensors
    if records:
        raise TrainingError(
            f"All {len(records)} checkpoints of {phase!r} in {folder} are damaged; delete it to train the run again."
        )
    return None


def remove_phase(folder: Path, phase: str) -> None:
    """Remove all checkpoints of `phase`."""
    for path in folder.glob(f"{phase}-*.json"):
        _remove(path)
    for path in [*folder.glob(f"{phase}-*.safetensors"), *folder.glob(f".{phase}-*")]:  # left by a kill
        path.unlink()


def _remove(record: Path) -> None:
    record.unlink()
    record.with_suffix(".safetensors").unlink(missing_ok=True)
