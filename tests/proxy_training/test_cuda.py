"""Training on a GPU has the numbers of a CPU; skipped where there is no GPU."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.ladder import train_ladder
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.planning.ladder_file import Ladder, Scale
from curate.proxy_training.procedure import Procedure
from curate.proxy_training.run import Run
from curate.proxy_training.train import Stopped, Trainer, Watch, train_group, train_run
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.world import World

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
Heldout = dict[str, HeldOutSet]
MakeRun = Callable[..., Run]


@pytest.fixture
def gpu() -> World:
    return World(device=torch.device("cuda", 0))


@pytest.fixture
def little_memory() -> Iterator[None]:
    """This process may take 1.2 GB of the GPU."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.2e9 / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


def under(run: Run, **rules: object) -> Run:
    """The run with some rules of its procedure changed."""
    return replace(run, procedure=Procedure(**run.procedure.model_dump() | rules))


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [row["loss"] for row in sorted(rows, key=lambda row: (row["phase"], row["step"]))]


@pytest.fixture(scope="module")
def on_a_cpu(make_run: MakeRun, heldout: Heldout, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], dict]:
    folder = tmp_path_factory.mktemp("cpu")
    result = train_run(make_run(), heldout, folder=folder)
    return losses(folder), result


@pytest.mark.parametrize(
    ("rules", "near"),
    [
        ({}, 1e-3),
        ({"precision": "bf16"}, 2e-2),
        ({"precision": "bf16", "compile": "blocks"}, 2e-2),
        ({"compile": "whole"}, 1e-3),
    ],
    ids=["fp32", "bf16", "bf16-blocks", "fp32-whole"],
)
def test_a_run_on_a_gpu_has_the_losses_of_a_cpu(
    rules: dict, near: float, on_a_cpu: tuple, make_run: MakeRun, heldout: Heldout, gpu: World, tmp_path: Path
) -> None:
    curve, result = on_a_cpu
    found = train_run(under(make_run(), **rules), heldout, folder=tmp_path, world=gpu)
    assert losses(tmp_path) == pytest.approx(curve, rel=near)
    for one, other in zip(found["points"], result["points"], strict=True):
        assert one["bits_per_byte"]["same"] == pytest.approx(other["bits_per_byte"]["same"], rel=near)
    assert torch.cuda.get_device_name(0) in found["points"][-1]["device"]
    assert 0 < found["points"][-1]["share_of_peak"] < 1


def test_documents_that_do_not_see_each_other_have_the_losses_of_a_cpu(
    make_run: MakeRun, heldout: Heldout, gpu: World, tmp_path: Path
) -> None:
    apart = under(make_run(), document_mask=True)
    train_run(apart, heldout, folder=tmp_path / "cpu")
    train_run(apart, heldout, folder=tmp_path / "gpu", world=gpu)
    assert losses(tmp_path / "gpu") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-3)


def test_a_stack_on_a_gpu_has_the_losses_of_its_members_alone(
    make_run: MakeRun, heldout: Heldout, gpu: World, tmp_path: Path
) -> None:
    runs = [make_run(seed=seed, learning_rate=rate) for seed, rate in ((0, 0.02), (1, 0.01), (2, 0.02))]
    runs = [replace(run, scale=runs[0].scale) for run in runs]
    folders = {run.fingerprint: tmp_path / str(run.seed) for run in runs}
    train_group(runs, heldout, folders=folders, group_folder=tmp_path / "group", world=gpu)
    for run in runs:
        train_run(run, heldout, folder=tmp_path / "alone" / str(run.seed), world=gpu)
        assert losses(folders[run.fingerprint]) == pytest.approx(losses(tmp_path / "alone" / str(run.seed)), rel=1e-3)


def test_a_resumed_run_ends_with_the_same_bits_where_that_is_asked_for(
    make_run: MakeRun, heldout: Heldout, gpu: World, tmp_path: Path
) -> None:
    options = TrainingOptions(checkpoint_steps=1, deterministic=True)
    whole = train_run(make_run(), heldout, folder=tmp_path / "whole", options=options, world=gpu)
    asked = iter(range(1000))
    with pytest.raises(Stopped):
        train_run(
            make_run(),
            heldout,
            folder=tmp_path / "cut",
            options=options,
            watch=Watch(stop=lambda: next(asked) == 20),
            world=gpu,
        )
    cut = train_run(make_run(), heldout, folder=tmp_path / "cut", options=options, world=gpu)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert [point["bits_per_byte"] for point in cut["points"]] == [point["bits_per_byte"] for point in whole["points"]]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("cut", "whole")]
    assert weights[0] == weights[1]


def test_dropout_is_drawn_from_the_position(make_run: MakeRun, heldout: Heldout, gpu: World) -> None:
    run = under(make_run(), dropout=0.1)
    trainers = [Trainer([run], world=gpu) for _ in range(2)]
    first = [trainers[0].advance(decay=None).losses[0] for _ in range(6)]
    for _ in range(3):
        trainers[1].advance(decay=None)
    saved = trainers[1].tensors()
    torch.rand(7, device=gpu.device)  # something else draws
    fresh = Trainer([run], world=gpu)
    fresh.restore(3, saved)
    assert [fresh.advance(decay=None).losses[0] for _ in range(3)] == pytest.approx(first[3:], rel=1e-5)


@pytest.mark.usefixtures("little_memory")
def test_a_batch_that_does_not_fit_goes_on_in_parts(packed: TokenizedDataset, make_run: MakeRun, gpu: World) -> None:
    procedure = Procedure(
        tokenizer=packed.tokenizer_fingerprint, sequence_length=256, precision="bf16", compile="eager"
    )
    wide = Scale(
        name="wide", width=512, layers=4, heads=8, ffn=1536, budgets_tokens=(100_000,), learning_rate=1e-3,
        batch_sequences=64,
    )  # fmt: skip
    trainer = Trainer([replace(make_run(), procedure=procedure, scale=wide)], world=gpu)
    step = trainer.advance(decay=None)
    assert step.shrunk is not None
    assert "rung wide" in step.shrunk
    assert trainer.micro_batch < 64
    assert trainer.advance(decay=None).shrunk is None


def test_a_ladder_shares_a_gpu(world: Path, packed: TokenizedDataset, tmp_path: Path) -> None:
    rungs = [
        {"name": name, "width": width, "layers": 1, "heads": 2, "ffn": 2 * width, "budgets_tokens": [1024, 2048],
         "learning_rate": 0.02, "batch_sequences": 4, "seeds": 2}
        for name, width in (("a", 16), ("b", 32))
    ]  # fmt: skip
    ladder = Ladder.model_validate(
        {"name": "two", "description": "two rungs", "source": "made up", "vocab_size": 300, "sequence_length": 32,
         "evaluation": {"bytes_per_set": 4000, "bytes_per_document": 400}, "scales": rungs}
    )  # fmt: skip
    table = train_ladder(
        datasets={"grammar": packed},
        heldout={"same": world / "heldout.parquet"},
        ladder=ladder,
        out=tmp_path,
        device="cuda",
        workers=2,
    )
    assert table.num_rows == 2 * 2 * 2 * 2
    assert set(table["device"].to_pylist()) == {torch.cuda.get_device_name(0)}
