import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curate.errors import InputError, TrainingError
from curate.measurements import SCHEMA, read_measurements, write_measurements
from curate.progress import Progress, Task
from curate.proxy_training.ladder import Ladder, Ready, loss_curves, ready, train_ladder
from curate.proxy_training.packing import TokenizedDataset, pack_dataset
from curate.proxy_training.run import Run
from curate.proxy_training.scheduling import workers
from curate.proxy_training.scheduling.grouping import Group
from curate.proxy_training.scheduling.taking_up import taken_up
from curate.study import _divergences

from .conftest import TEXT, finish, sentences, write_documents

TINY: dict[str, Any] = {
    "name": "tiny",
    "vocab_size": 300,
    "sequence_length": 32,
    "precision": "fp32",
    "compile": "eager",
    "evaluation": {"bytes_per_set": 2000, "bytes_per_document": 400},
    "procedure": {"batch_tokens_min": 128, "batch_tokens_max": 128},
    "scales": [
        {"name": "a", "width": 16, "layers": 1, "heads": 2, "ffn": 32, "budgets_tokens": [1024, 2048], "seeds": 2},
        {"name": "b", "width": 32, "layers": 1, "heads": 2, "ffn": 64, "budgets_tokens": [1024, 2048]},
    ],
}


class Recorder(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.advanced = 0.0
        self.notes: list[str] = []
        self.texts: list[str] = []

    @contextmanager
    def task(self, name: str, *, total: float, unit: str = "") -> Iterator[Task]:
        recorder = self

        class _Task(Task):
            def advance(self, amount: float = 1.0) -> None:
                recorder.advanced += amount

            def describe(self, text: str) -> None:
                recorder.texts.append(text)

        yield _Task()

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def datasets(
    world: Path, packed: TokenizedDataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, TokenizedDataset]:
    folder = tmp_path_factory.mktemp("small")
    small = pack_dataset(
        [write_documents(folder / "d.parquet", sentences(8, 40))],
        name="small",
        fingerprint="small",
        tokenizer=world / "tokenizer.json",
        out=folder / "packed",
    )
    return {"grammar": packed, "small": small}


WILD = {
    "name": "wild",
    "width": 16,
    "layers": 1,
    "heads": 2,
    "ffn": 32,
    "budgets_tokens": [1024],
    "learning_rate": 1e30,
}


@pytest.fixture(scope="module")
def how(world: Path, datasets: dict[str, TokenizedDataset], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A ladder of two rungs, and of one at which every run diverges."""
    ladder = Ladder.model_validate(TINY | {"scales": [*TINY["scales"], WILD]})
    heldout = {"one": world / "heldout.parquet", "two": [world / "documents.parquet"]}
    return {"datasets": datasets, "heldout": heldout, "ladder": ladder, "out": tmp_path_factory.mktemp("ladder")}


@pytest.fixture(scope="module")
def trained(how: dict[str, Any]) -> tuple[pa.Table, Recorder]:
    """What came of it with one worker, and what was told."""
    progress = Recorder()
    return train_ladder(**how, workers=1, progress=progress), progress


def test_a_ladder_gives_one_row_a_run_budget_and_metric(
    trained: tuple[pa.Table, Recorder], how: dict[str, Any], tmp_path: Path
) -> None:
    table, progress = trained
    assert table.schema == SCHEMA
    assert table.num_rows == 2 * 3 * 2 * 3
    rows = table.to_pylist()
    assert {row["metric"] for row in rows} == {"bits_per_byte", "bits_per_byte/one", "bits_per_byte/two"}
    assert len({row["run_id"] for row in rows}) == 6
    assert len({row["procedure"] for row in rows}) == len({row["evaluation"] for row in rows}) == 1
    assert all(row["cooled_down"] and row["lower_is_better"] and row["error"] > 0 for row in rows)
    assert all(row["flops"] == 6 * row["params"] * row["tokens"] for row in rows)
    assert {row["unique_tokens"] for row in rows} == {one.tokens for one in how["datasets"].values()}
    for row in rows:
        if row["metric"] == "bits_per_byte":
            same = [r for r in rows if (r["run_id"], r["tokens"]) == (row["run_id"], row["tokens"]) and r is not row]
            assert row["value"] == pytest.approx(sum(r["value"] for r in same) / 2)
            said = json.loads(row["hyperparameters"])
            assert said["batch_tokens"] == 128
            assert said["steps"] * said["batch_tokens"] == row["tokens"]
    assert progress.advanced == pytest.approx(100, abs=0.1)
    assert any("small holds fewer tokens" in note for note in progress.notes)
    assert any("loss" in text for text in progress.texts)
    write_measurements(table, tmp_path / "m.parquet")
    assert read_measurements(tmp_path / "m.parquet").equals(table)

    stamps = {path: path.stat().st_mtime_ns for path in how["out"].glob("runs/*/result.json")}
    assert train_ladder(**how, workers=1).equals(table)
    assert {path: path.stat().st_mtime_ns for path in how["out"].glob("runs/*/result.json")} == stamps


def test_a_run_that_diverged_has_ended_and_is_left_out_with_a_note(
    trained: tuple[pa.Table, Recorder], how: dict[str, Any]
) -> None:
    table, progress = trained
    assert set(table["scale"].to_pylist()) == {"a", "b"}
    training = ready(**how)
    assert training.unfinished() == []
    assert [run.name for run, _ in training.diverged()] == ["wild of grammar, seed 0", "wild of small, seed 0"]
    for name in ("grammar", "small"):
        assert any(f"Run wild of {name}, seed 0 diverged: loss" in note for note in progress.notes)
        assert any(f"wild of {name}, seed 0 diverged and is left out" in note for note in progress.notes)
    checks = list(_divergences(training))
    assert [(check.name, check.severity) for check in checks] == [("diverged", "severe")]
    assert "2 of 8 runs at the learning rate of the rule diverged" in checks[0].message


def test_a_divergence_at_another_rate_is_a_note_of_the_verdict(make_run: Callable[..., Run]) -> None:
    run = replace(make_run(), learning_rate_factor=3.0)
    training = SimpleNamespace(runs=(run, make_run()), diverged=lambda: [(run, "Run x diverged.")])
    (check,) = _divergences(training)  # type: ignore[arg-type]
    assert check.severity == "note"
    assert "1 of 1 runs at a multiple of the rule's learning rate diverged" in check.message


def test_a_ladder_that_diverged_everywhere_says_so(how: dict[str, Any], tmp_path: Path) -> None:
    training = ready(**how | {"out": tmp_path})
    for run in training.runs:
        folder = tmp_path / "runs" / run.fingerprint
        folder.mkdir(parents=True)
        (folder / "failed.json").write_text('{"diverged": true, "error": "Run x diverged."}')
    assert training.unfinished() == []
    with pytest.raises(TrainingError, match="All runs of ladder 'tiny' diverged"):
        training.measurements()


def test_curves_are_told_under_the_names_of_today(trained: tuple[pa.Table, Recorder], how: dict[str, Any]) -> None:
    table, _ = trained
    curves = loss_curves(how["out"], ready(**how).runs)
    assert set(table["run_id"].to_pylist()) < set(curves["run_id"].to_pylist())
    assert set(curves["phase"].to_pylist()) == {"trunk", "branch-1024", "branch-2048"}
    renamed = ready(**how | {"datasets": {"new": replace(how["datasets"]["grammar"], name="new")}})
    again = loss_curves(how["out"], renamed.runs)
    assert set(again["dataset"].to_pylist()) == {"new"}
    assert again.num_rows == curves.filter(pc.equal(curves["dataset"], "grammar")).num_rows


def test_a_fault_of_the_machine_fails_the_ladder_at_its_end_and_is_named(
    how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(groups: Sequence[Group], work: object, **more: object) -> list[str]:
        """All but the first group, which is the largest."""
        for run in (run for group in groups[1:] for run in group.runs):
            finish(run, tmp_path)
        return [workers.failed_group(groups[0], "No room on the disk")]

    monkeypatch.setattr(workers, "train_in_processes", train)
    training: Ready = ready(**how | {"out": tmp_path})
    progress = Recorder()
    with pytest.raises(TrainingError, match=r"4 of 4 runs.*\n- a x 4 .*No room on the disk"):
        training.train(workers=1, progress=progress, scales=["a"])  # runs that were asked for, not groups
    (tmp_path / "groups").rename(tmp_path / "before")
    with pytest.raises(TrainingError, match=r"2 of 8 runs.*\n- b x 2 .*No room on the disk"):
        training.train(workers=1, progress=progress)
    assert [run.scale.name for run in training.unfinished()] == ["b", "b"]
    with pytest.raises(TrainingError, match=r"2 of 4 runs"):
        training.train(workers=1, progress=progress, scales=["b", "wild"])
    assert progress.notes[-1] == "Taken up: 2 of 4 runs are done."


def test_what_is_repeated_is_told_of_the_rungs_that_are_trained(
    how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "train_in_processes", lambda groups, work, **more: [])
    training, said = ready(**how | {"out": tmp_path}), list[str]()
    assert any(run.epochs > 1 for run in training.runs if run.scale.name == "a")
    assert all(run.epochs <= 1 for run in training.runs if run.scale.name == "wild")
    for scale in ("a", "wild"):
        progress = Recorder()
        training.train(workers=1, progress=progress, scales=[scale])
        said.append(" ".join(progress.notes))
    assert "small holds fewer tokens than the largest budget" in said[0]
    assert "fewer tokens" not in said[1]


def test_a_start_says_in_one_line_what_it_takes_up(make_run: Callable[..., Run], tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(8)]
    groups = [Group((run,)) for run in runs[3:]]
    assert taken_up(runs, groups, tmp_path) is None
    for run in runs[:3]:
        finish(run, tmp_path)
    assert taken_up(runs, groups, tmp_path) == "Taken up: 3 of 8 runs are done."
    for group, names in zip(groups, (["trunk-000000013", "branch-4096-000000015"], ["trunk-000001300"]), strict=False):
        for name in names:
            path = group.folder(tmp_path) / "checkpoints" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert taken_up(runs, groups, tmp_path) == (
        "Taken up: 3 of 8 runs are done; it goes on with tiny of grammar, seed 3 from step 15 of its branch-4096, "
        "tiny of grammar, seed 4 from step 1,300 of its trunk."
    )
    points = tmp_path / "runs" / runs[3].fingerprint / "points"
    points.mkdir(parents=True)
    (points / "4096.json").touch()  # measured, and killed before the branch was removed
    assert "seed 3 from step 13 of its trunk" in str(taken_up(runs, groups, tmp_path))


def test_a_dataset_of_less_than_one_sequence_is_refused_before_any_run(
    how: dict[str, Any], world: Path, tmp_path: Path
) -> None:
    short = pack_dataset(
        [write_documents(tmp_path / "d.parquet", ["law"])],
        name="short",
        fingerprint="short",
        tokenizer=world / "tokenizer.json",
        out=tmp_path / "packed",
    )
    with pytest.raises(InputError, match=r"'tiny' holds \d+ tokens, fewer than one sequence of 33; give it more text"):
        ready(**how | {"datasets": how["datasets"] | {"tiny": short}, "out": tmp_path / "out"})
    assert not (tmp_path / "out").exists()


class _Hanging:
    """A process that does not end before it is killed, and the patience that was asked of it."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.killed = False

    def is_alive(self) -> bool:
        return not self.killed

    def terminate(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = True

    def join(self, timeout: float | None = None) -> None:
        if timeout is not None:
            self.waited.append(timeout)
            time.sleep(timeout)


def test_all_hanging_workers_together_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 0.1)
    processes = [_Hanging() for _ in range(3)]
    crew = [SimpleNamespace(process=one, pipe=SimpleNamespace(close=lambda: None), group="some") for one in processes]
    workers._dismiss(crew)  # type: ignore[arg-type]
    assert all(one.killed for one in processes)
    assert sum(sum(one.waited) for one in processes) <= 0.1


def test_nothing_to_train_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one dataset"):
        train_ladder(datasets={}, heldout={}, ladder=Ladder.model_validate(TINY), out=tmp_path)


def test_planning_does_not_load_torch() -> None:
    code = "import sys, curate.proxy_training.ladder, curate.proxy_training.packing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SCRIPT = """
import json, sys
from pathlib import Path
from curate.proxy_training.ladder import Ladder, train_ladder
from curate.proxy_training.packing import open_packed
if __name__ == "__main__":
    world, out, ladder = sys.argv[1:]
    table = train_ladder(
        datasets={"grammar": open_packed(Path(world) / "packed")},
        heldout={"one": Path(world) / "heldout.parquet"},
        ladder=Ladder.model_validate(json.loads(ladder)),
        out=Path(out),
    )
    print(table.num_rows)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_ladder_leaves_no_worker_and_resumes(
    world: Path, packed: TokenizedDataset, tmp_path: Path, end: signal.Signals
) -> None:
    longer = json.loads(json.dumps(TINY))
    for scale in longer["scales"]:
        scale["budgets_tokens"] = [100_000, 400_000]
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(world), str(tmp_path / "out"), json.dumps(longer)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("out/runs/*/points/*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(end)
    process.wait(timeout=100)
    locks = list(tmp_path.glob("out/runs/*/lock"))
    assert locks
    while any(_is_locked(lock) for lock in locks):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == str(3 * 2 * 2)


def _is_locked(lock: Path) -> bool:
    import fcntl

    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.slow
@pytest.mark.skipif(not (TEXT / "textbooks.parquet").exists(), reason="the real text beside the project is not here")
def test_shuffling_a_third_of_the_words_is_seen_by_the_smallest_scale(tmp_path: Path) -> None:
    """Textbooks against themselves with 30% of the words in random places, at .06M parameters and .35M tokens."""
    import random

    import pyarrow.parquet as pq

    from curate.proxy_training.tokens.tokenizer import train_tokenizer

    texts = pq.read_table(TEXT / "textbooks.parquet", columns=["text"])["text"].to_pylist()[:260]
    chance = random.Random(0)

    def shuffled(text: str) -> str:
        words = text.split(" ")
        places = chance.sample(range(len(words)), int(0.3 * len(words)))
        for place, other in zip(places, chance.sample(places, len(places)), strict=True):
            words[place], words[other] = words[other], words[place]
        return " ".join(words)

    train_tokenizer(texts[:100], vocab_size=1024, path=tmp_path / "tokenizer.json")
    write_documents(tmp_path / "heldout.parquet", texts[200:])
    contestants = {"clean": texts[:200], "shuffled": [shuffled(text) for text in texts[:200]]}
    packed = {
        name: pack_dataset(
            [write_documents(tmp_path / f"{name}.parquet", some)],
            name=name,
            fingerprint=name,
            tokenizer=tmp_path / "tokenizer.json",
            out=tmp_path / name,
        )
        for name, some in contestants.items()
    }
    ladder = Ladder.model_validate(
        TINY
        | {
            "vocab_size": 1024,
            "sequence_length": 256,
            "evaluation": {},
            "procedure": {"batch_tokens_max": 1024, "batch_tokens_min": 1024},
            "scales": [
                {"name": "s", "width": 32, "layers": 2, "heads": 2, "ffn": 96, "budgets_tokens": [175_000, 350_000]}
            ],
        }
    )
    table = train_ladder(
        datasets=packed, heldout={"t": tmp_path / "heldout.parquet"}, ladder=ladder, out=tmp_path / "l"
    )
    values = {
        (row["dataset"], row["tokens"]): row["value"] for row in table.to_pylist() if row["metric"] == "bits_per_byte"
    }
    largest = max(tokens for _, tokens in values)
    assert values["shuffled", largest] - values["clean", largest] > 0.08
    assert 2.5 < values["clean", largest] < 3.5
