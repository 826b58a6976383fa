"""The Slurm templates, run by bash with stand-ins for Slurm's commands that do what one node would see of them."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[2] / "examples" / "slurm"
SRUN = """
    echo "srun $*" >> "$LOG"
    while [[ $1 == --* ]]; do case $1 in --nodelist=*) export SLURMD_NODENAME=${1#--nodelist=};; esac; shift; done
    exec "$@"
    """
STAND_INS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node1\\nnode2\\nnode3\\n" | head -n "${NODES:-3}"; '
    'else echo "scontrol $*" >> "$LOG"; fi',
    "srun": SRUN,
    "hostname": "echo 'fe80::1 127.0.0.1'",
}
RAY = """
    echo "ray $SLURMD_NODENAME $*" >> "$LOG"
    trap 'echo "ray ended $SLURMD_NODENAME" >> "$LOG"; kill $!; exit 0' TERM
    sleep 60 & wait
    """
CURATE = """
    echo "curate RAY_ADDRESS=$RAY_ADDRESS OFFLINE=$HF_HUB_OFFLINE $*" >> "$LOG"
    trap 'kill $!; exit 130' TERM
    sleep "${SECONDS_OF_WORK:-0}" & wait $!
    exit "${CODE:-0}"
    """


class Cluster:
    """A folder of stand-ins, and what was called of them."""

    def __init__(self, folder: Path, more: dict[str, str]) -> None:
        self.log = folder / "log"
        self.log.touch()
        self.bin = folder / "bin"
        self.bin.mkdir()
        real = {name: Path(sys.executable).with_name(name) for name in ("curate", "ray", "python")}
        passed_on = {name: f'exec {path} "$@"' for name, path in real.items()}
        for name, text in (STAND_INS | passed_on | more).items():
            path = self.bin / name
            path.write_text(f"#!/bin/bash\n{text}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        (self.bin / "activate").write_text(f'export PATH="{self.bin}:$PATH"\n')
        self.environment = os.environ | {"CURATE_ENV": str(folder), "LOG": str(self.log), "SLURM_JOB_ID": "4242"}
        self.environment |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NODELIST": "node[1-3]"}
        self.running: list[subprocess.Popen[str]] = []

    def submit(self, template: str, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
        words = ["bash", str(TEMPLATES / template), *map(str, arguments)]
        process = subprocess.Popen(
            words,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def calls(self, word: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(word)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes a cluster; what it still runs at the end is killed."""
    made: list[Cluster] = []

    def make(**more: str) -> Cluster:
        folder = tmp_path / f"cluster-{len(made)}"
        folder.mkdir()
        made.append(Cluster(folder, more))
        return made[-1]

    yield make
    for one in made:
        for process in one.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("template", ["array.sbatch", "ray.sbatch"])
def test_a_template_is_bash_and_says_what_it_needs(cluster: Callable[..., Cluster], template: str) -> None:
    subprocess.run(["bash", "-n", str(TEMPLATES / template)], check=True)
    process = cluster(curate=CURATE, ray=RAY, python="exit 0").submit(template)
    out, _ = process.communicate(timeout=20)
    assert process.returncode != 0
    assert f"usage: sbatch {template} RECIPE.yaml WORK" in out


def test_an_array_of_workers_makes_the_dataset(
    recipe: Callable[..., Path], tmp_path: Path, cluster: Callable[..., Cluster]
) -> None:
    slurm = cluster()
    path = recipe("own_steps.MinChars", "own_steps.Shout")
    array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"}
    tasks = [
        slurm.submit("array.sbatch", path, tmp_path / "work", SLURM_ARRAY_TASK_ID=str(task), **array) for task in (1, 2)
    ]
    for number, task in enumerate(tasks, start=1):
        out, _ = task.communicate(timeout=120)
        assert task.returncode == 0, out
        assert f"worker {number} of 2: test is whole" in out
    assert slurm.calls("scontrol") == []


def test_a_task_near_its_time_limit_ends_in_order_and_queues_again(
    recipe: Callable[..., Path], tmp_path: Path, cluster: Callable[..., Cluster]
) -> None:
    slurm = cluster()
    path = recipe("own_steps.MinChars", "own_steps.Slow")
    array = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "1"}
    task = slurm.submit("array.sbatch", path, tmp_path / "work", **array)
    _until(lambda: any((tmp_path / "work").rglob("part-*.json")))
    task.send_signal(signal.SIGUSR1)
    out, _ = task.communicate(timeout=30)
    assert task.returncode == 130, out
    assert "run the same command again" in out
    assert slurm.calls("scontrol") == ["scontrol requeue 4242"]
    again = slurm.submit("array.sbatch", path, tmp_path / "work", **array)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out


@pytest.mark.parametrize("template", ["array.sbatch", "ray.sbatch"])
def test_a_cancelled_job_is_not_queued_again_and_codes_pass_through(
    cluster: Callable[..., Cluster], template: str
) -> None:
    slurm = cluster(curate=CURATE, ray=RAY, python="exit 0")
    job = slurm.submit(template, "r.yaml", "work", SECONDS_OF_WORK="60")
    _until(lambda: bool(slurm.calls("curate")))
    time.sleep(0.2)
    job.terminate()
    job.communicate(timeout=20)
    assert job.returncode == 130
    failed = slurm.submit(template, "r.yaml", "work", CODE="2")
    failed.communicate(timeout=20)
    assert failed.returncode == 2
    assert slurm.calls("scontrol") == []


def test_ray_is_started_on_every_node_and_ended(cluster: Callable[..., Cluster]) -> None:
    slurm = cluster(curate=CURATE, ray=RAY, python='echo "python $2 $3" >> "$LOG"')
    job = slurm.submit("ray.sbatch", "r.yaml", "work", "--verify", SECONDS_OF_WORK="0.5")
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 0, out
    base = 10000 + 4242 % 20 * 1000
    head, *others = sorted(slurm.calls("ray node"), key=lambda line: "--head" not in line)
    assert head.startswith("ray node1 start --head --node-ip-address=127.0.0.1 ")
    assert f"--port={base} " in head and "--block" in head and "--disable-usage-stats" in head
    assert sorted(line.split()[1] for line in others) == ["node2", "node3"]
    assert all(f"start --address=127.0.0.1:{base} " in line for line in others)
    assert slurm.calls("python") == ["python 3 300"]
    (run,) = slurm.calls("curate")
    assert run == (
        f"curate RAY_ADDRESS=127.0.0.1:{base} OFFLINE=1 run r.yaml --work work --ray auto --progress plain --verify"
    )
    assert sorted(slurm.calls("ray ended")) == ["ray ended node1", "ray ended node2", "ray ended node3"]


def test_a_cluster_that_does_not_come_up_ends_the_job(cluster: Callable[..., Cluster]) -> None:
    slurm = cluster(curate=CURATE, ray=RAY, python="sleep 1; echo '1 of 3 Ray nodes' >&2; exit 1")
    job = slurm.submit("ray.sbatch", "r.yaml", "work")
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "1 of 3 Ray nodes" in out
    assert slurm.calls("curate") == []
    assert len(slurm.calls("ray ended")) == 3


@pytest.mark.slow
def test_a_recipe_runs_on_ray_inside_an_allocation(
    recipe: Callable[..., Path], tmp_path: Path, cluster: Callable[..., Cluster]
) -> None:
    """The real Ray, on an allocation of one node."""
    slurm = cluster()
    path = recipe("own_steps.MinChars", "gopher_quality", "minhash: {preset: fineweb}")
    number = str(7_000_000 + os.getpid())
    folder = Path(f"/tmp/ray-{number}")
    job = slurm.submit("ray.sbatch", path, tmp_path / "work", NODES="1", SLURM_JOB_ID=number)
    try:
        out, _ = job.communicate(timeout=240)
        assert job.returncode == 0, out
        assert any((tmp_path / "work").rglob("manifest.json"))
        _until(lambda: not _of(folder), seconds=20)
    finally:
        for pid in _of(folder):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _of(folder: Path) -> list[int]:
    """Processes whose command line names `folder`: the Ray of this test."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in path.read_text(errors="replace") and "bash" not in path.read_text(errors="replace")[:20]:
                found.append(int(path.parent.name))
        except OSError:
            continue  # ended meanwhile
    return found
