"""The Ray executor on one cluster of this machine: retries, limits, refusals, pools of actors, and clean ends."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from curate.engine.executors import RETRIES, ray_cluster
from curate.engine.executors import attempts as attempts_module
from curate.engine.executors import ray as ray_module
from curate.engine.executors.ray import RayExecutor
from curate.engine.executors.ray_cluster import Node, asked, check_answers, shortage, slots
from curate.engine.executors.ray_local import session_processes
from curate.engine.jobs import Failure, Job
from curate.engine.resources import Pool, Resources
from curate.errors import StageError
from tests.engine.conftest import Ears

OWN = Path(__file__).parent / "own"
sys.path.insert(0, str(OWN))
from own_ray_work import RayJob, served  # noqa: E402
from own_work import attempts, unsendable  # noqa: E402


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "RETRY_WAIT_S", 0.05)


@pytest.fixture(scope="module")
def two() -> Iterator[RayExecutor]:
    path, os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", ""), str(OWN)
    executor = RayExecutor(address="local", workers=2, straggler_s=0.4)
    os.environ["PYTHONPATH"] = path
    yield executor
    executor.close()


def _jobs(folder: Path, count: int, **odd: Any) -> list[RayJob]:
    """Jobs of which number 1 is odd."""
    jobs = [RayJob(stage="s", folder=str(folder), part=part) for part in range(count)]
    if odd:
        jobs[1] = RayJob(stage="s", folder=str(folder), part=1, **odd)
    return jobs


def _results(executor: RayExecutor, jobs: Sequence[Job], **more: Any) -> dict[int, Any]:
    return dict(executor.run(served, jobs, **more))


def _failure(result: Any) -> Failure:
    assert isinstance(result, Failure)
    return result


POOL = Resources(pool=Pool(max=2))
BOTH = pytest.mark.parametrize("resources", [Resources(), POOL], ids=["tasks", "pool"])
EACH = pytest.mark.parametrize("resources", [Resources(), pytest.param(POOL, marks=pytest.mark.slow)])
"""The same claim for tasks and for a pool, the latter with the slow tests: every lost worker costs a start."""


def test_every_job_is_done_once_and_on_one_thread(two: RayExecutor, tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, 40)
    results = _results(two, jobs)
    assert sorted(results) == list(range(40))
    assert all(job.finished() and attempts(job) == 1 for job in jobs)
    assert {result["threads"] for result in results.values()} == {"1"}


class Counted(Sequence[Job]):
    """Says how far it has been read."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.read = jobs, 0

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, place: Any) -> Any:
        self.read = max(self.read, place + 1)
        return self.jobs[place]


@EACH
def test_only_two_jobs_a_worker_are_on_their_way(two: RayExecutor, tmp_path: Path, resources: Resources) -> None:
    jobs = Counted(_jobs(tmp_path, 200))
    ahead = [jobs.read - done for done, _ in enumerate(two.run(served, jobs, resources=resources), start=1)]
    # four in flight, and what completed together and was handed out one by one
    assert max(ahead) <= 8 and jobs.read == 200


@EACH
def test_work_that_raises_is_a_failure_that_is_not_tried_again(
    two: RayExecutor, tmp_path: Path, ears: Ears, resources: Resources
) -> None:
    """datatrove's executor returns with a warning when a rank raises."""
    jobs = _jobs(tmp_path, 4, how="raise", times=9)
    results = _results(two, jobs, listener=ears, resources=resources)
    failure = _failure(results[1])
    assert "ZeroDivisionError: this job is cursed" in str(failure) and (failure.stage, failure.part) == ("s", 1)
    assert attempts(jobs[1]) == 1 and not ears.heard and len(results) == 4


def test_a_result_that_cannot_travel_is_a_failure(two: RayExecutor, tmp_path: Path) -> None:
    ((_, result),) = two.run(unsendable, _jobs(tmp_path, 1))
    assert "pickle" in _failure(result).error.lower()


@EACH
@pytest.mark.parametrize("how", ["kill", "transient"])
def test_lost_workers_and_silent_storage_are_tried_again(
    two: RayExecutor, tmp_path: Path, ears: Ears, how: str, resources: Resources
) -> None:
    jobs = _jobs(tmp_path, 6, how=how, times=2)
    results = _results(two, jobs, listener=ears, resources=resources)
    assert all(isinstance(result, dict) for result in results.values()) and attempts(jobs[1]) == 3
    assert [(told["part"], told["attempt"]) for told in ears.of("retry")] == [(1, 2), (1, 3)]
    assert all(told["stage"] == "s" and told["reason"] for told in ears.of("retry"))
    assert all(attempts(job) <= 2 for job in jobs if job.part != 1)


@EACH
def test_a_job_that_kills_every_worker_is_given_up_and_costs_nobody_else(
    two: RayExecutor, tmp_path: Path, ears: Ears, resources: Resources
) -> None:
    jobs = _jobs(tmp_path, 8, how="kill", times=99)
    results = _results(two, jobs, listener=ears, resources=resources)
    failure = _failure(results.pop(1))
    assert "part 1" in str(failure) and f"lost {RETRIES + 1} times" in failure.error and failure.transient
    assert attempts(jobs[1]) == RETRIES + 1 and len(ears.of("retry")) == RETRIES
    assert {told["part"] for told in ears.of("retry")} == {1}
    assert all(isinstance(result, dict) for result in results.values())


def test_what_a_lost_worker_had_finished_is_taken(two: RayExecutor, tmp_path: Path) -> None:
    jobs = _jobs(tmp_path, 3, how="done, then killed")
    results = _results(two, jobs)
    assert results[1] == jobs[1].finished() and attempts(jobs[1]) == 1


@BOTH
def test_a_time_limit_ends_native_code_and_is_a_failure(
    two: RayExecutor, tmp_path: Path, ears: Ears, resources: Resources
) -> None:
    """datatrove's `time=` kills its driver with a KeyError."""
    limited = Resources(time_limit=2.0, pool=resources.pool)
    jobs = _jobs(tmp_path, 6, how="native", times=9, seconds=100)
    began = time.monotonic()
    results = _results(two, jobs, resources=limited, listener=ears)
    assert _failure(results.pop(1)).error == "took longer than its time limit of 2 s and was stopped"
    assert time.monotonic() - began < 60 and attempts(jobs[1]) == 1 and not ears.of("retry")
    assert all(isinstance(result, dict) for result in results.values())


def test_waiting_for_a_worker_is_not_counted(two: RayExecutor, tmp_path: Path) -> None:
    jobs = [RayJob(stage="s", folder=str(tmp_path), part=part, how="sleep", seconds=0.8) for part in range(4)]
    results = _results(two, jobs, resources=Resources(time_limit=1.4))
    assert all(isinstance(result, dict) for result in results.values())


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(cpus=64), ["needs 64 CPUs on one node", "most that a node has is 2", "has 2 CPUs"]),
        (Resources(gpus=4096), ["4096 GPUs"]),
        (Resources(custom={"fast_disk": 1}), ["fast_disk 1, and the most that a node has is 0"]),
        (Resources(pool=Pool(min=3)), ["at least 3 actors", "room for 2"]),
    ],
)
def test_what_the_cluster_cannot_give_is_refused_at_once(
    two: RayExecutor, tmp_path: Path, resources: Resources, words: list[str]
) -> None:
    """datatrove waits for ever, and says nothing."""
    began = time.monotonic()
    with pytest.raises(StageError) as caught:
        two.run(served, _jobs(tmp_path, 1), resources=resources)
    assert time.monotonic() - began < 2 and all(word in str(caught.value) for word in words)


def test_gpus_are_whole_or_a_fraction_of_one(two: RayExecutor, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="ask for whole GPUs, or for a fraction of one"):
        two.run(served, _jobs(tmp_path, 1), resources=Resources(gpus=1.5))


def test_another_set_of_jobs_in_the_same_folder_runs(two: RayExecutor, tmp_path: Path) -> None:
    """datatrove's markers are keyed by rank alone: it would run nothing."""
    _results(two, _jobs(tmp_path, 2))
    changed = [RayJob(stage="s", folder=str(tmp_path), part=part) for part in (1, 2, 3)]
    assert sorted(result["part"] for result in _results(two, changed).values()) == [1, 2, 3]


def test_a_straggler_is_told_once(two: RayExecutor, tmp_path: Path, ears: Ears) -> None:
    _results(two, _jobs(tmp_path, 8, how="sleep", seconds=2.5), listener=ears)
    (told,) = (told for told in ears.of("straggler") if told["part"] == 1)  # a loaded machine may make others
    assert not told["copied"] and told["seconds"] >= 0.4


@EACH
def test_a_straggler_runs_twice_and_the_first_result_counts(
    two: RayExecutor, tmp_path: Path, ears: Ears, resources: Resources
) -> None:
    _results(two, _jobs(tmp_path, 1))  # gives the cores of its pool back
    guest = RayExecutor(address="auto", workers=2, straggler_s=0.4, speculate=True)
    jobs = _jobs(tmp_path, 8, how="native", times=1, seconds=100)
    began = time.monotonic()
    results = _results(guest, jobs, listener=ears, resources=resources)
    assert all(isinstance(result, dict) for result in results.values()) and len(results) == 8
    assert time.monotonic() - began < 60 and attempts(jobs[1]) == 2  # the first, and its copy
    assert [told["copied"] for told in ears.of("straggler") if told["part"] == 1] == [True]
    guest.close()  # the cluster is not its own
    assert len(_results(two, _jobs(tmp_path, 1))) == 1


@pytest.mark.slow
@BOTH
def test_closing_the_iterator_stops_what_runs_and_leaves_the_rest_to_do(
    two: RayExecutor, tmp_path: Path, resources: Resources
) -> None:
    jobs = [RayJob(stage="s", folder=str(tmp_path), part=part, how="sleep", seconds=part * 2.0) for part in range(6)]
    running = two.run(served, jobs, resources=resources)
    next(running)
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < 3
    time.sleep(5)
    assert not any(job.finished() for job in jobs[2:])
    assert len(_results(two, [job for job in jobs[:2] if not job.finished()], resources=resources)) >= 1


def test_a_node_with_another_version_is_refused(
    two: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_module, "ours", lambda: ("9.9.9", 99))
    with pytest.raises(StageError, match=r"this run is made with 9\.9\.9 .*Install the same version on every node"):
        _results(two, _jobs(tmp_path, 4))
    assert not any(job.finished() for job in _jobs(tmp_path, 4))


def test_a_pool_loads_once_an_actor_and_stays_for_the_next_run(two: RayExecutor, tmp_path: Path) -> None:
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        results = _results(two, _jobs(tmp_path / name, 30), resources=Resources(pool=Pool(max=2), time_limit=60))
        runs.append({result["pid"] for result in results.values()})
    assert 1 <= len(runs[0]) <= 2 and runs[1] <= runs[0] | runs[1] and len(runs[0] | runs[1]) <= 2
    assert len(_results(two, _jobs(tmp_path, 4), resources=Resources(cpus=2))) == 4  # the pool gave its cores back


def test_an_actor_that_ran_out_of_memory_is_replaced(two: RayExecutor, tmp_path: Path, ears: Ears) -> None:
    jobs = _jobs(tmp_path, 12, how="out of memory", times=1)
    results = _results(two, jobs, resources=Resources(pool=Pool(max=1)), listener=ears)
    assert all(isinstance(result, dict) for result in results.values()) and len(results) == 12
    # the job went on in another process, and nobody else was tried twice
    assert len({result["pid"] for result in results.values()}) == 2
    assert [told["part"] for told in ears.of("retry")] == [1] and all(
        attempts(job) == 1 for job in jobs if job.part != 1
    )


DRIVER = """
    import sys
    from own_ray_work import RayJob, served
    from curate.engine.executors.ray import RayExecutor

    if __name__ == "__main__":
        executor = RayExecutor(address="local", workers=2)
        from ray._private import worker

        print(worker._global_node.get_session_dir_path(), flush=True)
        ill = [RayJob(stage="s", folder=sys.argv[1], part=0, how="kill", times=1)]
        well = [RayJob(stage="s", folder=sys.argv[1], part=part, how="prints") for part in (1, 2)]
        long = [RayJob(stage="s", folder=sys.argv[1], part=part, how="native", times=1, seconds=300) for part in (3, 4)]
        for jobs in (ill + well, long):
            for place, result in executor.run(served, [job for job in jobs if not job.finished()]):
                print(result["part"], flush=True)
        executor.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_driver_leaves_no_process_and_a_run_to_go_on_with(tmp_path: Path, end: signal.Signals) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    env = {**os.environ, "PYTHONPATH": str(OWN), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path)]
    driver = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert driver.stdout is not None
    try:
        session = driver.stdout.readline().strip()
        assert sorted(driver.stdout.readline() for _ in range(3)) == ["0\n", "1\n", "2\n"]
        deadline = time.monotonic() + 20
        while not all((tmp_path / f"attempts-{part}").exists() for part in (3, 4)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert session_processes(session)
        began = time.monotonic()
        driver.send_signal(end)
        said, complained = driver.communicate(timeout=30)
        assert said == "" and "chatter" not in complained and "(raylet)" not in complained  # workers stay quiet
        while session_processes(session) and time.monotonic() - began < 10:
            time.sleep(0.1)
        assert session_processes(session) == []
    finally:
        driver.kill()
    again = subprocess.run(command, env=env, text=True, capture_output=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert sorted(again.stdout.splitlines()[1:]) == ["3", "4"]


GPU_NODE = Node("10.0.0.1", 16, 2, 64e9, {"fast_disk": 1})
CPU_NODE = Node("10.0.0.2", 32, 0, 128e9, {})


def test_slots_are_counted_node_by_node() -> None:
    nodes = [GPU_NODE, CPU_NODE]
    assert slots(nodes, Resources(cpus=1)) == 48
    assert slots(nodes, Resources(cpus=10)) == 4
    assert slots(nodes, Resources(gpus=0.3)) == 6  # three a GPU, never one over two
    assert slots(nodes, Resources(gpus=0.1)) == 16
    assert slots(nodes, Resources(gpus=2)) == 1
    assert slots(nodes, Resources(memory=50_000_000_000)) == 3


def test_a_part_needs_one_node_that_has_it_all() -> None:
    wants = Resources(cpus=20, gpus=1)
    sentence = shortage([GPU_NODE, CPU_NODE], wants)
    assert "no node has all of it" in sentence and "10.0.0.1 has 16 CPUs, 64 GB, 2 GPUs, 1 fast_disk" in sentence
    assert asked(wants) == "20 CPUs, 1 GPUs"
    assert not shortage([GPU_NODE], Resources(gpus=0.5, pool=Pool(min=4)))
    assert "no node is alive" in shortage([], Resources())


def test_an_address_where_nobody_listens_is_known_at_once() -> None:
    """Ray itself asks for more than five minutes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            with pytest.raises(OSError, match="refused"):
                check_answers(given)


def test_sigterm_means_after_joining_a_cluster_what_it_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ray_module._sigterm_kept():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as ray.init does
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(KeyboardInterrupt), ray_module._sigterm_kept():
        sys.exit(signal.SIGTERM)


def test_a_driver_whose_own_node_is_gone_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts such a process as ended and gives it no worker again, without a word."""
    monkeypatch.setattr(ray_cluster, "LOOK_S", 0.01)
    has = {"CPU": 2.0, "memory": 1e9}
    home, other = ({"NodeID": key, "Alive": True, "NodeManagerAddress": key, "Resources": has} for key in "ab")

    class Ray:
        util = SimpleNamespace(client=SimpleNamespace(ray=SimpleNamespace(is_connected=lambda: False)))

        def nodes(self) -> list[dict[str, Any]]:
            return [home, other]

        def get_runtime_context(self) -> Any:
            return SimpleNamespace(get_node_id=lambda: "a")

    with ray_cluster.Watch(Ray()) as watch:
        assert not watch.lost
        home["Alive"] = False
        for _ in range(500):
            if watch.lost:
                break
            time.sleep(0.01)
        assert watch.lost
