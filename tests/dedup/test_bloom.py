"""BFF as an exchange: which paragraphs and documents go, in one order, whatever the parts; and how large a filter may
be."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from curate.dedup.bloom import Bloom
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.errors import InputError
from curate.kernels.bloom import MODES

WORDS = "the river runs past our old mill while seven grey geese watch from high stone walls under rain".split()


def parted(texts: Sequence[str | None], parts: int) -> list[list[Batch]]:
    cut = [len(texts) * number // parts for number in range(parts + 1)]
    found = []
    for low, high in pairwise(cut):
        rows = [{"id": f"d{place}", "text": texts[place]} for place in range(low, high)]
        batches = [rows[start : start + 4] for start in range(0, len(rows), 4)]
        found.append([Batch(pa.RecordBatch.from_pylist(batch, schema=DOCUMENT_SCHEMA)) for batch in batches])
    return found


def done(step: Bloom, texts: Sequence[str | None], *, parts: int = 1, ranges: int = 1) -> tuple[Any, Any, Any]:
    corpus = parted(texts, parts)
    state = step.reduce([step.map(iter(batches)) for batches in corpus], ranges=ranges)
    stays: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for batches, told in zip(corpus, state.parts, strict=True):
        for before, outcome in zip(batches, step.apply(iter(batches), told), strict=True):
            ids = before.ids.to_pylist()
            left |= {ids[row["row"]]: (row["rule"], row["value"]) for row in outcome.left.to_pylist()}
            stays |= {row["id"]: (row["text"], row["bloom.removed"]) for row in outcome.batch.data.to_pylist()}
    return stays, left, state.summary


def corpus(seed: int) -> list[str]:
    rng = random.Random(seed)
    paragraphs = [" ".join(rng.choices(WORDS, k=rng.randint(1, 25))) for _ in range(30)]
    return ["\n".join(rng.choices(paragraphs, k=rng.randint(1, 5))) for _ in range(40)]


ONE, TWO, THREE = " ".join(WORDS[:9]), " ".join(WORDS[6:]), " ".join(reversed(WORDS))


def test_a_known_paragraph_goes_with_the_newline_before_it() -> None:
    step = Bloom(mode="paragraph", min_ngram=3, max_ngram=5)
    stays, left, summary = done(step, [ONE, f"{THREE}\n{ONE}\nshort one", f"{ONE}\n{TWO}", ONE])
    assert stays == {"d0": (ONE, 0), "d1": (f"{THREE}\nshort one", 1), "d2": (f"\n{TWO}", 1)}
    assert left == {"d3": ("bloom.paragraphs", 1.0)}
    assert (summary["paragraphs_removed"], summary["documents_removed"], summary["documents_cut"]) == (3, 0, 3)


def test_old_both_drops_a_document_that_is_mostly_known() -> None:
    pages = [ONE, THREE, f"{ONE}\n{THREE}\n{TWO}", f"{ONE}\n{THREE}\nnew words"]
    step = Bloom(mode="old-both", min_ngram=3, max_ngram=5, threshold=0.75)
    stays, left, summary = done(step, pages)
    assert stays["d2"] == (f"\n{TWO}", 2) and set(left) == {"d3"}
    assert left["d3"][0] == "bloom.document" and left["d3"][1] == 1.0
    assert summary["documents_removed"] == 1


def test_short_paragraphs_always_stay() -> None:
    stays, left, _ = done(Bloom(mode="paragraph"), ["read more", "read more", None, ""])
    assert len(stays) == 4 and not left


def test_repeats_within_a_paragraph_do_not_count() -> None:
    again = " ".join(["over and over"] * 20)
    assert list(done(Bloom(), [again])[0]) == ["d0"]
    assert done(Bloom(), [f"{again}\n{again}"])[0] == {"d0": (again, 1)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shards", [1, 3])
def test_neither_parts_nor_ranges_change_a_text(mode: Any, shards: int) -> None:
    step = Bloom(mode=mode, min_ngram=3, max_ngram=6, shards=shards)
    texts = corpus(3)
    expected = done(step, texts)
    assert expected[1] or mode == "paragraph"
    assert any(removed for _, removed in expected[0].values()) or mode == "document"
    assert expected[2]["filters"] == shards
    for parts in (2, 9, 40):
        for ranges in (1, 4):
            assert done(step, texts, parts=parts, ranges=ranges) == expected


def test_the_filter_is_as_large_as_the_expected_ngrams_ask() -> None:
    texts = [" ".join(random.Random(seed).choices(WORDS, k=400)) for seed in range(10)]
    counted = done(Bloom(), texts)[2]
    assert counted["ngrams"] == 10 * 388 and 0 < counted["false_positive_rate"] <= 0.012
    larger = done(Bloom(expected_ngrams=1_000_000), texts)[2]
    assert larger["filter_bytes"] == pytest.approx(1_237_000, rel=0.01)
    assert larger["false_positive_rate"] < 1e-6


def test_a_filter_that_fills_far_beyond_what_it_was_made_for_is_refused() -> None:
    texts = [" ".join(random.Random(seed).choices(WORDS, k=400)) for seed in range(10)]
    with pytest.raises(InputError, match=r"made for 10 `expected_ngrams` .* allows 0\.01, .* has 3,880 n-grams"):
        done(Bloom(expected_ngrams=10), texts)
    with pytest.raises(InputError, match="leave `expected_ngrams` out"):
        done(Bloom(expected_ngrams=2600), texts)
    with pytest.raises(InputError, match="is wrong about"):
        done(Bloom(expected_ngrams=10, false_positive_rate=0.5), texts)
    assert done(Bloom(expected_ngrams=3500), texts)[2]["false_positive_rate"] < 0.02


def test_repeats_do_not_fill_a_filter_made_for_different_ngrams() -> None:
    text = " ".join(random.Random(1).choices(WORDS, k=400))
    stays, _, summary = done(Bloom(expected_ngrams=388), [text] * 20)
    assert list(stays) == ["d0"] and summary["ngrams"] == 20 * 388 and summary["false_positive_rate"] < 0.02


def test_a_filter_beyond_the_budget_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"10,000,000,000 n-grams .* need a filter of 12 GB .* allows 4.0 GB"):
        TypeAdapter(Bloom).validate_python({"expected_ngrams": 10**10})
    with pytest.raises(InputError, match="raise `memory`, or have more `shards`"):
        done(TypeAdapter(Bloom).validate_python({"memory": "64B"}), [" ".join(WORDS * 9)])
    with pytest.raises(ValidationError, match="min_ngram"):
        TypeAdapter(Bloom).validate_python({"min_ngram": 14})


def test_many_ngrams_are_written_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = corpus(5)
    expected = done(Bloom(min_ngram=2, max_ngram=4), texts)
    monkeypatch.setattr("curate.dedup.bloom._RUN_NGRAMS", 20)
    assert done(Bloom(min_ngram=2, max_ngram=4), texts, parts=3) == expected
