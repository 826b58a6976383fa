"""Content of a dataset: duplicates are found with the texts of both sides, from ledgers and the stage before."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.engine.ledger import LEDGER_SCHEMA
from curate.engine.resources import Resources
from curate.engine.run import Dataset, StageResult
from curate.engine.stages import Stage
from curate.report.content import dataset_content
from curate.report.duplicates import EXCERPT, LEAD, excerpts


def _stage(
    folder: Path, parts: list[list[dict[str, Any]]], ledgers: list[list[dict[str, Any]]], **given: Any
) -> StageResult:
    folder.mkdir()
    listed = []
    for number, (rows, ledger) in enumerate(zip(parts, ledgers, strict=True)):
        files = {"ledger": {"name": f"ledger-{number}.parquet"}}
        pq.write_table(pa.Table.from_pylist(ledger, schema=LEDGER_SCHEMA), folder / files["ledger"]["name"])
        if rows:
            files["data"] = {"name": f"part-{number}.parquet"}
            pq.write_table(pa.Table.from_pylist(rows), folder / files["data"]["name"], row_group_size=2)
        listed.append({"files": files})
    fates: dict[str, int] = {}
    for ledger in ledgers:
        for row in ledger:
            fates[row["fate"]] = fates.get(row["fate"], 0) + 1
    manifest = {
        "label": folder.name,
        "fingerprint": folder.name,
        "parts": listed,
        "fates": fates,
        "funnel": [],
        "histograms": {},
        "samples": {},
        "steps": [{"name": folder.name, "parameters": {}}],
        "records_in": 9,
        "records_out": 5,
        "bytes_out": 77,
        "wall_seconds": 1.5,
        "step_seconds": {},
        "ignored": {},
    }
    stage = Stage(
        steps=(),
        source=None,
        inputs=(),
        pieces=(),
        parent=None,
        artifacts=(),
        exchange=False,
        resources=Resources(),
        fingerprint=folder.name,
        identity={},
    )
    return StageResult(stage, folder, manifest | given)


def _document(key: str, text: str) -> dict[str, Any]:
    return {"id": key, "text": text, "url": f"https://{key}.example/"}


def _duplicate(key: str, survivor: str, value: float | None) -> dict[str, Any]:
    return {"id": key, "fate": "duplicate", "survivor": survivor, "value": value, "step": "minhash"}


def _dataset(tmp_path: Path, pairs: int = 3) -> Dataset:
    documents = [_document(f"kept{number}", f"text {number} " + "x" * 2000) for number in range(pairs)]
    copies = [_document(f"copy{number}", f"Text {number} " + "x" * 2000) for number in range(pairs)]
    gone = [_duplicate(f"copy{number}", f"kept{number}", 0.7 + number / 1000) for number in range(pairs)]
    stayed = [{"id": f"kept{number}", "fate": "kept"} for number in range(pairs)]
    before = _stage(tmp_path / "extract", [copies, [], documents], [[], [], []])
    stage = _stage(tmp_path / "minhash", [[], documents], [gone, stayed])
    return Dataset("d", "print", (before, stage))


def test_duplicates_come_with_the_texts_of_both_sides(tmp_path: Path) -> None:
    found = dataset_content(_dataset(tmp_path), name="mine", tokens=5).duplicates
    assert [(each.id, each.survivor_id, each.similarity) for each in found] == [
        ("copy0", "kept0", 0.7),
        ("copy1", "kept1", 0.701),
        ("copy2", "kept2", 0.702),
    ]
    for number, each in enumerate(found):
        assert each.text.startswith(f"Text {number}") and each.survivor_text.startswith(f"text {number}")
        assert each.url == f"https://copy{number}.example/" and each.survivor_url == f"https://kept{number}.example/"
        assert len(each.text) <= EXCERPT + 4


def test_of_many_duplicates_twelve_are_spread_over_their_similarity(tmp_path: Path) -> None:
    found = dataset_content(_dataset(tmp_path, pairs=300), name="mine", tokens=None).duplicates
    assert len(found) == 12
    similarities = [each.similarity for each in found]
    assert similarities == sorted(similarities, key=lambda value: value or 0)
    assert similarities[0] == 0.7 and similarities[-1] == pytest.approx(0.999)
    assert all(each.text and each.survivor_text for each in found)


def test_a_survivor_that_is_gone_leaves_an_empty_text(tmp_path: Path) -> None:
    before = _stage(tmp_path / "extract", [[_document("a", "one")]], [[]])
    stage = _stage(tmp_path / "exact", [[]], [[_duplicate("a", "elsewhere", None)]])
    (found,) = dataset_content(Dataset("d", "p", (before, stage)), name="d", tokens=None).duplicates
    assert (found.text, found.survivor_id, found.survivor_text, found.similarity) == ("one", "elsewhere", "", None)


def test_stages_histograms_and_steps_of_all_stages_are_gathered(tmp_path: Path) -> None:
    histogram = {"signal": "s", "low": 0.0, "high": 1.0, "at_least": None, "at_most": None, "counts": [0, 1, 0]}
    first = _stage(
        tmp_path / "a", [[]], [[]], histograms={"r": histogram | {"at_most": 0.2}}, samples={"r": [{"id": "1"}]}
    )
    last = _stage(tmp_path / "b", [[]], [[]], histograms={"q": histogram}, summary={"threshold": 0.203})
    content = dataset_content(Dataset("d", "p", (first, last)), name="d", tokens=None)
    assert content.histograms["r"]["at_most"] == 0.2
    assert content.histograms["q"]["at_least"] == 0.203  # found by the exchange, not named in the recipe
    assert [stage["label"] for stage in content.stages] == ["a", "b"]
    assert [step["name"] for step in content.steps] == ["a", "b"]
    assert (content.documents, content.text_bytes, content.duplicates) == (5, 77, [])


def test_excerpts_begin_where_the_difference_is_near() -> None:
    same = "same words " * 1000
    first, second = excerpts(same + "here A", same + "here B")
    assert first.startswith("… ") and first.endswith("here A") and second.endswith("here B")
    assert first.index("here") <= LEAD + 2
    assert excerpts("abc", "abd") == ("abc", "abd")
    assert excerpts(same, same) == (same[:EXCERPT] + " …",) * 2
    assert excerpts("", same) == ("", same[:EXCERPT] + " …")


def test_a_real_run_gives_content_that_a_page_can_show(tmp_path: Path) -> None:
    from curate.engine.executors.local import LocalExecutor
    from curate.engine.recipe import load_recipe
    from curate.engine.run import Engine
    from curate.report.content import StudyContent
    from curate.report.page import page

    words = [f"word{number} says something about thing{number * 7 % 101}" for number in range(200)]
    texts = {"a": " ".join(words), "b": " ".join([*words, "and an end"]), "c": "short", "d": " ".join(reversed(words))}
    rows = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
    (tmp_path / "in.jsonl").write_text("\n".join([*rows, "{broken", ""]))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: r\nsource: {jsonl: in.jsonl}\nsteps:\n  - minhash: {preset: fineweb}\n")
    dataset = Engine(tmp_path / "work", LocalExecutor(1)).run(load_recipe(recipe))
    content = dataset_content(dataset, name="real", tokens=None)
    assert content.funnel[0]["fates"] == {"failed": 1}
    assert sum(row["fates"].get("duplicate", 0) for row in content.funnel) == len(content.duplicates) == 1
    (found,) = content.duplicates
    assert {found.id, found.survivor_id} == {"a", "b"}
    assert "and an end" in found.text + found.survivor_text
    study = StudyContent("s", "1", "now", [content], None, None, None)
    shown = page(study)
    assert "1 of 5 records failed" in shown and "minhash" in shown
