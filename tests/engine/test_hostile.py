"""Hostile inputs through the whole engine: every record ends in the ledger, or the run ends with one clear sentence."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Dataset, Engine
from curate.errors import CurateError

TESTS = Path(__file__).resolve().parents[1]
WARCS = TESTS / ".." / ".." / "shared" / "data" / "warc"
FILTERS = ["language: {keep: [en], min_score: 0.1}", "gopher_repetition", "gopher_quality", "c4", "fineweb"]


@pytest.fixture(scope="module")
def inputs(hostile_files: list[Any]) -> list[Any]:
    """All hostile inputs but the pages that hang a parser: those are the extraction's own test (seconds each)."""
    return [item for item in hostile_files if not item.hangs]


def _run(folder: Path, kind: str, files: list[Path], options: dict[str, Any]) -> Dataset:
    folder.mkdir(parents=True)
    source = json.dumps({kind: {"files": [str(file) for file in files], **options}})
    steps = (["extract"] if kind == "warc" else []) + FILTERS + ["minhash: {preset: fineweb}"]
    path = folder / "recipe.yaml"
    path.write_text(f"name: hostile\nsource: {source}\nsteps:\n" + "".join(f"  - {step}\n" for step in steps))
    return Engine(folder / "work", executor_for(1)).run(load_recipe(path))


def _check_ledger(dataset: Dataset) -> int:
    """Records of the first stage, after checking that each has one fate, and each that left a reason."""
    ledger = pa.concat_tables([pq.read_table(path) for path in dataset.stages[0].ledgers])
    assert ledger.num_rows == dataset.stages[0].manifest["records_in"]
    left = ledger.filter(pc.invert(pc.is_in(ledger["fate"], value_set=pa.array(["kept", "edited"]))))
    reasons = pc.coalesce(left["rule"], left["error"])
    assert reasons.null_count == 0
    return ledger.num_rows


def test_every_record_of_a_hostile_input_is_in_the_ledger(inputs: list[Any], tmp_path: Path) -> None:
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for item in inputs:
        if item.expected_records_at_least is not None:
            groups[item.kind, json.dumps(item.options, sort_keys=True)].append(item)
    assert sum(len(group) for group in groups.values()) >= 100
    for number, ((kind, options), group) in enumerate(groups.items()):
        paths = [item.path for item in group]
        try:
            dataset = _run(tmp_path / str(number), kind, paths, json.loads(options))
        except CurateError as error:
            # -1 marks inputs for which either answer is right: rows, or one sentence that names the file.
            either = [item for item in group if item.expected_records_at_least == -1]
            assert either, error
            assert any(item.path.name in str(error) for item in either), error
            rest = [item.path for item in group if item not in either]
            dataset = _run(tmp_path / f"{number}-rest", kind, rest, json.loads(options))
            group = [item for item in group if item not in either]
        assert _check_ledger(dataset) >= sum(max(0, item.expected_records_at_least) for item in group)


def test_an_input_that_cannot_be_used_is_one_sentence_with_its_name(inputs: list[Any], tmp_path: Path) -> None:
    unusable = [item for item in inputs if item.expected_records_at_least is None]
    assert unusable
    for number, item in enumerate(unusable):
        with pytest.raises(CurateError) as caught:
            _run(tmp_path / str(number), item.kind, [item.path], item.options)
        assert item.path.name in str(caught.value)
        assert "Traceback" not in str(caught.value)


@pytest.mark.skipif(not WARCS.exists(), reason="the real archives lie beside the project, and are not here")
def test_real_damaged_archives_end_in_the_ledger(tmp_path: Path) -> None:
    files = sorted(path for path in WARCS.rglob("*") if path.is_file())
    files = [path for path in files if ".warc" in path.name and ".wet" not in path.name and ".wat" not in path.name]
    dataset = _run(tmp_path / "real", "warc", files, {})
    assert len(files) >= 12
    assert _check_ledger(dataset) > 100
