import builtins
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.run import Run
from curate.proxy_training.train import train_run
from curate.proxy_training.training.logs import Curve, open_sinks
from curate.proxy_training.training.options import TrainingOptions

Heldout = dict[str, HeldOutSet]
MakeRun = Callable[..., Run]


def row(phase: str, step: int) -> dict[str, Any]:
    return {"phase": phase, "step": step, "tokens": 128 * step, "loss": 5.0 - step / 10, "learning_rate": 0.1}


def steps(path: Path) -> list[tuple[str, int]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["phase"], row["step"]) for row in rows]


def test_a_resumed_phase_repeats_no_row_and_heals_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    curve = Curve(path)
    for phase, step in (("trunk", 1), ("branch-9", 2), ("trunk", 3), ("trunk", 4)):
        curve.add(row(phase, step))
    assert not path.exists()
    curve.flush()
    with path.open("a") as file:
        file.write('{"phase": "trunk", "st')
    curve.add(row("trunk", 5))
    curve.cut("trunk", 3)
    curve.flush()
    assert steps(path) == [("trunk", 1), ("branch-9", 2), ("trunk", 3)]


def test_a_curve_ends_in_the_order_of_a_training_that_was_never_interrupted(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.jsonl")
    straight = [("trunk", 1), ("trunk", 2), ("branch-9", 3), ("branch-9", 4), ("trunk", 3), ("branch-99", 4)]
    for phase, step in [*straight[2:4], straight[5], *straight[:2], straight[4]]:
        curve.add(row(phase, step))
    curve.put_in_order({"branch-9": 2, "branch-99": 3})
    assert steps(tmp_path / "curve.jsonl") == straight


def test_tensorboard_gets_every_row_of_the_curve(make_run: MakeRun, heldout: Heldout, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run()
    run = replace(run, scale=run.scale.model_copy(update={"budgets_tokens": (2048,)}))
    train_run(run, heldout, folder=tmp_path, options=TrainingOptions(log=("tensorboard",)))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    for field in ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "share_of_peak", "seconds"):
        ours = [(row["step"], row[field]) for row in rows if row["phase"] == "trunk"]
        theirs = [(event.step, event.value) for event in events.Scalars(f"trunk/{field}")]
        assert [step for step, _ in theirs] == [step for step, _ in ours]
        assert [value for _, value in theirs] == pytest.approx([value for _, value in ours], rel=1e-6)
    assert "branch-2048/loss" in events.Tags()["scalars"]


@pytest.mark.slow
def test_wandb_offline_writes_a_run_named_by_the_fingerprint(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = make_run()
    train_run(run, heldout, folder=tmp_path, options=TrainingOptions(log=("wandb",)))
    files = list((tmp_path / "wandb").glob(f"offline-run-*/run-{run.fingerprint}.wandb"))
    assert len(files) == 1
    content = files[0].read_bytes()
    assert b"trunk/loss" in content
    assert b"branch-8192/gradient_norm" in content


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_a_sentence_with_the_extra_to_install(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    ordinary = builtins.__import__

    def without(wanted: str, *rest: Any) -> Any:
        if wanted == package:
            raise ImportError(f"No module named {name!r}")
        return ordinary(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"`log: \[{name}\]` needs the package {name} .*pip install 'curate\[logs\]'"):
        open_sinks([name], make_run(), tmp_path)
