"""The best share of a corpus: exact, global, the same for any cutting, ties settled by id."""

import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from curate.documents import Batch
from curate.errors import InputError, MismatchError
from curate.filters.quality import PARTIAL_SCHEMA, Quality
from curate.models.fasttext_training import train_fasttext

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"


def step(keep: dict, model: str = "unused") -> Quality:
    return TypeAdapter(Quality).validate_python({"model": model, "keep": keep})


def part(rows: list[tuple[str, float, int]]) -> pa.Table:
    ids, scores, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        [pa.array(ids, pa.string()), pa.array(scores, pa.float64()), pa.array(sizes, pa.int64())], schema=PARTIAL_SCHEMA
    )


def kept(quality: Quality, parts: list[list[tuple[str, float, int]]]) -> set[str]:
    state = quality.reduce([part(rows) for rows in parts])
    assert [len(table) for table in state.parts] == [len(rows) for rows in parts]
    return {
        key
        for table in state.parts
        for key, keep in zip(table["id"].to_pylist(), table["keep"].to_pylist(), strict=True)
        if keep
    }


documents = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.500001, 0.9, 1.0]), st.integers(0, 50)), min_size=1, max_size=60
).map(lambda rows: [(f"d{number}", score, size) for number, (score, size) in enumerate(rows)])


@settings(deadline=None, max_examples=150)
@given(rows=documents, percent=st.integers(1, 100), cuts=st.lists(st.integers(0, 60), max_size=4), shuffle=st.randoms())
def test_the_top_share_is_exact_and_independent_of_how_the_corpus_is_cut(
    rows: list, percent: int, cuts: list[int], shuffle: random.Random
) -> None:
    quality = step({"top": f"{percent}%"})
    whole = kept(quality, [rows])
    wanted = -(-percent * len(rows) // 100)
    assert len(whole) == wanted
    scores = {key: score for key, score, _ in rows}
    lost = [score for key, score in scores.items() if key not in whole]
    assert not lost or max(lost) <= min(scores[key] for key in whole)
    mixed = rows[:]
    shuffle.shuffle(mixed)
    borders = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    assert kept(quality, [mixed[low:high] for low, high in pairwise(borders)] + [[]]) == whole


@settings(deadline=None, max_examples=150)
@given(rows=documents, percent=st.integers(1, 100))
def test_a_share_of_bytes_is_reached_and_not_by_one_document_more(rows: list, percent: int) -> None:
    chosen = kept(step({"top": percent / 100, "of": "bytes"}), [rows])
    total = sum(size for *_, size in rows)
    weight = sum(size for key, _, size in rows if key in chosen)
    assert weight >= Fraction(percent, 100) * total
    worst = min((score for key, score, size in rows if key in chosen and size), default=0.0)
    sizes_at_worst = [size for key, score, size in rows if key in chosen and score == worst and size]
    if total:
        assert weight - max(sizes_at_worst) < Fraction(percent, 100) * total


def test_ties_do_not_favour_ids_by_their_spelling() -> None:
    rows = [(f"{source}-{number:03}", 0.5, 10) for source in ("aaa", "zzz") for number in range(200)]
    chosen = kept(step({"top": "50%"}), [rows])
    assert len(chosen) == 200
    assert 60 < sum(key.startswith("aaa") for key in chosen) < 140


def test_above_keeps_the_threshold_itself() -> None:
    rows = [("a", 0.018111, 1), ("b", 0.018112, 1), ("c", 0.5, 1)]
    assert kept(step({"above": 0.018112}), [rows[:1], rows[1:]]) == {"b", "c"}


def test_an_empty_corpus_is_no_error() -> None:
    assert kept(step({"top": "10%"}), [[], []]) == set()
    assert step({"top": "10%"}).reduce([]).parts == []


def test_no_text_at_all_keeps_all_of_nothing() -> None:
    assert kept(step({"top": "10%", "of": "bytes"}), [[("a", 0.5, 0), ("b", 0.1, 0)]]) == {"a", "b"}


@pytest.mark.parametrize(
    "keep", [{"top": 10}, {"top": "110%"}, {"top": "0%"}, {"top": "ten"}, {"above": 2}, {"top": 0.1, "above": 0.1}, {}]
)
def test_a_wrong_keep_is_refused(keep: dict) -> None:
    with pytest.raises(ValidationError):
        step(keep)


def test_percentages_are_decimal() -> None:
    assert step({"top": "7%"}).keep.top == 0.07
    assert len(kept(step({"top": "7%"}), [[(str(number), number / 1000, 1) for number in range(100)]])) == 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    good = [f"hence the lemma follows from theorem {number} and the proof is complete" for number in range(300)]
    bad = [f"click here to buy cheap offer {number} now free login menu" for number in range(300)]
    out = tmp_path_factory.mktemp("model") / "model.bin"
    train_fasttext(good, bad, out=out, dim=8, bucket=5000, epoch=3)
    return out


def batch(texts: list[str | None], start: int = 0) -> Batch:
    ids = [f"d{start + number}" for number in range(len(texts))]
    return Batch(pa.record_batch({"id": pa.array(ids), "text": pa.array(texts, pa.string())}))


def test_documents_are_dropped_with_value_and_threshold(model: Path) -> None:
    quality = step({"top": "50%"}, str(model))
    parts = [
        [batch(["the proof of the theorem", "buy now", None])],
        [batch(["free offer click", ""], 3), batch(["hence the lemma"], 5)],
    ]
    state = quality.reduce([quality.map(iter(batches)) for batches in parts])
    outcomes = [
        outcome
        for batches, table in zip(parts, state.parts, strict=True)
        for outcome in quality.apply(iter(batches), table)
    ]
    assert sum(len(outcome.batch) + outcome.left.num_rows for outcome in outcomes) == 6
    going = [key for outcome in outcomes for key in outcome.batch.ids.to_pylist()]
    assert len(going) == 3
    assert {"d0", "d5"} < set(going)
    assert state.summary["kept_documents"] == 3
    for outcome in outcomes:
        assert set(outcome.left["rule"].to_pylist()) <= {"quality.top"}
        assert all(
            value <= bound
            for value, bound in zip(
                outcome.left["value"].to_pylist(), outcome.left["threshold"].to_pylist(), strict=True
            )
        )
        scores = outcome.batch.data["quality_score"]
        assert scores.type == pa.float64()
        assert len(outcome.signals["quality.score"]) == len(outcome.batch) + outcome.left.num_rows


def test_other_documents_than_were_scored_are_refused(model: Path) -> None:
    quality = step({"top": "50%"}, str(model))
    table = quality.reduce([quality.map(iter([batch(["a", "b"])]))]).parts[0]
    with pytest.raises(MismatchError, match="not those that were scored"):
        list(quality.apply(iter([batch(["a", "b"], 7)]), table))
    with pytest.raises(MismatchError, match="1 document"):
        list(quality.apply(iter([batch(["a"])]), table))


def test_a_label_the_model_does_not_have_is_named(model: Path) -> None:
    quality = TypeAdapter(Quality).validate_python({"model": str(model), "keep": {"above": 0.5}, "label": "hq"})
    with pytest.raises(InputError, match="no label 'hq'"):
        quality.process(batch(["a"]))


def test_parameters_are_plain_data() -> None:
    assert step({"top": "10%"}).parameters() == {
        "model": "unused", "keep": {"top": 0.1, "of": "documents"}, "label": "positive", "max_chars": None,
    }  # fmt: skip


def test_instructions_and_web_text_are_told_apart(tmp_path: Path) -> None:
    if not (DATA / "instruct.parquet").exists():
        pytest.skip(f"{DATA} is not there")
    good = pq.read_table(DATA / "instruct.parquet", columns=["text"])["text"].slice(0, 3000).to_pylist()
    web = pq.read_table(DATA.parent / "web" / "web_html.parquet", columns=["main_text", "lang"])
    bad = [
        text
        for text, lang in zip(web["main_text"].to_pylist(), web["lang"].to_pylist(), strict=True)
        if text and lang == "en"
    ]
    card = train_fasttext(good, bad, out=tmp_path / "m.bin", dim=16, bucket=50_000, max_chars=2000)
    print(card["texts"], card["held_out"])
    assert card["held_out"]["auc"] > 0.98
    scores = step({"top": "10%"}, str(tmp_path / "m.bin")).map(iter([batch(bad[:50])]))["score"].to_numpy()
    assert np.mean(scores < 0.5) > 0.9
