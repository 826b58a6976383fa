"""The Bloom filter's rate at any size, n-grams of paragraphs, and BFF's rules against plain Python with a set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.bloom import MODES, BloomFilter, blocks_for, paragraph_ngrams, shape_for
from curate.kernels.hashing import hash_strings
from curate.kernels.text_index import TextIndex

MASK = 2**64 - 1


def mix(word: int) -> int:
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * multiplier & MASK
    return word ^ word >> 33


def hashed(words: list[str]) -> int:
    state = 0
    for value in hash_strings(pa.array(words, type=pa.string())).tolist():
        state = (state * 0x5851F42D4C957F2D + value) & MASK
    return mix(state)


def grams(words: list[str], least: int, most: int) -> list[int]:
    if len(words) < most:
        return [hashed(words)] if words and len(words) >= least else []
    return [hashed(words[i : i + most]) for i in range(len(words) - most + 1)]


def reference(
    documents: list[list[list[str]]], *, least: int, most: int, mode: str, threshold: float
) -> list[tuple[list[bool], bool]]:
    """BFF over documents of paragraphs of words, with a set that is never wrong."""
    seen: set[int] = set()
    verdicts = []
    for paragraphs in documents:
        removed = [False] * len(paragraphs)
        if mode in ("paragraph", "old-both"):
            known = total = 0
            for number, words in enumerate(paragraphs):
                own = grams(words, least, most)
                held = sum(gram in seen for gram in own)
                known, total = known + held, total + len(own)
                removed[number] = bool(own) and held > threshold * len(own)
                if not removed[number]:
                    seen.update(own)
            gone = mode == "old-both" and total > 0 and known > threshold * total
        else:
            words = [word for paragraph in paragraphs for word in paragraph]
            paragraph_of = [number for number, paragraph in enumerate(paragraphs) for _ in paragraph]
            own = grams(words, least, most)
            held_of = [gram in seen for gram in own]
            known, bound = sum(held_of), threshold * len(own)
            gone = bool(own) and (known > bound if mode == "document" else known >= bound)
            if mode == "both" and not gone and len(words) >= most:
                for number, paragraph in enumerate(paragraphs):
                    start = sum(len(before) for before in paragraphs[:number])
                    inside = held_of[start : start + max(len(paragraph) - most + 1, 0)]
                    removed[number] = bool(inside) and sum(inside) >= threshold * len(inside)
            if not gone:
                for place, gram in enumerate(own):
                    if not any(removed[number] for number in paragraph_of[place : place + most]):
                        seen.add(gram)
        verdicts.append((removed, gone))
    return verdicts


WORD = st.sampled_from(["a", "b", "c"])
DOCUMENTS = st.lists(st.lists(st.lists(WORD, max_size=8), min_size=1, max_size=5), min_size=1, max_size=12)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(
    documents=DOCUMENTS, most=st.integers(1, 4), less=st.integers(0, 3), threshold=st.sampled_from([0.0, 0.5, 0.8, 1])
)
def test_the_rules_are_those_of_bff(
    mode: str, documents: list[list[list[str]]], most: int, less: int, threshold: float
) -> None:
    least = max(1, most - less)
    texts = pa.array(["\n".join(" ".join(words) for words in document) for document in documents], pa.string())
    whole = mode in ("document", "both")
    found = paragraph_ngrams(TextIndex.of(texts), least=least, most=most, whole=whole)
    expected_grams = [
        gram
        for document in documents
        for words in ([[word for words in document for word in words]] if whole else document)
        for gram in grams(words, least, most)
    ]
    assert found[3].tolist() == expected_grams
    assert np.diff(found[0]).tolist() == [len(document) for document in documents]
    assert found[1].tolist() == [len(words) for document in documents for words in document]
    seen = BloomFilter(2000, 1e-9)
    removed, contained, gone = seen.judge(*found, least=least, most=most, mode=mode, threshold=threshold)
    expected = reference(documents, least=least, most=most, mode=mode, threshold=threshold)
    assert gone.tolist() == [verdict for _, verdict in expected]
    assert removed.tolist() == [flag for flags, _ in expected for flag in flags]
    assert (contained <= np.diff(found[2])).all()


@pytest.mark.parametrize("whole", [False, True])
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=6))
def test_ngrams_of_any_text_are_those_of_its_words(whole: bool, texts: list[str]) -> None:
    index = TextIndex.of(pa.array(texts, pa.large_string())).select(np.arange(len(texts))[::2])
    offsets, words, gram_offsets, _ = paragraph_ngrams(index, least=2, most=3, whole=whole)
    hashes, first = index.words.hash.tolist(), index.words.first
    for place, row in enumerate(index.rows.tolist()):
        own = hashes[first[row] : first[row + 1]]
        assert words[offsets[place] : offsets[place + 1]].sum() == len(own)
        assert offsets[place + 1] - offsets[place] == texts[row].count("\n") + 1
        if whole:
            states = [own] if 2 <= len(own) < 3 else [own[i : i + 3] for i in range(len(own) - 2)]
            assert gram_offsets[place + 1] - gram_offsets[place] == len(states)


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("ngrams", [1, 777, 123_457])
def test_a_full_filter_is_wrong_as_often_as_asked_whatever_its_size(ngrams: int, rate: float) -> None:
    rng = np.random.default_rng(7)
    seen = BloomFilter(ngrams, rate)
    known = rng.integers(0, 2**64, ngrams, dtype=np.uint64)
    seen.enter(known)
    assert seen.holds(known).all()
    asked = 400_000
    wrong = seen.holds(rng.integers(0, 2**64, asked, dtype=np.uint64)).mean()
    spread = 5 * (rate / asked) ** 0.5
    assert wrong <= 1.15 * rate + spread
    assert abs(seen.rate - wrong) <= 0.1 * rate + spread


def test_a_filter_takes_few_bits_more_than_a_classic_one() -> None:
    classic = -np.log(0.01) / np.log(2) ** 2
    assert classic < 512 / shape_for(0.01)[0] < 1.05 * classic
    assert [blocks_for(number, 0.01) for number in (1, 51, 52, 5174)] == [1, 1, 2, 101]


def test_similar_ngrams_do_not_share_bits() -> None:
    """Hashes that differ in few bits, or lie close to each other, are no worse than random ones."""
    seen = BloomFilter(100_000, 0.01)
    start = np.uint64(0x1234_5678_9ABC_DEF0)
    seen.enter(start + np.arange(100_000, dtype=np.uint64) * np.uint64(2**44 + 1))
    wrong = seen.holds(start + np.arange(100_000, 300_000, dtype=np.uint64) * np.uint64(2**44 + 1)).mean()
    assert wrong <= 0.012
