"""`curate train` and its words: one command that trains, goes on, shares its work, and tells how it stands."""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.commands.train import many_ranks
from curate.errors import RecipeError
from curate.measurements import read_measurements
from curate.preparation import PREPARING
from curate.proxy_training.ladder import Ready
from curate.proxy_training.packing import pack_dataset
from curate.proxy_training.scheduling import workers
from curate.proxy_training.scheduling.grouping import Group
from curate.proxy_training.scheduling.watching import Watcher
from curate.proxy_training.tokens.tokenizer import train_tokenizer
from curate.proxy_training.training.locks import locked
from curate.proxy_training.training.options import TrainingOptions
from curate.study_file import load_study

if TYPE_CHECKING:
    from curate.proxy_training.scheduling.one_group import Work

LADDER = """\
name: tiny
vocab_size: 300
sequence_length: 32
precision: fp32
compile: eager
evaluation: {bytes_per_set: 1000, bytes_per_document: 200}
scales:
  - {name: a, width: 16, layers: 1, heads: 2, ffn: 32, budgets_tokens: [2048, 4096]}
  - {name: b, width: 32, layers: 1, heads: 2, ffn: 64, budgets_tokens: [2048, 4096]}
"""
STUDY = """\
name: tiny
datasets: {one: {parquet: one.parquet}, two: {parquet: two.parquet}}
ladder: tiny.yaml
heldout: {h: heldout.parquet}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    for name, words in (
        ("one", "the river keeps the page."),
        ("two", "a law reads every seed."),
        ("heldout", "the law"),
    ):
        rows = [f"{words} {number} {words[::-1]} " * 4 for number in range(60)]
        ids = [f"{name}-{number}" for number in range(len(rows))]
        pq.write_table(pa.table({"id": ids, "text": rows}), folder / f"{name}.parquet")
    (folder / "tiny.yaml").write_text(LADDER)
    (folder / "study.yaml").write_text(STUDY + "learning_rates: {factors: [1/3, 3], on: 1}\ntraining: {keep: all}\n")
    return folder


def _train(folder: Path, *more: str) -> int:
    words = [
        "train",
        str(folder / "study.yaml"),
        "--work",
        str(folder / "work"),
        "--workers",
        "1",
        "--progress",
        "none",
    ]
    return main([*words, "--device", "cpu", *more])


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker processes, each of which loads torch for seconds; they are tested where one ladder needs them."""

    def train(groups: Sequence[Group], work: "Work", *, watcher: Watcher, **_: object) -> list[str]:
        from curate.proxy_training.scheduling.one_group import train_recorded
        from curate.proxy_training.training.world import World

        for group in groups:
            watcher.started(group)
            train_recorded(group, work, world=World(), stop=lambda: False, warn=watcher.note)
            watcher.ended(group)
        return []

    monkeypatch.setattr(workers, "train_in_processes", train)


def test_a_ladder_is_trained_part_by_part_and_shown(
    folder: Path, in_this_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    measurements = folder / "work" / "studies" / "tiny" / "measurements.parquet"
    assert _train(folder, "--resume") == 2
    assert "nothing has been trained here yet" in capsys.readouterr().err

    assert _train(folder, "--part", "2/2") == 0
    assert "runs of other parts or rungs are not finished" in capsys.readouterr().out
    assert not measurements.exists()
    assert main(["train", "status", str(folder / "work"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    states = [run["state"] for run in told["runs"]]
    assert len(states) == 2 * 2 + 2 * 2
    assert set(states) == {"done", "waiting"}

    assert _train(folder, "--resume") == 0
    rows = read_measurements(measurements).to_pylist()
    assert len(rows) == 8 * 2 * 2
    factors = {json.loads(row["hyperparameters"]).get("learning_rate_factor", 1) for row in rows}
    assert [round(factor, 3) for factor in sorted(factors)] == [0.333, 1, 3]
    for row in rows:
        assert row["epochs"] == pytest.approx(row["tokens"] / row["unique_tokens"])
        assert row["flops_exact"] > row["flops"] == 6 * row["params"] * row["tokens"]
        assert (row["schedule"], row["branch"]) == ("wsd", f"branch-{row['tokens']:.0f}")
        assert row["seconds"] > 0
        assert row["device"]
        assert row["tuned"] is (False if "learning_rate_factor" in row["hyperparameters"] else row["tuned"])
    assert len(list((folder / "work" / "ladder" / "runs").glob("*/points/*.safetensors"))) == 8 * 2

    capsys.readouterr()
    assert main(["train", "status", str(folder / "work")]) == 0
    said = capsys.readouterr().out
    assert "8 of 8 runs done" in said
    assert "4.10k of 4.10k" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_preparation_that_is_told_to_stop_ends_at_once_and_is_requeued(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr("curate.study.prepare_study", prepare)
    assert _train(folder) == 75
    assert "the same command goes on" in capsys.readouterr().err


def test_a_plan_trains_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--plan", "open_sci_ref"], [str(folder / "study.yaml"), "--plan", "--work", str(folder / "plan")]):
        assert main(["train", *words]) == 0
        assert "FLOPs" in capsys.readouterr().out or words
    assert not (folder / "plan").exists()
    assert main(["train", "--plan", "nowhere"]) == 2
    assert "No ladder is called 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["status", "tune", "launch"])
def test_every_word_explains_itself(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", word, "--help"])
    assert caught.value.code == 0
    assert f"usage: curate train {word}" in capsys.readouterr().out


def test_a_rung_is_launched_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "launch", "open_sci_ref", "--rung", "1.3B", "--for", "slurm"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#!/bin/bash")
    assert "curate train study.yaml --ladder=open_sci_ref" in script
    assert main(["train", "launch", "open_sci_ref", "--rung", "1.7B", "--for", "megatron", "--budget", "300B"]) == 0
    assert "--train-iters 72661" in capsys.readouterr().out
    assert main(["train", "launch", "open_sci_ref", "--rung", "1.7B", "--for", "megatron", "--budget", "5e11"]) == 2
    assert "no budget of 5e11 tokens: take 300,000,411,648, 1,000,004,124,672" in capsys.readouterr().err


def test_launch_files_lie_where_the_target_wants_them(tmp_path: Path) -> None:
    assert main(["train", "launch", "dclm", "--rung", "7B-2x", "--for", "dclm", "--out", str(tmp_path / "od")]) == 0
    assert list((tmp_path / "od" / "training" / "configs").glob("*.json"))


def test_ranks_are_known_by_their_starter() -> None:
    assert many_ranks({"WORLD_SIZE": "2"})
    assert many_ranks({"SLURM_STEP_NUM_TASKS": "8"})
    assert not many_ranks({"SLURM_STEP_NUM_TASKS": "1"})
    assert not many_ranks({})


def test_seeds_and_learning_rates_are_of_the_studys_ladder(folder: Path) -> None:
    (folder / "good.yaml").write_text(STUDY + "seeds: {small: 2, b: 3}\nlearning_rates: [1/3, 1, 3]\n")
    study = load_study(folder / "good.yaml")
    assert [scale.seeds for scale in study.its_ladder().scales] == [2, 3]
    assert study.learning_rates is not None
    assert study.learning_rates.factors == (pytest.approx(1 / 3), 1, 3)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("seeds: {c: 2}", r"line 5, seeds: 'c' is no rung of tiny: its rungs are a, b"),
        ("seeds: 0", r"line 5, seeds"),
        ("learning_rates: {factors: [1, 3], on: [c]}", r"line 5, learning_rates: 'c' is no rung"),
        ("learning_rates: [0]", r"line 5, learning_rates"),
        ("evaluate: [nothing]", r"line 5, evaluate\[0\]: There is no task 'nothing'"),
        ("evaluate: [{task: mine, file: none.jsonl}]", r"line 5, evaluate\[0\].*no such file"),
        ("learning_rates: [1/3, .nan]", r"line 5, learning_rates\[1\]: must be a number \(found nan\)"),
        ("training: {keep: some}", r"line 5, training\.keep: must be 'auto', 'longest' or 'all' \(found 'some'\)"),
        ("training: {log: [paper]}", r"line 5, training\.log\[0\]"),
        ("training: {checkpoint_second: 3}", r"line 5, .* no such field here; did you mean 'checkpoint_seconds'\?"),
        ("training: {keep_checkpoints: 1}", r"line 5, training\.keep_checkpoints: must be 2 or more"),
        ("keep: all", r"line 5, keep: .* write it as training: \{keep: \.\.\.\}"),
        ("log: [wandb]", r"line 5, log: .* write it as training: \{log: \.\.\.\}"),
    ],
)
def test_a_wrong_key_is_refused_by_line(folder: Path, line: str, says: str) -> None:
    (folder / "wrong.yaml").write_text(STUDY + line + "\n")
    with pytest.raises(RecipeError, match=says):
        load_study(folder / "wrong.yaml")


def test_options_reach_the_training_and_no_fingerprint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "{micro_batch_sequences: 2, recompute: true, checkpoint_seconds: null, checkpoint_steps: 7, "
    given += "keep_checkpoints: 3, keep: all, log: [wandb, wandb], deterministic: false}"
    (folder / "options.yaml").write_text(STUDY + f"training: {given}\n")
    (folder / "plain.yaml").write_text(STUDY)
    seen: list[Ready] = []

    def train(ready: Ready, **_: object) -> None:
        seen.append(ready)

    monkeypatch.setattr(Ready, "train", train)
    words = ["--work", str(folder / "options"), "--workers", "1", "--progress", "none", "--device", "cpu"]
    for name, more in (("options", []), ("options", ["--log", "tensorboard"]), ("plain", [])):
        assert main(["train", str(folder / f"{name}.yaml"), *words, *more]) == 0
    all_of_them = TrainingOptions(
        micro_batch_sequences=2,
        recompute=True,
        checkpoint_seconds=None,
        checkpoint_steps=7,
        keep_checkpoints=3,
        keep="all",
        log=("wandb",),
        deterministic=False,
    )
    logged = all_of_them.model_copy(update={"log": ("tensorboard",)})
    assert [ready.options for ready in seen] == [all_of_them, logged, TrainingOptions()]
    assert len({tuple(run.fingerprint for run in ready.runs) for ready in seen}) == 1
    assert len(list((folder / "options" / "tokens").glob("*/tokens.json"))) == 2
    capsys.readouterr()


def test_status_says_what_goes_on_before_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = folder / "begun"
    work.mkdir()
    assert main(["train", "status", "--work", str(work)]) == 2
    assert "no ladder was started here" in capsys.readouterr().err
    train_tokenizer(["the law keeps every page"] * 20, vocab_size=280, path=work / "t.json")
    out = work / "tokens" / "one"
    pack_dataset([folder / "one.parquet"], name="one", fingerprint="one", tokenizer=work / "t.json", out=out)
    with locked(work / PREPARING):
        for words in (["--work", str(work)], [str(work)]):
            assert main(["train", "status", *words]) == 0
            assert "is being prepared, and training has not begun (packed so far: one)" in capsys.readouterr().out
    assert main(["train", "status", "--work", str(work), "--watch", "--json"]) == 0
    assert "no training has begun" in json.loads(capsys.readouterr().out)["preparing"]
