"""What is asked of a finished run later is measured on its kept weights: no step is trained for it."""

import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.errors import TrainingError
from curate.proxy_training.evaluate import HeldOutSet, evaluation_fingerprint, load_heldout
from curate.proxy_training.evaluation.evaluators import MetricRow
from curate.proxy_training.ladder import Ladder, Ready, ready
from curate.proxy_training.model import Proxy
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.run import Run
from curate.proxy_training.scheduling import workers
from curate.proxy_training.scheduling.one_group import train_recorded
from curate.proxy_training.scheduling.standing import standing
from curate.proxy_training.tokens.tokenizer import load_tokenizer
from curate.proxy_training.train import Stopped, Watch, train_group, train_run
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.run_folders import is_finished, point_file
from curate.proxy_training.training.world import World

from .test_ladder import TINY, Recorder

MakeRun = Callable[..., Run]
Evaluators = Mapping[str, Any]
BUDGETS = (2048, 4096, 8192)
ALL_STEPS = 51 + 3 + 6 + 13
"""Of the trunk and of the branches."""
STEPS_OF_TWO = 26 + 3 + 6
"""Of the two smaller budgets."""


@pytest.fixture(scope="module")
def more(heldout: dict[str, HeldOutSet], world: Path) -> dict[str, HeldOutSet]:
    """The held-out list of a study that asks for one set more."""
    tokenizer = load_tokenizer(world / "tokenizer.json")
    sizes = {"sequence_length": 32, "bytes_per_set": 3000, "bytes_per_document": 300}
    return heldout | {"seen": load_heldout("seen", [world / "documents.parquet"], tokenizer=tokenizer, **sizes)}


def asked(run: Run, evaluators: Evaluators) -> Run:
    """The run as a study with these evaluators wants it."""
    return replace(run, evaluation=evaluation_fingerprint(evaluators))


def values(folder: Path, run: Run) -> list[Any]:
    """All that was measured, with the items."""
    paths = [point_file(folder, tokens, run.evaluation) for tokens in run.budgets]
    metrics = [json.loads(path.read_text())["metrics"] for path in paths]
    return [metrics, [pq.read_table(path.with_suffix(".parquet")).to_pylist() for path in paths]]


class Steps(Watch):
    """Counts steps, hears what is said, and stops when told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[int] = []
        self.said: list[str] = []
        super().__init__(lambda tokens, loss: self.seen.append(tokens), lambda: len(self.seen) == stop_after, self.tell)

    def tell(self, text: str) -> None:
        self.said.append(text)


@dataclass
class Odd:
    """An evaluator that does `act`, whose value says how the model is asked after."""

    name: str = "odd"
    notes: tuple[str, ...] = ()
    act: Callable[[], float] = lambda: 1.0
    asked: int = field(default=0)

    def fingerprint(self) -> str:
        return self.name

    def measure(self, model: Proxy) -> list[MetricRow]:
        self.asked += 1
        return [MetricRow(f"odd/{self.name}", self.act(), None, None, True, 1)]


@pytest.fixture(scope="module")
def fresh(make_run: MakeRun, more: Evaluators, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a training of its own measures on the longer list."""
    folder = tmp_path_factory.mktemp("fresh")
    run = asked(make_run(), more)
    train_run(run, more, folder=folder)
    return values(folder, run)


def test_a_longer_list_trains_no_step_and_gives_the_bits_of_a_fresh_training(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, fresh: list[Any], tmp_path: Path
) -> None:
    train_run(make_run(), heldout, folder=tmp_path)
    before = values(tmp_path, make_run())
    watch, run = Steps(), asked(make_run(), more)
    result = train_run(run, more, folder=tmp_path, watch=watch)
    assert watch.seen == watch.said == []
    assert values(tmp_path, run) == fresh
    assert [point["bits_per_byte"].keys() for point in result["points"]] == [more.keys()] * 3
    assert result["evaluation"] == run.evaluation
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert values(tmp_path, make_run()) == before
    again = train_run(make_run(), heldout, folder=tmp_path, watch=watch)  # the list before it: nothing is measured
    assert [[row["metric"] for row in point["metrics"]] for point in again["points"]] == [["bits_per_byte/same"]] * 3
    assert watch.seen == []


def test_the_members_of_a_stack_are_measured_again_one_by_one(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, tmp_path: Path
) -> None:
    def stacked(folder: Path, evaluators: Evaluators) -> list[Run]:
        runs = [asked(make_run(seed=seed), evaluators) for seed in range(2)]
        folders = {run.fingerprint: folder / str(run.seed) for run in runs}
        train_group(runs, evaluators, folders=folders, group_folder=folder / "group")
        return runs

    stacked(tmp_path / "old", heldout)
    runs = stacked(tmp_path / "fresh", more)
    for run in runs:
        watch = Steps()
        train_run(run, more, folder=tmp_path / "old" / str(run.seed), watch=watch)
        assert watch.seen == []
        name = str(run.seed)
        assert values(tmp_path / "old" / name, run) == values(tmp_path / "fresh" / name, run)


def test_without_its_weights_a_run_is_trained_again_and_told_what_would_have_kept_them(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, fresh: list[Any], tmp_path: Path
) -> None:
    train_run(make_run(), heldout, folder=tmp_path, options=TrainingOptions(keep="longest"))
    assert not list((tmp_path / "points").glob("*.safetensors"))
    before = values(tmp_path, make_run())
    curve = steps_of_the_curve(tmp_path)
    watch, run = Steps(stop_after=20), asked(make_run(), more)
    with pytest.raises(Stopped):
        train_run(run, more, folder=tmp_path, watch=watch)
    (said,) = watch.said
    assert "weights at 2048, 4096 tokens were not kept" in said
    assert "`training: {keep: all}` would have kept them" in said
    watch = Steps()
    train_run(run, more, folder=tmp_path, watch=watch)
    assert len(watch.seen) == STEPS_OF_TWO - 20  # the longest is there
    assert watch.said == []
    assert values(tmp_path, run) == fresh
    assert values(tmp_path, make_run()) == before
    assert steps_of_the_curve(tmp_path) == curve


def steps_of_the_curve(folder: Path) -> list[tuple[str, int]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return sorted((row["phase"], row["step"]) for row in rows)


def test_the_longest_branch_alone_is_asked_of_its_own_weights(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, tmp_path: Path
) -> None:
    """With one budget `keep: longest` keeps all that there is."""
    one = make_run()
    one = replace(one, scale=one.scale.model_copy(update={"budgets_tokens": (2048,)}))
    train_run(one, heldout, folder=tmp_path, options=TrainingOptions(keep="longest"))
    watch = Steps()
    train_run(asked(one, more), more, folder=tmp_path, watch=watch)
    assert watch.seen == []


def test_a_list_that_changes_while_a_run_trains_is_measured_on_what_was_reached(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, fresh: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train_run(make_run(), heldout, folder=tmp_path, watch=Steps(stop_after=STEPS_OF_TWO))
    assert point_file(tmp_path, 4096, make_run().evaluation).exists()
    watch, run = Steps(), asked(make_run(), more)
    train_run(run, more, folder=tmp_path, watch=watch)
    assert len(watch.seen) == ALL_STEPS - STEPS_OF_TWO
    assert values(tmp_path, run) == fresh


def test_where_those_weights_are_gone_it_starts_anew(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, fresh: list[Any], tmp_path: Path
) -> None:
    options = TrainingOptions(keep="longest")
    with pytest.raises(Stopped):
        train_run(make_run(), heldout, folder=tmp_path, options=options, watch=Steps(stop_after=STEPS_OF_TWO))
    watch, run = Steps(), asked(make_run(), more)
    train_run(run, more, folder=tmp_path, options=options, watch=watch)
    assert "not kept" in watch.said[0]
    assert len(watch.seen) == ALL_STEPS
    assert values(tmp_path, run) == fresh


def _killed_at_the_second(run: Run, heldout: Evaluators, folder: Path) -> None:
    odd = Odd(act=lambda: 1.0 if odd.asked == 1 else os.kill(os.getpid(), signal.SIGKILL) or 0.0)
    train_run(run, heldout, folder=folder, evaluators=[odd])


def test_killed_while_it_measures_it_goes_on_with_the_point_that_is_missing(
    make_run: MakeRun, heldout: Evaluators, tmp_path: Path
) -> None:
    train_run(make_run(), heldout, folder=tmp_path)
    run = asked(make_run(), {**heldout, "odd": Odd()})
    process = multiprocessing.get_context("fork").Process(target=_killed_at_the_second, args=(run, heldout, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [point_file(tmp_path, tokens, run.evaluation).exists() for tokens in BUDGETS] == [True, False, False]
    odd, watch = Odd(), Steps()
    result = train_run(run, heldout, folder=tmp_path, evaluators=[odd], watch=watch)
    assert (odd.asked, watch.seen) == (2, [])
    assert [point["metrics"][-1]["metric"] for point in result["points"]] == ["odd/odd"] * 3


def test_a_value_that_is_not_finite_belongs_to_the_weights_and_to_what_is_asked(
    make_run: MakeRun, heldout: Evaluators, tmp_path: Path
) -> None:
    out, first = tmp_path, make_run()
    folder = out / "runs" / first.fingerprint
    train_run(first, heldout, folder=folder)
    odd = Odd(act=lambda: math.nan)
    run = asked(first, {**heldout, "odd": odd})
    for told in ("odd/odd not finite at step 16", r"Not tried again: delete .*failed-\w{16}\.json"):
        with pytest.raises(TrainingError, match=told):
            train_run(run, heldout, folder=folder, evaluators=[odd])
    assert odd.asked == 1
    assert is_finished(out, run)
    assert is_finished(out, first)
    assert len(train_run(first, heldout, folder=folder)["points"]) == 3


def test_damaged_weights_are_removed_and_the_run_is_trained_again(
    make_run: MakeRun, heldout: Evaluators, more: Evaluators, fresh: list[Any], tmp_path: Path
) -> None:
    train_run(make_run(), heldout, folder=tmp_path)
    weights = tmp_path / "points" / "4096.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    run = asked(make_run(), more)
    with pytest.raises(TrainingError, match=r"4096\.safetensors: damaged .* trains the run again"):
        train_run(run, more, folder=tmp_path)
    train_run(run, more, folder=tmp_path)
    assert values(tmp_path, run) == fresh


def test_a_ladder_with_one_more_set_is_measured_and_not_trained(
    packed: TokenizedDataset, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps()

    def here(groups: Sequence[Any], work: Any, **more: Any) -> list[str]:
        for group in groups:
            before = work.out / "groups" / group.fingerprint / "progress.json"
            train_recorded(group, work, world=World(), stop=lambda: False, warn=steps.tell)
            steps.seen.append(json.loads(before.read_text())["session_tokens"])
        return []

    monkeypatch.setattr(workers, "train_in_processes", here)
    ladder = Ladder.model_validate(TINY | {"scales": TINY["scales"][:1]})

    def trained(out: Path, *names: str) -> tuple[Ready, Recorder]:
        files, told = {"one": "heldout.parquet", "two": "documents.parquet"}, Recorder()
        heldout = {name: world / files[name] for name in names}
        training = ready(datasets={"grammar": packed}, heldout=heldout, ladder=ladder, out=out, device="cpu")
        training.train(workers=1, progress=told)
        return training, told

    first, _ = trained(tmp_path / "a", "one")
    before = first.measurements()
    assert sum(steps.seen) > 0
    steps.seen.clear()
    second, told = trained(tmp_path / "a", "one", "two")
    assert steps.seen == [0, 0]
    assert told.notes == ["2 trained runs are measured on what is asked now, and not trained again."]
    assert standing(tmp_path / "a").count("done") == 2
    fresh, _ = trained(tmp_path / "b", "one", "two")
    told_now, told_fresh = second.measurements().to_pylist(), fresh.measurements().to_pylist()
    assert [row | {"seconds": 0} for row in told_now] == [row | {"seconds": 0} for row in told_fresh]
    steps.seen.clear()
    back, _ = trained(tmp_path / "a", "one")
    assert steps.seen == []
    assert back.measurements().equals(before)
    assert standing(tmp_path / "a").count("done") == 2
