"""Checkpoints: tensors in safetensors, facts in JSON, nothing pickled.

`<phase>-<step>.safetensors` is written and flushed first, then `<phase>-<step>.json`, which names it with its
hash: a checkpoint without its JSON does not exist. The newest few of each phase are kept, so that a damaged one costs
seconds of work, not the run. `CheckpointStore` is what the trainer needs; several processes have their own
(sharded_checkpoints.py).
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.errors import TrainingError
from curate.fingerprints import file_fingerprint, write_json
from curate.proxy_training.training.faults import is_full_disk


class CheckpointStore(Protocol):
    """Where a training keeps its checkpoints, by phase ("trunk", "branch-<tokens>") and step."""

    def save(self, *, phase: str, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write one, whole or not at all, and remove those of its phase that the policy does not keep. Raises
        TrainingError when the disk is full; the ones before it are intact then."""

    def newest(
        self, *, phase: str, facts: Mapping[str, Any], template: Mapping[str, Tensor], warn: Callable[[str], None]
    ) -> tuple[int, dict[str, Tensor]] | None:
        """Step and tensors of the last good one of `phase`, or None if there never was one; a damaged one is passed
        over with a warning. `template` are tensors of the same names and layout, which may be overwritten. Raises
        TrainingError when all are damaged, or one belongs to other `facts`."""

    def remove(self, phase: str) -> None:
        """Remove all of `phase`."""


class SafetensorsCheckpoints:
    """The store of a training in one process: a folder of safetensors files."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, *, phase: str, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """As CheckpointStore says."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / f"{phase}-{step:09d}.safetensors"
        temporary = self.folder / f".{data.name}.{os.getpid()}"
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(data)
            record = {**facts, "phase": phase, "step": step, "file": data.name, "content": file_fingerprint(data)}
            write_json(data.with_suffix(".json"), record)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            if is_full_disk(error):
                raise TrainingError(
                    f"No room on the disk for checkpoint {data.name} in {self.folder} "
                    f"({_bytes_of(tensors) / 1e6:.1f} MB); free some: the same command goes on from the one before."
                ) from error
            raise
        for old in sorted(self.folder.glob(f"{phase}-*.json"))[: -self.keep]:
            _remove(old)

    def newest(
        self, *, phase: str, facts: Mapping[str, Any], template: Mapping[str, Tensor], warn: Callable[[str], None]
    ) -> tuple[int, dict[str, Tensor]] | None:
        """As CheckpointStore says."""
        records = sorted(self.folder.glob(f"{phase}-*.json"), reverse=True)
        for path in records:
            try:
                record = json.loads(path.read_text())
                data = self.folder / Path(record["file"]).name
                if file_fingerprint(data) != record["content"]:
                    raise ValueError("the content does not match its hash")
                step, tensors = int(record["step"]), load_file(data)
                if missing := template.keys() - tensors.keys():
                    raise ValueError(f"it lacks {', '.join(sorted(missing)[:3])}")
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                warn(f"Checkpoint {path} is damaged ({error}); the one before it is used.")
                continue
            check_facts(record, facts, path)
            return step, tensors
        if records:
            raise all_damaged(records, phase)
        return None

    def remove(self, phase: str) -> None:
        """As CheckpointStore says, with what a kill left half written."""
        for path in self.folder.glob(f"{phase}-*.json"):
            _remove(path)
        for path in [*self.folder.glob(f"{phase}-*.safetensors"), *self.folder.glob(f".{phase}-*")]:
            path.unlink()


def all_damaged(records: Sequence[Path], phase: str) -> TrainingError:
    """The error on a phase none of whose checkpoints is good."""
    return TrainingError(
        f"All {len(records)} checkpoints of {phase!r} in {records[0].parent} are damaged; delete it to train the run "
        "again."
    )


def check_facts(record: Mapping[str, Any], facts: Mapping[str, Any], path: Path) -> None:
    """Raises TrainingError naming the fact in which a checkpoint's `record` differs from this training."""
    for name, value in facts.items():
        if record.get(name) != value:
            raise TrainingError(
                f"{path}: {name} is {record.get(name)!r}, this run has {value!r}; delete {path.parent} to train again."
            )


def _bytes_of(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _remove(record: Path) -> None:
    record.unlink()
    record.with_suffix(".safetensors").unlink(missing_ok=True)
