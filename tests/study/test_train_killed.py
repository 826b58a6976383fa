"""`curate train` under twenty SIGKILLs of all its processes, wherever they fall: the same bits as one that was left
alone (slow: three minutes of two cores)."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

KILLS = 20
TIMES = ("seconds", "device")
LADDER = """\
name: small
vocab_size: 400
sequence_length: 64
precision: fp32
compile: eager
evaluation: {bytes_per_set: 4000, bytes_per_document: 400}
scales:
  - {name: a, width: 32, layers: 2, heads: 2, ffn: 64, budgets_tokens: [200000, 400000], batch_sequences: 8, seeds: 3}
  - {name: b, width: 64, layers: 2, heads: 2, ffn: 128, budgets_tokens: [200000, 600000], batch_sequences: 8}
"""
STUDY = """\
name: killed
datasets: {one: {parquet: one.parquet}, two: {parquet: two.parquet}}
ladder: small.yaml
heldout: {h: heldout.parquet}
training: {checkpoint_seconds: 0.5, keep: all}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose ladder trains for some 40 s of two cores."""
    chance = random.Random(0)
    words = ["river", "law", "page", "seed", "crawler", "stone", "keeps", "reads", "finds", "drops", "every", "old"]
    for name, documents, first in (("one", 3000, 0), ("two", 3000, 4), ("heldout", 40, 2)):
        texts = [" ".join(chance.choices(words[first : first + 8], k=60)) + "." for _ in range(documents)]
        ids = [f"{name}-{number}" for number in range(documents)]
        pq.write_table(pa.table({"id": ids, "text": texts}), tmp_path / f"{name}.parquet")
    (tmp_path / "small.yaml").write_text(LADDER)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def train(folder: Path, work: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "curate.cli", "train", str(folder / "study.yaml"), "--work", str(folder / work)]
    return subprocess.Popen([*command, "--device", "cpu", "--progress", "none"], start_new_session=True)


def outcome(folder: Path, work: str) -> tuple[list, dict[str, bytes]]:
    """Measurements without times, and all weights that were kept."""
    table = pq.read_table(next((folder / work).rglob("measurements.parquet")))
    rows = sorted(map(str, table.drop_columns(list(TIMES)).to_pylist()))
    kept = (folder / work).glob("ladder/runs/**/*.safetensors")
    return rows, {str(path.relative_to(folder / work)): path.read_bytes() for path in kept}


@pytest.mark.slow
def test_a_ladder_killed_twenty_times_ends_with_the_same_bits(folder: Path) -> None:
    assert train(folder, "alone").wait() == 0
    chance = random.Random(1)
    for kill in range(KILLS):
        process = train(folder, "killed")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(chance.uniform(3, 7))
            pytest.fail(f"it ended before kill {kill + 1}: let it train longer")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert train(folder, "killed").wait() == 0
    rows, weights = outcome(folder, "alone")
    again, weights_again = outcome(folder, "killed")
    assert again == rows
    assert weights_again == weights
    assert len(weights) > 8
