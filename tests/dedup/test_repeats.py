"""Repeated lines and spans of sentences: against plain Python, however the corpus is cut, and through a recipe."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli import main
from curate.dedup.duplicate_lines import DuplicateLines
from curate.dedup.duplicate_sentences import DuplicateSentences
from curate.dedup.repeats import Repeats
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.engine import exchange as exchanging
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.engine.why import Duplicate, Edit, why
from curate.errors import MismatchError
from curate.rounds import Exchanging


def parted(texts: Sequence[str | None], parts: int) -> list[list[Batch]]:
    """The texts as so many parts, in batches of three."""
    cut = [len(texts) * number // parts for number in range(parts + 1)]
    found = []
    for low, high in pairwise(cut):
        rows = [{"id": f"d{place}", "text": texts[place]} for place in range(low, high)]
        batches = [rows[start : start + 3] for start in range(0, len(rows), 3)]
        found.append([Batch(pa.RecordBatch.from_pylist(batch, schema=DOCUMENT_SCHEMA)) for batch in batches])
    return found


def done(step: Any, texts: Sequence[str | None], *, parts: int = 1, ranges: int = 1) -> tuple[dict[str, Any], Any, Any]:
    """Text of each document that stays by id, ledger rows of the others, and the summary."""
    corpus = parted(texts, parts)
    state = step.reduce([step.map(iter(batches)) for batches in corpus], ranges=ranges)
    stays: dict[str, Any] = {}
    left: list[Any] = []
    for batches, told in zip(corpus, state.parts, strict=True):
        for before, outcome in zip(batches, step.apply(iter(batches), told), strict=True):
            ids, sizes = before.ids.to_pylist(), [len((text or "").encode()) for text in before.texts.to_pylist()]
            left += [row | {"id": ids[row["row"]]} for row in outcome.left.to_pylist()]
            rows = outcome.batch.data.to_pylist()
            stays |= {row["id"]: row["text"] for row in rows}
            for row, edited in zip(rows, outcome.edited.tolist(), strict=True):
                assert edited == sizes[ids.index(row["id"])] - len((row["text"] or "").encode())
    return stays, left, state.summary


def form(line: str) -> str:
    return " ".join(re.sub(r"[.,!?-]", "", re.sub(r"\d", "0", line.lower())).split())


def without_repeats(texts: Sequence[str], *, keep: str, max_copies: int, min_chars: int) -> list[list[str]]:
    """The lines of each text that stay."""
    forms = [[form(line) for line in text.split("\n")] for text in texts]
    counts = Counter(line for lines in forms for line in lines)
    seen: set[str] = set()
    kept = []
    for text, lines in zip(texts, forms, strict=True):
        own = []
        for line, key in zip(text.split("\n"), lines, strict=True):
            first, many = key not in seen, counts[key] > max_copies and len(key) >= min_chars
            seen.add(key)
            if not many or (first and keep == "first"):
                own.append(line)
        kept.append(own)
    return kept


LINE = st.sampled_from(["", "Read more", "read MORE!", "In 2021.", "in 1999", "a", "b", "-", "A longer line"])


@settings(max_examples=60, deadline=None)
@given(
    pages=st.lists(st.lists(LINE, max_size=6).map("\n".join), max_size=8),
    keep=st.sampled_from(["first", "none"]),
    max_copies=st.integers(1, 3),
    min_chars=st.sampled_from([1, 2, 8]),
)
def test_lines_seen_before_go(pages: list[str], keep: Any, max_copies: int, min_chars: int) -> None:
    step = DuplicateLines(keep=keep, max_copies=max_copies, min_chars=min_chars, min_bytes_left=2)
    expected = {}
    kept = without_repeats(pages, keep=keep, max_copies=max_copies, min_chars=min_chars)
    for place, (text, lines) in enumerate(zip(pages, kept, strict=True)):
        left = "\n".join(lines)
        if left == text or len(left.strip()) >= 2:
            expected[f"d{place}"] = left
    stays, left, summary = done(step, pages)
    assert stays == expected
    assert len(stays) + len(left) == len(pages) == summary["documents"]
    lost = sum(text.count("\n") + 1 - len(lines) for text, lines in zip(pages, kept, strict=True))
    assert summary["removed"] == lost


def test_who_leaves_names_a_document_that_keeps_its_line() -> None:
    stays, left, summary = done(DuplicateLines(), ["Home\nOne", "home!\nTwo", "HOME", "One\nHome"], parts=2)
    assert stays == {"d0": "Home\nOne", "d1": "Two"}
    assert [row["survivor_part"] for row in left] == [0, 0]
    assert [(row["id"], row["fate"], row["rule"], row["value"], row["threshold"], row["survivor"]) for row in left] == [
        ("d2", "dropped", "duplicate_lines.min_bytes_left", 0.0, 1.0, "d0"),
        ("d3", "dropped", "duplicate_lines.min_bytes_left", 0.0, 1.0, "d0"),
    ]
    assert summary["most_copies"] == 4 and summary["repeated"] == 2 and summary["removed"] == 4
    first = {"part": 0, "row": 1, "removed": 1, "piece": 0}
    keeper = {"survivor_part": 0, "survivor_row": 0, "survivor_piece": 0, "survivor": "d0"}
    assert summary["samples"][0] == first | keeper


def test_a_document_that_only_repeats_itself_is_its_own_survivor() -> None:
    stays, left, _ = done(DuplicateLines(min_bytes_left=9), ["again\nagain"])
    assert not stays and [row["survivor"] for row in left] == ["d0"]
    assert done(DuplicateLines(keep="none"), ["again\nagain"])[1][0]["survivor"] is None


def test_accents_count_where_the_code_is_followed() -> None:
    pages = ["Café", "cafe"]
    assert list(done(DuplicateLines(), pages)[0]) == ["d0"]
    assert list(done(DuplicateLines(form="ccnet-code"), pages)[0]) == ["d0", "d1"]
    assert list(done(DuplicateLines(form="lower"), ["In 2021", "in  2021", "in 2022"])[0]) == ["d0", "d2"]


@pytest.mark.parametrize("form", ["ccnet", "ccnet-code", "lower"])
def test_lines_of_marks_alone_always_stay(form: Any) -> None:
    marks = ["```", "  }", "-- ! --", "{ }", "。。", "————", "*" * 80]
    pages = ["\n".join([*marks, f"Line {name}", "```x", "«Ja»"]) for name in ("one", "two")]
    stays, _, _ = done(DuplicateLines(form=form), pages)
    assert stays["d1"].split("\n") == [*marks, "Line two"]


def test_c4_compares_lines_of_marks_too() -> None:
    pages = ["```\nOne\n\n}", "```\nTwo\n\n}"]
    assert done(DuplicateLines(form="c4"), pages)[0]["d1"] == "Two\n"


@given(st.lists(st.lists(st.text(st.sampled_from("a1 .-}é€。\t«"), max_size=5), max_size=5), max_size=6))
@settings(max_examples=40, deadline=None)
def test_lower_leaves_alone_what_has_no_form_without_marks(pages: list[list[str]]) -> None:
    ((*batches,),) = parted(["\n".join(lines) for lines in pages], 1)
    for batch in batches:
        (_, lower), (_, bare), (_, c4) = (
            DuplicateLines(form=form).keys(batch) for form in ("lower", "ccnet-code", "c4")
        )
        assert ((lower == 0) == (bare == 0)).all() and (lower[bare != 0] == c4[bare != 0]).all()


def test_shards_know_nothing_of_each_other() -> None:
    pages = [f"Same line\nOwn line {chr(97 + number) * 3}" for number in range(40)]
    kept = [
        sum(text.startswith("Same") for text in done(step, pages, parts=4)[0].values())
        for step in (DuplicateLines(), DuplicateLines(shards=3))
    ]
    assert kept == [1, 3]


SENTENCES = ["The cat sat.", "A dog ran far!", "Is it 3 or 4?", "We do not know.", "So it goes.", "Yes."]


def without_spans(pages: Sequence[list[int]], width: int) -> list[list[int]]:
    """Sentences of each page that stay, by number."""
    seen: set[tuple[int, ...]] = set()
    kept = []
    for page in pages:
        gone: set[int] = set()
        for start in range(len(page) - width + 1):
            span = tuple(page[start : start + width])
            gone |= set(range(start, start + width)) if span in seen else set()
            seen.add(span)
        kept.append([place for place in range(len(page)) if place not in gone])
    return kept


@settings(max_examples=50, deadline=None)
@given(
    pages=st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=7),
    width=st.integers(1, 3),
    parts=st.integers(1, 4),
    min_sentences=st.integers(0, 2),
)
def test_spans_of_sentences_seen_before_go(pages: list[list[int]], width: int, parts: int, min_sentences: int) -> None:
    texts = [" ".join(SENTENCES[number] for number in page) for page in pages]
    step = DuplicateSentences(sentences=width, min_words=0, min_sentences=min_sentences)
    expected = {}
    for place, (page, kept) in enumerate(zip(pages, without_spans(pages, width), strict=True)):
        if len(kept) == len(page) or (kept and len(kept) >= min_sentences):
            expected[f"d{place}"] = " ".join(SENTENCES[page[number]] for number in kept)
    stays, left, _ = done(step, texts, parts=parts)
    assert stays == expected
    assert len(left) == len(pages) - len(expected)


def test_a_short_rest_leaves_for_the_document_that_has_the_span() -> None:
    first = " ".join(SENTENCES)
    stays, left, _ = done(DuplicateSentences(min_words=6), [first, first.lower() + " The end."], parts=2)
    assert stays == {"d0": first}
    (row,) = left
    assert (row["rule"], row["value"], row["threshold"]) == ("duplicate_sentences.min_words", 3.0, 6.0)
    assert row["survivor"] == "d0"
    assert done(DuplicateSentences(min_words=0), [first, first + " The end. Now."])[1][0]["rule"].endswith(
        "min_sentences"
    )


@pytest.mark.parametrize("step", [DuplicateLines(min_bytes_left=4), DuplicateSentences(sentences=2, min_words=3)])
def test_neither_parts_nor_ranges_change_a_text(step: Repeats) -> None:
    pages: list[str | None] = ["\n".join(SENTENCES[(a * b) % 6] for b in range(1, 6)) for a in range(23)]
    pages += [None, "", "  \n "]
    expected = done(step, pages)
    assert expected[1] and len(expected[0]) > 3
    for parts in (2, 7, 26):
        for ranges in (1, 5):
            stays, left, summary = done(step, pages, parts=parts, ranges=ranges)
            places = ("samples",)
            assert (stays, [row["id"] for row in left]) == (expected[0], [row["id"] for row in expected[1]])
            assert [row["survivor"] for row in left] == [row["survivor"] for row in expected[1]]
            assert {k: v for k, v in summary.items() if k not in places} == {
                k: v for k, v in expected[2].items() if k not in places
            }


def test_other_documents_than_those_compared_are_refused() -> None:
    step = DuplicateLines()
    ((one, *_),) = parted(["a", "b"], 1)
    ((other, *_),) = parted(["a", "b", "c"], 1)
    told = step.reduce([step.map(iter([one]))]).parts[0]
    with pytest.raises(MismatchError, match="from document 0"):
        list(step.apply(iter([other]), told))
    with pytest.raises(MismatchError, match="has 0 documents"):
        list(step.apply(iter([]), told))


def test_steps_keep_the_contract_of_exchanges() -> None:
    steps: list[Exchanging] = [DuplicateLines(), DuplicateSentences()]
    assert all(one.name in dir(step) for step in steps for one in step.rounds())


RECIPE = """
name: repeats
source: {parquet: "corpus/*.parquet"}
steps:
  - duplicate_lines: {min_chars: 4}
  - duplicate_sentences: {min_words: 5}
  - bloom: {min_ngram: 3, max_ngram: 3, shards: 2}
output: {jsonl: "out"}
"""


def run(folder: Path, work: str, *, workers: int) -> tuple[list[dict[str, Any]], Any]:
    (folder / "repeats.yaml").write_text(RECIPE)
    dataset = Engine(folder / work, executor_for(workers)).run(load_recipe(folder / "repeats.yaml"))
    rows = [row for part in dataset.parts for row in pq.read_table(part).to_pylist()]
    return rows, dataset


def test_a_recipe_writes_the_same_texts_however_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").mkdir()
    for file in range(3):
        pages = [
            "Home page\n"
            + " ".join(SENTENCES[(file + number + step) % 6] for step in range(4 + number % 3))
            + f"\nThis page is about item {chr(97 + number) * 3} of part {chr(97 + file) * 3} and of nothing else."
            for number in range(12)
        ]
        ids = [f"f{file}-{number}" for number in range(12)]
        pq.write_table(pa.table({"id": ids, "text": pages}), tmp_path / "corpus" / f"{file}.parquet")
    rows, dataset = run(tmp_path, "whole", workers=1)
    assert "Home page" in rows[0]["text"] and not any("Home page" in row["text"] for row in rows[1:])
    edits = [stage.manifest["fates"].get("edited", 0) for stage in dataset.stages]
    assert edits[1] > 20 and all(edits[1:3])
    summary = dataset.stages[1].manifest["summary"]
    assert summary["samples"] and json.dumps(summary)
    ledger = [row for path in dataset.stages[1].ledgers for row in pq.read_table(path).to_pylist()]
    edited = next(row for row in ledger if row["fate"] == "edited")
    assert edited["edited_by"] == "duplicate_lines" and edited["edited_bytes"] >= len("Home page\n")
    assert any(row["duplicate_lines.removed"] for row in rows)
    monkeypatch.setattr(exchanging, "WHOLE_BYTES", -1)
    monkeypatch.setattr(exchanging, "RANGE_BYTES", 400)
    assert run(tmp_path, "rounds", workers=2)[0] == rows


def test_rules_after_an_edit_by_an_exchange_are_asked_of_the_edited_text(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    rows = {"id": ["a", "b"], "text": ["A line that both have.", "A line that both have.\nFew words left."]}
    pq.write_table(pa.table(rows), tmp_path / "corpus" / "0.parquet")
    recipe = tmp_path / "why.yaml"
    steps = "[duplicate_lines, {length: {min_words: 4}}, materialise, {regex: {pattern: both have}}]"
    recipe.write_text(f'name: why\nsource: {{parquet: "corpus/*.parquet"}}\nsteps: {steps}\n')
    Engine(tmp_path / "work", executor_for(1)).run(load_recipe(recipe))
    answer = list(why(load_recipe(recipe), "b", work=tmp_path / "work"))
    assert "edited by duplicate_lines: 23 bytes" in str(answer[1])
    assert "dropped by length" in str(answer[3]) and "min_words: 3" in str(answer[3])
    edit = answer[2]
    assert isinstance(edit, Edit) and edit.by == "duplicate_lines"
    assert (edit.before, edit.after) == ("A line that both have.\nFew words left.", "Few words left.")
    assert len(answer) == 4


PASSAGE = "The river runs past the old mill. Seven geese watch it from the wall. Nobody minds the rain today. "


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("duplicate_lines", PASSAGE),
        ("duplicate_sentences", PASSAGE),
        ("duplicate_substrings", PASSAGE + PASSAGE.lower()),
    ],
)
def test_why_shows_the_survivor_beside_a_document_of_which_nothing_is_left(
    step: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus").mkdir()
    for number, (name, page) in enumerate([("first", text + "\nMore."), ("again", text.strip())]):
        pq.write_table(pa.table({"id": [name], "text": [page]}), tmp_path / "corpus" / f"{number}.parquet")
    recipe, work = tmp_path / "why.yaml", tmp_path / "work"
    recipe.write_text(f'name: why\nsource: {{parquet: "corpus/*.parquet"}}\nsteps: [{step}]\n')
    Engine(work, executor_for(1)).run(load_recipe(recipe))
    (shown,) = [answer for answer in why(load_recipe(recipe), "again", work=work) if isinstance(answer, Duplicate)]
    assert (shown.text, shown.survivor, shown.survivor_text) == (text.strip(), "first", text + "\nMore.")
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["why", str(recipe), "again", "--work", str(work)]) == 0
    said = capsys.readouterr().out
    assert "again (removed)" in said and "first (kept)" in said and "{+More.+}" in said


def test_why_shows_what_went_of_a_document_that_stayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus").mkdir()
    rows = {"id": ["a", "b"], "text": ["Menu here\nOwn text", "Menu here\nIts own text"]}
    pq.write_table(pa.table(rows), tmp_path / "corpus" / "0.parquet")
    recipe, work = tmp_path / "why.yaml", tmp_path / "work"
    recipe.write_text('name: why\nsource: {parquet: "corpus/*.parquet"}\nsteps: [duplicate_lines]\n')
    Engine(work, executor_for(1)).run(load_recipe(recipe))
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["why", str(recipe), "b", "--work", str(work)]) == 0
    said = capsys.readouterr().out
    assert "after duplicate_lines" in said and "[-Menu here-] Its own text" in said
    for part in work.rglob("part-00000.parquet"):
        part.unlink()
    assert main(["why", str(recipe), "b", "--work", str(work)]) == 0
    assert "what went cannot be shown" in capsys.readouterr().out
