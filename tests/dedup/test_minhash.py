"""MinHash deduplication against brute force in plain Python on small corpora, and on the cases that break others."""

import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.dedup.minhash import MinHash
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.errors import InputError, MismatchError
from curate.steps import Outcome, State

NGRAM = 3
WORDS = [a + b + c for a in "bdfgk" for b in "aeiou" for c in ("l", "m", "n", "r", "st")]


# The reference: slow and obvious.


def shingles_of(text: str, ngram: int = NGRAM) -> set[tuple[str, ...]]:
    words = text.lower().split()
    words = [word for word in words if word.isalnum()]
    return {tuple(words[i : i + ngram]) for i in range(max(len(words) - ngram + 1, min(len(words), 1)))}


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def components(count: int, edges: list[tuple[int, int]]) -> list[frozenset[int]]:
    group = {i: {i} for i in range(count)}
    for a, b in edges:
        if group[a] is not group[b]:
            group[a] |= group[b]
            for member in group[b]:
                group[member] = group[a]
    return sorted({frozenset(members) for members in group.values()}, key=min)


def true_links(texts: list[str], step: MinHash, keys: np.ndarray) -> list[tuple[int, int]]:
    """Pairs that must be linked: a band in common and Jaccard >= threshold; without words: the same normalised text."""
    sets = [shingles_of(text, step.banding.ngram) for text in texts]
    links = []
    for i in range(len(texts)):
        for j in range(i):
            if sets[i] and sets[j]:
                if (keys[i] == keys[j]).any() and jaccard(sets[i], sets[j]) >= step.least_similarity:
                    links.append((i, j))
            elif not sets[i] and not sets[j] and texts[i].lower().split() == texts[j].lower().split():
                links.append((i, j))
    return links


# The corpora.


def rewritten(rng: random.Random, text: str, share: float) -> str:
    return " ".join(rng.choice(WORDS) if rng.random() < share else word for word in text.split())


def small_corpus(seed: int) -> list[str]:
    """Families of near-copies with edits of 0 to 20%, and some short, empty and repeated documents."""
    rng = random.Random(seed)
    texts = []
    for _ in range(rng.randint(1, 8)):
        text = " ".join(rng.choices(WORDS, k=rng.randint(NGRAM, 60)))
        texts += [rewritten(rng, text, rng.choice([0, 0, 0.02, 0.05, 0.1, 0.2])) for _ in range(rng.randint(1, 6))]
    texts += rng.choices(["", "  ", "bal", "Bal", "bal  dem", "bal dem", "?", "!"], k=rng.randint(0, 6))
    rng.shuffle(texts)
    return texts


def batch_of(texts: Sequence[str | None], ids: list[str] | None = None, dates: list[str | None] | None = None) -> Batch:
    count = len(texts)
    columns = {
        "id": ids or [f"d{i:05}" for i in range(count)],
        "text": texts,
        "date": dates or [None] * count,
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Batch(pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA))


def cut(batch: Batch, places: list[int]) -> list[list[Batch]]:
    """The documents as parts, in batches of up to 7 (an empty part has none)."""
    edges = [0, *sorted(places), len(batch)]
    return [
        [Batch(batch.data.slice(low, min(7, end - low))) for low in range(start, end, 7)]
        for start, end in pairwise(edges)
    ]


def step_of(**parameters: Any) -> MinHash:
    standard: dict[str, Any] = {"bands": 16, "rows": 2, "ngram": NGRAM, "threshold": 0.6}
    return MinHash(**(standard | parameters))


def decided(step: MinHash, parts: list[list[Batch]]) -> tuple[pa.Table, State]:
    state = step.reduce([step.map(iter(part)) for part in parts])
    return pa.concat_tables(state.parts), state


def band_keys_of(step: MinHash, batch: Batch) -> np.ndarray:
    partial = step.map(iter([batch]))
    return np.stack([partial.column(f"band_{band}").to_numpy() for band in range(step.banding.bands)], axis=1)


def clusters_of(table: pa.Table) -> list[frozenset[int]]:
    groups = defaultdict(set)
    for row, cluster in enumerate(table.column("cluster").to_pylist()):
        groups[cluster if cluster is not None else row].add(row)
    return sorted((frozenset(members) for members in groups.values()), key=min)


# Property tests.

slow_but_sure = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow_but_sure
@given(seed=st.integers(0, 10**6), keep=st.sampled_from(["first", "longest", "newest"]))
def test_clusters_are_the_components_of_the_verified_pairs(seed: int, keep: str) -> None:
    texts = small_corpus(seed)
    rng = random.Random(seed)
    dates = [rng.choice([None, "2023-05-01", "2024-01-01T10:00:00Z", "2024-01-02"]) for _ in texts]
    batch, step = batch_of(texts, dates=dates), step_of(keep=keep)
    table, state = decided(step, cut(batch, [rng.randint(0, len(texts)) for _ in range(3)]))
    expected = components(len(texts), true_links(texts, step, band_keys_of(step, batch)))
    assert clusters_of(table) == expected

    sets = [shingles_of(text) for text in texts]
    number = {name: row for row, name in enumerate(table.column("id").to_pylist())}
    for members in expected:
        policy = {
            "first": lambda row: row,
            "longest": lambda row: (-len(texts[row].encode()), row),
            "newest": lambda row: ([-ord(c) for c in dates[row] or ""] + [0], row),
        }[keep]
        best = min(members, key=policy)
        for row in members:
            told = table.slice(row, 1).to_pylist()[0]
            assert told["cluster_size"] == len(members)
            assert told["survivor"] == (None if row == best else table.column("id")[best].as_py())
            if row != best:
                both = sets[row], sets[number[told["survivor"]]]
                assert told["similarity"] == pytest.approx(jaccard(*both) if all(both) else 1.0, abs=1e-12)
                assert told["link"] >= step.least_similarity
    assert state.summary["removed"] == len(texts) - len(expected)
    assert state.summary["skipped_pairs"] == 0


@slow_but_sure
@given(seed=st.integers(0, 10**6), guard=st.booleans())
def test_survivors_do_not_depend_on_the_order_and_number_of_parts(seed: int, guard: bool) -> None:
    texts, rng = small_corpus(seed), random.Random(seed)
    step = step_of(keep="longest", require_similar_to_survivor=guard, reach=3)
    order = list(range(len(texts)))
    whole, _ = decided(step, [[batch_of(texts)]])
    told = {row["id"]: row for row in whole.drop_columns("survivor_part").to_pylist()}
    for _ in range(3):
        rng.shuffle(order)
        shuffled = batch_of([texts[i] for i in order], [f"d{i:05}" for i in order])
        parts = cut(shuffled, [rng.randint(0, len(texts)) for _ in range(rng.randint(0, 5))])
        table, _ = decided(step, parts)
        assert {row["id"]: row for row in table.drop_columns("survivor_part").to_pylist()} == told
        part_of = {
            name: number for number, part in enumerate(parts) for batch in part for name in batch.ids.to_pylist()
        }
        for row in table.to_pylist():
            assert row["survivor_part"] == part_of.get(row["survivor"])


@slow_but_sure
@given(seed=st.integers(0, 10**6), keep=st.sampled_from(["first", "longest"]))
def test_guarded_clusters_hold_only_what_is_similar_to_the_survivor(seed: int, keep: str) -> None:
    texts = small_corpus(seed)
    batch, guarded = batch_of(texts), step_of(keep=keep, require_similar_to_survivor=True)
    table, _ = decided(guarded, [[batch]])
    free, _ = decided(step_of(keep=keep), [[batch]])
    cluster = {row: members for members in clusters_of(free) for row in members}
    number = {name: row for row, name in enumerate(table.column("id").to_pylist())}
    sets = [shingles_of(text) for text in texts]
    for row, told in enumerate(table.to_pylist()):
        if told["survivor"] is None:
            continue
        survivor = number[told["survivor"]]
        assert table.column("survivor")[survivor].as_py() is None
        assert survivor in cluster[row]
        similar = jaccard(sets[row], sets[survivor]) if sets[row] else 1.0
        assert told["similarity"] == pytest.approx(similar, abs=1e-12)
        assert similar >= guarded.least_similarity
    sizes = {min(members): len(members) for members in clusters_of(table)}
    assert all(table.column("cluster_size")[row].as_py() == size for row, size in sizes.items())


@pytest.mark.parametrize("verify", ["exact", "estimated"])
def test_documents_of_one_id_are_both_handled(verify: str) -> None:
    rng = random.Random(3)
    a, b, c = (" ".join(rng.choices(WORDS, k=40)) for _ in range(3))
    batch = batch_of([a, b, a + " bal", c], ids=["same", "same", "same", "other"])
    table, state = decided(step_of(verify=verify), [[batch]])
    assert clusters_of(table)[-1] == {3}
    assert table.column("cluster_size").to_pylist() == [2, 1, 2, 1]
    assert table.column("survivor").null_count == 3
    assert state.summary["removed"] == 1
    outcome = step_of(verify=verify).process(batch)
    assert len(outcome.batch) == 3
    assert outcome.left.num_rows == 1


# The cases that break others.


def chain(links: int) -> list[str]:
    """Texts of which each resembles the next, and the first does not resemble the last."""
    words = [f"{a}{b}" for a in WORDS for b in ("a", "i", "o")]
    return [" ".join(words[10 * i : 10 * i + 60]) for i in range(links)]


def test_a_chain_is_one_cluster_unless_similarity_to_the_survivor_is_required() -> None:
    texts = chain(12)
    assert jaccard(shingles_of(texts[0]), shingles_of(texts[1])) > 0.6 > jaccard(*map(shingles_of, texts[0:3:2]))
    strong = {"bands": 64, "rows": 1}
    table, state = decided(step_of(**strong), [[batch_of(texts)]])
    assert clusters_of(table) == [frozenset(range(12))]
    assert state.summary["removed_below_threshold"] == 10
    assert table.column("similarity")[11].as_py() == 0.0
    assert table.column("link")[11].as_py() > 0.6

    table, state = decided(step_of(**strong, require_similar_to_survivor=True), [[batch_of(texts)]])
    assert clusters_of(table) == [frozenset((i, i + 1)) for i in range(0, 12, 2)]
    assert state.summary["removed_below_threshold"] == 0
    assert state.summary["removed"] == 6


def test_a_hundred_thousand_copies_cost_no_comparison() -> None:
    rng = random.Random(1)
    text = " ".join(rng.choices(WORDS, k=50))
    step = step_of()
    decided(step, [[batch_of([text])]])  # compiles
    ids = [f"d{i:06}" for i in range(100_000)]
    parts = [[batch_of([text] * 20_000, ids[i : i + 20_000])] for i in range(0, 100_000, 20_000)]
    start = time.perf_counter()
    table, state = decided(step, parts)
    assert time.perf_counter() - start < 20
    assert state.summary["compared_pairs"] == 0
    assert state.summary["removed"] == 99_999
    assert set(table.column("cluster_size").to_pylist()) == {100_000}
    assert table.column("survivor")[99_999].as_py() == "d000000"


@pytest.mark.parametrize("guard", [False, True])
def test_a_large_bucket_is_bounded_and_says_what_it_left_out(guard: bool) -> None:
    rng = random.Random(1)
    text, count = " ".join(rng.choices(WORDS, k=150)), 3_000
    texts = [text + f" {WORDS[i // 125]} {WORDS[i % 125]}{WORDS[i // 125]}" for i in range(count)]
    step = step_of(bands=4, rows=4, reach=8, require_similar_to_survivor=guard)
    table, state = decided(step, [[batch_of(texts)]])
    assert len(clusters_of(table)) == 1
    assert state.summary["compared_pairs"] <= 4 * 8 * count
    assert state.summary["skipped_pairs"] > count * (count - 1) / 2
    assert state.summary["largest_clusters"][0]["size"] == count


@pytest.mark.parametrize(("own", "linked"), [(39, True), (40, True), (41, False)])
def test_a_pair_that_its_lengths_just_allow_is_compared(own: int, linked: bool) -> None:
    words = [f"{a}{b}" for a in WORDS for b in "ae"]
    pair = [" ".join(words[:60]), " ".join(words[: 60 + own])]  # similarity 60 / (60 + own)
    table, state = decided(step_of(bands=64, rows=1, ngram=1, threshold=0.6), [[batch_of(pair)]])
    assert (len(clusters_of(table)) == 1) == linked
    assert (state.summary["too_different_pairs"] > 0) == (not linked)


def test_more_pairs_than_may_wait_give_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for seed in range(5) for text in small_corpus(seed)]
    expected = {guard: decided(step_of(require_similar_to_survivor=guard), [[batch_of(texts)]])[0] for guard in (0, 1)}
    monkeypatch.setattr("curate.dedup.links.PAIRS_HELD", 3)
    monkeypatch.setattr("curate.dedup.similarity.BLOCK_BYTES", 1000)
    for guard, table in expected.items():
        assert decided(step_of(require_similar_to_survivor=guard), [[batch_of(texts)]])[0].equals(table)


def test_empty_texts_are_duplicates_of_each_other_only() -> None:
    table, state = decided(step_of(), [[batch_of(["", None, "   ", "?", "bal dem far", "bal"])]])
    assert clusters_of(table) == [{0, 1, 2}, {3}, {4}, {5}]
    assert state.summary["without_words"] == 4


@pytest.mark.parametrize("parameters", [{}, {"verify": "estimated"}, {"verify": "none"}, {"keep": "newest"}])
def test_one_document_and_no_document_pass(parameters: dict[str, object]) -> None:
    step = step_of(**parameters)
    table, state = decided(step, [[], [batch_of(["bal dem far gam"])], []])
    assert table.to_pylist() == [
        dict.fromkeys(("survivor", "survivor_part", "cluster", "similarity", "link"))
        | {"id": "d00000", "cluster_size": 1}
    ]
    assert [part.num_rows for part in state.parts] == [0, 1, 0]
    assert step.reduce([]).parts == []
    assert list(step.apply(iter([]), state.parts[0])) == []
    nothing = step.reduce([step.map(iter([]))])
    assert nothing.summary["documents"] == 0


def test_without_verification_a_shared_band_is_enough() -> None:
    texts = small_corpus(5)
    batch, step = batch_of(texts), step_of(verify="none", threshold=None)
    keys, sets = band_keys_of(step, batch), [shingles_of(text) for text in texts]
    shared = [(i, j) for i in range(len(texts)) for j in range(i) if sets[i] and sets[j] and (keys[i] == keys[j]).any()]
    alike = true_links(texts, step, keys)
    assert clusters_of(decided(step, [[batch]])[0]) == components(len(texts), shared + alike)


def test_a_document_within_another_is_its_duplicate_by_containment_only() -> None:
    rng = random.Random(2)
    words = [f"{a}{b}" for a in WORDS for b in "aeio"]
    rng.shuffle(words)
    batch = batch_of([" ".join(words[40:220]), " ".join(words[:300]), " ".join(words[200:420])])
    banding = {"bands": 64, "rows": 1, "keep": "longest"}
    assert clusters_of(decided(step_of(**banding, threshold=0.9), [[batch]])[0]) == [{0}, {1}, {2}]
    table, state = decided(step_of(**banding, threshold=0.9, verify="containment"), [[batch]])
    assert clusters_of(table) == [{0, 1}, {2}]
    assert table.column("survivor").to_pylist() == ["d00001", None, None]
    assert table.column("similarity")[0].as_py() == 1.0
    assert state.summary["too_different_pairs"] == 0


@pytest.mark.parametrize("verify", ["exact", "estimated"])
def test_documents_of_one_shingle_are_matched_exactly(verify: str) -> None:
    texts = ["Bal dem!", "bal, dem", "bal demo", "bal dem far", "bal dem far gam", "dem bal", "BAL DEM FAR"]
    table, state = decided(step_of(verify=verify, threshold=0.3), [[batch_of(texts)]])
    assert clusters_of(table) == [{0, 1}, {2}, {3, 6}, {4}, {5}]
    assert state.summary["compared_pairs"] == 0


def test_characters_find_what_words_miss() -> None:
    rng = random.Random(6)
    text = "".join(rng.choices("abcdefghij", k=400))
    spaced = " ".join(text[i : i + 7] for i in range(0, 400, 7))
    other = spaced[:200] + "x" + spaced[201:]
    batch = batch_of([spaced, other, spaced.replace(" ", " - ").upper(), spaced[::-1]])
    table, _ = decided(step_of(ngram=8, unit="characters", threshold=0.8), [[batch]])
    assert clusters_of(table) == [{0, 1, 2}, {3}]
    nemotron = MinHash(preset="nemotron_cc")
    assert (nemotron.banding.minima, nemotron.banding.unit, nemotron.banding.ngram) == (260, "characters", 24)
    assert clusters_of(decided(nemotron, [[batch]])[0]) == [{0, 1, 2}, {3}]


def test_estimates_are_the_share_of_equal_minima() -> None:
    rng = random.Random(8)
    texts = [text for _ in range(150) for text in [" ".join(rng.choices(WORDS, k=80))]]
    texts += [rewritten(rng, text, 0.04) for text in texts]
    step = step_of(bands=40, rows=4, verify="estimated", threshold=0.5)
    table, _ = decided(step, [[batch_of(texts)]])
    sets = {f"d{i:05}": shingles_of(text) for i, text in enumerate(texts)}
    errors = [
        row["similarity"] - jaccard(sets[row["id"]], sets[row["survivor"]])
        for row in table.to_pylist()
        if row["survivor"]
    ]
    assert len(errors) > 100
    assert np.sqrt(np.mean(np.square(errors))) < 1.2 * np.sqrt(0.25 / 160)
    assert min(row["similarity"] for row in table.to_pylist() if row["survivor"]) >= 0.5


def of_similarity(rng: random.Random, shared: int, own: int, stem: str) -> tuple[str, str]:
    """Two texts of single words (n-grams of one) with `shared` in common and `own` each to themselves."""
    words = [f"{stem}{WORDS[i // 125]}{WORDS[i % 125]}" for i in range(shared + 2 * own)]
    left, right = words[: shared + own], words[:shared] + words[shared + own :]
    rng.shuffle(left)
    rng.shuffle(right)
    return " ".join(left), " ".join(right)


@pytest.mark.parametrize(("shared", "own"), [(70, 15), (80, 10), (85, 15), (95, 5)])
def test_pairs_are_found_as_often_as_the_curve_says(shared: int, own: int) -> None:
    rng, pairs = random.Random(shared), 400
    texts = [text for i in range(pairs) for text in of_similarity(rng, shared, own, WORDS[i // 20] + WORDS[i % 20])]
    similarity = shared / (shared + 2 * own)
    found = 0
    for seed in range(3):
        step = MinHash(bands=14, rows=8, ngram=1, threshold=0.5, seed=seed)
        _, state = decided(step, [[batch_of(texts)]])
        found += state.summary["removed"]
    expected = step.banding.probability_found(similarity)
    error = np.sqrt(expected * (1 - expected) / (3 * pairs))
    assert abs(found / (3 * pairs) - expected) < 3.3 * error + 1e-3


def test_presets_find_what_their_curves_say() -> None:
    fineweb, refinedweb = MinHash(preset="fineweb").banding, MinHash(preset="refinedweb").banding
    measured = [round(fineweb.probability_found(s), 3) for s in (0.7, 0.8, 0.85)]
    assert measured == [0.565, 0.924, 0.988]
    assert [round(refinedweb.probability_found(s), 3) for s in (0.7, 0.8)] == [0.302, 0.995]
    assert MinHash().banding == fineweb
    assert MinHash().least_similarity == 0.72


def test_datasketch_finds_as_many_pairs_on_the_same_shingles() -> None:
    datasketch = pytest.importorskip("datasketch")
    from curate.kernels.shingles import shingles

    rng, pairs, similarity = random.Random(5), 250, 70 / 94
    texts = [text for i in range(pairs) for text in of_similarity(rng, 70, 12, WORDS[i // 20] + WORDS[i % 20])]
    batch = batch_of(texts)
    _, state = decided(MinHash(bands=14, rows=8, ngram=1, threshold=0.5), [[batch]])
    offsets, hashes = shingles(batch.texts, 1)
    lsh = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
    found = 0
    for row in range(len(texts)):
        signature = datasketch.MinHash(num_perm=112, hashfunc=lambda value: int(value) & 0xFFFFFFFF)
        signature.update_batch(hashes[offsets[row] : offsets[row + 1]].tolist())
        found += row - 1 in lsh.query(signature) if row % 2 else 0
        lsh.insert(row, signature)
    probability = MinHash().banding.probability_found(similarity)
    error = np.sqrt(2 * probability * (1 - probability) / pairs)
    assert abs(found - state.summary["removed"]) / pairs < 3 * error


# The contract.


def applied(step: MinHash, parts: list[list[Batch]]) -> list[Outcome]:
    state = step.reduce([step.map(iter(part)) for part in parts])
    return [outcome for part, told in zip(parts, state.parts, strict=True) for outcome in step.apply(iter(part), told)]


def test_departures_name_the_survivor_and_nobody_is_lost() -> None:
    texts = small_corpus(11)
    batch, step = batch_of(texts), step_of(keep="longest")
    parts = cut(batch, [len(texts) // 3, len(texts) // 2])
    table, _ = decided(step, parts)
    outcomes = applied(step, parts)
    kept = [row for outcome in outcomes for row in outcome.batch.data.to_pylist()]
    part_of = [number for number, part in enumerate(parts) for _ in part]
    stayed = {
        (name, part) for part, outcome in zip(part_of, outcomes, strict=True) for name in outcome.batch.ids.to_pylist()
    }
    told = {row["id"]: row for row in table.to_pylist()}
    assert [row["id"] for row in kept] == [row["id"] for row in told.values() if row["survivor"] is None]
    assert all(row["minhash.cluster_size"] == told[row["id"]]["cluster_size"] for row in kept)
    assert {row["minhash.cluster"] for row in kept if row["minhash.cluster_size"] > 1} == {
        row["survivor"] for row in told.values() if row["survivor"]
    }
    gone = 0
    for incoming, outcome in zip([batch for part in parts for batch in part], outcomes, strict=True):
        for row in outcome.left.to_pylist():
            was = told[incoming.ids[row["row"]].as_py()]
            assert (row["fate"], row["rule"], row["threshold"]) == ("duplicate", "minhash", 0.6)
            assert (row["survivor"], row["value"]) == (was["survivor"], was["similarity"])
            assert (row["survivor"], row["survivor_part"]) in stayed
            gone += 1
    assert gone + len(kept) == len(texts)
    assert gone > 0


def test_partials_and_state_survive_a_memory_mapped_file(tmp_path: Path) -> None:
    texts = [text for seed in range(8) for text in small_corpus(seed)]
    batch, step = batch_of(texts), step_of()
    parts = cut(batch, [len(texts) // 2])
    partials = [step.map(iter([*part, batch_of(["x"], ["last"])])) for part in parts]
    mapped = []
    for number, partial in enumerate(partials):
        with pa.ipc.new_file(tmp_path / f"{number}.arrow", partial.schema) as writer:
            writer.write_table(partial)
        mapped.append(pa.ipc.open_file(pa.memory_map(str(tmp_path / f"{number}.arrow"))).read_all())
    state = step.reduce(mapped)
    for part, told, expected in zip(parts, state.parts, step.reduce(partials).parts, strict=True):
        assert told.equals(expected)
        with pa.ipc.new_file(tmp_path / "state.arrow", told.schema) as writer:
            writer.write_table(told)
        read = pa.ipc.open_file(pa.memory_map(str(tmp_path / "state.arrow"))).read_all()
        incoming = [*part, batch_of(["x"], ["last"])]
        for outcome, again in zip(step.apply(iter(incoming), told), step.apply(iter(incoming), read), strict=True):
            assert outcome.batch.data.equals(again.batch.data)
            assert outcome.left.equals(again.left)
    assert json.loads(json.dumps(state.summary)) == state.summary


@pytest.mark.parametrize("other", [{"scheme": "legacy"}, {"unit": "characters"}, {"verify": "none"}, {"ngram": 4}])
def test_signatures_of_other_parameters_are_refused(other: dict[str, Any]) -> None:
    partial = step_of().map(iter([batch_of(["bal dem far"])]))
    step_of(verify="containment").reduce([partial])  # it needs the same
    with pytest.raises(MismatchError, match="part 0 was made with"):
        step_of(**other).reduce([partial])


def test_partials_of_other_settings_are_refused() -> None:
    partial = step_of(seed=1).map(iter([batch_of(["bal dem far"])]))
    with pytest.raises(MismatchError, match="part 1"):
        step_of(seed=2).reduce([step_of(seed=2).map(iter([])), partial])
    with pytest.raises(MismatchError, match="no stated settings"):
        step_of().reduce([partial.replace_schema_metadata(None)])


@pytest.mark.parametrize("change", ["added", "removed", "reordered"])
def test_an_input_that_changed_between_map_and_apply_is_refused(change: str) -> None:
    step = step_of()
    texts = ["bal dem far gam", "kol kir kun kal"]
    state = step.reduce([step.map(iter([batch_of(texts)]))])
    other = {
        "added": [batch_of(texts), batch_of(["new"], ["d9"])],
        "removed": [batch_of(texts[:1])],
        "reordered": [batch_of(texts[::-1], ["d00001", "d00000"])],
    }[change]
    with pytest.raises(MismatchError, match="changed"):
        list(step.apply(iter(other), state.parts[0]))


def test_a_wrong_recipe_is_refused_with_its_field() -> None:
    with pytest.raises(ValidationError, match="preset"):
        MinHash(preset="fineweb", bands=3)
    with pytest.raises(ValidationError, match="belong together"):
        MinHash(bands=3)
    with pytest.raises(ValidationError, match="unit says what ngram counts"):
        MinHash(preset="fineweb", unit="characters")
    with pytest.raises(ValidationError, match="require_similar_to_survivor"):
        MinHash(verify="none", require_similar_to_survivor=True)
    for wrong in ({"threshold": 0}, {"threshold": 1.5}, {"keep": "best"}, {"preset": "c4"}, {"bandz": 3}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            MinHash(**wrong)


def test_newest_without_a_date_column_is_refused() -> None:
    batch = Batch(batch_of(["bal dem far"]).data.select(["id", "text"]))
    with pytest.raises(InputError, match="date"):
        step_of(keep="newest").map(iter([batch]))
