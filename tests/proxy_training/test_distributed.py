"""Several ranks train one model: gloo on the CPU, processes started as torchrun starts them."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import TrainingError
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.run import Run
from curate.proxy_training.train import train_run
from curate.proxy_training.training.feeding import Feed
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.world import World, first_host, world_from_environment

RANKS = Path(__file__).with_name("ranks.py")
RARELY: dict[str, Any] = {"checkpoint_seconds": None}
MICRO = RARELY | {"micro_batch_sequences": 1}
OFTEN = MICRO | {"checkpoint_steps": 5}


def start(jobs: Sequence[tuple[str, dict]], out: Path, *, size: int = 2, timeout_seconds: float = 30) -> list[Any]:
    """Run `jobs` on `size` ranks; what each rank wrote."""
    out.mkdir(parents=True)
    (out / "jobs.pickle").write_bytes(pickle.dumps({"jobs": list(jobs), "timeout_seconds": timeout_seconds}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    errors = out / "stderr"
    with errors.open("w") as stderr:
        ranks = subprocess.Popen(
            [sys.executable, str(RANKS), str(out / "jobs.pickle"), str(out), str(size)],
            env=os.environ | variables,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            ranks.wait(240)
        finally:
            if ranks.poll() is None:
                os.killpg(ranks.pid, signal.SIGKILL)
                ranks.wait()
    assert (out / "codes.json").exists(), errors.read_text()[-3000:]
    assert set(json.loads((out / "codes.json").read_text())) <= {0, 2, -9}, errors.read_text()[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(size)]


def curve(folder: Path) -> list[tuple[str, int, float, float]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [(row["phase"], row["step"], row["loss"], row["gradient_norm"]) for row in rows]


@pytest.fixture(scope="module")
def ladder_run(make_run: Callable[..., Run]) -> Run:
    """28 steps: a trunk of 18 with branches at 12 and 24."""
    run = make_run()
    return replace(run, scale=run.scale.model_copy(update={"budgets_tokens": (1536, 3072)}))


@pytest.fixture(scope="module")
def alone(ladder_run: Run, heldout: dict[str, HeldOutSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    train_run(ladder_run, heldout, folder=folder, options=TrainingOptions(**RARELY))
    return folder


@pytest.fixture(scope="module")
def together(
    ladder_run: Run, heldout: dict[str, HeldOutSet], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Any]]:
    """One launch of two ranks that does all quick jobs, because starting costs more than they do."""
    folder = tmp_path_factory.mktemp("together")
    job = {"run": ladder_run, "heldout": heldout, "options": MICRO}
    stopped = job | {"folder": folder / "stopped", "strategy": "fsdp", "options": OFTEN}
    jobs = [
        ("speak", {}),
        ("train", job | {"folder": folder / "ddp", "strategy": "ddp"}),
        ("train", job | {"folder": folder / "fsdp", "strategy": "fsdp"}),
        ("train", stopped | {"stop_after": 8}),
        ("damage", {"folder": folder / "stopped" / "checkpoints"}),
        ("train", stopped),
        ("train", job | {"folder": folder / "killed", "strategy": "ddp", "options": OFTEN, "kill_after": 8}),
    ]
    return folder, start(jobs, folder / "out")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_have_the_losses_of_one_process(strategy: str, alone: Path, together: tuple[Path, list[Any]]) -> None:
    """With accumulation on the ranks and none in the one process."""
    ours, theirs = curve(together[0] / strategy), curve(alone)
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    np.testing.assert_allclose([row[2:] for row in ours[:10]], [row[2:] for row in theirs[:10]], rtol=1e-6)
    np.testing.assert_allclose([row[2] for row in ours], [row[2] for row in theirs], rtol=1e-3)


def test_ranks_speak(together: tuple[Path, list[Any]]) -> None:
    first, second = (told[0] for told in together[1])
    for said in (first, second):
        assert said["any"] == [True, False]
        assert said["mean"] == [0.5, 4.0]
        assert said["gather"] == ["from 0", "from 1"]
        assert said["refusal"] == "the main rank refuses"
    assert first["main"] == second["main"]
    assert (first["share"], second["share"]) == ([0, 3], [3, 6])


def test_a_stop_that_one_rank_wants_is_agreed(together: tuple[Path, list[Any]]) -> None:
    first, second = (told[3] for told in together[1])
    assert first["error"] == second["error"]
    assert "was stopped at step 8" in first["error"]
    assert first["calls"] == second["calls"] == 9


def test_a_sharded_training_resumes_bit_for_bit_from_the_checkpoint_before_a_damaged_one(
    together: tuple[Path, list[Any]],
) -> None:
    folder, told = together
    resumed = told[0][5]
    assert any("is damaged" in warning and "000000008" in warning for warning in resumed["warnings"])
    assert curve(folder / "stopped") == curve(folder / "fsdp")
    assert resumed["bits_per_byte"] == told[0][2]["bits_per_byte"]
    assert (folder / "stopped" / "model.safetensors").read_bytes() == (
        folder / "fsdp" / "model.safetensors"
    ).read_bytes()


def test_a_killed_rank_ends_the_others_with_a_sentence(together: tuple[Path, list[Any]]) -> None:
    first, second = together[1]
    assert first[-1]["left"].startswith("TrainingError: Rank 0 of 2 lost a peer (")
    assert len(second) == 6  # it told nothing of the job in which it was killed


def test_one_process_goes_on_from_the_checkpoint_of_two_ranks(
    ladder_run: Run, heldout: dict[str, HeldOutSet], alone: Path, together: tuple[Path, list[Any]]
) -> None:
    folder = together[0] / "killed"
    assert list((folder / "checkpoints").glob("trunk-*.json"))
    train_run(ladder_run, heldout, folder=folder, options=TrainingOptions(**RARELY))
    ours, theirs = curve(folder), curve(alone)
    np.testing.assert_allclose([row[2] for row in ours], [row[2] for row in theirs], rtol=1e-3)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(TrainingError, match="7 sequences cannot be divided equally over 2 processes"):
        World(1, 2).share(7)


def test_large_models_are_sharded_and_small_ones_replicated() -> None:
    assert World(0, 8).settled_strategy(1_710_000_000) == "ddp"
    assert World(0, 8).settled_strategy(3_000_000_000) == "fsdp"
    assert World(0, 1, strategy="fsdp").settled_strategy(3_000_000_000) == "none"


def test_a_world_comes_from_torchrun() -> None:
    variables = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "fe80::1", "MASTER_PORT": "29500"}
    world = world_from_environment(device="cpu", environment=variables)
    assert (world.rank, world.size, world.local_rank, world.main) == (3, 4, 1, False)
    assert world.address == "[fe80::1]:29500"


def test_a_world_comes_from_a_slurm_step() -> None:
    variables = {
        "SLURM_PROCID": "5",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NODELIST": "gpu[003-004]",
        "SLURM_JOB_NODELIST": "cpu1,gpu[003-004]",
        "SLURM_JOB_ID": "123456",
        "SLURM_STEP_ID": "0",
    }
    world = world_from_environment(device="cpu", environment=variables)
    assert (world.rank, world.size, world.local_rank) == (5, 8, 1)
    host, port = world.address.split(":")
    assert host == "gpu003"
    assert 15000 <= int(port) < 31000
    assert (
        world_from_environment(
            device="cpu",
            environment=variables
            | {"RANK": "0", "WORLD_SIZE": "1"}
            | {"LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
        ).size
        == 1
    )  # torchrun inside of a step


def test_a_batch_script_without_srun_is_one_process() -> None:
    variables = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "gpu[1-8]", "SLURM_JOB_ID": "1"}
    assert world_from_environment(device="cpu", environment=variables).size == 1


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node[003-010,012]", "node003"),
        ("a-[1-3],b", "a-1"),
        ("rack[0-3]node[7,9].site", "rack0node7.site"),
        ("n7,n[1-2]", "n7"),
    ],
)
def test_the_first_machine_of_a_node_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "MASTER_ADDR is not set"),
        ({"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0"}, "WORLD_SIZE is 'two', not a number"),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"},
            "Rank 2 is not one of 2",
        ),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, "SLURM_JOB_NODELIST is not set"),
    ],
)
def test_wrong_variables_are_named(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        world_from_environment(device="cpu", environment=variables)


def test_a_feed_that_reads_ahead_gives_the_batches_of_one_that_does_not() -> None:
    drawn = []

    def draw(at: int) -> np.ndarray:
        drawn.append(at)
        return np.arange(at, at + 3)

    ahead, plain = (Feed(draw, torch.device("cpu"), read_ahead=ahead) for ahead in (True, False))
    for at in (0, 3, 6, 30, 33):  # a jump, as after a resume
        assert torch.equal(ahead.batch(at, then=at + 3), plain.batch(at, then=at + 3))
    ahead.close()
    assert {0, 3, 6, 9, 30, 33} <= set(drawn) <= {0, 3, 6, 9, 30, 33, 36}  # the last one may not have begun


def test_a_slurm_job_near_its_limit_saves_and_queues_again(tmp_path: Path) -> None:
    """With a stand-in for srun that ends as `curate train` does when its signal comes."""
    tools = {
        "srun": 'trap \'exit 75\' USR1; echo "$@" > "$LOG"; for _ in $(seq 200); do sleep 0.05; done; exit 1',
        "scontrol": 'echo "$@" >> "$LOG"',
        "activate": "",
    }
    (tmp_path / "bin").mkdir()
    for name, script in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    log = tmp_path / "log"
    variables = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LOG": str(log),
        "CURATE_ENV": str(tmp_path),
        "SLURM_JOB_ID": "7",
    }
    template = Path(__file__).resolve().parents[2] / "examples" / "slurm" / "train.sbatch"
    job = subprocess.Popen(["bash", str(template), "study.yaml", "--verify"], env=os.environ | variables)
    try:
        for _ in range(200):
            if log.exists() and log.read_text():
                break
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(20) == 75
    finally:
        job.kill()
    started, queued = log.read_text().splitlines()
    assert started.endswith("curate train study.yaml --progress plain --verify")
    assert queued == "requeue 7"


@pytest.mark.slow
def test_a_main_rank_may_work_for_longer_than_a_collective(tmp_path: Path) -> None:
    first, second = start([("sleep_on_main", {"seconds": 8})], tmp_path / "out", timeout_seconds=4)
    assert first == second == [{}]


@pytest.mark.slow
def test_ranks_that_find_no_peer_say_so() -> None:
    world = World(1, 2, timeout_seconds=2, address="127.0.0.1:9")
    with pytest.raises(TrainingError, match="did not find its peers"), world:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_another_number_of_ranks_goes_on_from_a_checkpoint(
    strategy: str, ladder_run: Run, heldout: dict[str, HeldOutSet], alone: Path, tmp_path: Path
) -> None:
    """Two ranks, then one process, then four."""
    job = {"run": ladder_run, "heldout": heldout, "options": MICRO, "folder": tmp_path / "run", "strategy": strategy}
    start([("train", job | {"stop_after": 7})], tmp_path / "two")
    told = start([("train", job | {"stop_after": 9, "stop_rank": 0})], tmp_path / "one", size=1)
    assert "was stopped at step" in told[0][0]["error"]
    start([("train", job)], tmp_path / "four", size=4)
    np.testing.assert_allclose([row[2] for row in curve(tmp_path / "run")], [row[2] for row in curve(alone)], rtol=1e-3)


@pytest.mark.slow
def test_torchrun_starts_the_ranks(
    ladder_run: Run, heldout: dict[str, HeldOutSet], alone: Path, tmp_path: Path
) -> None:
    job = {"run": ladder_run, "heldout": heldout, "options": MICRO, "folder": tmp_path / "run", "strategy": "fsdp"}
    (tmp_path / "jobs.pickle").write_bytes(pickle.dumps({"jobs": [("train", job)], "timeout_seconds": 60}))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, str(RANKS), str(tmp_path / "jobs.pickle"), str(tmp_path)], check=True, timeout=180)
    np.testing.assert_allclose([row[2] for row in curve(tmp_path / "run")], [row[2] for row in curve(alone)], rtol=1e-3)
