"""Items of benchmarks in documents: found with edits and over line breaks, weighed by how common they are, cut out."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from curate.cli import main
from curate.dedup.decontamination import Decontaminate
from curate.dedup.decontamination_cuts import cut_out
from curate.dedup.decontamination_index import BenchmarkIndex
from curate.dedup.decontamination_items import Item, load_items
from curate.documents import Batch
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.engine.why import why
from curate.errors import CurateError, InputError, MismatchError
from curate.steps import Outcome

WORDS = [a + b + c for a in ("ba", "do", "fi", "ku") for b in ("lar", "men", "ton", "ves") for c in ("", "a", "i", "o")]


def prose(seed: int, words: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


QUESTION = (
    "Which of the two rivers that meet below the old mill carries more water in a dry summer, and why is that so?"
)
ITEM = {"id": "q1", "prompt": QUESTION, "answer": "The northern one, as it is fed by a glacier."}


def benchmark(folder: Path, *rows: dict[str, Any], name: str = "rivers") -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def decided(step: Decontaminate, *parts: Sequence[str], ranges: int = 1) -> tuple[list[Outcome], dict[str, Any]]:
    """The outcome of each part, and the summary."""
    batches = [
        Batch(
            pa.record_batch(
                {
                    "id": pa.array([f"{part}-{row}" for row in range(len(texts))], pa.string()),
                    "text": pa.array(texts, pa.string()),
                }
            )
        )
        for part, texts in enumerate(parts)
    ]
    state = step.reduce([step.map(iter([batch])) for batch in batches], ranges=ranges)
    outcomes = [next(step.apply(iter([batch]), told)) for batch, told in zip(batches, state.parts, strict=True)]
    return outcomes, state.summary


def dropped(step: Decontaminate, *texts: str) -> list[int]:
    (outcome,), _ = decided(step, texts)
    return outcome.left.column("row").to_pylist()


PLANTED = {
    "alone": QUESTION,
    "at the start": QUESTION + " " + prose(1, 80),
    "at the end": prose(2, 80) + " " + QUESTION,
    "over line breaks": prose(3, 40) + "\n\n" + QUESTION.replace(" ", "\r\n\t") + "\n" + prose(4, 40),
    "in capitals": prose(5, 40) + " " + QUESTION.upper(),
    "without punctuation": prose(6, 40) + " " + QUESTION.replace(",", " -- ").replace("?", ""),
    "full width, accents and joiners": prose(7, 40)
    + " "
    + QUESTION.replace("water", "wа\u0301ter".replace("а", "a"))
    .replace("two", "\uff54\uff57\uff4f")
    .replace("rivers", "riv\u00aders"),
    "with the answer": f"Q: {QUESTION} A: {ITEM['answer']}",
    "one word changed": prose(8, 40) + " " + QUESTION.replace("rivers", "streams") + " " + prose(9, 40),
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_item_is_found(tmp_path: Path, how: str) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM))
    assert dropped(step, prose(10, 200), PLANTED[how], "", prose(11, 200)) == [1]


def test_fewer_words_than_an_ngram_are_not_found(tmp_path: Path) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM))
    assert dropped(step, " ".join(QUESTION.split()[:12]), " ".join(QUESTION.split()[3:16])) == [1]


def test_the_ledger_names_benchmark_item_and_share(tmp_path: Path) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM, {"id": "q2", "prompt": prose(12, 60)}))
    ((outcome,), summary) = decided(step, [prose(13, 90), "x " + QUESTION])
    (row,) = outcome.left.to_pylist()
    # 23 words of the prompt and 10 of the answer: 21 n-grams, of which the prompt alone has 11
    assert (row["rule"], row["value"], row["threshold"]) == ("decontaminate.rivers", 0.52381, 0.0)
    assert row["error"] == "item q1 of rivers, 11 of its 21 n-grams"
    assert outcome.signals["decontaminate.items"].tolist() == [0, 1]
    assert 0.9 < outcome.signals["decontaminate.covered"][1] < 1
    rivers = summary["benchmarks"]["rivers"]
    assert (rivers["items"], rivers["found"], rivers["documents"]) == (2, 1, 1)
    assert rivers["found_items"] == [{"item": "q1", "documents": 1}]


def test_a_share_below_the_threshold_stays(tmp_path: Path) -> None:
    path = benchmark(tmp_path, ITEM)
    assert dropped(Decontaminate(benchmarks=path, max_share=0.5), QUESTION) == [0]
    assert dropped(Decontaminate(benchmarks=path, max_share=0.6), QUESTION) == []


def test_short_items_are_matched_whole_or_listed(tmp_path: Path) -> None:
    short = "who built the tower beside the narrow green harbour"
    rows = [
        {"id": "whole", "prompt": short + "?"},
        {"id": "no", "prompt": "Who was it?", "answer": "Ann"},
        {"id": "empty", "prompt": ""},
    ]
    step = Decontaminate(benchmarks=benchmark(tmp_path, *rows))
    ((outcome,), summary) = decided(
        step, [f"Then: {short}, they asked.", short.replace("narrow", "wide"), "Who was it? Ann"]
    )
    assert outcome.left.column("row").to_pylist() == [0]
    assert summary["benchmarks"]["rivers"]["not_checked"]["too short"] == ["no", "empty"]


def test_words_that_all_prompts_share_are_left_out(tmp_path: Path) -> None:
    lead = "Read the following question with care and answer it in one short sentence of your own: "
    rows = [{"prompt": lead + prose(seed, 30) + "\nAnswer:"} for seed in range(30)]
    step = Decontaminate(benchmarks=benchmark(tmp_path, *rows))
    assert dropped(step, lead * 3, lead + prose(100, 50), prose(7, 30)) == [2]


def test_ngrams_that_many_items_share_say_little(tmp_path: Path) -> None:
    template = "On a shelf there are five books of which each stands to the left or to the right of another one."
    # Less than nine tenths of the items begin so: this is no scaffold.
    rows = [{"prompt": f"{template if seed % 2 else ''} {prose(seed, 25)}"} for seed in range(40)]
    step = Decontaminate(benchmarks=benchmark(tmp_path, *rows))
    assert dropped(step, prose(90, 20) + template, template + prose(5, 25)) == [1]


def test_a_passage_of_many_documents_says_little_and_an_item_copied_whole_is_found(tmp_path: Path) -> None:
    quotation = "We hold that all who come to this place in peace shall leave it again in peace and plenty."
    rows = [{"id": "quoting", "prompt": f"{quotation} {prose(50, 60)}"}, {"id": "copied", "prompt": prose(51, 60)}]
    step = Decontaminate(benchmarks=benchmark(tmp_path, *rows), common_documents=10)
    quotes = [f"{prose(200 + seed, 30)} So: {quotation} Thus {prose(300 + seed, 30)}" for seed in range(120)]
    copies = [f"{prose(500 + seed, 30)} {prose(51, 60)}" for seed in range(120)]
    assert dropped(step, *quotes, prose(50, 60)) == [120]
    assert dropped(step, *quotes[:5]) == [0, 1, 2, 3, 4]
    assert dropped(step, *copies) == list(range(120))


def test_items_with_the_same_words_are_one_and_both_are_found(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": QUESTION}, {"id": "b", "prompt": QUESTION.upper().replace(",", ";")}]
    _, summary = decided(Decontaminate(benchmarks=benchmark(tmp_path, *rows)), [QUESTION])
    rivers = summary["benchmarks"]["rivers"]
    assert rivers["same_as_another"] == 1 and [one["item"] for one in rivers["found_items"]] == ["a", "b"]


def test_neither_order_nor_number_of_parts_changes_a_decision(tmp_path: Path) -> None:
    quotation = "We hold that all who come to this place in peace shall leave it again in peace and plenty."
    step = Decontaminate(
        benchmarks=benchmark(tmp_path, {"prompt": f"{quotation} {prose(50, 60)}"}, ITEM), common_documents=2
    )
    texts = [*(f"{prose(seed, 20)} {quotation}" for seed in range(30)), QUESTION, prose(50, 40), ""]
    whole, summary = decided(step, texts)
    several, other = decided(step, texts[20:], [], texts[:20], ranges=3)
    gone = {texts[row] for row in whole[0].left.column("row").to_pylist()}
    parts = [texts[20:], [], texts[:20]]
    assert gone == {
        part[row] for part, one in zip(parts, several, strict=True) for row in one.left.column("row").to_pylist()
    }
    assert gone == {QUESTION, prose(50, 40)} and summary == other


def test_cutting_leaves_the_rest_and_notes_why(tmp_path: Path) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM), action="cut", margin=10, min_piece=20)
    before, after = prose(1, 60), prose(2, 60)
    ((outcome,), _) = decided(step, [prose(3, 50), f"{before} {QUESTION} {after}", QUESTION])
    kept = outcome.batch.texts.to_pylist()
    assert kept == [prose(3, 50), f"{before[:-9].strip()}\n\n{after[8:].strip()}"]
    assert outcome.edited is not None and outcome.edited[0] == 0 and outcome.edited[1] > len(QUESTION)
    assert outcome.notes is not None and outcome.notes.to_pylist() == [None, "item q1 of rivers, 11 of its 21 n-grams"]
    (row,) = outcome.left.to_pylist()
    assert (row["row"], row["rule"]) == (2, "decontaminate.rivers.nothing_left")
    assert (row["value"], row["threshold"]) == (0, 20)


def test_a_document_with_too_many_cuts_is_dropped(tmp_path: Path) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM), action="cut", margin=0, max_cuts=2)
    ((outcome,), _) = decided(step, [" ".join(f"{prose(seed, 60)} {QUESTION}" for seed in range(3))])
    (row,) = outcome.left.to_pylist()
    assert (row["rule"], row["value"], row["threshold"]) == ("decontaminate.rivers.max_cuts", 3, 2)


def test_margins_end_between_characters() -> None:
    text = "漢字" * 50 + "QUESTION" + "é" * 50
    start = len(("漢字" * 50).encode())
    cut = cut_out(text, np.array([start]), np.array([start + 8]), margin=30, min_piece=5)
    assert cut.text == "漢字" * 35 + "\n\n" + "é" * 20 and cut.cuts == 1


def test_keeping_adds_what_was_found_as_columns(tmp_path: Path) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM), action="keep")
    ((outcome,), _) = decided(step, ["ä " + QUESTION, "nothing"])
    rows = outcome.batch.data.to_pylist()
    assert outcome.left.num_rows == 0 and [row["decontaminate.item"] for row in rows] == ["q1", None]
    low, high = rows[0]["decontaminate.starts"][0], rows[0]["decontaminate.ends"][0]
    assert ("ä " + QUESTION).encode()[low:high].decode() == QUESTION.rstrip("?")


def test_other_documents_than_those_compared_are_refused(tmp_path: Path) -> None:
    step = Decontaminate(benchmarks=benchmark(tmp_path, ITEM))
    one, other = (Batch(pa.record_batch({"id": [name], "text": ["x"]})) for name in "ab")
    state = step.reduce([step.map(iter([one]))]).parts[0]
    with pytest.raises(MismatchError, match="input has changed"):
        list(step.apply(iter([other]), state))
    with pytest.raises(MismatchError, match="has 0 documents"):
        list(step.apply(iter([]), state))


def test_parquet_and_json_lines_give_the_same_items(tmp_path: Path) -> None:
    rows = [
        {"idx": 3, "task": "t", "query": "Q?", "choices": ["yes", "no", "maybe"], "gold": "1"},
        {"idx": 4, "task": "t", "query": "R?", "choices": [], "gold": "so"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bench.parquet")
    items = load_items([tmp_path / "bench.parquet"], {})
    assert items == load_items([Path(benchmark(tmp_path, *rows))], {})
    assert items == [Item("t", "3", "Q?", "no", ("yes", "maybe")), Item("t", "4", "R?", "so", ())]


def test_labels_texts_and_own_names_of_fields_are_read(tmp_path: Path) -> None:
    arc = {"id": "x", "question": "Q?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "key": "B"}
    assert load_items([Path(benchmark(tmp_path, arc))], {"answer": "key"}) == [Item("rivers", "x", "Q?", "b", ("a",))]
    assert load_items([Path(benchmark(tmp_path, {"passage": "P"}))], {"text": "passage"}) == [Item("rivers", "0", "P")]


def test_items_with_the_same_id_get_names_of_their_own(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "P"}, {"id": "a (line 3)", "prompt": "Q"}, {"id": "a", "prompt": "R"}]
    path = Path(benchmark(tmp_path, *rows))
    assert [item.id for item in load_items([path], {})] == ["a", "a (line 3)", "a (line 3) (line 3)"]
    names = [(item.benchmark, item.id) for item in load_items([path, path], {})]
    assert len(set(names)) == 6 and names[3] == ("rivers", "a (line 1)")


def test_a_hidden_answer_is_none(tmp_path: Path) -> None:
    path = Path(benchmark(tmp_path, {"prompt": "P", "choices": ["a", "b"], "answer": -1}))
    assert load_items([path], {}) == [Item("rivers", "0", "P", "", ("a", "b"))]


def test_an_answer_in_words_or_digits_may_be_none_of_the_choices(tmp_path: Path) -> None:
    path = Path(benchmark(tmp_path, {"prompt": "P", "choices": ["a", "b"], "answer": "7"}))
    assert load_items([path], {}) == [Item("rivers", "0", "P", "7", ("a", "b"))]


BAD_FILES = {
    "no JSON": ("{", "line 1: is no JSON"),
    "no object": ("[1]", "line 1: an item is an object"),
    "no prompt": ('{"title": "x"}', "line 1: has neither a text nor a prompt"),
    "a prompt that is no text": ('{"prompt": ["x"]}', "line 1: `prompt` is no text"),
    "choices that are no list": ('{"prompt": "x", "choices": "y"}', "line 1: `choices` is no list"),
    "a number that no choice has": (
        '{"prompt": "x", "choices": ["a", "b"], "gold": 5}',
        "line 1: `gold` is 5, and the 2 choices have the numbers 0 to 1",
    ),
    "no items": ("\n", "the benchmark has no items"),
    "no UTF-8": ("\udcff", "cannot be read as JSON lines"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_benchmark_is_refused_with_one_sentence(tmp_path: Path, what: str) -> None:
    content, said = BAD_FILES[what]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=said):
        load_items([path], {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ngram": 8, "min_words": 9}, "min_words"),
        ({"max_share": 1}, "max_share"),
        ({"fields": {"title": "x"}}, "fields"),
        ({"benchmarks": []}, "list of one or more"),
    ],
)
def test_wrong_parameters_are_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Decontaminate).validate_python({"benchmarks": "x.jsonl"} | given)


def test_no_items_at_all_make_an_index_that_finds_nothing() -> None:
    index = BenchmarkIndex.of([Item("b", "1", "")], ngram=13, min_words=8, common_items=50)
    assert index.unchecked == {0: "too short"} and len(index.table.grams) == 0


def recipe(folder: Path, step: str) -> Path:
    texts = [*(prose(seed, 120) for seed in range(6)), f"{prose(7, 120)} {QUESTION} {prose(8, 120)}"]
    (folder / "corpus").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": [f"doc-{row}" for row in range(7)], "text": texts}), folder / "corpus" / "a.parquet")
    path = folder / "recipe.yaml"
    path.write_text(f'name: clean\nsource: {{parquet: "corpus/*.parquet"}}\nsteps:\n  - {step}\n')
    return path


def test_a_recipe_runs_and_why_names_the_item(tmp_path: Path) -> None:
    benchmark(tmp_path, ITEM)
    path = recipe(tmp_path, "decontaminate: {benchmarks: rivers.jsonl}")
    engine = Engine(tmp_path / "work", executor_for(1))
    first = engine.run(load_recipe(path))
    assert first.documents == 6
    answer = list(map(str, why(load_recipe(path), "doc-6", work=tmp_path / "work")))
    assert answer[-1] == (
        "dropped by decontaminate (a.parquet at 6): decontaminate.rivers: 0.52381, the rule asks at most 0 "
        "(item q1 of rivers, 11 of its 21 n-grams)"
    )
    # The content of the benchmark enters the fingerprint, its place does not.
    benchmark(tmp_path, ITEM, {"prompt": "x"})
    assert engine.plan(load_recipe(path)).last.fingerprint != first.fingerprint


def test_what_was_cut_is_in_the_ledger(tmp_path: Path) -> None:
    benchmark(tmp_path, ITEM)
    path = recipe(tmp_path, "decontaminate: {benchmarks: rivers.jsonl, action: cut, min_piece: 50}")
    dataset = Engine(tmp_path / "work", executor_for(1)).run(load_recipe(path))
    assert dataset.documents == 7 and dataset.funnel[-1]["edited"] == 1
    (said,) = [line for line in why(load_recipe(path), "doc-6", work=tmp_path / "work") if "edited by" in str(line)]
    assert "edited by decontaminate" in str(said) and str(said).endswith("(item q1 of rivers, 11 of its 21 n-grams)")


def test_why_and_the_funnel_name_the_benchmark_of_a_document_of_which_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark(tmp_path, ITEM)
    path = recipe(tmp_path, "decontaminate: {benchmarks: rivers.jsonl, action: cut}")
    pq.write_table(pa.table({"id": ["gone"], "text": [f"{'x' * 250} {QUESTION}"]}), tmp_path / "corpus" / "b.parquet")
    work = tmp_path / "work"
    assert main(["run", str(path), "--work", str(work), "--workers", "1"]) == 0
    assert "1 rivers.nothing_left" in capsys.readouterr().out
    said = list(map(str, why(load_recipe(path), "gone", work=work)))
    assert said[-1] == (
        # One space and 199 characters before the passage are cut with it; the piece before has 51.
        "dropped by decontaminate (b.parquet at 0): decontaminate.rivers.nothing_left: 51, the rule asks at least 200 "
        "(item q1 of rivers, 11 of its 21 n-grams)"
    )
    assert main(["decontaminate", str(path), "--work", str(work), "--json", str(tmp_path / "found.json")]) == 0
    (step,) = json.loads((tmp_path / "found.json").read_text())["steps"]
    fates = {one["document"]: (one["item"], one["fate"]) for one in step["examples"]["rivers"]}
    assert fates["gone"] == ("q1", "dropped (characters of the longest piece: 51)")


def test_a_missing_benchmark_and_a_folder_are_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="neither an artifact nor a file"):
        load_recipe(recipe(tmp_path, "decontaminate: {benchmarks: none.jsonl}"))
    with pytest.raises(CurateError, match="is a folder"):
        load_recipe(recipe(tmp_path, "decontaminate: {benchmarks: [corpus]}"))


BAD_BENCHMARKS = {
    "a table": (
        "bad.csv",
        "prompt\nx\n",
        "",
        r"benchmarks\[1\]: 'bad.csv' is a .csv file, .* JSON lines .* or Parquet",
    ),
    "broken JSON": ("bad.jsonl", "{", "", r"benchmarks\[1\]: .*bad.jsonl, line 1: is no JSON"),
    "no items": ("bad.jsonl", "", "", r"benchmarks\[1\]: .*bad.jsonl: the benchmark has no items"),
    "no Parquet": ("bad.parquet", "x", "", r"benchmarks\[1\]: .*bad.parquet: cannot be read"),
    "a field that it lacks": (
        "bad.jsonl",
        '{"passage": "x"}',
        ", fields: {prompt: question}",
        r"fields.prompt: .*rivers.jsonl, line 1: has no field 'question', which the recipe gives as `prompt`",
    ),
    "items that are too short": (
        "bad.jsonl",
        '{"prompt": "Why?"}\n{"prompt": ""}',
        "",
        r"benchmarks\[1\]: .*bad.jsonl: of its items \(2\) none can be checked: 2 too short .* or lower `min_words`",
    ),
}


@pytest.mark.parametrize("what", BAD_BENCHMARKS)
def test_a_bad_benchmark_is_refused_when_the_run_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    name, content, fields, said = BAD_BENCHMARKS[what]
    benchmark(tmp_path, ITEM)
    (tmp_path / name).write_text(content)
    path = recipe(tmp_path, f"decontaminate: {{benchmarks: [rivers.jsonl, {name}]{fields}}}")
    assert main(["run", str(path), "--plan", "--work", str(tmp_path / "work")]) == 2
    assert re.search(rf"recipe.yaml, line 4, steps\[0\].decontaminate.{said}", capsys.readouterr().err)


def test_a_benchmark_that_a_stranger_names_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("secret")
    with pytest.raises(CurateError, match="a recipe from a stranger may not bring a list of its own"):
        load_recipe(recipe(tmp_path, "decontaminate: {benchmarks: bad.jsonl}"), builtin_only=True)


def test_a_benchmark_of_which_all_is_too_common_is_refused(tmp_path: Path) -> None:
    one, two, three = (prose(seed, 30) for seed in (1, 2, 3))
    rows = [{"prompt": a, "choices": [b], "answer": -1} for a, b in ((one, two), (two, three), (three, one))]
    path = benchmark(tmp_path, *rows)
    assert Decontaminate(benchmarks=path, common_items=2).index().unchecked == {}
    with pytest.raises(
        InputError, match=r"of its items \(3\) none can be checked: 3 too common .* raise `common_items`"
    ):
        Decontaminate(benchmarks=path, common_items=1).index()


def test_the_run_says_how_many_items_could_not_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark(tmp_path, ITEM, {"prompt": "Why?"})
    path = recipe(tmp_path, "decontaminate: {benchmarks: rivers.jsonl}")
    assert main(["run", str(path), "--work", str(tmp_path / "work"), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "note   decontaminate: 1 of 2 items of benchmarks could not be checked (1 too short)" in out


def test_the_terminal_lists_all_benchmarks_those_found_most_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ITEM, {"prompt": prose(7, 120)}, {"prompt": prose(1, 40)}, {"prompt": prose(60, 40)}, {"prompt": "Why?"}]
    named = [row | {"task": name} for row, name in zip(rows, ("one", "two", "two", "none", "short"), strict=True)]
    benchmark(tmp_path, *named)
    path = recipe(tmp_path, "decontaminate: {benchmarks: rivers.jsonl}")
    command = ["decontaminate", str(path), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.html")]
    Engine(tmp_path / "work", executor_for(1)).run(load_recipe(path))
    assert main(command) == 0
    shown = [
        line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.split()[:1] in (["one"], ["two"], ["none"], ["short"])
    ]
    assert shown == [
        ["two", "2", "2", "2"],
        ["one", "1", "1", "1"],
        ["none", "1", "0", "0"],
        ["short", "1", "0", "0", "1", "too", "short"],
    ]
    page = (tmp_path / "found.html").read_text()
    assert re.findall("<h2>(.*?)</h2>", page)[1:] == ["two", "one", "Items not checked"]
    assert page.count("<details open>") == 2 and "1 items" not in page
    assert "hold more of another benchmark" in page.partition("<h2>one</h2>")[2].partition("</section>")[0]


def test_the_report_shows_passages_side_by_side_and_escapes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = f"<script>alert(1)</script> {QUESTION} <img src=x onerror=alert(2)>"
    rows = [ITEM, {"id": "short <b>", "prompt": "Why?"}]
    benchmark(tmp_path, *rows, name="<i>rivers")
    for action in ("drop", "cut", "keep"):
        path = recipe(tmp_path, f"decontaminate: {{benchmarks: <i>rivers.jsonl, action: {action}, min_piece: 50}}")
        pq.write_table(pa.table({"id": ["<evil>"], "text": [hostile]}), tmp_path / "corpus" / "b.parquet")
        work, page, data = tmp_path / "work", tmp_path / f"{action}.html", tmp_path / f"{action}.json"
        Engine(work, executor_for(1)).run(load_recipe(path))
        command = ["decontaminate", str(path), "--work", str(work), "--out", str(page), "--json", str(data)]
        assert main(command) == 0
        assert "2 of 8 documents hold an item" in capsys.readouterr().out
        shown = page.read_text()
        assert "<script>alert" not in shown and "<img" not in shown and "<i>rivers" not in shown
        assert f"<mark>{QUESTION.rstrip('?')}</mark>" in shown and shown.count("<mark>") == 4
        (step,) = json.loads(data.read_text())["steps"]
        examples = step["examples"]["<i>rivers"]
        assert {one["document"] for one in examples} == {"<evil>", "doc-6"} and {one["item"] for one in examples} == {
            "q1"
        }
        assert all(one["in_document"][0]["same"] == one["in_item"][0]["same"] for one in examples)
        assert step["benchmarks"]["<i>rivers"]["not_checked"]["too short"] == ["short <b>"]


def test_a_recipe_without_the_step_has_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decontaminate", str(recipe(tmp_path, "exact")), "--work", str(tmp_path / "work")]) == 2
    assert "has no step `decontaminate`" in capsys.readouterr().err


def test_rounds_on_files_write_what_one_task_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark(tmp_path, ITEM, {"id": "q2", "prompt": prose(0, 60)})
    path = recipe(tmp_path, "decontaminate: {benchmarks: rivers.jsonl, common_documents: 1}")
    for number in range(3):
        texts = [f"{prose(number, 30)} {QUESTION}", prose(70 + number, 50), prose(0, 40)]
        table = pa.table({"id": [f"more-{number}-{row}" for row in range(3)], "text": texts})
        pq.write_table(table, tmp_path / "corpus" / f"more-{number}.parquet")
    whole = Engine(tmp_path / "whole", executor_for(1)).run(load_recipe(path))
    monkeypatch.setattr("curate.engine.exchange.WHOLE_BYTES", 0)
    monkeypatch.setattr("curate.engine.exchange.RANGE_BYTES", 64)
    several = Engine(tmp_path / "several", executor_for(1)).run(load_recipe(path))
    assert whole.documents == several.documents == 8
    assert [part.read_bytes() for part in whole.parts] == [part.read_bytes() for part in several.parts]
    assert whole.stages[-1].manifest["summary"] == several.stages[-1].manifest["summary"]
