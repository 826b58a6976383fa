"""Exact substring deduplication against a slow list of all windows, on texts where nearly everything repeats."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from curate.dedup import substring_cuts, substring_windows
from curate.dedup.substring_windows import Meeting
from curate.dedup.substrings import LEAST, DuplicateSubstrings
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.engine import exchange as exchanging
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.errors import MismatchError
from curate.steps import Outcome, State

Spans = list[list[tuple[int, int]]]


# The reference: every window of every text in one dictionary.


def windows_of(text: str, step: DuplicateSubstrings) -> list[tuple[int, int]]:
    """Start and end in bytes of each window."""
    length = step.windows.length
    if step.unit == "bytes":
        return [(i, i + length) for i in range(len(text.encode()) - length + 1)]
    words = Batch(pa.RecordBatch.from_pylist([{"id": "a", "text": text}], schema=DOCUMENT_SCHEMA)).index.words
    edges = zip(words.start.tolist(), words.end.tolist()[length - 1 :], strict=False)
    return list(edges)


def true_spans(texts: Sequence[str], order: Sequence[int], step: DuplicateSubstrings) -> Spans:
    """What stands elsewhere, apart from itself; of copies of which one stays, what stands before."""
    known = defaultdict(list)
    for number, text in enumerate(texts):
        for start, stop in windows_of(text, step):
            known[text.encode()[start:stop]].append((order[number], number, start, stop))
    covered = [bytearray(len(text.encode())) for text in texts]
    for copies in known.values():
        copies.sort()
        for rank, number, start, stop in copies:
            others = copies[:1] if step.keep_one else copies
            apart = (n != number or s >= stop or e <= start for r, n, s, e in others)
            if any(apart) and (not step.keep_one or (rank, number, start, stop) != copies[0]):
                covered[number][start:stop] = b"\1" * (stop - start)
    return [spans_of(bytes(marks), text.encode()) for marks, text in zip(covered, texts, strict=True)]


def spans_of(marks: bytes, text: bytes) -> list[tuple[int, int]]:
    spans, at = [], 0
    while (start := marks.find(1, at)) >= 0:
        at = stop = marks.find(0, start) if 0 in marks[start:] else len(marks)
        while start < stop and text[start] & 0xC0 == 0x80:
            start += 1
        while stop > start and stop < len(text) and text[stop] & 0xC0 == 0x80:
            stop -= 1
        if start < stop:
            spans.append((start, stop))
    return spans


# How the step is asked.


def documents(texts: Sequence[str | None]) -> Batch:
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    return Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA))


def decided(
    step: DuplicateSubstrings, batch: Batch, *, parts: int = 1, ranges: int = 1, rows: int = 3
) -> tuple[State, Spans]:
    edges = [len(batch) * number // parts for number in range(parts + 1)]
    partials = [
        step.map(Batch(batch.data.slice(at, min(rows, high - at))) for at in range(low, high, rows))
        for low, high in pairwise(edges)
    ]
    state = step.reduce(partials, ranges=ranges)
    found = [row for table in state.parts for row in table.to_pylist()]
    return state, [list(zip(row["starts"], row["stops"], strict=True)) for row in found]


def done(step: DuplicateSubstrings, texts: Sequence[str | None]) -> Outcome:
    return step.process(documents(texts))


def order_of(step: DuplicateSubstrings, batch: Batch) -> list[int]:
    if step.keep == "first":
        return list(range(len(batch)))
    order: list[int] = step.map(iter([batch])).column("order").to_pylist()
    return order


PUBLISHED_LEAST = dict(LEAST)


@pytest.fixture(scope="module", autouse=True)
def windows_of_any_length() -> Iterator[None]:
    """Short windows: in small texts everything repeats."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.dedup.substrings.LEAST", {"bytes": 2, "words": 2})
        yield


@pytest.mark.parametrize(("unit", "length"), [("bytes", 19), ("words", 4)])
def test_lengths_that_shred_any_text_are_refused(unit: Any, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.dedup.substrings.LEAST", PUBLISHED_LEAST)
    with pytest.raises(ValidationError, match=f"take {length + 1} {unit} at least .*Lee et al. 2021"):
        TypeAdapter(DuplicateSubstrings).validate_python({"unit": unit, "length": length})
    assert DuplicateSubstrings(unit=unit, length=length + 1).windows.length == length + 1
    assert DuplicateSubstrings(unit=unit).windows.length >= 50


TEXTS = st.one_of(
    st.lists(st.text(st.sampled_from("ab"), max_size=40), max_size=8),
    st.lists(st.text(st.sampled_from("aé☃😀"), max_size=25), max_size=8),
    # Spans of one text, turned and put together anew: repeats that begin and end anywhere.
    st.tuples(st.text(st.sampled_from("abc"), max_size=12), st.lists(st.integers(0, 12), max_size=16)).map(
        lambda made: ["".join(made[0][at:] + made[0][:at] for at in made[1][low : low + 4]) for low in (0, 4, 8, 12)]
    ),
    st.tuples(st.integers(1, 5), st.integers(0, 60)).map(lambda made: ["abcde"[: made[0]] * made[1], "a" * made[1]]),
)
KEEPS = st.sampled_from(["first", "one", "none"])


@given(TEXTS, st.integers(2, 14), KEEPS, st.sampled_from([5, 32768]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_that_repeats_is_found_and_nothing_else(texts: list[str], length: int, keep: Any, stretch: int) -> None:
    step, batch = DuplicateSubstrings(length=length, keep=keep), documents(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.kernels.substrings.STRETCH", stretch)
        _, spans = decided(step, batch)
    assert spans == true_spans(texts, order_of(step, batch), step)


@given(st.lists(st.lists(st.sampled_from(["a", "bc", "a.", "don't", "\n", "é"]), max_size=30), max_size=6), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_windows_of_words_are_found(lists: list[list[str]], data: st.DataObject) -> None:
    texts = [" ".join(words) for words in lists]
    step = DuplicateSubstrings(unit="words", length=data.draw(st.integers(2, 8)), keep=data.draw(KEEPS))
    batch = documents(texts)
    _, spans = decided(step, batch)
    assert spans == true_spans(texts, order_of(step, batch), step)


def planted(seed: int) -> list[str]:
    """Random words; spans of some documents in others, cut anywhere; a header in many; documents of one letter."""
    rng = random.Random(seed)
    letters = "abcdefghij é☃"
    texts = ["".join(rng.choices(letters, k=rng.randint(0, 300))) for _ in range(30)]
    header = "".join(rng.choices(letters, k=80))
    for number in range(30):
        source = rng.choice(texts)
        at = rng.randrange(len(texts[number]) + 1)
        span = source[(low := rng.randrange(len(source) + 1)) : low + rng.randint(10, 120)]
        texts[number] = texts[number][:at] + span + texts[number][at:]
        if rng.random() < 0.3:
            texts[number] = header + texts[number]
    return [*texts, "a" * 500, "xyz" * 90, "", "a" * 200]


@pytest.mark.parametrize("keep", ["first", "one", "none"])
@pytest.mark.parametrize("unit", ["bytes", "words"])
def test_neither_parts_nor_ranges_nor_shares_change_what_is_found(
    keep: Any, unit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = planted(1)
    step, batch = DuplicateSubstrings(length=20 if unit == "bytes" else 4, unit=unit, keep=keep), documents(texts)
    state, expected = decided(step, batch)
    assert expected == true_spans(texts, order_of(step, batch), step)
    assert sum(map(len, expected)) > 10
    monkeypatch.setattr(substring_cuts, "TEXT_AT_ONCE", 300)
    monkeypatch.setattr(substring_windows, "TEXTS_AT_ONCE", 64)
    for parts, ranges in ((1, 7), (4, 1), (11, 3)):
        cut, spans = decided(step, batch, parts=parts, ranges=ranges)
        assert spans == expected
        assert cut.summary == state.summary


def test_the_order_of_inputs_changes_nothing_where_any_copy_may_stay() -> None:
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(planted(2))]
    step = DuplicateSubstrings(length=20, keep="one")
    found = []
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        outcome = step.process(Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA)))
        stay = {row["id"]: row["text"] for row in outcome.batch.data.to_pylist()}
        found.append((stay, sorted(row["rule"] for row in outcome.left.to_pylist())))
    assert found == found[:1] * 4


def test_what_hashes_alone_say_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = planted(3)
    step = DuplicateSubstrings(length=20)
    truth = true_spans(texts, range(len(texts)), step)

    def poor(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        return (stops - starts).astype(np.uint64)

    sampled = substring_windows.sampled_windows

    def crowded(*given: Any, **named: Any) -> Any:
        keys, *others = sampled(*given, **named)
        return keys % np.uint64(50), *others

    monkeypatch.setattr(substring_windows, "hash_ranges", poor)
    monkeypatch.setattr(substring_windows, "sampled_windows", crowded)
    state, spans = decided(step, documents(texts))
    assert state.summary["refused_claims"] > 100
    for found, true in zip(spans, truth, strict=True):
        covered = {place for start, stop in true for place in range(start, stop)}
        assert covered.issuperset(place for start, stop in found for place in range(start, stop))


def test_thousands_of_copies_cost_a_row_each_and_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    header = "".join(rng.choices("abcdefgh ", k=400))
    texts = [header + "".join(rng.choices("abcdefgh ", k=100)) for _ in range(5_000)]
    held: list[int] = []
    of = Meeting.of

    def counted(rows: pa.Table, *, keep_one: bool) -> Meeting:
        held.append(rows.num_rows)
        return of(rows, keep_one=keep_one)

    monkeypatch.setattr(Meeting, "of", counted)
    state, spans = decided(DuplicateSubstrings(length=100), documents(texts), rows=4000)
    coarse, fine, windows = held
    assert coarse < 5_000 * 40 and fine < 5_000 * 30 and windows < 5_000 * 110
    assert spans[0] == [] and all(400 <= stop < 410 and start == 0 for ((start, stop),) in spans[1:])
    assert state.summary["spans"] == 4_999


@pytest.mark.parametrize("letters", ["a", "ab", "abcdefghijklmnopqrstuvwxyz0123456789" * 3])
def test_a_text_that_repeats_itself_keeps_one_window_and_is_cheap(letters: str) -> None:
    text = letters * (2_000_000 // len(letters))
    step = DuplicateSubstrings(length=100)
    partial = step.map(iter([documents([text])]))
    assert len(partial.column("key")[0]) < 2.5 * len(text) / 51
    _, spans = decided(step, documents([text]))
    first = -(-100 // len(letters)) * len(letters)
    assert spans == [[(first, len(text))]]


HALF = "".join(random.Random(5).choices("abcdefgh ", k=200))
REST = ["".join(random.Random(seed).choices("abcdefgh ", k=200)) for seed in (6, 7, 8)]


def test_spans_are_cut_and_the_bytes_counted() -> None:
    texts = [HALF + REST[0], None, REST[1] + HALF + REST[2], HALF]
    outcome = done(DuplicateSubstrings(), texts)
    assert outcome.batch.texts.to_pylist() == [HALF + REST[0], None, REST[1] + REST[2]]
    assert outcome.batch.data.column("duplicate_substrings.bytes").to_pylist() == [0, 0, 200]
    assert outcome.edited is not None and outcome.edited.tolist() == [0, 0, 200]
    (left,) = outcome.left.to_pylist()
    assert left == {
        "row": 3,
        "fate": "dropped",
        "rule": "duplicate_substrings.min_bytes_left",
        "value": 0.0,
        "threshold": 1.0,
        "survivor": "d0",
        "survivor_part": 0,
        "error": None,
    }
    assert outcome.signals["duplicate_substrings.share"].tolist() == [0, 0, 1 / 3, 1]


def test_documents_that_are_mostly_copies_leave() -> None:
    texts = [HALF + REST[0], REST[1] + HALF + REST[2], HALF + REST[1][:100]]
    outcome = done(DuplicateSubstrings(drop=0.5), texts)
    assert outcome.batch.texts.to_pylist() == [HALF + REST[0], REST[1] + REST[2]]
    (left,) = outcome.left.to_pylist()
    assert (left["row"], left["rule"], left["value"], left["threshold"]) == (2, "duplicate_substrings.share", 1.0, 0.5)
    kept = done(DuplicateSubstrings(drop=0.5, remove="nothing"), texts)
    assert kept.batch.texts.to_pylist() == texts[:2]
    assert kept.edited is not None and not kept.edited.any()
    assert kept.batch.data.column("duplicate_substrings.bytes").to_pylist() == [0, 200]
    none = done(DuplicateSubstrings(keep="none", min_bytes_left=201), texts)
    assert none.batch.ids.to_pylist() == ["d1"] or none.left.num_rows == 3


def test_the_summary_shows_the_longest_spans_with_the_place_of_their_copy() -> None:
    state = DuplicateSubstrings().reduce(
        [DuplicateSubstrings().map(iter([documents([REST[0] + HALF, REST[1] + HALF + REST[2]])]))]
    )
    assert state.summary["longest"] == [
        {"bytes": 200, "id": "d1", "start": 200, "survivor": "d0", "survivor_start": 200, "text": HALF}
    ]
    assert state.summary["span_bytes"] == {"128": 1}
    assert (state.summary["spans"], state.summary["duplicate_bytes"], state.summary["documents_with_spans"]) == (
        1,
        200,
        1,
    )


def test_partials_of_another_length_are_refused() -> None:
    partial = DuplicateSubstrings(length=50).map(iter([documents(["x"])]))
    with pytest.raises(MismatchError, match="part 0"):
        DuplicateSubstrings(length=51).reduce([partial])


def test_wrong_parameters_are_refused() -> None:
    for wrong in ({"length": 1}, {"unit": "tokens"}, {"drop": 1.0}, {"keep": "longest"}, {"remove": "all"}):
        with pytest.raises(ValidationError):
            DuplicateSubstrings(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"id": f"d{number:02}", "text": text} for number, text in enumerate(planted(6))]
    for number in range(4):
        path = tmp_path / f"in-{number}.parquet"
        pq.write_table(pa.Table.from_pylist(rows[number * 9 : number * 9 + 9], schema=DOCUMENT_SCHEMA), path)
    steps = "[{duplicate_substrings: {length: 20, drop: 0.9}}]"
    source = f"{{parquet: {{files: '{tmp_path}/in-*.parquet', part_bytes: none}}}}"
    (tmp_path / "recipe.yaml").write_text(f"name: substrings\nsource: {source}\nsteps: {steps}\n")
    return tmp_path / "recipe.yaml"


def test_a_recipe_writes_the_same_bytes_in_one_task_and_in_rounds_for_any_number_of_workers(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = planted(6)
    outputs = []
    for name, workers, whole in (("one", 1, 128 << 20), ("two", 2, -1)):
        monkeypatch.setattr(exchanging, "WHOLE_BYTES", whole)
        monkeypatch.setattr(exchanging, "RANGE_BYTES", 4_000)
        executor = executor_for(workers)
        try:
            dataset = Engine(tmp_path / name, executor).run(load_recipe(recipe))
        finally:
            executor.close()
        outputs.append([path.read_bytes() for path in dataset.parts])
    assert outputs[0] == outputs[1]
    step = DuplicateSubstrings(length=20, drop=0.9)
    expected = {}
    for number, (text, spans) in enumerate(zip(texts, true_spans(texts, range(len(texts)), step), strict=True)):
        left = text.encode()
        for start, stop in reversed(spans):
            left = left[:start] + left[stop:]
        if not spans or (left and 1 - len(left) / len(text.encode()) <= 0.9):
            expected[f"d{number:02}"] = left.decode()
    found = pa.concat_tables([pq.read_table(path) for path in dataset.parts])
    assert dict(zip(found.column("id").to_pylist(), found.column("text").to_pylist(), strict=True)) == expected
    ledger = pa.concat_tables([pq.read_table(path) for path in dataset.stages[-1].ledgers]).to_pylist()
    edited = {row["id"]: row["edited_bytes"] for row in ledger if row["fate"] == "edited"}
    assert edited == {
        key: len(texts[int(key[1:])].encode()) - len(text.encode())
        for key, text in expected.items()
        if text != texts[int(key[1:])]
    }
