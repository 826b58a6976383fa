"""The kernel finds the n-grams that plain Python finds, on any Unicode and on bytes that are no UTF-8."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.kernels.characters import CLASSES, _arrays
from curate.kernels.ngram_index import NgramTable, find_ngrams, ngram_hashes, words_of

UNSEEN = {0xAD, 0x61C, 0x180E, 0xFEFF, *range(0x300, 0x370), *range(0x200B, 0x2010), *range(0x202A, 0x202F)}
UNSEEN |= {*range(0x2060, 0x2070), *range(0x20D0, 0x2100), *range(0xFE00, 0xFE10)}


def folded(character: str) -> tuple[str, bool] | None:
    """What becomes of a character, and whether it is a word of its own; None: it separates words."""
    point = ord(character)
    if point in UNSEEN:
        return "", False
    if 0xFF10 <= point < 0xFF5B and unicodedata.normalize("NFKC", character).isascii():
        plain = unicodedata.normalize("NFKC", character).lower()
        return (plain, False) if plain.isalnum() else None
    arrays = _arrays()
    place = (int(arrays["property_page"][point >> 8]) << 8) | (point & 255)
    lower = (int(arrays["lower_page"][point >> 8]) << 8) | (point & 255)
    kind = int(arrays["properties"][place])
    if 0x1F3FB <= point < 0x1F400:
        return None
    if 0xC0 <= point < 0x530 or 0x1E00 <= point < 0x2000:
        base = unicodedata.normalize("NFD", character)[0]
        if base != character and base.isalpha():
            return base.lower(), False
    if kind & 0x80:
        return chr(point + int(arrays["lower"][lower])), kind & 0x1F == 0
    return (character, False) if kind & 0x1F == CLASSES["Extend"] else None


def words(text: str) -> list[tuple[str, int, int]]:
    """Folded words with their place, in characters."""
    found: list[tuple[str, int, int]] = []
    word, start = "", 0
    for place, character in enumerate(text + " "):
        what = folded(character)
        if what is not None and not what[1]:
            start = place if not word else start
            word += what[0]
            continue
        if word:
            found.append((word, start, place))
        word = ""
        if what is not None:
            found.append((what[0], place, place + 1))
    return found


texts = st.text(
    st.one_of(
        st.sampled_from("aAbB zZ09.,'’-_\n\u00ad\u0301éÉßŒİıΩάяЙ漢字かカกิन्दी\u200b\ufe0f１Ａ🏽²½"),
        st.characters(codec="utf-8"),
    ),
    max_size=120,
)


@given(st.lists(texts, max_size=4))
@settings(max_examples=150, deadline=None)
def test_words_are_those_of_plain_python(some: list[str]) -> None:
    found = words_of(pa.array(some, pa.string()))
    expected = [[word for word, _, _ in words(text)] for text in some]
    assert np.diff(found.first).tolist() == [len(each) for each in expected]
    said = [word for each in expected for word in each]
    hashed = dict(zip(said, found.hash.tolist(), strict=True))
    assert [hashed[word] for word in said] == found.hash.tolist()
    assert len(set(hashed.values())) == len(hashed)


@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, max_size=4), st.integers(1, 4), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_places_are_those_of_plain_python(items: list[str], some: list[str], n: int, more: int) -> None:
    some = [*some, *items, " ".join(items)]
    wanted: dict[tuple[str, ...], int] = {}
    for text in items:
        own = [word for word, _, _ in words(text)]
        for length in (n, n + more):
            for place in range(len(own) - length + 1):
                wanted.setdefault(tuple(own[place : place + length]), length)
    grams = {gram: hash_of(gram, len(gram)) for gram in wanted}
    tails = np.array([hash_of(gram[-n:], n) for gram in grams], dtype=np.uint64)
    table = NgramTable.of(np.array(list(grams.values()), dtype=np.uint64), np.array([n, n + more]), tails)
    hits = find_ngrams(pa.array(some, pa.large_string()), table)
    found = {
        (int(text), int(table.grams[gram]), int(start), int(end)) for text, gram, start, end in zip(*hits, strict=True)
    }
    expected = set()
    for number, text in enumerate(some):
        placed = words(text)
        for length in {n, n + more}:
            for place in range(len(placed) - length + 1):
                gram = tuple(word for word, _, _ in placed[place : place + length])
                if gram in grams:
                    start, end = (len(text[:at].encode()) for at in (placed[place][1], placed[place + length - 1][2]))
                    expected.add((number, int(grams[gram]), start, end))
    assert found == expected and len(hits.text) == len(expected)


def hash_of(gram: tuple[str, ...], n: int) -> np.uint64:
    return np.uint64(ngram_hashes(words_of(pa.array([" ".join(gram)])).hash, n)[0])


def test_composed_and_decomposed_accents_case_and_width_are_the_same_words() -> None:
    some = ["Café ÉCOLE Ώρα Йод １２", "cafe\u0301 e\u0301cole ωρα йод 12", "CAFE ecole ωρα иод 1\u00ad2"]
    found = words_of(pa.array(some))
    assert np.array_equal(found.hash[:5], found.hash[5:10]) and np.array_equal(found.hash[:5], found.hash[10:])


def test_scripts_without_spaces_have_a_word_a_letter() -> None:
    assert np.diff(words_of(pa.array(["漢字かな", "カタカナ", "ภาษา"])).first).tolist() == [4, 1, 4]


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_no_text_never_fail(data: bytes) -> None:
    array = pa.Array.from_buffers(
        pa.large_string(), 1, [None, pa.py_buffer(np.array([0, len(data)])), pa.py_buffer(data)]
    )
    own = ngram_hashes(words_of(array).hash, 1)
    table = NgramTable.of(np.unique(own), np.array([1]), np.unique(own))
    hits = find_ngrams(array, table)
    assert len(hits.text) == len(own) and (hits.end > hits.start).all() and (hits.end <= len(data)).all()


def test_many_hits_in_one_text_are_all_given() -> None:
    text = "one two three " * 20_000
    gram = np.array([hash_of(("two", "three", "one"), 3)])
    hits = find_ngrams(pa.array(["", text, "two three one"]), NgramTable.of(gram, np.array([3]), gram))
    assert np.bincount(hits.text).tolist() == [0, 19_999, 1]


def test_words_at_the_borders_of_blocks_are_whole() -> None:
    for before in range(60, 70):
        text = " " * before + "border words here"
        gram = np.array([hash_of(("border", "words", "here"), 3)])
        hits = find_ngrams(pa.array([text]), NgramTable.of(gram, np.array([3]), gram))
        assert [(int(a), int(b)) for a, b in zip(hits.start, hits.end, strict=True)] == [(before, len(text))]


def test_an_empty_table_finds_nothing_and_too_long_ngrams_are_refused() -> None:
    none = np.empty(0, dtype=np.uint64)
    assert len(find_ngrams(pa.array(["some words", None]), NgramTable.of(none, np.array([13]), none)).text) == 0
    with pytest.raises(ValueError, match="1 to 63 words"):
        NgramTable.of(none, np.array([64]), none)
    with pytest.raises(InputError):
        find_ngrams(pa.array([1, 2]), NgramTable.of(none, np.array([13]), none))
