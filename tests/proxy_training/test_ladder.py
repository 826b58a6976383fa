import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curate.errors import InputError, TrainingError
from curate.measurements import SCHEMA, read_measurements, write_measurements
from curate.progress import Progress, Task
from curate.proxy_training.ladder import Ladder, loss_curves, train_ladder
from curate.proxy_training.packing import TokenizedDataset, pack_dataset

from .conftest import TEXT, sentences, write_documents

TINY = {
    "name": "tiny",
    "vocab_size": 300,
    "sequence_length": 32,
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


def test_a_ladder_gives_one_row_a_run_budget_and_metric(
    world: Path, datasets: dict[str, TokenizedDataset], tmp_path: Path
) -> None:
    heldout = {"one": world / "heldout.parquet", "two": [world / "documents.parquet"]}
    progress = Recorder()
    ladder = Ladder.model_validate(TINY)
    table = train_ladder(datasets=datasets, heldout=heldout, ladder=ladder, out=tmp_path, progress=progress)

    assert table.schema == SCHEMA
    assert table.num_rows == 2 * 3 * 2 * 3
    rows = table.to_pylist()
    assert {row["metric"] for row in rows} == {"bits_per_byte", "bits_per_byte/one", "bits_per_byte/two"}
    assert len({row["run_id"] for row in rows}) == 6
    assert len({row["procedure"] for row in rows}) == len({row["evaluation"] for row in rows}) == 1
    assert all(row["cooled_down"] and row["lower_is_better"] and row["error"] > 0 for row in rows)
    assert all(row["flops"] == 6 * row["params"] * row["tokens"] for row in rows)
    assert {row["unique_tokens"] for row in rows} == {one.tokens for one in datasets.values()}
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

    curves = loss_curves(tmp_path)
    assert set(curves["run_id"].to_pylist()) == {row["run_id"] for row in rows}
    assert set(curves["phase"].to_pylist()) == {"trunk", "branch-1024", "branch-2048"}

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    again = train_ladder(datasets=datasets, heldout=heldout, ladder=ladder, out=tmp_path)
    assert again.equals(table)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")} == stamps


def test_a_failed_run_fails_the_ladder_at_its_end_and_is_named(
    world: Path, datasets: dict[str, TokenizedDataset], tmp_path: Path
) -> None:
    wild = json.loads(json.dumps(TINY))
    wild["scales"][1]["learning_rate"] = 1e30
    with pytest.raises(TrainingError, match=r"2 of 6 runs") as caught:
        train_ladder(
            datasets=datasets,
            heldout={"one": world / "heldout.parquet"},
            ladder=Ladder.model_validate(wild),
            out=tmp_path,
            workers=1,
        )
    assert "b of grammar, seed 0" in str(caught.value)
    assert "b of small, seed 0" in str(caught.value)
    assert "diverged" in str(caught.value)
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 4
    assert len(list(tmp_path.glob("runs/*/failed.json"))) == 2


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

    from curate.proxy_training.tokenizer import train_tokenizer

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
