import json
from pathlib import Path

import pytest
import torch

from curate.errors import TrainingError
from curate.proxy_training.checkpoints import newest_checkpoint, remove_phase, save_checkpoint

FACTS = {"run": "r", "procedure": "p"}


def save(folder: Path, step: int, *, phase: str = "trunk") -> None:
    save_checkpoint(folder, phase=phase, step=step, tensors={"w": torch.full((1000,), float(step))}, facts=FACTS)


def newest(folder: Path, warnings: list[str], **facts: str) -> tuple[int, dict[str, torch.Tensor]] | None:
    return newest_checkpoint(folder, phase="trunk", facts=FACTS | facts, warn=warnings.append)


def test_the_newest_is_read_and_two_of_a_phase_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save(tmp_path, step)
    save(tmp_path, 3, phase="branch-100")
    warnings: list[str] = []
    found = newest(tmp_path, warnings)
    assert found is not None
    assert found[0] == 10
    assert found[1]["w"][0] == 10
    assert not warnings
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "branch-100-000000003.json",
        "trunk-000000002.json",
        "trunk-000000010.json",
    ]
    remove_phase(tmp_path, "trunk")
    assert newest(tmp_path, warnings) is None


HARMS = {
    "truncated weights": lambda folder: (folder / "trunk-000000002.safetensors").write_bytes(
        (folder / "trunk-000000002.safetensors").read_bytes()[:100]
    ),
    "a flipped bit": lambda folder: (folder / "trunk-000000002.safetensors").write_bytes(
        (folder / "trunk-000000002.safetensors").read_bytes()[:-1] + b"\xff"
    ),
    "missing weights": lambda folder: (folder / "trunk-000000002.safetensors").unlink(),
    "truncated facts": lambda folder: (folder / "trunk-000000002.json").write_text('{"step": 2'),
    "facts of another kind": lambda folder: (folder / "trunk-000000002.json").write_text("[1, 2]"),
    "a pickle": lambda folder: (folder / "trunk-000000002.json").write_bytes(b"\x80\x04\x95\xff"),
    "empty facts": lambda folder: (folder / "trunk-000000002.json").write_text(""),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_one_is_passed_over_with_a_warning(tmp_path: Path, harm: str) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    HARMS[harm](tmp_path)
    warnings: list[str] = []
    found = newest(tmp_path, warnings)
    assert found is not None
    assert found[0] == 1
    assert "trunk-000000002.json is damaged" in warnings[0]


def test_a_hash_that_fits_damaged_weights_does_not_help(tmp_path: Path) -> None:
    save(tmp_path, 1)
    from curate.fingerprints import file_fingerprint

    data = tmp_path / "trunk-000000001.safetensors"
    data.write_bytes(b"\xff" * 64)
    record = json.loads((tmp_path / "trunk-000000001.json").read_text())
    (tmp_path / "trunk-000000001.json").write_text(json.dumps(record | {"content": file_fingerprint(data)}))
    with pytest.raises(TrainingError, match="All 1 checkpoints"):
        newest(tmp_path, [])


def test_one_of_another_procedure_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(TrainingError, match="procedure is 'p', this run has 'q'"):
        newest(tmp_path, [], procedure="q")


def test_what_a_kill_left_half_written_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".trunk-000000002.safetensors.77").write_bytes(b"half")
    (tmp_path / "trunk-000000002.safetensors").write_bytes(b"no facts yet")
    found = newest(tmp_path, [])
    assert found is not None
    assert found[0] == 1
    remove_phase(tmp_path, "trunk")
    assert list(tmp_path.iterdir()) == []
