import json
import math
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from curate.errors import TrainingError
from curate.proxy_training import train as training
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.packing import TokenizedDataset, pack_dataset
from curate.proxy_training.run import Run
from curate.proxy_training.train import GroupResult, Stopped, Trainer, Watch, train_group, train_run
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.run_folders import point_file
from curate.proxy_training.training.trainer import Step
from curate.proxy_training.training.world import World

from .conftest import sentences, write_documents

Heldout = dict[str, HeldOutSet]
MakeRun = Callable[..., Run]


def short(run: Run) -> Run:
    """The run without its longest budget: 32 steps, the warm-up the same."""
    return replace(run, scale=run.scale.model_copy(update={"budgets_tokens": run.scale.budgets_tokens[:-1]}))


TIMES = ("seconds", "cpu_seconds", "evaluation_seconds", "tokens_per_second", "share_of_peak")
OFTEN = TrainingOptions(checkpoint_seconds=0.0)


def without_times(facts: dict) -> dict:
    return {key: value for key, value in facts.items() if key not in TIMES}


def outcome(folder: Path) -> tuple:
    """Everything of a finished run that must not depend on interruptions."""
    result = json.loads((folder / "result.json").read_text())
    points = [without_times(point) for point in result["points"]]
    rows = [without_times(json.loads(line)) for line in (folder / "curve.jsonl").read_text().splitlines()]
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
    point = point_file(finished, 8192, make_run().evaluation)
    documents = pq.read_table(point.with_suffix(".parquet"))
    assert set(documents["metric"].to_pylist()) == {"bits_per_byte/same"}
    bits = sum(documents["value"].to_pylist()) / sum(documents["weight"].to_pylist())
    assert bits == pytest.approx(values[-1], rel=1e-12)
    assert points[-1]["error"]["same"] > 0


def test_a_point_says_what_it_cost_and_what_led_to_it(finished: Path, make_run: MakeRun) -> None:
    result = json.loads((finished / "result.json").read_text())
    points, last = result["points"], result["points"][-1]
    assert 0 < points[0]["seconds"] < points[1]["seconds"] < last["seconds"]
    assert last["tokens_per_second"] == pytest.approx(8192 / last["seconds"])
    assert last["cpu_seconds"] > 0
    assert 0 < last["share_of_peak"] < 2
    assert last["device"].startswith("cpu, ")
    assert (last["branch"], last["schedule"], last["steps"], last["decay_steps"]) == ("branch-8192", "wsd", 64, 13)
    assert (last["members"], last["world_size"], last["micro_batch_sequences"], last["spikes"]) == (1, 1, 4, 0)
    assert [row["metric"] for row in last["metrics"]] == ["bits_per_byte/same"]
    assert result["epochs"] == make_run().epochs
    rows = [json.loads(line) for line in (finished / "curve.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["gradient_norm"] > 0
        assert 0 < row["share_of_peak"] < 2
        assert row["tokens_per_second"] > 0
    trunk = [row["seconds"] for row in rows if row["phase"] == "trunk"]
    assert trunk == sorted(trunk)


def test_a_branch_is_the_training_of_its_budget_alone(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    """Same warm-up given: the branch at 4096 tokens equals a run whose only budgets are 2048 and 4096."""
    result = train_run(short(make_run()), heldout, folder=tmp_path)
    assert result["points"][1]["bits_per_byte"] == outcome(finished)[0][1]["bits_per_byte"]


def test_a_finished_run_is_not_trained_again(finished: Path, make_run: MakeRun, heldout: Heldout) -> None:
    steps: list[int] = []
    train_run(make_run(), heldout, folder=finished, watch=Watch(advanced=lambda tokens, loss: steps.append(tokens)))
    assert steps == []


class KillAt:
    """Kills its process after so many steps of a session, as a power cut would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, tokens: int, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(work: Callable[..., object], *args: object, **how: object) -> bool:
    """Run `work` in a fork of this process; whether it was killed."""
    if torch.cuda.is_available():
        pytest.skip("a fork of a process that trained beside a GPU cannot train")
    process = multiprocessing.get_context("fork").Process(target=work, args=args, kwargs=how)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


def test_a_run_killed_in_trunk_branch_and_between_points_ends_with_the_same_bits(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    """The trunk lasts 13 steps to the first branch of 3; a checkpoint is written after every step."""
    seen = []
    for steps in (5, 10, 4, 15, 1000):
        watch = Watch(advanced=KillAt(steps))
        was = killed(train_run, make_run(), heldout, folder=tmp_path, options=OFTEN, watch=watch)
        seen.append((was, *newest(tmp_path)))
    assert seen[0] == (True, [], "trunk", 4)
    assert seen[1] == (True, [], "trunk", 13)  # in the first step of the branch
    assert seen[2] == (True, ["2048.json"], "trunk", 13)  # the branch is done, its checkpoints are gone
    assert seen[3] == (True, ["2048.json"], "branch-4096", 27)
    assert seen[4][0] is False
    assert outcome(tmp_path) == outcome(finished)


def newest(folder: Path) -> tuple[list[str], str, int]:
    """Points that are there, and where the last checkpoint is."""
    points = sorted(path.name for path in (folder / "points").glob("*.json"))
    branches = sorted(path.stem for path in (folder / "checkpoints").glob("branch-*.json"))
    newest = branches or sorted(path.stem for path in (folder / "checkpoints").glob("trunk-*.json")) or ["-0"]
    phase, step = newest[-1].rsplit("-", 1)
    return points, phase, int(step)


@pytest.mark.slow
def test_a_group_killed_twenty_times_at_random_ends_with_the_same_bits(
    group: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    chance = random.Random(0)
    kills = 0
    while kills < 20:
        watch = Watch(advanced=KillAt(chance.randint(2, 6)))
        if not killed(train, group_of(make_run), heldout, tmp_path, options=OFTEN, watch=watch):
            break
        kills += 1
    if kills == 20:
        assert not killed(train, group_of(make_run), heldout, tmp_path)
    assert kills > 10
    for number in range(3):
        assert outcome(tmp_path / "runs" / str(number)) == outcome(group / "runs" / str(number))


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


def test_dropout_resumes_to_the_same_bits_and_stays_inside_documents(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    run = short(make_run())
    run = replace(run, procedure=run.procedure.model_copy(update={"dropout": 0.1, "document_mask": True}))
    train_run(run, heldout, folder=tmp_path / "whole")
    steps: list[int] = []
    watch = Watch(advanced=lambda t, loss: steps.append(t), stop=lambda: len(steps) == 15)
    with pytest.raises(Stopped):
        train_run(run, heldout, folder=tmp_path / "stopped", watch=watch)
    train_run(run, heldout, folder=tmp_path / "stopped")
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    assert Trainer([run]).model.document_mask is not None


def test_a_point_that_was_deleted_behind_the_trunk_is_refused(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    steps: list[int] = []
    watch = Watch(advanced=lambda t, loss: steps.append(t), stop=lambda: len(steps) >= 25)
    with pytest.raises(Stopped):
        train_run(make_run(), heldout, folder=tmp_path, watch=watch)
    (tmp_path / "points" / "2048.json").unlink()
    with pytest.raises(TrainingError, match=r"trunk stands at step 2\d, behind step 13.*delete .*checkpoints"):
        train_run(make_run(), heldout, folder=tmp_path)


def test_a_trunk_goes_on_with_the_micro_batch_that_its_branch_shrank_to(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Trainer.advance

    def with_less_memory(trainer: Trainer, *, decay: tuple[int, int] | None) -> Step:
        if decay is not None and trainer.micro_batch == 4:
            trainer._set_micro_batch(2)
        return advance(trainer, decay=decay)

    def killed_after_the_branch(tokens: int, loss: float) -> None:
        if (tmp_path / "points" / "2048.json").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "advance", with_less_memory)
    with pytest.raises(KeyboardInterrupt):
        train_run(make_run(), heldout, folder=tmp_path, watch=Watch(advanced=killed_after_the_branch))
    (trunk,) = (tmp_path / "checkpoints").glob("trunk-*.safetensors")
    assert load_file(trunk)["trainer.micro_batch"].item() == 2


def test_peers_hear_of_an_error_that_nobody_expected_on_the_main_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[object]] = []
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda said, **_: told.append(said))
    with pytest.raises(ZeroDivisionError):
        World(rank=0, size=2).on_main(lambda: 1 // 0)
    assert "The main rank failed (ZeroDivisionError" in str(told[0][1])


def test_a_damaged_checkpoint_costs_a_warning_not_a_result(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    steps: list[int] = []
    watch = Watch(advanced=lambda t, loss: steps.append(t), stop=lambda: len(steps) >= 21)
    with pytest.raises(Stopped):
        train_run(make_run(), heldout, folder=tmp_path, watch=watch, options=OFTEN)
    newest = sorted((tmp_path / "checkpoints").glob("trunk-*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-50])
    warnings: list[str] = []
    train_run(make_run(), heldout, folder=tmp_path, watch=Watch(warn=warnings.append))
    assert "damaged" in warnings[0]
    assert outcome(tmp_path) == outcome(finished)


def rows_in_order(folder: Path) -> list[dict]:
    return [without_times(json.loads(line)) for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("stop_after", "phases"), [(25, ["trunk"]), (31, ["branch-4096"]), (31, ["trunk"]), (31, ["trunk", "branch-4096"])]
)
def test_a_phase_without_a_sound_checkpoint_starts_anew_and_ends_with_the_same_bits(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path, stop_after: int, phases: list[str]
) -> None:
    """The trunk is left at step 13 for 3 steps, and at step 26 for 6."""
    steps: list[int] = []
    watch = Watch(advanced=lambda t, loss: steps.append(t), stop=lambda: len(steps) >= stop_after)
    with pytest.raises(Stopped):
        train_run(make_run(), heldout, folder=tmp_path, watch=watch, options=OFTEN)
    damaged = [path for phase in phases for path in (tmp_path / "checkpoints").glob(f"{phase}-*.safetensors")]
    assert len(damaged) >= 2 * len(phases) - 1
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-4] + b"ruin")
    warnings: list[str] = []
    again: list[int] = []
    watch = Watch(advanced=lambda t, loss: again.append(t), warn=warnings.append)
    train_run(make_run(), heldout, folder=tmp_path, watch=watch)
    assert len(warnings) == len(damaged)
    for path in damaged:
        assert any(path.stem in warning for warning in warnings)
    for phase, lost in (("trunk", "the trunk is trained again from its start"), ("branch-4096", "leaves the trunk")):
        assert any(lost in warning for warning in warnings) == (phase in phases)
    if phases == ["branch-4096"]:
        assert len(again) == 6 + 25 + 13  # the branch, the rest of the trunk, the last branch: no step before them
    assert outcome(tmp_path) == outcome(finished)
    assert rows_in_order(tmp_path) == rows_in_order(finished)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_trunk_that_is_trained_again_has_the_rows_of_the_first_time(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CURVE_POINTS", 4)  # a row every 8 steps, and where a branch leaves
    train_run(short(make_run()), heldout, folder=tmp_path / "whole")
    steps: list[int] = []
    watch = Watch(advanced=lambda t, loss: steps.append(t), stop=lambda: len(steps) >= 20)
    with pytest.raises(Stopped):
        train_run(short(make_run()), heldout, folder=tmp_path / "again", watch=watch)
    shutil.rmtree(tmp_path / "again" / "checkpoints")
    train_run(short(make_run()), heldout, folder=tmp_path / "again")
    assert rows_in_order(tmp_path / "again") == rows_in_order(tmp_path / "whole")
    assert ("trunk", 13) in [(row["phase"], row["step"]) for row in rows_in_order(tmp_path / "again")]


def test_seeds_change_initialisation_and_order_apart(make_run: MakeRun) -> None:
    first, second = make_run(seed=0), make_run(seed=1)
    assert len({first.initialisation_seed, first.order_seed, second.initialisation_seed, second.order_seed}) == 4
    batches = [Trainer([run]).sequences[0].batch(0, 4) for run in (first, second)]
    assert (batches[0] != batches[1]).any()


def test_the_fingerprint_names_what_matters_and_nothing_else(make_run: MakeRun, packed: TokenizedDataset) -> None:
    run = make_run()
    assert run.fingerprint == make_run().fingerprint
    renamed = replace(run, dataset=replace(packed, name="other", folder=Path("/elsewhere")))
    assert renamed.fingerprint == run.fingerprint
    others = [
        make_run(seed=1),
        make_run(learning_rate=0.01),
        replace(run, learning_rate_factor=3.0),
        replace(run, dataset=replace(packed, fingerprint="f")),
        replace(run, procedure=run.procedure.model_copy(update={"z_loss": 0.0})),
        replace(run, scale=run.scale.model_copy(update={"budgets_tokens": (2048,)})),
    ]
    assert len({run.fingerprint, *(other.fingerprint for other in others)}) == 7
    assert replace(run, evaluation="e").fingerprint == run.fingerprint


def test_a_diverged_run_says_so_and_leaves_no_result(make_run: MakeRun, heldout: Heldout, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"tiny of grammar, seed 0 diverged: loss .* learning rate"):
        train_run(make_run(learning_rate=1e30), heldout, folder=tmp_path)
    assert not (tmp_path / "result.json").exists()
    failed = json.loads((tmp_path / "failed.json").read_text())
    assert failed["diverged"] is True
    assert (failed["rung"], failed["dataset"], failed["learning_rate"]) == ("tiny", "grammar", 1e30)
    assert 0 < failed["step"] < 10
    with pytest.raises(TrainingError, match=r"diverged.*Not tried again: delete .*failed\.json"):
        train_run(make_run(learning_rate=1e30), heldout, folder=tmp_path)


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


def test_micro_batches_change_a_loss_by_rounding_only(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    train_run(short(make_run()), heldout, folder=tmp_path, options=TrainingOptions(micro_batch_sequences=3))
    points, _, _ = outcome(tmp_path)
    assert [point["micro_batch_sequences"] for point in points] == [2, 2]  # the largest divisor of 4
    for ours, whole in zip(points, outcome(finished)[0], strict=False):
        assert ours["bits_per_byte"]["same"] == pytest.approx(whole["bits_per_byte"]["same"], rel=1e-4)


def test_all_cooled_weights_and_checkpoints_stay_when_asked(
    finished: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    options = TrainingOptions(keep="all", checkpoint_seconds=None, checkpoint_steps=5, keep_checkpoints=3)
    seen: list[list[str]] = []

    def look(tokens: int, loss: float) -> None:
        seen.append(sorted(path.name for path in (tmp_path / "checkpoints").glob("trunk-*.json")))

    train_run(make_run(), heldout, folder=tmp_path, options=options, watch=Watch(advanced=look))
    names = sorted(path.name for path in (tmp_path / "points").glob("*.safetensors"))
    assert names == ["2048.safetensors", "4096.safetensors", "8192.safetensors"]
    longest = (tmp_path / "points" / "8192.safetensors").read_bytes()
    assert longest == (tmp_path / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert max(map(len, seen)) == 3
    assert ["trunk-000000005.json", "trunk-000000010.json"] in seen


def test_a_cosine_run_trains_each_budget_from_the_start(make_run: MakeRun, heldout: Heldout, tmp_path: Path) -> None:
    run = make_run()
    run = replace(run, procedure=run.procedure.model_copy(update={"schedule": "cosine"}))
    alone = short(run)
    first = train_run(run, heldout, folder=tmp_path / "three")
    second = train_run(alone, heldout, folder=tmp_path / "two")
    assert first["points"][1]["bits_per_byte"] == second["points"][1]["bits_per_byte"]
    assert [point["decay_steps"] for point in first["points"]] == [16, 32, 64]
    assert {point["schedule"] for point in first["points"]} == {"cosine"}
    rows = [json.loads(line) for line in (tmp_path / "three" / "curve.jsonl").read_text().splitlines()]
    assert {row["phase"] for row in rows} == {"branch-2048", "branch-4096", "branch-8192"}


def group_of(make_run: MakeRun, *, bad: bool = False) -> list[Run]:
    """Three runs that differ in seed and learning rate; the second diverges when `bad`."""
    rates = (0.02, 1e30 if bad else 0.01, 0.02)
    return [make_run(seed=seed, learning_rate=rate) for seed, rate in zip((0, 1, 2), rates, strict=True)]


def train(runs: list[Run], heldout: Heldout, folder: Path, **how) -> GroupResult:  # type: ignore[no-untyped-def]
    folders = {run.fingerprint: folder / "runs" / str(number) for number, run in enumerate(runs)}
    return train_group(runs, heldout, folders=folders, group_folder=folder / "group", **how)


@pytest.fixture(scope="module")
def group(make_run: MakeRun, heldout: Heldout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    assert train(group_of(make_run), heldout, folder).failures == {}
    return folder


def test_stacked_runs_are_the_runs_alone_up_to_rounding(
    finished: Path, group: Path, make_run: MakeRun, heldout: Heldout
) -> None:
    stacked, alone = outcome(group / "runs" / "0"), outcome(finished)
    for ours, theirs in zip(stacked[0], alone[0], strict=True):
        assert ours["members"] == 3
        assert ours["bits_per_byte"]["same"] == pytest.approx(theirs["bits_per_byte"]["same"], rel=1e-4)
    for ours, theirs in zip(stacked[1], alone[1], strict=True):
        assert {**ours, "loss": 0, "gradient_norm": 0} == {**theirs, "loss": 0, "gradient_norm": 0}
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    others = [outcome(group / "runs" / str(number))[0][-1]["bits_per_byte"]["same"] for number in range(3)]
    assert len(set(others)) == 3


def test_a_member_that_diverges_leaves_and_the_others_end_with_the_same_bits(
    group: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    runs = group_of(make_run, bad=True)
    said: list[str] = []
    result = train(runs, heldout, tmp_path, watch=Watch(warn=said.append))
    assert list(result.failures) == [runs[1].fingerprint]
    assert "tiny of grammar, seed 1 diverged" in result.failures[runs[1].fingerprint]
    assert "The other runs of its group go on" in said[0]
    for number in (0, 2):
        assert outcome(tmp_path / "runs" / str(number)) == outcome(group / "runs" / str(number))
    again = train(runs, heldout, tmp_path, watch=Watch(advanced=lambda tokens, loss: pytest.fail("trained again")))
    assert "Not tried again" in again.failures[runs[1].fingerprint]
    assert again.results == result.results


def test_a_stopped_group_resumes_to_the_same_bits_with_its_diverged_member_out(
    group: Path, make_run: MakeRun, heldout: Heldout, tmp_path: Path
) -> None:
    runs = group_of(make_run, bad=True)
    for stop_after in (5, 20, 30):
        steps: list[int] = []
        watch = Watch(advanced=lambda t, loss, s=steps: s.append(t), stop=lambda s=steps, n=stop_after: len(s) >= n)
        with pytest.raises(Stopped, match="tiny x 3 was stopped"):
            train(runs, heldout, tmp_path, watch=watch)
    assert steps[-1] == 2 * 128  # tokens of the two that live
    result = train(runs, heldout, tmp_path)
    assert list(result.failures) == [runs[1].fingerprint]
    for number in (0, 2):
        assert outcome(tmp_path / "runs" / str(number)) == outcome(group / "runs" / str(number))


def test_a_group_of_unlike_runs_is_refused_by_name(make_run: MakeRun, heldout: Heldout, tmp_path: Path) -> None:
    run = make_run()
    other = replace(run, scale=run.scale.model_copy(update={"width": 32, "name": "wide"}))
    with pytest.raises(TrainingError, match="'tiny of grammar, seed 0' and 'wide of grammar, seed 0' cannot train as"):
        train([run, other], heldout, tmp_path)
