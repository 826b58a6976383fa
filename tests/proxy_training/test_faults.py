import errno
import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import Tensor

from curate.errors import TrainingError
from curate.proxy_training import train
from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.run import Run
from curate.proxy_training.train import Trainer, Watch, train_run
from curate.proxy_training.training.faults import (
    EXIT_REQUEUE,
    SPIKE_DEVIATIONS,
    SPIKE_EARLIEST,
    SPIKE_FLOOR,
    SPIKE_WINDOW,
    OutOfMemory,
    Spikes,
    Stopped,
    is_full_disk,
    is_out_of_memory,
    stop_signals,
)
from curate.proxy_training.training.options import TrainingOptions

Heldout = dict[str, HeldOutSet]
MakeRun = Callable[..., Run]


def short(run: Run) -> Run:
    """The run with its first budget only: 16 steps."""
    return replace(run, scale=run.scale.model_copy(update={"budgets_tokens": run.scale.budgets_tokens[:1]}))


def plainly(losses: list[float]) -> list[bool]:
    """The rule, loss by loss."""
    answers = []
    for step, loss in enumerate(losses):
        window = losses[max(0, step - SPIKE_WINDOW) : step]
        median = float(np.median(window)) if window else math.nan
        deviation = 1.4826 * float(np.median([abs(one - median) for one in window])) if window else math.nan
        bound = median + SPIKE_DEVIATIONS * max(deviation, SPIKE_FLOOR * abs(median))
        answers.append(len(window) >= SPIKE_EARLIEST and loss > bound)
    return answers


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_spikes_are_what_the_rule_says(losses: list[float]) -> None:
    spikes = Spikes(2)
    found = [spikes.note([loss, 1.0]).tolist() for loss in losses]
    assert [one for one, _ in found] == plainly(losses)
    assert spikes.count.tolist() == [sum(plainly(losses)), 0]


def test_noise_is_no_spike_and_a_jump_is_one() -> None:
    chance = np.random.default_rng(0)
    losses = 3 + 3 * np.exp(-np.arange(5000) / 500) + chance.normal(0, 0.1, 5000)
    spikes = Spikes(1)
    for loss in losses:
        spikes.note([float(loss)])
    assert spikes.count[0] == 0
    assert spikes.note([5.0])[0]


def test_a_spike_is_counted_written_to_the_curve_and_the_point(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Trainer._gradients

    def jump(self: Trainer) -> Tensor:
        return advance(self) * (10 if self.step == 40 else 1)

    monkeypatch.setattr(Trainer, "_gradients", jump)
    monkeypatch.setattr(train, "CURVE_POINTS", 1)  # few rows: the spike's comes besides them
    result = train_run(make_run(), heldout, folder=tmp_path)
    assert [point["spikes"] for point in result["points"]] == [0, 0, 1]
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("spike")] == [41]


def refuse_above(sequences: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every model fail as a full device does when it is given more than so many sequences."""
    from curate.proxy_training.model import Proxy

    forward = Proxy.forward

    def limited(self: Proxy, batch: Tensor) -> tuple[Tensor, Tensor]:
        if batch.shape[-2] > sequences:
            raise error
        return forward(self, batch)

    monkeypatch.setattr(Proxy, "forward", limited)


def test_out_of_memory_goes_on_with_smaller_micro_batches_and_the_same_losses(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, options = short(make_run()), TrainingOptions(micro_batch_sequences=2)
    halves = train_run(run, heldout, folder=tmp_path / "halves", options=options)
    refuse_above(2, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), monkeypatch)
    said: list[str] = []
    result = train_run(run, heldout, folder=tmp_path / "refused", watch=Watch(warn=said.append))
    assert said == [
        "Out of memory at rung tiny (0.00738M parameters) on cpu: it goes on with 2 sequences at once instead of 4, to "
        "the same batch of 4."
    ]
    assert [point["bits_per_byte"] for point in result["points"]] == [
        point["bits_per_byte"] for point in halves["points"]
    ]


def test_a_sequence_that_does_not_fit_is_an_error_that_names_the_rung(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_above(0, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), monkeypatch)
    with pytest.raises(OutOfMemory, match=r"Out of memory at rung tiny .* 1 sequences at once .* `recompute: true`"):
        train_run(make_run(), heldout, folder=tmp_path)
    assert "rung tiny" in json.loads((tmp_path / "failed.json").read_text())["error"]


def test_what_torch_says_of_memory_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_full_disk(OSError(errno.ENOSPC, "No space left on device"))
    assert is_full_disk(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert not is_full_disk(FileNotFoundError(errno.ENOENT, "No such file"))


def test_a_disk_that_is_full_while_the_curve_is_written_is_a_sentence(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("curate.proxy_training.training.logs.Curve.flush", full)
        patch.setattr("curate.proxy_training.training.logs.Curve.close", lambda self: None)
        with pytest.raises(TrainingError, match=r"No room on the disk of .* the same command goes on"):
            train_run(short(make_run()), heldout, folder=tmp_path)
    assert len(train_run(short(make_run()), heldout, folder=tmp_path)["points"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_saves_and_ends_with_the_code_that_asks_for_a_requeue(
    make_run: MakeRun, heldout: Heldout, tmp_path: Path, number: int
) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stop:
        watch = Watch(advanced=lambda tokens, loss: os.kill(os.getpid(), number), stop=stop)
        with pytest.raises(Stopped) as caught:
            train_run(make_run(), heldout, folder=tmp_path, watch=watch)
    assert caught.value.exit_code == EXIT_REQUEUE == 75
    assert signal.getsignal(number) == before
    assert len(list((tmp_path / "checkpoints").glob("trunk-000000001.*"))) == 2
    assert not (tmp_path / "failed.json").exists()
