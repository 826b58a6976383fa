"""Semantic deduplication against brute force on the same embeddings, and what it promises of survivors."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.dedup.corpus import fixed_rows
from curate.dedup.semantic import Semantic
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
    return fixed_rows(partial.column("embedding"), np.float16).astype(np.float64)


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
        return Semantic(encoder=str(small_encoder), **{"threshold": 0.97, "clusters_at_most": 4} | parameters)

    yield made


@pytest.mark.parametrize("seed", range(3))
def test_within_one_group_all_similar_pairs_are_found_and_no_other(step: Any, seed: int) -> None:
    texts = _corpus(seed)
    whole = step(clusters_at_most=1)
    told, summary = _decided(whole, texts, 3)
    vectors = np.concatenate([_vectors(whole.map(iter([_batch(part)]))) for part in _parts(texts, 3)])
    known = vectors.any(axis=1)
    similar = (vectors @ vectors.T).round(5) >= 0.97
    removed = {key for key, row in told.items() if row["survivor"]}
    assert removed and summary["removed"] == len(removed) and summary["without_text"] == 2
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
