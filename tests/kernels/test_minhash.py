"""Signatures against plain Python and against datasketch, sets and exact similarity, and the estimate's sharpness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.compile import kernel
from curate.kernels.minhash import (
    EMPTY,
    HashFunctions,
    Scheme,
    _sort,
    band_keys,
    containment_pairs,
    jaccard_pairs,
    sketches,
)
from curate.kernels.shingles import Unit, shingles

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
MASK = 2**64 - 1
WORDS = [a + b + c for a in "bdfgk" for b in "aeiou" for c in ("l", "m", "n", "r", "st")]
TEXTS = st.lists(st.lists(st.sampled_from([*WORDS[:12], "É", "漢", "!"]), max_size=60).map(" ".join), max_size=5)


@kernel
def sort_into(hashes, counts, out):  # type: ignore[no-untyped-def]
    _sort(hashes, hashes.shape[0], counts, out)


def mix(word: int) -> int:
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * multiplier & MASK
    return word ^ word >> 33


def mix32(word: int) -> int:
    word = (word ^ word >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ word >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ word >> 16


@given(TEXTS, st.integers(1, 40), st.integers(0, 9), st.sampled_from(["words", "characters"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_sketches_are_those_of_plain_python(texts: list[str], k: int, seed: int, unit: Unit, sets: bool) -> None:
    functions = HashFunctions.of(k, seed=seed)
    found = sketches(pa.array(texts, pa.string()), 3, unit=unit, functions=functions, sets=sets)
    offsets, hashes = shingles(pa.array(texts, pa.string()), 3, unit=unit)
    for i in range(len(texts)):
        own = hashes[offsets[i] : offsets[i + 1]].tolist()
        for p, (a, b) in enumerate(
            zip(functions.multipliers.tolist()[:k], functions.addends.tolist()[:k], strict=True)
        ):
            values = [(a * mix32(h % 2**32) + b) % 2**32 for h in own]
            assert found.minima[i, p] == min(values, default=int(EMPTY))
        if sets:
            own = sorted(set(own))
            assert found.sets[found.offsets[i] : found.offsets[i + 1]].tolist() == own
        assert found.sizes[i] == len(own)
        assert found.digests[i].tolist() == [sum(own) & MASK, sum(map(mix, own)) & MASK]


@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
@pytest.mark.parametrize(("k", "seed"), [(112, 1), (5, 0), (260, 2**32 - 1)])
def test_signatures_are_datasketchs_bit_for_bit(scheme: Scheme, k: int, seed: int) -> None:
    """The same shingles, as 8 bytes each, of which the hash function of both takes the first 4."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=size)) for size in (1, 3, 40, 3000)] + ["", "!"]
    found = sketches(pa.array(texts), 2, functions=HashFunctions.of(k, seed=seed, scheme=scheme))
    offsets, hashes = shingles(pa.array(texts), 2)
    for i in range(len(texts)):
        theirs = MinHash(k, seed, hashfunc=lambda token: int.from_bytes(token[:4], "little"), scheme=scheme)
        theirs.update_batch([token.tobytes() for token in hashes[offsets[i] : offsets[i + 1]]])
        assert found.minima[i].tolist() == theirs.hashvalues.tolist()


def test_without_functions_there_are_no_minima_and_sets_are_made_only_if_wanted() -> None:
    found = sketches(pa.array(["bal dem far gam bal dem far gam"]), 2)
    assert (found.minima.shape, len(found.sets)) == ((1, 0), 0)
    assert found.sizes.tolist() == [7]
    assert sketches(pa.array(["bal dem far gam bal dem far gam"]), 2, sets=True).sizes.tolist() == [4]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=12, max_size=12), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_keys_of_bands_are_equal_where_all_their_minima_are(values: list[int], copied: int) -> None:
    minima = np.array([values, [v if i // 3 == copied else v ^ 1 for i, v in enumerate(values)]], dtype=np.uint32)
    keys = band_keys(minima, 4, 3)
    assert (keys[0] == keys[1]).tolist() == [band == copied for band in range(4)]
    assert len(set(keys.ravel().tolist())) == 7


def test_a_text_of_one_word_over_and_over_is_sorted_in_no_time() -> None:
    found = sketches(pa.array(["bal " * 300_000, " ".join(WORDS * 2000)]), 3, sets=True)
    assert np.diff(found.offsets).tolist() == [1, len(WORDS)]
    assert found.sets[1:].tolist() == sorted(found.sets[1:].tolist())


@given(st.lists(st.integers(0, MASK) | st.integers(0, 40), max_size=80), st.integers(0, 63))
@settings(max_examples=100, deadline=None)
def test_hashes_are_sorted_whatever_they_are(values: list[int], shift: int) -> None:
    """Those of a text are as good as random; others, all in one bucket, take the long way."""
    hashes = np.array([value >> shift for value in values], dtype=np.uint64)
    out = np.zeros(len(values), dtype=np.uint64)
    sort_into(hashes, np.zeros(2 * len(values) + 2, dtype=np.uint32), out)
    assert out.tolist() == sorted(hashes.tolist())


@pytest.mark.parametrize("similarity", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("scheme", ["affine32", "legacy"])
def test_the_estimate_is_unbiased_and_as_sharp_as_theory_says(similarity: float, scheme: Scheme) -> None:
    """300 pairs of texts of single words (n-grams of one) with a known Jaccard similarity, 112 minima each."""
    pairs, size, k = 300, 400, 112
    shared = round(2 * size * similarity / (1 + similarity))
    truth = shared / (2 * size - shared)
    texts = []
    for pair in range(pairs):
        words = [f"{WORDS[i % 125]}{i // 125}x{pair}" for i in range(2 * size - shared)]
        texts += [" ".join(words[:size]), " ".join(words[size - shared :])]
    minima = sketches(pa.array(texts), 1, functions=HashFunctions.of(k, seed=7, scheme=scheme)).minima
    errors = (minima[0::2] == minima[1::2]).mean(axis=1) - truth
    sigma = np.sqrt(truth * (1 - truth) / k)
    assert abs(errors.mean()) < 3.5 * sigma / np.sqrt(pairs)
    assert 0.87 < np.sqrt(np.mean(errors**2)) / sigma < 1.13


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_exact_similarities_are_those_of_sets(parts: list[list[int]]) -> None:
    parts = [sorted(set(part)) for part in parts]
    offsets = np.cumsum([0, *map(len, parts)])
    hashes = np.array([h for part in parts for h in part], dtype=np.uint64)
    left, right = (side.ravel() for side in np.meshgrid(np.arange(len(parts)), np.arange(len(parts))))
    jaccard = jaccard_pairs(offsets, hashes, left, right)
    containment = containment_pairs(offsets, hashes, left, right)
    for i, j, found, contained in zip(left, right, jaccard, containment, strict=True):
        a, b = set(parts[i]), set(parts[j])
        assert found == (len(a & b) / len(a | b) if a | b else 0)
        assert contained == (len(a & b) / min(len(a), len(b)) if a and b else 0)


def test_wrong_shapes_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="14 bands of 8 rows do not fit into signatures of 100 minima"):
        band_keys(np.zeros((2, 100), dtype=np.uint32), 14, 8)
    with pytest.raises(ValueError, match="name documents 1 to 2; there are 2"):
        jaccard_pairs(np.array([0, 1, 2]), np.array([1, 2], dtype=np.uint64), np.array([0, 0]), np.array([1, 2]))


def test_the_estimate_follows_measured_similarities_of_real_revisions() -> None:
    """Pairs of real revisions with a published exact word-5-gram Jaccard similarity, by another normalisation."""
    path = DATA / "dedup" / "dedup_pairs.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    documents = pq.read_table(DATA / "dedup" / "dedup_docs.parquet", columns=["id", "text"])
    row_of = {identifier: row for row, identifier in enumerate(documents["id"].to_pylist())}
    pairs = [pair for pair in pq.read_table(path).to_pylist() if pair["id_a"] in row_of and pair["id_b"] in row_of]
    left, right = (np.array([row_of[pair[name]] for pair in pairs]) for name in ("id_a", "id_b"))
    rows = np.unique(np.concatenate([left, right]))
    texts = documents["text"].combine_chunks().take(pa.array(rows))
    found = sketches(texts, 5, functions=HashFunctions.of(256, seed=1), sets=True)
    left, right = np.searchsorted(rows, left), np.searchsorted(rows, right)
    exact = jaccard_pairs(found.offsets, found.sets, left, right)
    estimate = (found.minima[left] == found.minima[right]).mean(axis=1)
    assert np.sqrt(np.mean((estimate - exact) ** 2)) < 1.1 * np.sqrt(np.mean(exact * (1 - exact)) / 256)
    assert np.corrcoef(exact, [pair["jaccard5"] for pair in pairs])[0, 1] > 0.95
