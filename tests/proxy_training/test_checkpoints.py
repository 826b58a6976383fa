import json
import multiprocessing
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from curate.errors import TrainingError
from curate.proxy_training.training.checkpoints import SafetensorsCheckpoints

FACTS = {"run": "r", "procedure": "p"}


def save(folder: Path, step: int, *, phase: str = "trunk") -> None:
    tensors = {"w": torch.full((1000,), float(step))}
    SafetensorsCheckpoints(folder).save(phase=phase, step=step, tensors=tensors, facts=FACTS)


def newest(folder: Path, warnings: list[str], **facts: str) -> tuple[int, dict[str, torch.Tensor]] | None:
    template = {"w": torch.zeros(1000)}
    store = SafetensorsCheckpoints(folder)
    return store.newest(phase="trunk", facts=FACTS | facts, template=template, warn=warnings.append)


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
    SafetensorsCheckpoints(tmp_path).remove("trunk")
    assert newest(tmp_path, warnings) is None


def test_as_many_of_a_phase_are_kept_as_the_policy_says(tmp_path: Path) -> None:
    for step in range(1, 7):
        store = SafetensorsCheckpoints(tmp_path, keep=4)
        store.save(phase="trunk", step=step, tensors={"w": torch.zeros(1)}, facts=FACTS)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.glob("*.json"))) == 4


def fill_the_disk(limit: int) -> None:
    """No file of this process may grow beyond `limit` bytes: writing fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def save_on_a_full_disk(folder: Path, said: Any) -> None:
    fill_the_disk(100_000)
    try:
        tensors = {"w": torch.zeros(1_000_000)}
        SafetensorsCheckpoints(folder).save(phase="trunk", step=2, tensors=tensors, facts=FACTS)
    except TrainingError as error:
        said.put(str(error))


def test_a_full_disk_is_a_sentence_and_the_checkpoint_before_it_stays(tmp_path: Path) -> None:
    save(tmp_path, 1)
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    process = context.Process(target=save_on_a_full_disk, args=(tmp_path, said))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert "No room on the disk for checkpoint trunk-000000002.safetensors" in said.get()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trunk-000000001.json", "trunk-000000001.safetensors"]
    found = newest(tmp_path, [])
    assert found is not None
    assert found[0] == 1


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
    SafetensorsCheckpoints(tmp_path).remove("trunk")
    assert list(tmp_path.iterdir()) == []
