"""Language identification as a filter: labels and scores become columns, both rules say what they measured."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from curate.documents import Batch
from curate.errors import InputError
from curate.filters.language import Language

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"
ENGLISH = "The council met on Tuesday to discuss the new library, and most of those present were in favour of it."
GERMAN = "Der Rat traf sich am Dienstag, um über die neue Bibliothek zu sprechen, und die meisten waren dafür."


def batch(*texts: str | None) -> Batch:
    ids = [f"d{number}" for number in range(len(texts))]
    return Batch(pa.record_batch({"id": pa.array(ids), "text": pa.array(texts, pa.string())}))


def test_wanted_languages_stay_and_carry_their_label_and_score() -> None:
    outcome = Language(keep=["en"]).process(batch(ENGLISH, GERMAN, ENGLISH))
    assert outcome.batch.ids.to_pylist() == ["d0", "d2"]
    assert outcome.batch.data["language"].to_pylist() == ["en", "en"]
    assert outcome.batch.data["language"].type == pa.string()
    assert outcome.batch.data["language_score"].type == pa.float64()
    assert outcome.left.to_pylist()[0] == {
        "row": 1, "fate": "dropped", "rule": "language.label", "value": 0.0, "threshold": 1.0, "survivor": None,
        "survivor_part": None, "error": None,
    }  # fmt: skip
    assert outcome.edited is None


def test_a_doubtful_label_fails_by_its_score() -> None:
    outcome = Language(keep=["en"], min_score=0.65).process(batch("", ENGLISH))
    (row,) = outcome.left.to_pylist()
    assert (row["row"], row["rule"], row["threshold"]) == (0, "language.score", 0.65)
    assert row["value"] < 0.65


def test_several_languages_or_all_of_them() -> None:
    assert len(Language(keep=["de", "en"]).process(batch(ENGLISH, GERMAN)).batch) == 2
    assert len(Language(min_score=None).process(batch(ENGLISH, GERMAN, "", None)).batch) == 4


def test_rules_ask_for_signals_that_are_measured() -> None:
    step = Language(keep=["en"])
    assert {rule.signal for rule in step.rules()} <= set(step.measure(batch(ENGLISH)))
    assert [rule.name for rule in Language().rules()] == ["language.score"]


def test_a_language_the_model_does_not_know_is_an_error_not_an_empty_dataset() -> None:
    with pytest.raises(InputError, match="no label english"):
        Language(keep=["english"]).process(batch(ENGLISH))


def test_wrong_parameters_are_refused() -> None:
    for wrong in ({"keep": []}, {"min_score": 2}, {"keep": "en"}, {"languages": ["en"]}):
        with pytest.raises(ValidationError):
            TypeAdapter(Language).validate_python(wrong)


@pytest.mark.parametrize(
    ("name", "label"), [("wiki_fr", "fr"), ("wiki_es", "es"), ("laws_de", "de"), ("textbooks", "en")]
)
def test_real_text_of_a_language_passes_its_filter(name: str, label: str) -> None:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    texts = pq.read_table(path, columns=["text"])["text"].slice(0, 200).to_pylist()
    outcome = Language(keep=[label], min_score=0.5, max_chars=2000).process(batch(*texts))
    assert len(outcome.batch) >= 0.95 * len(texts)
    assert len(outcome.batch) + outcome.left.num_rows == len(texts)
