"""Who survives a cluster, by every policy, against the obvious; and what is told of it."""

import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.dedup.exact import Exact
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.errors import InputError
from curate.steps import State

NUMBERS = [None, float("nan"), -1.5, 0.0, 0.25, 7.0]
SOURCES = [None, "", "web", "wiki", "books"]
SCHEMA = pa.schema([*DOCUMENT_SCHEMA, pa.field("quality_score", pa.float64()), pa.field("kind", pa.string())])
POLICIES: dict[str, Any] = {
    "first": "first",
    "longest": "longest",
    "highest": {"highest": "quality_score"},
    "signal": {"highest": "quality.score"},
    "prefer": {"prefer": ["wiki", "web"], "column": "kind"},
    "prefer longest": {"prefer": ["wiki", "web"], "column": "kind", "then": "longest"},
    "prefer newest": {"prefer": ["wiki"], "column": "kind", "then": "newest"},
}


def documents(rng: random.Random, count: int = 40) -> list[dict[str, Any]]:
    """Few texts, so that most have copies of other case and length."""
    rows = []
    for number in rng.sample(range(1000), count):
        text = rng.choice(["one two", "three", "four five six"])
        rows.append(
            {
                "id": f"d{number:04}",
                "text": text.replace(" ", " " * rng.randint(1, 4)),
                "date": rng.choice([None, "2020-01-01", "2024-05-06"]),
                "quality_score": rng.choice(NUMBERS),
                "kind": rng.choice(SOURCES),
            }
        )
    return rows


def merit(policy: str, row: dict[str, Any]) -> tuple[Any, ...]:
    """Smaller is kept."""
    score = row["quality_score"]
    no_score = score is None or score != score
    source = {"wiki": 0, "web": 1}.get(row["kind"], 2)
    long = -len(row["text"].encode())
    return {
        "first": (),
        "longest": (long,),
        "highest": (no_score, 0 if no_score else -score),
        "signal": (no_score, 0 if no_score else -score),
        "prefer": (source,),
        "prefer longest": (source, long),
        "prefer newest": (row["kind"] != "wiki", -int((row["date"] or "0").replace("-", ""))),
    }[policy]


def decided(step: Exact, parts: list[list[dict[str, Any]]]) -> State:
    batches = [Batch(pa.RecordBatch.from_pylist(part, schema=SCHEMA)) for part in parts]
    return step.reduce([step.map(iter([batch])) for batch in batches])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), policy=st.sampled_from(sorted(POLICIES)), cut=st.integers(0, 40))
def test_the_best_of_each_cluster_survives_in_any_part_and_order(seed: int, policy: str, cut: int) -> None:
    rng = random.Random(seed)
    rows = documents(rng)
    state = decided(Exact(keep=POLICIES[policy]), [rows[:cut], rows[cut:]])
    told = {row["id"]: row for table in state.parts for row in table.to_pylist()}
    for text in {tuple(row["text"].split()) for row in rows}:
        alike = [row for row in rows if tuple(row["text"].split()) == text]
        best = min(alike, key=lambda row: (*merit(policy, row), row["id"]))
        for row in alike:
            gone = row is not best
            assert told[row["id"]]["survivor"] == (best["id"] if gone else None)
            assert told[row["id"]]["survivor_part"] == (int(rows.index(best) >= cut) if gone else None)
            assert told[row["id"]]["cluster"] == (best["id"] if len(alike) > 1 else None)
            assert told[row["id"]]["cluster_size"] == len(alike)


def test_partials_of_one_policy_do_not_serve_another() -> None:
    assert Exact(keep=POLICIES["prefer"]).settings() != Exact(keep=POLICIES["prefer longest"]).settings()
    assert Exact(keep=POLICIES["prefer"]).parameters()["keep"] == {**POLICIES["prefer"], "then": "first"} | {
        "prefer": ["wiki", "web"]
    }


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        ({"highest": "loss"}, r"needs a column `loss`, and these documents have id, text.*columns: \{loss: float64\}"),
        ({"highest": "url"}, r"needs a column of numbers, and `url` holds string"),
        ({"prefer": ["wiki"], "column": "corpus"}, r"needs a column `corpus`.*`source`.*columns: \{corpus: string\}"),
    ],
)
def test_a_policy_that_the_documents_cannot_answer_is_refused(keep: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        decided(Exact(keep=keep), [documents(random.Random(1))])


@pytest.mark.parametrize("keep", [{"prefer": [], "column": "kind"}, {"prefer": ["wiki"]}, {"best": "x"}, "best"])
def test_a_policy_that_is_none_is_refused_with_its_field(keep: Any) -> None:
    with pytest.raises(ValidationError, match="keep"):
        Exact(keep=keep)
