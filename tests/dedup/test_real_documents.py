"""MinHash on documents in real revisions: what it finds, against true Jaccard similarities and the theory."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.dedup.minhash import MinHash
from curate.documents import Batch
from curate.steps import State

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="needs the shared data beside the checkout")

SEEDS = 8


def batches(table: pa.Table) -> list[Batch]:
    return [Batch(batch) for batch in table.combine_chunks().to_batches(max_chunksize=500)]


@pytest.fixture(scope="module")
def revisions() -> tuple[list[Batch], np.ndarray, np.ndarray, np.ndarray]:
    """Documents, and pairs of their rows with the Jaccard similarity of their word 5-grams."""
    pairs = pq.read_table(DATA / "dedup" / "dedup_pairs.parquet")
    documents = pq.read_table(DATA / "dedup" / "dedup_docs.parquet", columns=["id", "text"])
    news = pq.read_table(DATA / "text" / "news_reuters.parquet", columns=["id", "text"])
    named = pa.concat_arrays(pairs.column("id_a").chunks + pairs.column("id_b").chunks)
    news = news.filter(pc.is_in(news.column("id"), pc.unique(named)))
    table = pa.concat_tables([documents, news])
    row = {name: number for number, name in enumerate(table.column("id").to_pylist())}
    left, right = (np.array([row[name] for name in pairs.column(side).to_pylist()]) for side in ("id_a", "id_b"))
    return batches(table), left, right, pairs.column("jaccard5").to_numpy()


def test_shares_of_pairs_in_a_common_bucket_follow_the_theory(revisions) -> None:  # type: ignore[no-untyped-def]
    held, left, right, jaccard = revisions
    found = np.zeros(len(left))
    for seed in range(SEEDS):
        step = MinHash(preset="fineweb", seed=seed, verify="estimated")
        partial = step.map(iter(held))
        keys = np.stack([partial.column(f"band_{band}").to_numpy() for band in range(14)], axis=1)
        found += (keys[left] == keys[right]).any(axis=1) / SEEDS
    expected = np.array([step.banding.probability_found(similarity) for similarity in jaccard])
    for low, high in [(0, 0.4), (0.4, 0.6), (0.6, 0.7), (0.7, 0.75), (0.75, 0.8), (0.8, 0.85), (0.85, 0.95), (0.95, 1)]:
        held_pairs = (jaccard >= low) & (jaccard <= high)
        error = np.sqrt((expected * (1 - expected))[held_pairs].sum() / SEEDS) / held_pairs.sum()
        # Pairs of one family share documents, so that they are not independent: five errors, and 1% for the words.
        assert abs(found[held_pairs].mean() - expected[held_pairs].mean()) < 5 * error + 0.01, (low, high)


def clusters(state: State) -> list[str | None]:
    return pa.concat_tables(state.parts).column("cluster").to_pylist()


@pytest.mark.parametrize("threshold", [0.5, 0.72, 0.85])
def test_verified_pairs_are_true_and_revisions_are_found(revisions, threshold: float) -> None:  # type: ignore[no-untyped-def]
    held, left, right, jaccard = revisions
    step = MinHash(preset="fineweb", threshold=threshold, keep="longest")
    state = step.reduce([step.map(iter(held[:3])), step.map(iter(held[3:]))])
    of = clusters(state)
    together = np.array([of[a] is not None and of[a] == of[b] for a, b in zip(left, right, strict=True)])
    close = jaccard >= max(threshold + 0.02, 0.8)
    expected = np.mean([step.banding.probability_found(similarity) for similarity in jaccard[close]])
    assert together[close].mean() > expected - 0.02
    assert together[(jaccard >= 0.95)].all()
    table = pa.concat_tables(state.parts)
    assert pc.min(table.column("link")).as_py() >= threshold
    # A pair below the threshold may share a cluster through a third document, which then shows in the similarity.
    apart = np.flatnonzero(together & (jaccard < threshold - 0.02))
    assert len(apart) <= 0.03 * (jaccard < threshold).sum()

    step = MinHash(preset="fineweb", threshold=threshold, keep="longest", require_similar_to_survivor=True)
    guarded = pa.concat_tables(step.reduce([step.map(iter(held))]).parts)
    assert pc.min(guarded.column("similarity")).as_py() >= threshold
    assert guarded.column("survivor").null_count >= table.column("survivor").null_count


def test_versions_of_one_manual_page_are_one_cluster() -> None:
    table = pq.read_table(DATA / "text" / "docs_powershell_versions.parquet", columns=["id", "text", "meta"])
    pages = [json.loads(meta)["page"] for meta in table.column("meta").to_pylist()]
    sets = [words_5_grams(text) for text in table.column("text").to_pylist()]
    step = MinHash(preset="fineweb", verify="exact", keep="longest")
    held = batches(table.select(["id", "text"]))
    state = step.reduce([step.map(iter(held[:1])), step.map(iter(held[1:]))])
    of = clusters(state)
    versions: dict[str, list[int]] = {}
    for number, page in enumerate(pages):
        versions.setdefault(page, []).append(number)
    same, found = 0, 0
    for rows in versions.values():
        for a, b in combinations(rows, 2):
            if sets[a] and len(sets[a] & sets[b]) >= 0.9 * len(sets[a] | sets[b]):
                same += 1
                found += of[a] is not None and of[a] == of[b]
    assert same > 250
    assert found >= 0.99 * same
    removed = [row for row in pa.concat_tables(state.parts).to_pylist() if row["survivor"]]
    row_of = {name: number for number, name in enumerate(table.column("id").to_pylist())}
    for row in removed:
        one, other = sets[row_of[row["id"]]], sets[row_of[row["survivor"]]]
        assert row["similarity"] == pytest.approx(
            len(one & other) / len(one | other), abs=0.05
        )  # words are cut a little otherwise
    assert state.summary["removed"] == len(removed) > 250


def words_5_grams(text: str) -> set[tuple[str, ...]]:
    """Runs of letters and digits, in fives."""
    words = "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
