import json
import math
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.errors import TrainingError
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.packing import TokenizedDataset, pack_dataset
from curate.proxy_training.run import Run
from curate.proxy_training.train import Stopped, Trainer, Watch, train_run

from .conftest import sentences, write_documents

Heldout = dict[str, HeldOutSet]
MakeRun = Callable[..., Run]


def outcome(folder: Path) -> tuple:
    """Everything of a finished run that must not depend on interruptions."""
    result = json.loads((folder / "result.json").read_text())
    points = [{key: value for key, value in point.items() if "seconds" not in key} for point in result["points"]]
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    curve = sorted(rows, key=lambda row: (row["phase"], row["step"]))
    return points, curve, (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(make_run: MakeRun, heldout: Heldout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train_run(make_run(), heldout, folder=folder)
    return folder


def test_the_loss_falls_and_every_budget_is_measured(finished: Path, make_run: MakeRun, heldout: Heldout) -> None:
    run = make_run()
    points, curve, _ = outcome(finished)
    assert [point["tokens"] for point in points] == [2048, 4096, 8192]
    values = [point["bits_per_byte"]["same"] for point in points]
    assert values[0] > values[1] > values[2]
    trunk = [row for row in curve if row["phase"] == "trunk"]
    assert trunk[0]["loss"] == pytest.approx(math.log(run.dataset.vocab_size), rel=0.1)
    assert trunk[-1]["loss"] < 0.6 * trunk[0]["loss"]
    assert trunk[-1]["step"] == run.procedure.decay_start(64)
    branch = [row for row in curve if row["phase"] == "branch-8192"]
    assert [row["step"] for row in branch] == list(range(trunk[-1]["step"] + 1, 65))
    assert branch[-1]["learning_rate"] < 0.1 * run.learning_rate
    documents = pq.read_table(finished / "points" / "8192.parquet")
    bits = sum(documents["nats"].to_pylist()) / sum(documents["bytes"].to_pylist()) / math.log(2)
    assert bits == pytest.approx(values[-1], rel=1e-12)
    assert points[-1]["error"]["same"] > 0


def test_a_branch_is_the_training_of_its_budget_alone(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    """Same warm-up given: the branch at 4096 tokens equals a run whose only budgets are 2048 and 4096."""
    run = make_run()
    short = replace(run, scale=run.scale.model_copy(update={"budgets_tokens": (2048, 4096)}))
    result = train_run(short, heldout, folder=tmp_path)
    assert result["points"][1]["bits_per_byte"] == outcome(finished)[0][1]["bits_per_byte"]


def test_a_finished_run_is_not_trained_again(finished: Path, make_run: MakeRun, heldout: Heldout) -> None:
    steps: list[int] = []
    train_run(make_run(), heldout, folder=finished, watch=Watch(advanced=lambda tokens, loss: steps.append(tokens)))
    assert steps == []


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["curate.proxy_training.train"])
    chance = random.Random(0)
    kills = 0
    watch = Watch(checkpoint_seconds=0.0)
    while not (tmp_path / "result.json").exists():
        process = context.Process(
            target=train_run, args=(make_run(), heldout), kwargs={"folder": tmp_path, "watch": watch}
        )
        process.start()
        if kills < 3:
            before = progress_of(tmp_path)
            while process.is_alive() and progress_of(tmp_path) == before:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 2
    assert outcome(tmp_path) == outcome(finished)


def progress_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


def test_asked_to_stop_it_saves_and_resumes_to_the_same_bits(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    for stop_after in (5, 20, 7, 40):
        steps: list[int] = []
        watch = Watch(advanced=lambda t, loss, s=steps: s.append(t), stop=lambda s=steps, n=stop_after: len(s) >= n)
        with pytest.raises(Stopped, match="resumes"):
            train_run(make_run(), heldout, folder=tmp_path, watch=watch)
        assert len(steps) == stop_after
    train_run(make_run(), heldout, folder=tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def test_a_damaged_checkpoint_costs_a_warning_not_a_result(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    steps: list[int] = []
    watch = Watch(advanced=lambda t, loss: steps.append(t), stop=lambda: len(steps) >= 21, checkpoint_seconds=0.0)
    with pytest.raises(Stopped):
        train_run(make_run(), heldout, folder=tmp_path, watch=watch)
    newest = sorted((tmp_path / "checkpoints").glob("trunk-*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    warnings: list[str] = []
    train_run(make_run(), heldout, folder=tmp_path, watch=Watch(warn=warnings.append))
    assert "damaged" in warnings[0]
    assert outcome(tmp_path) == outcome(finished)


def test_seeds_change_initialisation_and_order_apart(make_run: MakeRun) -> None:
    first, second = make_run(seed=0), make_run(seed=1)
    assert len({first.initialisation_seed, first.order_seed, second.initialisation_seed, second.order_seed}) == 4
    assert (Trainer(first).sequences.batch(0, 4) != Trainer(second).sequences.batch(0, 4)).any()


def test_the_fingerprint_names_what_matters_and_nothing_else(make_run: MakeRun, packed: TokenizedDataset) -> None:
    run = make_run()
    assert run.fingerprint == make_run().fingerprint
    renamed = replace(run, dataset=replace(packed, name="other", folder=Path("/elsewhere")))
    assert renamed.fingerprint == run.fingerprint
    others = [
        make_run(seed=1),
        make_run(learning_rate=0.01),
        replace(run, evaluation="e"),
        replace(run, dataset=replace(packed, fingerprint="f")),
        replace(run, procedure=run.procedure.model_copy(update={"z_loss": 0.0})),
        replace(run, scale=run.scale.model_copy(update={"budgets_tokens": (2048,)})),
    ]
    assert len({run.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_a_diverged_run_says_so_and_leaves_no_result(make_run: MakeRun, heldout: Heldout, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"tiny of grammar, seed 0 diverged: loss .* learning rate"):
        train_run(make_run(learning_rate=1e30), heldout, folder=tmp_path)
    assert not (tmp_path / "result.json").exists()
    assert "diverged" in json.loads((tmp_path / "failed.json").read_text())["error"]


def test_two_processes_do_not_train_one_run(make_run: MakeRun, heldout: Heldout, tmp_path: Path) -> None:
    caught: list[str] = []

    def try_again(tokens: int, loss: float) -> None:
        if not caught:
            with pytest.raises(TrainingError, match="another process") as error:
                train_run(make_run(), heldout, folder=tmp_path)
            caught.append(str(error.value))

    train_run(make_run(), heldout, folder=tmp_path, watch=Watch(advanced=try_again))
    assert caught


def test_a_small_dataset_is_repeated_and_counted(
    world: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    small = pack_dataset(
        [write_documents(tmp_path / "d.parquet", sentences(8, 40))],
        name="small",
        fingerprint="small",
        tokenizer=world / "tokenizer.json",
        out=tmp_path / "packed",
    )
    run = make_run(dataset=small)
    assert run.epochs > 2
    result = train_run(run, heldout, folder=tmp_path / "run")
    assert len(result["points"]) == 3


def test_resuming_leaves_no_trace_of_this_process(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        *["checkpoints", "curve.jsonl", "lock", "model.safetensors", "points", "result.json", "run.json"]
    ]
    assert list((finished / "checkpoints").iterdir()) == []
