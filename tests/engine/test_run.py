"""The engine keeps its promises: same bytes whoever does the work, nothing lost, nothing stale, nothing twice."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Dataset, Engine
from curate.engine.why import why
from curate.errors import InputError, StageError
from curate.writers import ParquetWriter

Write = Callable[..., Path]
STEPS = ("own_steps.MinChars", "gopher_quality", "minhash: {preset: fineweb}", "own_steps.Shout")


def _run(path: Path, work: Path, workers: int = 1, ray: str | None = None) -> Dataset:
    executor = executor_for(workers, ray)
    try:
        return Engine(work, executor).run(load_recipe(path))
    finally:
        executor.close()


def _bytes(work: Path) -> dict[str, str]:
    """Hash of every data file below the work folder (manifests hold times)."""
    return {
        str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(work.rglob("*"))
        if path.suffix in (".parquet", ".arrow", ".bin")
    }


def _ledger(dataset: Dataset) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for stage in dataset.stages for path in stage.ledgers])


def test_two_workers_write_the_same_bytes(recipe: Write, tmp_path: Path) -> None:
    path = recipe(*STEPS)
    _run(path, tmp_path / "one")
    _run(path, tmp_path / "two", workers=2)
    one = _bytes(tmp_path / "one")
    assert len(one) > 12
    assert one == _bytes(tmp_path / "two")


def test_ray_writes_the_same_bytes(recipe: Write, tmp_path: Path) -> None:
    path = recipe(*STEPS)
    _run(path, tmp_path / "one")
    _run(path, tmp_path / "ray", workers=2, ray="local")
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "ray")


def test_every_record_has_one_fate(recipe: Write, tmp_path: Path) -> None:
    dataset = _run(recipe(*STEPS), tmp_path / "work")
    gone: set[str] = set()
    for stage in dataset.stages:
        ledger = pa.concat_tables([pq.read_table(path) for path in stage.ledgers])
        assert ledger.num_rows == stage.manifest["records_in"]
        kept = [row["id"] for row in ledger.to_pylist() if row["fate"] in ("kept", "edited")]
        data = [key for path in stage.parts for key in pq.read_table(path)["id"].to_pylist()]
        assert sorted(kept) == sorted(data)
        gone |= {row["id"] for row in ledger.to_pylist()} - set(kept)
    assert len(gone) + dataset.documents == 240
    fates = _ledger(dataset)["fate"].to_pylist()
    assert fates.count("edited") == dataset.documents
    assert fates.count("duplicate") > 10


def test_duplicates_name_their_survivor(recipe: Write, tmp_path: Path) -> None:
    dataset = _run(recipe(*STEPS), tmp_path / "work")
    kept = {key for path in dataset.parts for key in pq.read_table(path)["id"].to_pylist()}
    for row in _ledger(dataset).to_pylist():
        if row["fate"] == "duplicate":
            assert row["survivor"] in kept
            assert row["survivor"] != row["id"]
            (stage,) = (stage for stage in dataset.stages if stage.stage.label == row["step"])
            held = pq.read_table(stage.folder / f"part-{row['survivor_part']:05d}.parquet", columns=["id"])
            assert row["survivor"] in held.column("id").to_pylist()
            assert row["value"] >= 0.72


def test_a_second_run_does_nothing(recipe: Write, tmp_path: Path) -> None:
    path = recipe(*STEPS)
    _run(path, tmp_path / "work")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "work" / "stages").rglob("*") if file.is_file()}
    _run(path, tmp_path / "work")
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "work" / "stages").rglob("*") if file.is_file()}
    assert before == after


def test_recipes_with_an_equal_prefix_share_it(recipe: Write, tmp_path: Path) -> None:
    prefix = ("own_steps.MinChars", "minhash: {preset: fineweb}")
    short = _run(recipe(*prefix, name="short"), tmp_path / "work")
    long = _run(recipe(*prefix, "own_steps.Shout", name="long"), tmp_path / "work")
    assert [stage.folder for stage in long.stages[:-1]] == [stage.folder for stage in short.stages]


def test_materialise_is_where_recipes_part(recipe: Write, tmp_path: Path) -> None:
    raw = _run(recipe("own_steps.MinChars", name="raw"), tmp_path / "work")
    more = _run(recipe("own_steps.MinChars", "materialise", "own_steps.Shout", name="more"), tmp_path / "work")
    assert [stage.folder for stage in more.stages[:1]] == [stage.folder for stage in raw.stages]
    assert len(more.stages) == 2


def test_a_changed_parameter_never_reuses_a_part(recipe: Write, tmp_path: Path) -> None:
    loose = _run(recipe("own_steps.MinChars: {chars: 5}"), tmp_path / "work")
    strict = _run(recipe("own_steps.MinChars: {chars: 100}"), tmp_path / "work")
    assert strict.documents < loose.documents == 240
    assert strict.fingerprint != loose.fingerprint


def test_a_changed_input_never_reuses_a_part(recipe: Write, corpus: Path, tmp_path: Path) -> None:
    path = recipe("own_steps.MinChars")
    before = _run(path, tmp_path / "work")
    file = corpus / "file-3.parquet"
    table = pq.read_table(file).slice(0, 39)
    pq.write_table(table, file)
    after = _run(path, tmp_path / "work")
    assert after.fingerprint != before.fingerprint
    assert after.stages[0].manifest["records_in"] == 239


def test_an_input_changed_within_its_size_and_mtime_is_seen_by_verify(
    recipe: Write, corpus: Path, tmp_path: Path
) -> None:
    path = recipe("own_steps.MinChars")
    before = _run(path, tmp_path / "work")
    file = corpus / "file-0.parquet"
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    engine = Engine(tmp_path / "work", executor_for(1), verify=True)
    assert engine.plan(load_recipe(path)).last.fingerprint != before.fingerprint


def test_a_changed_step_version_never_reuses_a_part(
    recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import own_steps  # type: ignore[import-not-found]

    path = recipe("own_steps.MinChars")
    before = _run(path, tmp_path / "work")
    monkeypatch.setattr(own_steps.MinChars, "version", 2)
    assert _run(path, tmp_path / "work").fingerprint != before.fingerprint


def test_a_copied_corpus_has_the_same_fingerprint(recipe: Write, corpus: Path, tmp_path: Path) -> None:
    here = _run(recipe("own_steps.MinChars"), tmp_path / "work")
    other = tmp_path / "elsewhere"
    shutil.copytree(corpus, other / "corpus")
    shutil.copy(tmp_path / "test.yaml", other)
    assert _run(other / "test.yaml", tmp_path / "work-2").fingerprint == here.fingerprint


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_part_names_part_file_and_record(recipe: Write, tmp_path: Path, workers: int) -> None:
    path = recipe("own_steps.Raises: {on: doc-4-17}")
    with pytest.raises(StageError) as caught:
        _run(path, tmp_path / "work", workers=workers)
    message = str(caught.value)
    assert "part 4" in message
    assert "file-4.parquet" in message
    assert "record doc-4-17" in message
    assert "this document is cursed" in message
    assert "own_steps.py" in message
    assert not list((tmp_path / "work" / "stages").rglob("manifest.json"))


def test_a_failed_part_fails_the_run_on_ray(recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="record doc-4-17"):
        _run(recipe("own_steps.Raises: {on: doc-4-17}"), tmp_path / "work", workers=2, ray="local")


def test_a_step_that_loses_documents_fails_the_run(recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="every document must do exactly one"):
        _run(recipe("own_steps.Loses"), tmp_path / "work")


def test_a_worker_that_dies_fails_the_run_with_its_part(recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"part \d+, file .*: .* 4 times.* 9"):
        _run(recipe("own_steps.Dies"), tmp_path / "work", workers=2)


def test_a_damaged_part_is_made_again(recipe: Write, tmp_path: Path) -> None:
    path = recipe(*STEPS)
    dataset = _run(path, tmp_path / "work")
    before = _bytes(tmp_path / "work")
    dataset.parts[1].write_bytes(dataset.parts[1].read_bytes()[:-5])
    dataset.stages[-1].ledgers[0].unlink()
    _run(path, tmp_path / "work")
    assert _bytes(tmp_path / "work") == before


def test_a_half_written_manifest_is_no_manifest(recipe: Write, tmp_path: Path) -> None:
    path = recipe(*STEPS)
    dataset = _run(path, tmp_path / "work")
    before = _bytes(tmp_path / "work")
    for name in ("manifest.json", "part-00002.json"):
        file = dataset.stages[0].folder / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _run(path, tmp_path / "work")
    assert _bytes(tmp_path / "work") == before


def test_killed_runs_resume_with_the_same_bytes(recipe: Write, tmp_path: Path) -> None:
    path = recipe("own_steps.Slow: {seconds: 0.2}", *STEPS)
    _run(path, tmp_path / "whole")
    chance = random.Random(4)
    command = [
        sys.executable,
        "-m",
        "curate.cli",
        "run",
        str(path),
        "--work",
        str(tmp_path / "killed"),
        "--workers",
        "2",
    ]
    kept: dict[Path, int] = {}
    for _ in range(6):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(chance.uniform(0.5, 5.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for file, stamp in kept.items():
            assert file.stat().st_mtime_ns == stamp, f"{file} was finished and done again"
        kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").rglob("part-*.json")}
    _run(path, tmp_path / "killed", workers=2)
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")


def test_what_a_killed_training_left_is_no_part_of_the_artifact(recipe: Write, corpus: Path, tmp_path: Path) -> None:
    table = pq.read_table(corpus / "file-0.parquet")
    pq.write_table(table, tmp_path / "good.parquet")
    recipe("own_steps.MinChars", name="raw")
    fasttext = "{positive: [good.parquet], negative: {sample: raw, documents: 100}, dim: 4, bucket: 1000}"
    path = recipe(
        "own_steps.MinChars",
        "quality: {model: quality, keep: {top: 50%}}",
        more=f"artifacts: {{quality: {{fasttext: {fasttext}}}}}",
    )
    _run(path, tmp_path / "work")
    before = _bytes(tmp_path / "work")
    (folder,) = (tmp_path / "work" / "artifacts").iterdir()
    named = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / "manifest.json").unlink()
    (folder / "model.bin").write_bytes(b"half")
    (folder / "card.json.of-a-killed-run").write_bytes(b"half")
    _run(path, tmp_path / "work")
    assert _bytes(tmp_path / "work") == before
    assert json.loads((folder / "manifest.json").read_text())["files"] == named


def test_an_empty_dataset_is_an_answer_not_an_error(recipe: Write, tmp_path: Path) -> None:
    dataset = _run(recipe("own_steps.MinChars: {chars: 1000000}", "minhash: {preset: fineweb}"), tmp_path / "work")
    assert dataset.documents == 0
    assert dataset.parts == []
    assert dataset.funnel[1]["rules"] == {"min_chars.chars": 240}


def test_published_parquet_is_what_the_writer_makes_of_the_rows(recipe: Write, tmp_path: Path) -> None:
    path = recipe("own_steps.MinChars", more='output: {parquet: "out"}')
    Engine(tmp_path / "work", executor_for(1)).run(load_recipe(path))
    published = sorted((tmp_path / "out").glob("part-*.parquet"))
    assert len(published) == 6
    for file in published:
        table = pq.read_table(file)
        with ParquetWriter(tmp_path / "again.parquet", table.schema) as writer:
            for batch in table.to_batches(max_chunksize=7):
                writer.write(batch)
        assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()


def test_output_is_published_with_its_manifest_last(recipe: Write, tmp_path: Path) -> None:
    path = recipe("own_steps.MinChars", more='output: {jsonl: "out"}')
    dataset = _run(path, tmp_path / "work")
    assert (tmp_path / "out" / "manifest.json").exists()
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    _run(path, tmp_path / "work")
    assert stamps == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert len(list((tmp_path / "out").glob("part-*.jsonl.gz"))) == len(dataset.parts)


def test_why_names_every_rule_that_a_document_fails(recipe: Write, tmp_path: Path) -> None:
    path = recipe("minhash: {preset: fineweb}", "own_steps.MinChars", "gopher_quality")
    _run(path, tmp_path / "work")
    answer = "\n".join(why(load_recipe(path), "https://example.org/doc-0-05", work=tmp_path / "work"))
    assert "https://example.org/doc-0-05 is doc-0-05" in answer
    assert "min_chars.chars: 10, the rule asks at least 100" in answer
    assert "also fails gopher_quality.min_words" in answer
    with pytest.raises(InputError, match="No ledger"):
        list(why(load_recipe(path), "nobody", work=tmp_path / "work"))


def test_why_ends_in_order(recipe: Write, tmp_path: Path) -> None:
    """Arrow's threads that hold a file object of Python's abort a process that ends: two in five did."""
    path = recipe("own_steps.MinChars")
    _run(path, tmp_path / "work")
    command = [sys.executable, "-m", "curate.cli", "why", str(path), "doc-0-00", "--work", str(tmp_path / "work")]
    for _ in range(5):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "") and "kept by" in ended.stdout
