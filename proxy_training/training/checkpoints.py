"""Checkpoints: tensors in safetensors, facts in JSON, nothing pickled.

`<phase>-<step>.safetensors` is written and flushed first, then `<phase>-<step>.json`, which names it with its
hash: a checkpoint without its JSON does not exist. The newest few of each phase are kept, so that a damaged one costs
seconds of work; where all of a phase are, the phase starts anew. A damaged one is set aside (its record becomes
`.damaged`) until its phase ends, so that none is looked at again or kept in place of a sound one. `CheckpointStore` is
what the trainer needs; several processes have their own (sharded_checkpoints.py).
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.errors import TrainingError
from curate.fingerprints import file_fingerprint, write_json
from curate.proxy_training.training.faults import is_full_disk

DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, SafetensorError)
"""What reading a damaged record or file may raise."""


class CheckpointStore(Protocol):
    """Where a training keeps its checkpoints, by phase ("trunk", "branch-<tokens>") and step."""

    def save(self, *, phase: str, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write one, whole or not at all, and remove those of its phase that the policy does not keep. Raises
        TrainingError when the disk is full; the ones before it are intact then."""

    def newest(
        self, *, phase: str, facts: Mapping[str, Any], template: Mapping[str, Tensor], warn: Callable[[str], None]
    ) -> tuple[int, dict[str, Tensor]] | None:
        """Step and tensors of the last good one of `phase`, or None if there is none; damaged ones are set aside with a
        warning each, the last of which says what is lost. `template` are tensors of the same names and layout, which
        may be overwritten. Raises TrainingError when one belongs to other `facts`."""

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
                check_name(record, path)
            except DAMAGE as error:
                warn(damaged(path, str(error), phase=phase, last=path == records[-1]))
                set_aside(path)
                continue
            check_facts(record, facts, path)
            return step, tensors
        return None

    def remove(self, phase: str) -> None:
        """As CheckpointStore says, with what a kill left half written."""
        for path in self.folder.glob(f"{phase}-*.json"):
            _remove(path)
        for left in (f"{phase}-*.safetensors", f"{phase}-*.damaged", f".{phase}-*"):
            for path in self.folder.glob(left):
                path.unlink()


def damaged(record: Path, why: str, *, phase: str, last: bool) -> str:
    """The warning on a damaged checkpoint; on the `last` one that there was, with what is lost."""
    then = "the one before it is taken"
    if last:
        again = "the trunk is trained again from its start"
        if phase != "trunk":
            again = f"{phase} is trained again from the step where it leaves the trunk"
        then = f"there is none before it: {again}, and nothing else is lost"
    return f"Checkpoint {record} is damaged ({why}); {then}."


def set_aside(record: Path) -> None:
    """Let a damaged checkpoint not count any more."""
    record.replace(record.with_suffix(".damaged"))


def check_name(record: Mapping[str, Any], path: Path) -> None:
    """Raises ValueError where a `record` says another phase or step than the name of its file."""
    if path.stem != f"{record['phase']}-{int(record['step']):09d}":
        raise ValueError(f"it says that it is {record['phase']} at step {record['step']}")


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
