"""What the ranks do in test_distributed.py: `python ranks.py JOBS.pickle OUT`, started with torchrun's variables.

A job is (kind, settings); what each job gave is written to `OUT/<rank>.json` after every job. `python ranks.py
JOBS.pickle OUT SIZE` starts SIZE ranks itself: it forks after torch is imported, which is half of what a rank costs.
"""

import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch._dynamo  # DDP imports it

from curate.errors import CurateError, InputError
from curate.proxy_training.train import Watch, train_run
from curate.proxy_training.training import (
    sharded_checkpoints,  # noqa: F401, a rank imports them later
)
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.world import World, world_from_environment


def train(world, *, run, heldout, folder, strategy, options, stop_after=None, stop_rank=1, kill_after=None):
    """Train a run; `stop_rank` alone wants to stop, or is killed, after some steps."""
    world.strategy = strategy
    calls, warnings = [], []

    def stop():
        calls.append(time.monotonic())
        if kill_after is not None and world.rank == stop_rank and len(calls) > kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return stop_after is not None and world.rank == stop_rank and len(calls) > stop_after

    watch = Watch(stop=stop, warn=warnings.append)
    try:
        result = train_run(run, heldout, folder=folder, options=TrainingOptions(**options), watch=watch, world=world)
    except CurateError as error:
        return {"error": f"{type(error).__name__}: {error}", "calls": len(calls), "warnings": warnings}
    bits = [point["bits_per_byte"] for point in result["points"]]
    return {"bits_per_byte": bits, "calls": len(calls), "warnings": warnings}


def speak(world):
    """Everything that ranks say to each other."""

    def refuse():
        raise InputError("the main rank refuses")

    said = {
        "rank": world.rank,
        "any": [world.any(world.rank == 1), world.any(False)],
        "mean": world.mean(torch.tensor([float(world.rank), 4.0])).tolist(),
        "gather": world.gather(f"from {world.rank}"),
        "main": world.on_main(lambda: os.getpid()),
        "share": [world.share(6).start, world.share(6).stop],
    }
    try:
        world.on_main(refuse)
    except InputError as error:
        said["refusal"] = str(error)
    return said


def sleep_on_main(world, *, seconds):
    """The main rank works for longer than a collective may take."""
    world.on_main(lambda: time.sleep(seconds))
    return {}


def damage(world, *, folder):
    """Change one byte of a shard of the newest checkpoint."""

    def change():
        newest = sorted(folder.glob("*-*.json"))[-1]
        shard = sorted(newest.with_suffix("").iterdir())[-1]
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)

    world.on_main(change)
    return {}


def main(jobs: Path, out: Path) -> None:
    told = []
    torch.set_num_threads(1)
    jobs = pickle.loads(jobs.read_bytes())
    world: World = world_from_environment(device="cpu", timeout_seconds=jobs["timeout_seconds"])
    try:
        with world:
            for kind, settings in jobs["jobs"]:
                told.append(globals()[kind](world, **settings))
                (out / f"{world.rank}.json").write_text(json.dumps(told))
    except CurateError as error:
        told.append({"left": f"{type(error).__name__}: {error}"})
        (out / f"{world.rank}.json").write_text(json.dumps(told))
        sys.exit(2)


def fork(jobs: Path, out: Path, size: int) -> None:
    """Start the ranks with torchrun's variables; their exit codes, negative for signals, go to `OUT/codes.json`."""
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
            main(jobs, out)
            os._exit(0)  # without waiting for threads of torch
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    (out / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        fork(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
