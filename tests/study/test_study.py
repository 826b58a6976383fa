"""A study end to end on a tiny ladder: recipe and text datasets, tokenizer, training, verdict, page; then once more."""

import json
import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.executors import executor_for
from curate.errors import RecipeError
from curate.heldout import contamination
from curate.progress import Progress
from curate.sample import heldout, positives
from curate.study import StudyResult, load_study, run_study

LADDER = """\
name: tiny
vocab_size: 300
sequence_length: 32
precision: fp32
compile: eager
evaluation: {bytes_per_set: 2000, bytes_per_document: 500}
scales:
  - {name: a, width: 16, layers: 1, heads: 2, ffn: 32, budgets_tokens: [4096, 8192], seeds: 2}
  - {name: b, width: 32, layers: 1, heads: 2, ffn: 64, budgets_tokens: [4096, 8192]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a recipe's dataset and of the same text with its words shuffled."""
    folder = tmp_path_factory.mktemp("study")
    texts = pq.read_table(positives(), columns=["text"])["text"].to_pylist()[:60]
    chance = random.Random(0)
    shuffled = [" ".join(chance.sample(text.split(), len(text.split()))) for text in texts]
    for name, rows in (("clean", texts), ("shuffled", shuffled)):
        table = pa.table({"id": [f"{name}-{row}" for row in range(len(rows))], "text": rows})
        pq.write_table(table, folder / f"{name}.parquet")
    (folder / "clean.yaml").write_text("name: clean\nsource: {parquet: clean.parquet}\nsteps: [exact]\n")
    (folder / "tiny.yaml").write_text(LADDER)
    (folder / "study.yaml").write_text(
        "name: tiny\ndatasets: {clean: clean.yaml, shuffled: {parquet: shuffled.parquet}}\nladder: tiny.yaml\n"
        f'heldout: {{prose: "{heldout()["prose"]}", reference: "{heldout()["reference"]}"}}\n'
        "compare: {metric: bits_per_byte, at: [1e10], bootstraps: 200}\n"
    )
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> StudyResult:
    """The study, run once for all tests here."""
    return _run(folder)


def _run(folder: Path) -> StudyResult:
    study = load_study(folder / "study.yaml")
    return run_study(study, work=folder / "work", executor=executor_for(1), workers=1, progress=Progress())


def test_every_run_is_measured_on_every_heldout_set(result: StudyResult) -> None:
    rows = result.measurements.to_pylist()
    # 2 datasets x (2 + 1 runs) x 2 budgets x (2 held-out sets and their mean)
    assert len(rows) == 2 * 3 * 2 * 3
    assert all(row["cooled_down"] and row["value"] > 0 for row in rows)
    assert {row["dataset"] for row in rows} == {"clean", "shuffled"}
    assert pq.read_table(result.folder / "measurements.parquet").num_rows == len(rows)


def test_the_verdict_and_the_page_are_written(result: StudyResult) -> None:
    verdict = json.loads((result.folder / "verdict.json").read_text())
    assert verdict["metric"] == "bits_per_byte"
    assert set(result.verdict.datasets) == {"clean", "shuffled"}
    page = result.page.read_text()
    assert "shuffled" in page
    assert "exact" in page


def test_a_second_run_trains_nothing(result: StudyResult, folder: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "work" / "ladder").rglob("*") if path.is_file()}
    began = time.perf_counter()
    again = _run(folder)
    assert again.measurements.equals(result.measurements)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert time.perf_counter() - began < 60


def test_contamination_is_found(tmp_path: Path) -> None:
    held = pq.read_table(heldout()["prose"], columns=["text"])["text"].to_pylist()
    half = [f"Read on: {text}" for text in held[: len(held) // 2]]
    ids = [f"leaky-{number}" for number in range(len(half))]
    pq.write_table(pa.table({"id": ids, "text": half}), tmp_path / "leaky.parquet")
    pq.write_table(pa.table({"id": ["x"], "text": ["nothing of the kind " * 20]}), tmp_path / "clean.parquet")
    parts = {"leaky": [tmp_path / "leaky.parquet"], "clean": [tmp_path / "clean.parquet"]}
    excerpts = [text[:1000] for text in held]
    rows = {
        (row.dataset, row.heldout): row
        for row in contamination(parts, {"prose": excerpts, "short": ["a b c"]}, folder=tmp_path / "sets")
    }
    assert rows["clean", "prose"].share == rows["clean", "short"].share == 0
    assert rows["leaky", "prose"].texts == len(held)
    assert rows["leaky", "prose"].found == len(half)
    assert rows["leaky", "prose"].examples[0] == ("0", "leaky-0")
    assert rows["leaky", "short"].texts == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("ladder: tiny.yaml", "ladder: nowhere"), "nowhere"),
        (("clean: clean.yaml", "clean: missing.yaml"), "datasets.clean: no recipe"),
        (("shuffled.parquet}", "gone-*.parquet}"), "datasets.shuffled.parquet"),
        (("bootstraps: 200", "bootstraps: few"), "compare.bootstraps"),
        (("metric: bits", "metrics: bits"), "compare.metrics: there is no such field"),
    ],
)
def test_a_wrong_study_names_its_field(folder: Path, change: tuple[str, str], says: str) -> None:
    text = (folder / "study.yaml").read_text()
    assert change[0] in text
    path = folder / "wrong.yaml"
    path.write_text(text.replace(*change))
    with pytest.raises(RecipeError, match=says.replace(".", r"\.")):
        study = load_study(path)
        run_study(study, work=folder / "work-2", executor=executor_for(1), workers=1, progress=Progress())
