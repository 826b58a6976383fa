"""Shingles, signatures, bands and exact similarity against plain Python, and the estimate against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.hashing import hash_strings
from curate.kernels.minhash import (
    EMPTY,
    band_keys,
    containment_pairs,
    jaccard_pairs,
    permutations,
    shingles,
    signatures,
    sorted_unique,
)
from curate.kernels.text_index import TextIndex

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
MASK = 2**64 - 1


def mix(word: int) -> int:
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * multiplier & MASK
    return word ^ word >> 33


def lower(word: str) -> str:
    return "".join("'" if c == "’" else c.lower() if len(c.lower()) == 1 else c for c in word)


def reference_shingles(words: list[str], n: int) -> list[int]:
    """Words are already normalised."""
    hashes = [int(h) for h in hash_strings(pa.array(words, type=pa.string()))]
    found = []
    for i in range(max(len(words) - n + 1, 1) if words else 0):
        state = 0
        for h in hashes[i : i + n]:
            state = (state * 0x5851F42D4C957F2D + h) & MASK
        found.append(mix(state))
    return found


WORDS = st.lists(
    st.sampled_from(
        [
            "Alpha",
            "BETA",
            "gamma7",
            "ÉCOLE",
            "don’t",
            "DON'T",
            "ſ",
            "Ω",
            "Ⱥlpha",
            "漢",
            "42",
            "Straße",
            "a_B",
            "İ",
            "𐐀x",
        ]
    ),
    max_size=30,
)


@given(st.lists(WORDS, max_size=5), st.integers(1, 7), st.sampled_from([" ", "\n\n", " -- ", ", ", "\u3000…\t"]))
@settings(max_examples=200, deadline=None)
def test_shingles_are_hashes_of_normalised_words(documents: list[list[str]], n: int, between: str) -> None:
    offsets, hashes = shingles(pa.array([between.join(words) for words in documents], type=pa.string()), n)
    for i, words in enumerate(documents):
        assert hashes[offsets[i] : offsets[i + 1]].tolist() == reference_shingles([lower(word) for word in words], n)


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_any_bytes_have_shingles_and_the_same_ones_twice(raws: list[bytes], n: int) -> None:
    ends = np.cumsum([0, *map(len, raws)], dtype=np.int32)
    texts = pa.Array.from_buffers(pa.string(), len(raws), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(raws))])
    first, second = shingles(texts, n), shingles(TextIndex.of(texts), n)
    assert first[0].tolist() == second[0].tolist() and first[1].tolist() == second[1].tolist()


def test_case_punctuation_and_whitespace_do_not_matter() -> None:
    texts = [
        "The cat's  ÉTUDE, is (over)!",
        "the CAT’S\nétude is over",
        "the cat's étude is not over",
        "!?",
        None,
        "The",
    ]
    offsets, hashes = shingles(pa.array(texts), 3)
    parts = [hashes[offsets[i] : offsets[i + 1]].tolist() for i in range(len(texts))]
    assert parts[0] == parts[1] != parts[2]
    assert [len(part) for part in parts] == [3, 3, 4, 0, 0, 1]


@given(
    st.lists(st.lists(st.integers(0, MASK), max_size=30), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 9)
)
@settings(max_examples=150, deadline=None)
def test_signatures_and_bands_are_those_of_plain_python(sets: list[list[int]], k: int, seed: int) -> None:
    offsets = np.cumsum([0, *map(len, sets)])
    hashes = np.array([h for part in sets for h in part], dtype=np.uint64)
    multipliers, addends = permutations(k, seed)
    minima = signatures(offsets, hashes, (multipliers, addends))
    for i, part in enumerate(sets):
        for p in range(k):
            a, b = int(multipliers[p]), int(addends[p])
            assert minima[i, p] == min([(a * (mix(h) % 2**32) + b) % 2**32 for h in part], default=int(EMPTY))
    bands = max(1, k // 3)
    keys = band_keys(minima, bands, k // bands)
    assert keys.shape == (len(sets), bands)
    for i in range(len(sets)):
        for j in range(len(sets)):
            same = [(minima[i] == minima[j])[b * (k // bands) : (b + 1) * (k // bands)].all() for b in range(bands)]
            assert (keys[i] == keys[j]).tolist() == same


@pytest.mark.parametrize("low_entropy", [False, True])
@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.8, 0.95])
def test_the_estimate_is_unbiased_and_as_sharp_as_theory_says(similarity: float, low_entropy: bool) -> None:
    """200 pairs of sets with a known Jaccard similarity, 256 minima each; also with consecutive numbers as hashes."""
    generator = np.random.default_rng(int(similarity * 100))
    pairs, size, k = 200, 400, 256
    shared = round(2 * size * similarity / (1 + similarity))
    truth = shared / (2 * size - shared)
    rows = []
    for pair in range(pairs):
        if low_entropy:
            pool = np.arange(2 * size - shared, dtype=np.uint64) + np.uint64(pair * 5000)
        else:
            pool = generator.integers(0, 2**64, size=2 * size - shared, dtype=np.uint64)
        rows += [pool[:size], pool[size - shared :]]
    offsets = np.cumsum([0, *map(len, rows)])
    minima = signatures(offsets, np.concatenate(rows), permutations(k, 7))
    estimates = (minima[0::2] == minima[1::2]).mean(axis=1)
    sigma = np.sqrt(truth * (1 - truth) / k)
    assert abs(estimates.mean() - truth) < 3 * sigma / np.sqrt(pairs)
    assert 0.8 < estimates.std() / sigma < 1.25


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_exact_similarities_are_those_of_sets(parts: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, parts)])
    original = np.array([h for part in parts for h in part], dtype=np.uint64)
    hashes = original.copy()
    unique_offsets, unique = sorted_unique(offsets, hashes)
    assert hashes.tolist() == original.tolist()
    for i, part in enumerate(parts):
        assert unique[unique_offsets[i] : unique_offsets[i + 1]].tolist() == sorted(set(part))
    left, right = (side.ravel() for side in np.meshgrid(np.arange(len(parts)), np.arange(len(parts))))
    jaccard = jaccard_pairs(unique_offsets, unique, left, right)
    containment = containment_pairs(unique_offsets, unique, left, right)
    for i, j, found, contained in zip(left, right, jaccard, containment, strict=True):
        a, b = set(parts[i]), set(parts[j])
        assert found == (len(a & b) / len(a | b) if a | b else 0)
        assert contained == (len(a & b) / min(len(a), len(b)) if a and b else 0)


def test_wrong_shapes_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="14 bands of 8 rows do not fit into signatures of 100 minima"):
        band_keys(np.zeros((2, 100), dtype=np.uint32), 14, 8)
    with pytest.raises(ValueError, match="name documents 1 to 2; there are 2"):
        jaccard_pairs(np.array([0, 1, 2]), np.array([1, 2], dtype=np.uint64), np.array([0, 0]), np.array([1, 2]))
    with pytest.raises(ValueError, match="at least one word"):
        shingles(pa.array(["a"]), 0)


def test_the_estimate_follows_measured_similarities_of_real_revisions() -> None:
    """Pairs of real revisions with a published exact word-5-gram Jaccard similarity, by another normalisation."""
    path = DATA / "dedup" / "dedup_pairs.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    documents = pq.read_table(DATA / "dedup" / "dedup_docs.parquet", columns=["id", "text"])
    row_of = {identifier: row for row, identifier in enumerate(documents["id"].to_pylist())}
    pairs = [pair for pair in pq.read_table(path).to_pylist() if pair["id_a"] in row_of and pair["id_b"] in row_of][
        :500
    ]
    left, right = (np.array([row_of[pair[name]] for pair in pairs]) for name in ("id_a", "id_b"))
    rows = np.unique(np.concatenate([left, right]))
    offsets, hashes = shingles(TextIndex.of(documents["text"].combine_chunks()).select(rows), 5)
    left, right = np.searchsorted(rows, left), np.searchsorted(rows, right)
    exact = jaccard_pairs(*sorted_unique(offsets, hashes), left, right)
    minima = signatures(offsets, hashes, permutations(256, 1))
    estimate = (minima[left] == minima[right]).mean(axis=1)
    sigma = np.sqrt(exact * (1 - exact) / 256)
    assert np.abs(estimate - exact).mean() < 1.2 * sigma.mean()
    assert np.corrcoef(exact, [pair["jaccard5"] for pair in pairs])[0, 1] > 0.95
