"""`curate why` replays a document from its source and names every rule that it fails, in the recipe's order."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.engine.why import Duplicate, why

Write = Callable[..., Path]


def _why(path: Path, record: str, work: Path) -> list[str]:
    return [str(answer) for answer in why(load_recipe(path), record, work=work)]


def _run(path: Path, work: Path) -> None:
    Engine(work, executor_for(1)).run(load_recipe(path))


def test_rules_of_later_stages_are_asked_in_order_after_the_first_that_failed(recipe: Write, tmp_path: Path) -> None:
    steps = ("gopher_quality", "minhash: {preset: fineweb}", "c4", "materialise", "fineweb", "own_steps.MinChars")
    path, work = recipe(*steps), tmp_path / "work"
    _run(path, work)
    answer = _why(path, "doc-0-05", work)
    first = "dropped by gopher_quality (file-0.parquet at 5): gopher_quality.min_words: 2, the rule asks at least 50"
    assert answer[0] == first
    also = [line.split()[2].rstrip(":") for line in answer[1:]]
    order = ["gopher_quality.min_stop_words", "c4.sentences", "fineweb.newlines_to_words", "min_chars.chars"]
    assert [rule for rule in also if rule in order] == [rule for rule in order if rule in also]
    assert {"c4.sentences", "min_chars.chars"} <= set(also) and "gopher_quality.min_words" not in also


def test_a_rule_after_an_edit_is_asked_of_the_edited_text(recipe: Write, tmp_path: Path) -> None:
    text = "\n".join(["a line that is no sentence and goes"] * 40 + ["This one stays. It is short."])
    pq.write_table(pa.table({"id": ["page"], "text": [text]}), tmp_path / "corpus" / "page.parquet")
    path = recipe("gopher_repetition", "c4: {min_sentences: null}", "own_steps.MinChars: {chars: 1000}")
    _run(path, tmp_path / "work")
    answer = _why(path, "page", tmp_path / "work")
    assert answer[0].startswith("dropped by gopher_repetition") and len(text) > 1000
    assert answer[-1].strip() == "also fails min_chars.chars: 28, the rule asks at least 1000"


def test_a_document_in_another_language_is_told_which_one_was_found(recipe: Write, tmp_path: Path) -> None:
    text = "Der Fluss und der Wald liegen hinter dem Haus, und am Morgen gehen wir durch den Garten. " * 9
    pq.write_table(pa.table({"id": ["page"], "text": [text]}), tmp_path / "corpus" / "page.parquet")
    path = recipe("language: {keep: [en]}")
    _run(path, tmp_path / "work")
    first, second = _why(path, "page", tmp_path / "work")
    assert first.endswith("language.label: 0, the rule asks at least 1")
    assert second.strip().startswith("as language found: language de, language_score 0.9")


def test_a_kept_document_fails_nothing(recipe: Write, tmp_path: Path) -> None:
    path, work = recipe("own_steps.MinChars", "exact"), tmp_path / "work"
    _run(path, work)
    answer = _why(path, "doc-0-00", work)
    assert all(line.startswith("kept by") for line in answer) and len(answer) == 2


def test_a_dataset_answers_through_the_recipe_beside_it(
    recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, work, out = recipe("own_steps.MinChars", more='output: {jsonl: "out"}'), tmp_path / "work", tmp_path / "out"
    _run(path, work)
    command = ["why", str(out), "doc-0-05", "--work", str(work)]
    monkeypatch.chdir(tmp_path.parent)
    assert main(command) == 0
    assert "dropped by MinChars" in capsys.readouterr().out
    path.rename(tmp_path / "moved.yaml")
    assert main(command) == 2
    assert "the recipe that made it, lies neither here nor beside it" in capsys.readouterr().err


def test_a_duplicate_is_shown_beside_its_survivor_with_the_difference_marked(
    recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = [f"word{number}" for number in range(300)]
    changed = [*words[:150], "\x1b[31mother", *words[151:]]
    table = pa.table({"id": ["one", "two"], "text": [" ".join(words), " ".join(changed)]})
    pq.write_table(table, tmp_path / "corpus" / "pages.parquet")
    path, work = recipe("minhash"), tmp_path / "work"
    _run(path, work)
    removed = list(why(load_recipe(path), "two", work=work))[-1]
    assert isinstance(removed, Duplicate) and (removed.id, removed.survivor) == ("two", "one")
    assert main(["why", str(path), "two", "--work", str(work)]) == 0
    said = capsys.readouterr().out
    assert "similarity 0.966777, duplicates are from 0.72 on; kept in its place: one" in said
    assert "142 words alike" in said
    assert "[-⟨U+001B⟩[31mother-]" in said and "{+word150+}" in said
