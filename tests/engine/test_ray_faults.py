"""The Ray executor on clusters of several nodes, in which nodes die, leave, come, and lose their head."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.engine.executors import ray_cluster, ray_run
from curate.engine.executors.ray import RayExecutor
from curate.engine.resources import Pool, Resources
from curate.errors import StageError
from tests.engine.conftest import Ears

OWN = Path(__file__).parent / "own"
sys.path.insert(0, str(OWN))
from own_ray_work import RayJob, served  # noqa: E402
from own_work import attempts  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head of one CPU; tests add nodes and take theirs away."""
    from ray.cluster_utils import Cluster

    path, os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", ""), str(OWN)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()
    os.environ["PYTHONPATH"] = path


@pytest.fixture
def node(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Adds nodes to the cluster, which leave after the test."""
    monkeypatch.setenv("PYTHONPATH", str(OWN))
    added: list[Any] = []

    def add(**resources: Any) -> Any:
        added.append(cluster.add_node(**{"num_cpus": 1, "include_dashboard": False, **resources}))
        return added[-1]

    yield add
    for one in added:
        if one in cluster.worker_nodes:
            cluster.remove_node(one, allow_graceful=False)


@pytest.fixture
def connect(cluster: Any) -> Iterator[Callable[..., RayExecutor]]:
    executors: list[RayExecutor] = []

    def start(**options: Any) -> RayExecutor:
        executors.append(RayExecutor(address=cluster.address, workers=1, **options))
        return executors[-1]

    yield start
    for executor in executors:
        executor.close()


def _jobs(folder: Path, count: int, **how: Any) -> list[RayJob]:
    return [RayJob(stage="s", folder=str(folder), part=part, **how) for part in range(count)]


def _begun(job: RayJob) -> None:
    deadline = time.monotonic() + 60
    while not attempts(job):
        assert time.monotonic() < deadline, "the job never began"
        time.sleep(0.05)


class Run(threading.Thread):
    """A run that goes on while the test does things to the cluster (nodes can be added by the main thread only)."""

    def __init__(self, executor: RayExecutor, jobs: list[RayJob], **more: Any) -> None:
        super().__init__()
        self.results: dict[int, Any] = {}
        self.error: BaseException | None = None
        self._running = executor.run(served, jobs, **more)
        self.start()

    def run(self) -> None:
        try:
            for place, result in self._running:
                self.results[place] = result
        except BaseException as error:
            self.error = error

    def end(self) -> dict[int, Any]:
        """All results, once it ended by itself."""
        self.join(timeout=120)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.results


def _where(job: RayJob) -> str:
    return (Path(job.folder) / f"node-{job.part}").read_text()


def _heard(ears: Ears, kind: str) -> None:
    deadline = time.monotonic() + 60
    while not ears.of(kind):
        assert time.monotonic() < deadline, f"no {kind} was told"
        time.sleep(0.05)


DISK = {"disk": 1}


@pytest.mark.parametrize("pool", [None, Pool(max=2)], ids=["tasks", "pool"])
def test_the_jobs_of_a_lost_node_are_done_elsewhere(
    cluster: Any, node: Any, connect: Any, tmp_path: Path, ears: Ears, pool: Pool | None
) -> None:
    nodes = [node(resources=DISK), node(resources=DISK)]
    jobs = _jobs(tmp_path, 10, how="sleep", seconds=0.3)
    jobs[0] = RayJob(stage="s", folder=str(tmp_path), part=0, how="native", times=1, seconds=300)
    run = Run(connect(), jobs, resources=Resources(custom=DISK, pool=pool), listener=ears)
    _begun(jobs[0])
    (lost,) = (one for one in nodes if one.node_id == _where(jobs[0]))
    (other,) = (one.node_id for one in nodes if one is not lost)
    cluster.remove_node(lost, allow_graceful=False)
    results = run.end()
    assert len(results) == 10 and all(isinstance(result, dict) for result in results.values())
    assert results[0]["node"] == other and attempts(jobs[0]) == 2
    assert all(attempts(job) <= 2 for job in jobs)
    (reason,) = (told["reason"] for told in ears.of("retry") if told["part"] == 0)
    assert "its node died" in reason or "its actor d" in reason  # it died, or did not answer


def test_a_node_that_joins_is_used(node: Any, connect: Any, tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, 60, how="sleep", seconds=0.4)
    run = Run(connect(), jobs)
    _begun(jobs[0])
    joined = node().node_id
    results = run.end()
    assert len(results) == 60 and joined in {result["node"] for result in results.values()}


def test_a_pool_grows_when_a_node_joins(node: Any, connect: Any, tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, 60, how="sleep", seconds=0.4)
    run = Run(connect(), jobs, resources=Resources(pool=Pool()))
    _begun(jobs[0])
    joined = node().node_id
    results = run.end()
    assert len(results) == 60 and joined in {result["node"] for result in results.values()}


def test_resources_that_left_are_waited_for_and_come_back(
    cluster: Any, node: Any, connect: Any, tmp_path: Path, ears: Ears
) -> None:
    lost = node(resources=DISK)
    jobs = _jobs(tmp_path, 6, how="sleep", seconds=1.0)
    run = Run(connect(wait_for_nodes_s=60), jobs, resources=Resources(custom=DISK), listener=ears)
    _begun(jobs[1])
    cluster.remove_node(lost, allow_graceful=False)
    _heard(ears, "waiting")
    node(resources=DISK)
    results = run.end()
    assert len(results) == 6 and all(isinstance(result, dict) for result in results.values())
    assert "disk 1, and the most that a node has is 0" in ears.of("waiting")[0]["reason"]
    assert ears.of("waiting")[0]["limit_seconds"] == 60


def test_resources_that_left_for_good_end_the_run_after_the_stated_wait(
    cluster: Any, node: Any, connect: Any, tmp_path: Path, ears: Ears
) -> None:
    lost = node(resources=DISK)
    jobs = _jobs(tmp_path, 6, how="sleep", seconds=1.0)
    run = Run(connect(wait_for_nodes_s=4), jobs, resources=Resources(custom=DISK), listener=ears)
    _begun(jobs[1])
    cluster.remove_node(lost, allow_graceful=False)
    with pytest.raises(StageError, match=r"Waited 4 s for nodes.*run again to go on"):
        run.end()
    assert jobs[0].finished() and ears.of("waiting")


def test_an_autoscaler_is_given_time_then_refused(node: Any, connect: Any, tmp_path: Path, ears: Ears) -> None:
    jobs = _jobs(tmp_path, 3)
    executor = connect(autoscaling=True, wait_for_nodes_s=60)
    run = Run(executor, jobs, resources=Resources(custom=DISK), listener=ears)
    _heard(ears, "waiting")
    assert not run.results
    node(resources=DISK)
    assert len(run.end()) == 3
    impatient = RayExecutor(address="auto", workers=1, autoscaling=True, wait_for_nodes_s=3)
    with pytest.raises(StageError, match=r"8 GPUs on one node.*Waited 3 s"):
        list(impatient.run(served, jobs, resources=Resources(gpus=8), listener=ears))


def test_workers_that_others_have_are_waited_for_aloud(
    connect: Any, tmp_path: Path, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_run, "BUSY_S", 2.0)
    executor = connect()
    (tmp_path / "other").mkdir()
    others = _jobs(tmp_path / "other", 1, how="sleep", seconds=8)
    hold = Run(executor, others)
    _begun(others[0])
    assert len(dict(executor.run(served, _jobs(tmp_path, 2), listener=ears))) == 2
    assert len(hold.end()) == 1
    assert "others may be using the cluster" in ears.of("waiting")[0]["reason"]


def test_a_cluster_without_an_autoscaler_is_known_as_such(cluster: Any, connect: Any) -> None:
    assert not ray_cluster.autoscales(connect()._ray)


LOST_HEAD = """
    import os, signal, sys, threading, time
    from own_ray_work import RayJob, served
    from curate.engine.executors import ray_cluster
    from curate.engine.executors.ray import RayExecutor
    from curate.errors import StageError
    from ray.cluster_utils import Cluster

    if __name__ == "__main__":
        ray_cluster.GONE_S = 6.0
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        node = cluster.add_node(num_cpus=1)
        executor = RayExecutor(address=cluster.address, workers=1)
        head = cluster.head_node.all_processes[sys.argv[2]][0].process
        jobs = [RayJob(stage="s", folder=sys.argv[1], part=part, how="sleep", seconds=0.5) for part in range(100)]
        threading.Timer(3, lambda: os.kill(head.pid, signal.SIGKILL)).start()
        began = None
        try:
            for place, result in executor.run(served, jobs):
                pass
        except StageError as error:
            print(f"StageError {error}", flush=True)
        os._exit(0)  # what Ray's own exit does without a head is not ours
"""


@pytest.mark.parametrize("process", ["gcs_server", "raylet"])
def test_a_cluster_that_lost_its_head_ends_the_run_with_a_sentence(tmp_path: Path, process: str) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(LOST_HEAD))
    env = {**os.environ, "PYTHONPATH": str(OWN), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path), process]
    done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=150)
    assert "StageError The Ray cluster does not answer any more" in done.stdout, done.stderr
    assert "run again to go on" in done.stdout


KILLED_DRIVER = """
    import sys
    from own_ray_work import RayJob, served
    from curate.engine.executors.ray import RayExecutor

    if __name__ == "__main__":
        executor = RayExecutor(address=sys.argv[2], workers=1)
        jobs = [RayJob(stage="s", folder=sys.argv[1], part=part, how="sleep", seconds=0.3) for part in range(20)]
        for place, result in executor.run(served, [job for job in jobs if not job.finished()]):
            print(result["part"], flush=True)
        executor.close()
"""


def test_a_killed_driver_frees_a_shared_cluster_and_its_run_goes_on(cluster: Any, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(KILLED_DRIVER))
    env = {**os.environ, "PYTHONPATH": str(OWN), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path), cluster.address]
    driver = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE)
    assert driver.stdout is not None
    first = [driver.stdout.readline() for _ in range(5)]
    driver.send_signal(signal.SIGKILL)
    first += driver.communicate()[0].splitlines()
    again = subprocess.run(command, env=env, text=True, capture_output=True, timeout=120)
    assert again.returncode == 0, again.stderr
    done = sorted(json.loads(path.read_text())["part"] for path in tmp_path.glob("part-*.json"))
    second = [int(line) for line in again.stdout.split()]
    assert done == list(range(20)) and not {int(line) for line in first} & set(second)
    assert len(second) <= 15


CLIENT = """
    import sys
    from own_ray_work import RayJob, served
    from curate.engine.executors.ray import RayExecutor
    from curate.engine.resources import Pool, Resources

    def job(part, **how):
        return RayJob(stage="s", folder=sys.argv[1], part=part, **how)

    if __name__ == "__main__":
        executor = RayExecutor(address=sys.argv[2], workers=1)
        jobs = [job(0), job(1, how="kill", times=1), job(2, how="native", times=1, seconds=300), job(3), job(4)]
        for number, pool in enumerate((None, Pool(max=1))):
            jobs = [job(one.part + 5 * number, how=one.how, times=one.times, seconds=one.seconds) for one in jobs[:5]]
            for place, result in executor.run(served, jobs, resources=Resources(time_limit=5, pool=pool)):
                print(place, result["part"] % 5 if isinstance(result, dict) else result.error, flush=True)
        executor.close()
"""


def test_a_client_of_a_distant_cluster_has_the_same_retries_and_limits(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(CLIENT))
    env = {**os.environ, "PYTHONPATH": str(OWN), "OMP_NUM_THREADS": "1"}
    head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        command = [sys.executable, str(script), str(tmp_path), f"ray://127.0.0.1:{port}"]
        done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=300)
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    limit = "2 took longer than its time limit of 5 s and was stopped"
    assert sorted(done.stdout.splitlines()) == sorted(["0 0", "1 1", limit, "3 3", "4 4"] * 2)
