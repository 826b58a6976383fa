"""Groups over Ray: the numbers of local processes, also when a worker is killed on the way."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from curate.progress import Progress, Task
from curate.proxy_training.ladder import Ladder, Ready, _settle_device, ready
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.scheduling.beats import read_beat
from curate.proxy_training.training.faults import Stopped
from curate.proxy_training.training.options import TrainingOptions

LADDER = Ladder.model_validate(
    {
        "name": "tiny",
        "vocab_size": 300,
        "sequence_length": 32,
        "precision": "fp32",
        "compile": "eager",
        "evaluation": {"bytes_per_set": 2000, "bytes_per_document": 400},
        "procedure": {"batch_tokens_min": 128, "batch_tokens_max": 128},
        "scales": [
            {"name": "a", "width": 16, "layers": 1, "heads": 2, "ffn": 32, "budgets_tokens": [100_000], "seeds": 2},
            {"name": "b", "width": 32, "layers": 1, "heads": 2, "ffn": 64, "budgets_tokens": [50_000]},
        ],
    }
)


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advanced = 0.0

    @contextmanager
    def task(self, name: str, *, total: float, unit: str = "") -> Iterator[Task]:
        notes = self

        class _Task(Task):
            def advance(self, amount: float = 1.0) -> None:
                notes.advanced += amount

        yield _Task()

    def note(self, text: str) -> None:
        self.notes.append(text)


def _ready(world: Path, packed: TokenizedDataset, out: Path) -> Ready:
    return ready(
        datasets={"grammar": packed},
        heldout={"one": world / "heldout.parquet"},
        ladder=LADDER,
        out=out,
        options=TrainingOptions(checkpoint_seconds=0.2),
        device="cpu",
    )


def _points(out: Path) -> dict[str, object]:
    results = [json.loads(path.read_text()) for path in out.glob("runs/*/result.json")]
    return {result["run_id"]: [point["bits_per_byte"] for point in result["points"]] for result in results}


@pytest.fixture
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def _kill_a_worker(out: Path, killed: list[int]) -> None:
    """The first that has written a checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for folder in out.glob("groups/*/"):
            beat = read_beat(folder)
            if beat and list(folder.glob("checkpoints/*.json")) and not (folder / "done.json").exists():
                killed.append(int(beat.where.rpartition(":")[2]))
                os.kill(killed[0], signal.SIGKILL)
                return
        time.sleep(0.05)


@pytest.mark.parametrize(("gpus", "settled"), [({"GPU": 4.0}, "cuda"), ({}, "cpu")])
def test_the_gpus_that_count_are_the_clusters(
    gpus: dict[str, float], settled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = SimpleNamespace(is_initialized=lambda: True, cluster_resources=lambda: {"CPU": 8.0, **gpus})
    monkeypatch.setitem(sys.modules, "ray", cluster)
    assert _settle_device("auto", on_ray=True) == settled
    assert _settle_device("cpu", on_ray=True) == "cpu"


@pytest.mark.slow
def test_a_killed_ray_worker_costs_nothing_but_time(
    cluster: None, world: Path, packed: TokenizedDataset, tmp_path: Path
) -> None:
    local = _ready(world, packed, tmp_path / "local")
    local.train(workers=1, progress=Progress())

    over_ray, notes, killed = _ready(world, packed, tmp_path / "ray"), Notes(), list[int]()
    killer = threading.Thread(target=_kill_a_worker, args=(tmp_path / "ray", killed))
    killer.start()
    over_ray.train(workers=1, progress=notes, on_ray=True)
    killer.join()
    assert killed, "no worker was seen in time"
    assert any("its worker was lost" in note for note in notes.notes)
    assert _points(tmp_path / "ray") == _points(tmp_path / "local")
    assert not over_ray.unfinished()
    assert notes.advanced == pytest.approx(100, abs=0.5)


@pytest.mark.slow
def test_a_stop_saves_what_trains_on_ray(cluster: None, world: Path, packed: TokenizedDataset, tmp_path: Path) -> None:
    training = _ready(world, packed, tmp_path)

    def begun() -> bool:
        return any(
            (beat := read_beat(folder)) is not None and beat.session_tokens > 0 for folder in tmp_path.glob("groups/*/")
        )

    with pytest.raises(Stopped):
        training.train(workers=1, progress=Progress(), on_ray=True, stop=begun)
    assert list(tmp_path.glob("groups/*/checkpoints/*.json"))
    assert not list(tmp_path.glob("groups/*/stop"))
    training.train(workers=1, progress=Progress(), on_ray=True)
    assert not training.unfinished()
