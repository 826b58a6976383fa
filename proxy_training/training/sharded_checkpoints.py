"""Checkpoints of several processes: every rank writes its shards by torch.distributed.checkpoint, as safetensors.

`<phase>-<step>/` holds the shards, nothing pickled; `<phase>-<step>.json`, written last by the main rank, names every
file with size and hash: a checkpoint without it does not exist. A damaged one is set aside with a warning.
Any number of ranks, and either strategy, loads the same bytes of weights and optimiser, those of one process
(`checkpoints.py`) too; only the same number goes on bit for bit. Cost: each byte is written once and read once for its
hash.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor, distribute_tensor

from curate.errors import TrainingError
from curate.fingerprints import file_fingerprint, write_json
from curate.proxy_training.training.checkpoints import DAMAGE, check_facts, check_name, damaged, set_aside
from curate.proxy_training.training.world import World, is_lost_peer

OF_A_RANK = "random_state"  # state that each rank has for itself, as the names of its tensors begin


class ShardedCheckpoints:
    """The checkpoints of one training in `folder`; all ranks call every method, in the same order."""

    def __init__(self, folder: Path, world: World, *, keep: int) -> None:
        if not hasattr(dcp, "HuggingFaceStorageWriter"):
            raise TrainingError(f"Sharded checkpoints need a newer torch than {torch.__version__}: upgrade it.")
        self.folder = folder
        self.world = world
        self.keep = keep

    def save(self, *, phase: str, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """As CheckpointStore says."""
        world = self.world
        record = self.folder / f"{phase}-{step:09d}.json"
        data = record.with_suffix("")
        world.on_main(lambda: _empty(record))
        writer = dcp.HuggingFaceStorageWriter(str(data), save_distributed=True)
        try:
            with _quietly():
                dcp.save(self._named(tensors), storage_writer=writer, process_group=world.control)
        except CheckpointException as error:
            rank, (why, _) = next(iter(error.failures.items()))
            if isinstance(why, RuntimeError) and is_lost_peer(why):
                raise why from error
            raise TrainingError(
                f"Checkpoint {data} was not written: rank {rank} says {why}. Make room, then run the same command."
            ) from error
        mine = [path for path in data.iterdir() if path.name.startswith(f"shard-{world.rank + 1:05d}-")]
        files = {f"{data.name}/{path.name}": [path.stat().st_size, file_fingerprint(path)] for path in mine}
        every = {name: known for some in world.gather(files) for name, known in some.items()}
        names = sorted({name for some in world.gather(sorted(self._named(tensors))) for name in some})
        entry = {**facts, "phase": phase, "step": step, "world_size": world.size, "files": every, "names": names}
        world.on_main(lambda: self._record(record, entry))

    def newest(
        self, *, phase: str, facts: Mapping[str, Any], template: Mapping[str, Tensor], warn: Callable[[str], None]
    ) -> tuple[int, dict[str, Tensor]] | None:
        """As CheckpointStore says; `template` is loaded in place, and a state of this rank alone that was not saved
        (another number of ranks) stays as it is there."""
        world = self.world
        records = world.on_main(lambda: self._records(phase))
        for path in records:
            entry, problem = world.on_main(lambda path=path: _read(path))  # type: ignore[misc]
            problems = [problem] if problem else world.gather(self._damage(path, entry))
            if any(problems):
                if world.main:
                    why = str(next(filter(None, problems)))
                    warn(damaged(path, why, phase=phase, last=path == records[-1]))
                world.on_main(lambda path=path: set_aside(path))  # type: ignore[misc]
                continue
            check_facts(entry, facts, path)
            self._load(path, entry, self._named(template))
            return int(entry["step"]), dict(template)
        return None

    def remove(self, phase: str) -> None:
        """Remove all checkpoints of `phase`, and what a kill left of one."""

        def remove() -> None:
            for path in self._records(phase):
                _remove(path)
            for left in self.folder.glob(f"{phase}-{'[0-9]' * 9}"):
                shutil.rmtree(left)
            for kind in ("damaged", "safetensors"):  # set aside, and of one process
                for path in self.folder.glob(f"{phase}-{'[0-9]' * 9}.{kind}"):
                    path.unlink()

        self.world.on_main(remove)

    def _named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors` with each rank's own under the rank's name."""
        return {
            f"{name}.rank-{self.world.rank}" if name.startswith(OF_A_RANK) else name: tensor
            for name, tensor in tensors.items()
        }

    def _records(self, phase: str) -> list[Path]:
        return sorted(self.folder.glob(f"{phase}-{'[0-9]' * 9}.json"), reverse=True)

    def _record(self, path: Path, entry: dict[str, Any]) -> None:
        """Make the checkpoint exist, and older ones not."""
        write_json(path, entry)
        for old in self._records(entry["phase"])[self.keep :]:
            _remove(old)

    def _damage(self, path: Path, entry: Mapping[str, Any]) -> str | None:
        """What is wrong with this rank's part of the files; the ranks divide them."""
        for name, (size, content) in list(entry["files"].items())[self.world.rank :: self.world.size]:
            file = path.parent / name
            try:
                if file.stat().st_size != size or file_fingerprint(file) != content:
                    return f"the content of {name} does not match its hash"
            except OSError as error:
                return f"{name}: {error.strerror}"
        return None

    def _load(self, path: Path, entry: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
        """Fill `wanted` from a checkpoint that is whole."""
        state = {name: tensor for name, tensor in wanted.items() if name in entry["names"]}
        missing = [name for name in wanted if name not in state and not name.startswith(OF_A_RANK)]
        if missing:
            raise TrainingError(f"{path} lacks {missing[0]!r}; delete {self.folder} to train again.")
        if "file" not in entry:
            reader = dcp.HuggingFaceStorageReader(str(path.with_suffix("")))
            with _quietly():
                dcp.load(state, storage_reader=reader, process_group=self.world.control)
            return
        with safe_open(path.parent / entry["file"], framework="pt") as file:  # of one process
            for name, target in state.items():
                whole = file.get_tensor(name)
                if isinstance(target, DTensor):
                    whole = distribute_tensor(
                        whole.to(target.device), target.device_mesh, target.placements, src_data_rank=None
                    )
                target.copy_(whole)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's warning that one process is alone; it is meant to be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def is_sharded(folder: Path) -> bool:
    """Whether checkpoints in `folder` were written by several ranks."""
    return any(path.is_dir() for path in folder.glob("*-*"))


def _empty(record: Path) -> None:
    """Make room for a checkpoint; what a kill left of it is removed."""
    record.unlink(missing_ok=True)
    shutil.rmtree(record.with_suffix(""), ignore_errors=True)
    record.with_suffix("").mkdir(parents=True)


def _read(path: Path) -> tuple[dict[str, Any], str | None]:
    """What a record says, of several ranks or of one process, and what is wrong with it."""
    try:
        entry = json.loads(path.read_text())
        if "file" in entry:
            file = path.parent / Path(entry["file"]).name
            with safe_open(file, framework="pt") as opened:
                entry["names"] = list(opened.keys())
            entry["files"] = {file.name: [file.stat().st_size, entry["content"]]}
        if not {"files", "names", "step"} <= entry.keys():
            return {}, "fields are missing"
        check_name(entry, path)
    except DAMAGE as error:
        return {}, str(error)
    return entry, None


def _remove(record: Path) -> None:
    record.unlink()
    shutil.rmtree(record.with_suffix(""), ignore_errors=True)
