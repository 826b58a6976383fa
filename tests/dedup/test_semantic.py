"""Semantic deduplication against brute force on the same embeddings, and what it promises of survivors."""

import math
import os
import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.dedup.corpus import fixed_rows
from curate.dedup.cosine import cosines, paired_cosines
from curate.dedup.leaders import leaders_of
from curate.dedup.semantic import Semantic, load_encoder
from curate.dedup.stars import stars
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.steps import State

WORDS = "the river runs under old bridge and a cat sits on warm stone near quiet harbour".split()
Texts = list[str | None]


def _batch(texts: Texts, first: int = 0) -> Batch:
    rows = [{"id": f"d{first + row:04}", "text": text} for row, text in enumerate(texts)]
    return Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA))


def _corpus(seed: int) -> Texts:
    """Documents in families of a few words' difference, some equal, some empty."""
    chance = random.Random(seed)
    texts: Texts = ["", None, "the cat sits", "The  cat sits"]
    for _ in range(25):
        words = chance.choices(WORDS, k=chance.randint(4, 20))
        for _ in range(chance.randint(1, 4)):
            words[chance.randrange(len(words))] = chance.choice(WORDS)
            texts.append(" ".join(words))
    chance.shuffle(texts)
    return texts


def _parts(texts: Texts, parts: int) -> list[Texts]:
    return [texts[low:high] for low, high in pairwise(np.linspace(0, len(texts), parts + 1).astype(int))]


def _vectors(partial: pa.Table) -> np.ndarray:
    return fixed_rows(partial.column("embedding"), np.float16)


def _decided(
    step: Semantic, texts: Texts, parts: int, ranges: int = 1
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What each document is told, by id, and the summary."""
    firsts = np.cumsum([0, *(len(part) for part in _parts(texts, parts))])
    partials = [step.map(iter([_batch(*part)])) for part in zip(_parts(texts, parts), firsts.tolist(), strict=False)]
    state = step.reduce(partials, ranges=ranges)
    return _told(state), state.summary


def _told(state: State) -> dict[str, dict[str, Any]]:
    rows = pa.concat_tables(state.parts).drop_columns(["survivor_part"]).to_pylist()
    return {row["id"]: row for row in rows}


@pytest.fixture
def step(small_encoder: Path) -> Iterator[Any]:
    def made(**parameters: Any) -> Semantic:
        return Semantic(
            encoder=str(small_encoder),
            **{"threshold": 0.97, "clusters_at_most": 4, "least_per_cluster": 8} | parameters,
        )

    yield made


@pytest.mark.parametrize("seed", range(3))
def test_within_one_group_all_similar_pairs_are_found_and_no_other(step: Any, seed: int) -> None:
    texts = _corpus(seed)
    whole = step(clusters_at_most=1)
    told, summary = _decided(whole, texts, 3)
    vectors = np.concatenate([_vectors(whole.map(iter([_batch(part)]))) for part in _parts(texts, 3)])
    known = np.asarray(vectors.any(axis=1))
    similar = np.zeros((len(texts), len(texts)), dtype=bool)
    similar[np.ix_(known, known)] = cosines(vectors[known], vectors[known]) >= 0.97
    removed = {key for key, row in told.items() if row["survivor"]}
    assert removed and summary["removed"] == len(removed) and summary["without_vector"] == 2
    for row in range(len(texts)):
        if not known[row]:
            continue
        key = f"d{row:04}"
        others = np.flatnonzero(similar[row] & known & (np.arange(len(texts)) != row))
        kept_neighbours = [other for other in others if f"d{other:04}" not in removed]
        survivor = told[key]["survivor"]
        if survivor:
            assert int(survivor[1:]) in kept_neighbours and told[key]["similarity"] >= 0.97
        else:
            assert not kept_neighbours  # two similar documents never both stay


def test_neither_the_order_of_parts_nor_ranges_change_who_stays(step: Any) -> None:
    semantic, texts = step(), _corpus(7)
    partials = [semantic.map(iter([_batch(part, 100 * number)])) for number, part in enumerate(_parts(texts, 5))]
    expected = _told(semantic.reduce(partials))
    assert any(row["survivor"] for row in expected.values())
    assert _told(semantic.reduce(partials, ranges=7)) == expected
    assert _told(semantic.reduce(partials[::-1], ranges=3)) == expected


def test_of_a_cluster_the_hardest_or_the_easiest_stays(step: Any) -> None:
    texts: Texts = [
        "the river runs under old bridge and a cat sits",
        "the river runs under old bridge and a cat sits near",
    ]
    texts += ["the river runs under old bridge and a cat sits on warm stone"]
    kept = {}
    for keep in ("hardest", "easiest"):
        told, _ = _decided(step(keep=keep, clusters_at_most=1, threshold=0.5), texts, 1)
        kept[keep] = {key for key, row in told.items() if not row["survivor"]}
    assert len(kept["hardest"]) == len(kept["easiest"]) == 1 and kept["hardest"] != kept["easiest"]
    longest, _ = _decided(step(keep="longest", threshold=0.5), texts, 1)
    assert not longest["d0002"]["survivor"] and longest["d0000"]["survivor"] == "d0002"


def test_the_columns_of_the_policy_and_an_empty_corpus_are_no_trouble(step: Any) -> None:
    outcome = step(keep="random").process(_batch(_corpus(1)))
    assert {"semantic.cluster", "semantic.cluster_size"} <= set(outcome.batch.data.schema.names)
    told, summary = _decided(step(), ["", None], 2)
    assert summary["documents"] == 2 and summary["groups"] == 0
    assert [row["survivor"] for row in told.values()] == [None, "d0000"]  # equal texts


@pytest.mark.parametrize("seed", range(3))
def test_leaders_from_vectors_are_those_of_all_similar_pairs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.dedup.leaders._BLOCK_ROWS", 16)
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(12, 8))[chance.integers(12, size=150)] + chance.normal(size=(150, 8)) * 0.3
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    left, right = np.nonzero(np.triu(cosines(vectors, vectors) >= 0.9, 1))
    expected = stars(left, right, np.arange(len(vectors)))
    assert len(left) > len(vectors) and 1 < len(np.unique(expected)) < len(vectors)
    np.testing.assert_array_equal(leaders_of(vectors, 0.9), expected)


def test_cosines_are_exact_in_any_order_and_one_of_equal_vectors() -> None:
    chance = np.random.default_rng(1)
    vectors = chance.normal(size=(40, 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    found, order = cosines(vectors, vectors), chance.permutation(384)
    assert (np.diagonal(found) == 1).all() and (found == found.T).all()
    np.testing.assert_array_equal(cosines(vectors[:, order], vectors[:, order]), found)
    np.testing.assert_array_equal(np.concatenate([cosines(row[None], vectors) for row in vectors]), found)
    np.testing.assert_array_equal(
        paired_cosines(np.repeat(vectors, 40, axis=0), np.tile(vectors, (40, 1))), found.ravel()
    )
    one, other = ([Fraction(float(value)) for value in vectors[row]] for row in (0, 1))
    product = sum(a * b for a, b in zip(one, other, strict=True))
    length = sum(a * a for a in one) * sum(b * b for b in other)
    assert found[0, 1] == float(product) / math.sqrt(length)


def test_a_group_that_is_too_large_is_cut_and_a_crowd_of_one_text_costs_no_pairs(
    step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.dedup.semantic.GROUP_AT_MOST", 8)
    texts = _corpus(5)
    whole, cut = (_decided(step(clusters_at_most=most), texts, parts) for most, parts in ((1, 1), (1, 4)))
    assert whole == cut, "where it is cut depends on no part"
    summary = whole[1]
    assert summary["split_groups"] == 1 and 0 < summary["largest_group"] < len(texts) / 2
    assert 0 < summary["compared_pairs"] < len(texts) * len(texts) // 5
    beginning = "the river runs under old bridge " * 4  # 24 words: nothing after them counts
    crowd: Texts = [f"{beginning} {word} {other}" for word in WORDS for other in WORDS]
    told, summary = _decided(step(clusters_at_most=1), crowd, 2)
    assert summary["largest_group"] == len(crowd) and summary["compared_pairs"] == len(crowd) - 1
    assert sum(row["survivor"] is None for row in told.values()) == 1


def test_chains_are_followed_only_where_the_recipe_says_so(step: Any) -> None:
    texts = _corpus(2)
    (guarded, strict), (chained, loose) = (
        _decided(step(clusters_at_most=1, threshold=0.9, require_similar_to_survivor=required), texts, 2)
        for required in (True, False)
    )
    assert strict["removed_below_threshold"] == 0 < loose["removed_below_threshold"]
    assert strict["removed"] < loose["removed"] and strict["linked_pairs"] == loose["linked_pairs"]
    assert {key for key, row in guarded.items() if row["survivor"]} > set()
    assert min(row["link"] for row in chained.values() if row["survivor"]) >= 0.9


def test_an_encoder_whose_files_are_others_is_loaded_again(small_encoder: Path, tmp_path: Path) -> None:
    for file in small_encoder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = load_encoder(str(tmp_path), None)
    assert load_encoder(str(tmp_path), None) is first
    os.utime(tmp_path / "model.safetensors", ns=(0, 0))
    assert load_encoder(str(tmp_path), None) is not first


@pytest.mark.parametrize("least, groups", [(1_000_000, 1), (20, 4), (8, 9)])
def test_a_corpus_has_as_many_groups_as_documents_for_them(
    step: Any, monkeypatch: pytest.MonkeyPatch, least: int, groups: int
) -> None:
    short = [f"{one} {other}" for one in WORDS[:5] for other in WORDS[:5]]
    texts: Texts = [*(text for text in _corpus(3) if text), *short]
    distinct = len(set(texts))
    found = _decided(step(clusters_at_most=9, least_per_cluster=least), texts, 2)[1]["groups"]
    assert found == min(max(1, distinct // least), 9) == groups
    monkeypatch.setattr("curate.dedup.semantic.SAMPLED_AT_LEAST", 45)
    monkeypatch.setattr(
        "curate.dedup.semantic.SAMPLED_PER_CLUSTER", 5
    )  # the 45 smallest hashes: now they tell how many
    told = _decided(step(clusters_at_most=9, least_per_cluster=least), texts, 2)[1]["groups"]
    assert abs(told - groups) <= 2
