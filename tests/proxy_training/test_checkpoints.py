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
from curate.proxy_training.training.sharded_checkpoints import ShardedCheckpoints
from curate.proxy_training.training.world import World

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
    "nested facts": lambda folder: (folder / "trunk-000000002.json").write_text("[" * 100_000),
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
    warnings: list[str] = []
    assert newest(tmp_path, warnings) is None
    assert "trunk-000000001.json is damaged" in warnings[0]


def test_where_all_are_damaged_none_counts_any_more_and_what_is_lost_is_said(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
        (tmp_path / f"trunk-{step:09d}.safetensors").write_bytes(b"junk")
    warnings: list[str] = []
    assert newest(tmp_path, warnings) is None
    assert len(warnings) == 2
    assert "the one before it is taken" in warnings[0]
    assert "there is none before it: the trunk is trained again from its start" in warnings[1]
    for step in (0, 1):  # earlier steps than the damaged ones: kept, and found
        save(tmp_path, step)
    found = newest(tmp_path, warnings)
    assert found is not None
    assert found[0] == 1
    assert len(warnings) == 2
    save(tmp_path, 5, phase="branch-100")
    (tmp_path / "branch-100-000000005.safetensors").unlink()
    store, template = SafetensorsCheckpoints(tmp_path), {"w": torch.zeros(1000)}
    assert store.newest(phase="branch-100", facts=FACTS, template=template, warn=warnings.append) is None
    assert "branch-100 is trained again from the step where it leaves the trunk" in warnings[2]
    for phase in ("trunk", "branch-100"):
        store.remove(phase)
    assert list(tmp_path.iterdir()) == []


def test_where_all_shards_are_damaged_none_counts_any_more(tmp_path: Path) -> None:
    store = ShardedCheckpoints(tmp_path, World(), keep=2)
    for step in (1, 2):
        store.save(phase="trunk", step=step, tensors={"w": torch.full((1000,), float(step))}, facts=FACTS)
        (shard,) = (tmp_path / f"trunk-{step:09d}").iterdir()
        shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    warnings: list[str] = []
    template = {"w": torch.zeros(1000)}
    assert store.newest(phase="trunk", facts=FACTS, template=template, warn=warnings.append) is None
    assert len(warnings) == 2
    assert "there is none before it: the trunk is trained again from its start" in warnings[1]
    store.save(phase="trunk", step=0, tensors={"w": torch.full((1000,), 7.0)}, facts=FACTS)
    store.save(phase="trunk", step=1, tensors={"w": torch.full((1000,), 8.0)}, facts=FACTS)
    found = store.newest(phase="trunk", facts=FACTS, template=template, warn=warnings.append)
    assert found is not None
    assert (found[0], found[1]["w"][0]) == (1, 8)
    assert len(warnings) == 2
    store.remove("trunk")
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_says_another_step_than_its_name_is_damaged(tmp_path: Path) -> None:
    save(tmp_path, 7)
    record = tmp_path / "trunk-000000007.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"step": 9}))
    warnings: list[str] = []
    assert newest(tmp_path, warnings) is None
    assert "says that it is trunk at step 9" in warnings[0]


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
