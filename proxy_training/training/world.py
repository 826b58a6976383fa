"""The processes that train one model together: who I am, on which device, and what we agree on.

A `World` comes from torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) or from those of a
Slurm step (SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_NODELIST); without either it is one process.
NCCL speaks on GPUs, gloo on CPUs and for everything that is no tensor of a GPU, so that agreeing never waits for one.
A peer that dies becomes a TrainingError after at most `timeout_seconds`. Cost of `any` on one machine: 0.1 ms.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from curate.errors import CurateError, TrainingError

if TYPE_CHECKING:
    from curate.proxy_training.model import Proxy
    from curate.proxy_training.training.checkpoints import CheckpointStore

Strategy = Literal["auto", "ddp", "fsdp"]
T = TypeVar("T")

DDP_PARAMS_MAX = 2e9  # open-sci-ref's 1.7B was trained with replicated weights; from 3B on they are sharded
TIMEOUT_SECONDS = 600.0  # of a collective: longer than any step, shorter than a night
PATIENCE = timedelta(days=2)  # of ranks that wait for the main one to pack or to evaluate
LOST_PEER = re.compile(r"clos|reset|timed? ?out|broken pipe|abort|refused|store", re.IGNORECASE)


@dataclass
class World:
    """One rank of a group of processes; `World()` is a single process on the CPU. Use it as a context manager."""

    rank: int = 0
    """Which process this is, 0-based."""
    size: int = 1
    """How many train together."""
    local_rank: int = 0
    """Which process of this machine."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where this process computes."""
    strategy: Strategy = "auto"
    """How weights are spread: replicated (ddp), sharded (fsdp), or by the model's size (auto)."""
    reshard_after_forward: bool = True
    """Whether a sharded block is given back between forward and backward: less memory, a third more traffic."""
    timeout_seconds: float = TIMEOUT_SECONDS
    """How long to wait for a peer inside a step."""
    address: str = ""
    """host:port at which the ranks meet."""
    control: dist.ProcessGroup | None = field(default=None, repr=False)
    """Carries what is no tensor of a GPU; set when the world is entered."""
    _patient: dist.ProcessGroup | None = field(default=None, repr=False)

    @property
    def main(self) -> bool:
        """Whether this rank packs, writes and speaks."""
        return self.rank == 0

    def settled_strategy(self, params: int, *, sharded: bool = False) -> Literal["none", "ddp", "fsdp"]:
        """How a model of `params` parameters is spread here; `sharded`: its scale asks for it."""
        if self.size == 1:
            return "none"
        if self.strategy == "auto":
            return "fsdp" if sharded or params > DDP_PARAMS_MAX else "ddp"
        return self.strategy

    def share(self, sequences: int) -> slice:
        """This rank's rows of a batch of `sequences`; equal shares, so that the mean over ranks is the batch's."""
        if sequences % self.size:
            raise TrainingError(
                f"A batch of {sequences} sequences cannot be divided equally over {self.size} processes; "
                f"start a number of them that divides {sequences}."
            )
        rows = sequences // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def any(self, flag: bool) -> bool:
        """True on every rank when it is true on any: how all stop at the same step."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)])
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.control)
        return bool(votes)

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks, the same bits on every rank; `value` lies on this world's device."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value / self.size

    def gather(self, value: T) -> list[T]:
        """What each rank said, in order of rank, on every rank."""
        if self.size == 1:
            return [value]
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, value, group=self.control)
        return said

    def on_main(self, work: Callable[[], T]) -> T:
        """Let the main rank do `work` (hours, if need be) while the others wait; all return its result or raise its
        CurateError. An error that nobody expected is raised as it is there, and as a TrainingError by the others."""
        if self.size == 1:
            return work()
        said: list[Any] = [None, None]
        if self.main:
            try:
                said[0] = work()
            except CurateError as error:
                said[1] = error
            except Exception as error:  # the others wait for an answer
                told = TrainingError(f"The main rank failed ({type(error).__name__}: {error}); see its output.")
                dist.broadcast_object_list([None, told], src=0, group=self._patient)
                raise
        dist.broadcast_object_list(said, src=0, group=self._patient)
        if said[1] is not None:
            raise said[1]
        return said[0]

    def wrap(self, model: "Proxy", *, sharded: bool = False, recompute: bool = False) -> nn.Module:
        """`model`, initialised and compiled, on this device with its weights spread; call what is returned, and make
        the optimiser from `model` afterwards. `sharded` as settled_strategy, `recompute` as recompute_blocks."""
        from curate.proxy_training.training import distributed

        if recompute:
            distributed.recompute_blocks(model)
        strategy = self.settled_strategy(model.shape.params, sharded=sharded)
        if strategy == "fsdp" and model.members is not None:
            raise TrainingError("A stack of models cannot be sharded over ranks; train its runs one by one, or by ddp.")
        if strategy == "fsdp":
            return distributed.shard(model, self)
        model.to(self.device)
        return distributed.replicate(model, self) if strategy == "ddp" else model

    @contextmanager
    def accumulate(self, wrapped: nn.Module, *, last: bool) -> Iterator[None]:
        """Around the passes of one micro batch: replicated gradients travel with the `last` one only; sharded ones
        with each, because whole gradients would not fit."""
        with wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext():
            yield

    def whole_state(self, model: "Proxy") -> dict[str, Tensor]:
        """All weights by name, on the main rank's CPU; {} elsewhere. Every rank calls it."""
        from curate.proxy_training.training import distributed

        return distributed.whole_state(model, self)

    def checkpoints(self, folder: Path, *, keep: int) -> "CheckpointStore":
        """Where a training of this world keeps its state: sharded over the ranks when there are, or were, several."""
        from curate.proxy_training.training.checkpoints import SafetensorsCheckpoints
        from curate.proxy_training.training.sharded_checkpoints import ShardedCheckpoints, is_sharded

        if self.size == 1 and not is_sharded(folder):
            return SafetensorsCheckpoints(folder, keep=keep)
        return ShardedCheckpoints(folder, self, keep=keep)

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.size > 1:
            timeout = timedelta(seconds=self.timeout_seconds)
            try:
                dist.init_process_group(
                    "nccl" if self.device.type == "cuda" else "gloo",
                    init_method=f"tcp://{self.address}",
                    rank=self.rank,
                    world_size=self.size,
                    timeout=timeout,
                    device_id=self.device if self.device.type == "cuda" else None,
                )
            except (RuntimeError, ValueError) as error:
                raise TrainingError(
                    f"Rank {self.rank} of {self.size} did not find its peers at {self.address} "
                    f"({_first_sentence(error)}); start all ranks at the same time, with this address reachable."
                ) from error
            on_gpu = self.device.type == "cuda"
            self.control = dist.new_group(backend="gloo", timeout=timeout) if on_gpu else dist.group.WORLD
            self._patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.size == 1:
            return
        if error is None:
            dist.destroy_process_group()
        elif isinstance(error, RuntimeError) and is_lost_peer(error):
            raise TrainingError(
                f"Rank {self.rank} of {self.size} lost a peer ({_first_sentence(error)}). Look for the first error "
                "in the other ranks' output; the same command resumes from the last checkpoint."
            ) from error


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank is gone or silent."""
    if isinstance(error, dist.DistError):
        return True
    return "gloo" in str(error).lower() and bool(LOST_PEER.search(str(error)))


def world_from_environment(
    *,
    strategy: Strategy = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    reshard_after_forward: bool = True,
    timeout_seconds: float = TIMEOUT_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> World:
    """The world that torchrun or srun started this process in; one process without them. Enter it before use.

    Raises TrainingError naming the variable that is missing or wrong.
    """
    variables = os.environ if environment is None else environment
    if "RANK" in variables and "WORLD_SIZE" in variables:
        rank, size = _number(variables, "RANK"), _number(variables, "WORLD_SIZE")
        local_rank = _number(variables, "LOCAL_RANK")
        host, port = _text(variables, "MASTER_ADDR"), _number(variables, "MASTER_PORT")
    elif "SLURM_STEP_NUM_TASKS" in variables:  # set by srun only: a batch script without srun is one process
        rank, size = _number(variables, "SLURM_PROCID"), _number(variables, "SLURM_STEP_NUM_TASKS")
        local_rank = _number(variables, "SLURM_LOCALID")
        nodes = variables.get("SLURM_STEP_NODELIST") or _text(variables, "SLURM_JOB_NODELIST")
        host = variables.get("MASTER_ADDR") or first_host(nodes)
        # two jobs of one machine must not meet; the range lies below the ephemeral ports
        job, step = _number(variables, "SLURM_JOB_ID"), int(variables.get("SLURM_STEP_ID", "0"))
        port = int(variables.get("MASTER_PORT") or 15000 + (job * 7 + step) % 16000)
    else:
        rank, size, local_rank, host, port = 0, 1, 0, "", 0
    if not 0 <= rank < size:
        raise TrainingError(f"Rank {rank} is not one of {size} processes; check the variables of torchrun or srun.")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        device=_device(device, local_rank),
        strategy=strategy,
        reshard_after_forward=reshard_after_forward,
        timeout_seconds=timeout_seconds,
        address=address if size > 1 else "",
    )


def first_host(nodes: str) -> str:
    """The first machine of a Slurm node list: `gpu[003-010,12],cpu1` gives `gpu003`."""
    first = re.match(r"(?:\[[^\]]*\]|[^,\[])+", nodes)
    if first is None:
        raise TrainingError(f"The node list {nodes!r} names no machine; set MASTER_ADDR.")
    return re.sub(r"\[([^,\-\]]+)[^\]]*\]", r"\1", first[0])


def _device(wanted: str, local_rank: int) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    seen = torch.cuda.device_count()
    if not seen:
        raise TrainingError("No CUDA device is visible here; say `device: cpu` or start on a machine with a GPU.")
    if seen > 1 and local_rank >= seen:
        raise TrainingError(
            f"Process {local_rank} of this machine finds {seen} GPUs; start one process a GPU, not more."
        )
    return torch.device("cuda", local_rank if seen > 1 else 0)  # Slurm may show each task its own GPU only


def _text(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise TrainingError(f"{name} is not set; start the ranks with torchrun or srun, which set it.")
    return variables[name]


def _number(variables: Mapping[str, str], name: str) -> int:
    text = _text(variables, name)
    if not text.isdigit():
        raise TrainingError(f"{name} is {text!r}, not a number; start the ranks with torchrun or srun.")
    return int(text)


def _first_sentence(error: BaseException) -> str:
    """What torch says, without the line of its source."""
    lines = re.sub(r"^\[\S+:\d+\] ", "", str(error).strip()).splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")[:200]
