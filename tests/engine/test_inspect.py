"""`curate inspect`: what rules do alone and together agrees with runs that have them and runs that do not."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.cli import main
from curate.engine.account import EXCERPT
from curate.engine.executors import executor_for
from curate.engine.inspection import Inspection, add_run, inspect_rules
from curate.engine.recipe import load_recipe
from curate.engine.run import Dataset, Engine
from curate.engine.signals import signals_of

Write = Callable[..., Path]
COUNTED = "own_signals.Counted: {at_most: %s}"
QUALITY = "gopher_quality: {min_words: %s, min_mean_word_length: %s}"


def _inspected(path: Path, work: Path) -> Inspection:
    recipe = load_recipe(path)
    found = inspect_rules(signals_of(recipe, work=work, executor=executor_for(1)))
    add_run(found, recipe, work)
    return found


def _run(path: Path, work: Path) -> Dataset:
    return Engine(work, executor_for(1)).run(load_recipe(path))


def _texts(part: Path) -> dict[str, str]:
    table = pq.read_table(part, columns=["id", "text"])
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


def _kept(dataset: Dataset) -> set[str]:
    return {key for part in dataset.parts for key in pq.read_table(part, columns=["id"])["id"].to_pylist()}


def test_first_is_what_the_funnel_counts_and_only_is_what_comes_back(recipe: Write, tmp_path: Path) -> None:
    path = recipe(COUNTED % 950, QUALITY % (50, 5.05))
    run = _run(path, tmp_path / "work")
    found = _inspected(path, tmp_path / "work")
    counted = {rule: dropped for row in run.funnel for rule, dropped in row["rules"].items()}
    assert {each.rule.name: each.first for each in found.rules if each.first} == counted and len(counted) >= 2
    assert found.passing == run.documents
    assert found.passing + sum(each.first for each in found.rules) == found.documents
    without = _run(recipe(COUNTED % 950, QUALITY % ("null", 5.05)), tmp_path / "without")
    (short,) = (each for each in found.rules if each.rule.name == "gopher_quality.min_words")
    assert short.only == without.documents - run.documents
    assert short.only_bytes == without.text_bytes - run.text_bytes
    assert found.funnel == run.funnel and set(found.samples) == set(counted)


def test_a_recipe_without_rules_shows_its_run_with_clusters_and_survivors(
    recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, work = recipe("exact", "own_steps.Shout"), tmp_path / "work"
    page, data = tmp_path / "steps.html", tmp_path / "steps.json"
    options = ["inspect", str(path), "--work", str(work), "--out", str(page), "--json", str(data)]
    assert main(options) == 2 and "did not run to its end" in capsys.readouterr().err and not page.exists()
    run = _run(path, work)
    assert main(options) == 0
    said, found, shown = capsys.readouterr().out, json.loads(data.read_text()), page.read_text()
    assert found["funnel"] == run.funnel and "rules" not in found
    (told,) = found["duplicates"]
    assert told["step"] == "exact" and told["removed"] == run.funnel[1]["rules"]["exact"] > 0
    texts = {key: text for part in run.stages[1].parts for key, text in _texts(part).items()}
    for sample in found["samples"]["exact"]:
        assert sample["survivor"] != sample["id"] and sample["value"] == 1.0
        assert sample["survivor_text"] == texts[sample["survivor"]][:EXCERPT] == sample["text"]
    largest, first = told["largest"][0], found["samples"]["exact"][0]
    for name in (largest["survivor"], first["id"], first["survivor"]):
        assert name in said and name in shown
    assert "Largest clusters of exact" in said and "<h2>Largest clusters of duplicates</h2>" in shown
    assert "kept instead" in shown and "left by rule" in shown and "<h2>Rules</h2>" not in shown


def test_survivors_whose_data_is_gone_are_shown_by_their_id(recipe: Write, tmp_path: Path) -> None:
    path, work = recipe("exact"), tmp_path / "work"
    for part in _run(path, work).stages[1].parts:
        part.unlink()
    found = Inspection([])
    add_run(found, load_recipe(path), work)
    assert all(sample["survivor"] and "survivor_text" not in sample for sample in found.samples["exact"])


def test_together_counts_the_documents_that_fail_both(recipe: Write, tmp_path: Path) -> None:
    path = recipe(COUNTED % 950, QUALITY % (50, 5.05))
    found = _inspected(path, tmp_path / "work")
    everybody = _kept(_run(recipe("own_signals.Counted: {at_most: 1000000000}"), tmp_path / "work"))
    alone = {
        "Counted.at_most": COUNTED % 950,
        "gopher_quality.min_words": "gopher_quality: {min_words: 50, %s}",
        "gopher_quality.min_mean_word_length": "gopher_quality: {min_mean_word_length: 5.05, %s}",
    }
    names = [each.rule.name for each in found.rules]
    off = {
        "max_words": "null",
        "min_words": "null",
        "min_mean_word_length": "null",
        "max_mean_word_length": "null",
        "hash_to_words": "null",
        "ellipsis_to_words": "null",
        "bullet_lines": "null",
        "ellipsis_lines": "null",
        "min_alphabetic_words": "null",
        "min_stop_words": "null",
    }
    dropped = {}
    for name, step in alone.items():
        others = ", ".join(f"{key}: {value}" for key, value in off.items() if f"gopher_quality.{key}" != name)
        dropped[name] = everybody - _kept(_run(recipe(step % others if "%s" in step else step), tmp_path / "work"))
        assert found.rules[names.index(name)].fails == len(dropped[name]) > 0
    for a, b in combinations(alone, 2):
        assert found.together[names.index(a), names.index(b)] == len(dropped[a] & dropped[b])
    assert sum(found.by_failures.values()) == found.documents and found.by_failures[0] == found.passing
    assert [pair.both for pair in found.pairs()] == sorted((pair.both for pair in found.pairs()), reverse=True)


def test_the_command_shows_the_same_on_screen_page_and_as_data(
    recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, work = recipe(COUNTED % 950, QUALITY % (50, 5.05)), tmp_path / "work"
    options = ["--work", str(work), "--workers", "1"]
    assert main(["inspect", str(path), *options]) == 0
    assert "did not run to its end here" in capsys.readouterr().out
    run = _run(path, work)
    page, data = tmp_path / "rules.html", tmp_path / "rules.json"
    assert main(["inspect", str(path), *options, "--out", str(page), "--json", str(data)]) == 0
    said = capsys.readouterr().out
    assert "min_words" in said and "overlap" in said and "dropped by" in said
    found = json.loads(data.read_text())
    assert found["funnel"] == run.funnel and found["documents"] == run.funnel[0]["out"]
    assert "min_mean_word_length" in page.read_text() and "<h2>Funnel</h2>" in page.read_text()
    assert "left by rule" in page.read_text()


@pytest.mark.parametrize("samples", ["9", "-3"])
def test_no_more_samples_are_asked_for_than_there_are(samples: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "r.yaml", "--samples", samples])
    assert "choose from 0, 1, 2, 3, 4" in capsys.readouterr().err


def test_published_output_shows_its_funnel_and_says_what_it_cannot(
    recipe: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = recipe(COUNTED % 950, more=f"output: {{parquet: {tmp_path / 'out'}}}"), tmp_path / "out"
    assert main(["run", str(path), "--work", str(tmp_path / "work"), "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "--json", str(tmp_path / "funnel.json")]) == 0
    assert "name the recipe" in capsys.readouterr().out
    assert json.loads((tmp_path / "funnel.json").read_text())["funnel"][1]["rules"]["Counted.at_most"] > 0
    assert main(["inspect", str(out), "--out", str(tmp_path / "page.html")]) == 2
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
