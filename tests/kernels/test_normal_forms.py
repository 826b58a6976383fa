"""Normal forms of lines and sentences, where sentences end, and texts without spans, against plain Python."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.edits import without_lines
from curate.kernels import characters
from curate.kernels.characters import _arrays
from curate.kernels.hashing import hash_strings
from curate.kernels.lines import find_lines
from curate.kernels.memory import BLOCK
from curate.kernels.normal_forms import (
    ACCENTS,
    DIGIT_RUNS,
    DIGITS,
    PUNCTUATION,
    PUNCTUATION_AS_SPACE,
    normal_hashes,
)
from curate.kernels.sentence_spans import sentence_spans
from curate.kernels.strings import string_buffers
from curate.kernels.text_index import TextIndex

FLAGS = [0, ACCENTS | DIGITS | PUNCTUATION, DIGITS | PUNCTUATION]
FLAGS += [ACCENTS | DIGITS | DIGIT_RUNS | PUNCTUATION_AS_SPACE]


def properties(point: int) -> int:
    arrays = _arrays()
    return int(arrays["properties"][256 * int(arrays["property_page"][point >> 8]) + (point & 255)])


def decoded(data: bytes) -> str:
    """A byte that does not begin a whole sequence counts as one U+FFFD (the rule of curate.kernels.memory)."""
    text, at = "", 0
    while at < len(data):
        lead = data[at]
        size = 1 if lead < 0x80 else 0 if lead < 0xC0 or lead > 0xF7 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        tail = data[at + 1 : at + size]
        if size == 0 or len(tail) != size - 1 or any(byte & 0xC0 != 0x80 for byte in tail):
            text, at = text + "\ufffd", at + 1
            continue
        point = lead if size == 1 else lead & (0x7F >> size)
        for byte in tail:
            point = point << 6 | byte & 0x3F
        text, at = text + chr(point if point < 0x110000 else 0xFFFD), at + size
    return text


def without_accent(character: str) -> str:
    if unicodedata.category(character) == "Mn" and 0xC0 <= ord(character) < 0xFB50:
        return ""
    parts = [part for part in unicodedata.normalize("NFD", character) if unicodedata.category(part) != "Mn"]
    known = 0xC0 <= ord(character) < 0xFB50 and len(parts) == 1 and ord(parts[0]) < 0x10000
    return parts[0] if known else character


def reference(text: str, flags: int) -> str:
    out = ""
    for character in text:
        if flags & ACCENTS:
            character = without_accent(character)
        if character in ("", "\0"):
            continue
        lower = character.lower() if len(character.lower()) == 1 else character
        known = properties(ord(lower))
        marks = not known & characters.NOT_PUNCTUATION or known & characters.ONLY_PUNCTUATION
        if ord(lower) < 128:
            marks = not lower.isalnum()
        if lower.isspace():
            lower = " "
        elif flags & DIGITS and known & characters.DIGIT:
            lower = "0"
        elif marks and flags & PUNCTUATION_AS_SPACE:
            lower = " "
        elif marks and flags & PUNCTUATION:
            continue
        if lower == " " and (not out or out[-1] == " "):
            continue
        if lower == "0" and flags & DIGIT_RUNS and out[-1:] == "0":
            continue
        out += lower
    return out.removesuffix(" ")


def hashed(data: list[bytes], flags: int) -> tuple[np.ndarray, np.ndarray]:
    buffers, offsets = string_buffers(pa.array(data, pa.large_binary()))
    spans = (np.arange(len(data) + 1), np.zeros(len(data), np.uint32), np.diff(offsets).astype(np.uint32))
    return normal_hashes(buffers, offsets, np.arange(len(data)), spans, flags=flags)


MARKED = st.text(st.sampled_from("aÀé1२ .,!«–\t\u00a0\u3000\u0301ßİ漢𝟗\n\x00\x85^+") | st.characters(codec="utf-8"))


@pytest.mark.parametrize("flags", FLAGS)
@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(MARKED.map(str.encode) | st.binary(max_size=20), max_size=6))
def test_hashes_are_those_of_the_normal_form(flags: int, pieces: list[bytes]) -> None:
    hashes, chars = hashed(pieces, flags)
    forms = [reference(decoded(piece), flags) for piece in pieces]
    as_bytes = [form.encode("utf-8", "surrogatepass") for form in forms]
    assert hashes.tolist() == hash_strings(pa.array(as_bytes, pa.large_binary())).tolist()
    assert chars.tolist() == [len(form) for form in forms]


@pytest.mark.parametrize(
    ("one", "other", "flags"),
    [
        ("Café, 12 euros!", "cafe 99 EUROS", ACCENTS | DIGITS | PUNCTUATION),
        (" Tab\tand  space ", "tab and space", 0),
        ("In 2021: done.", "In 9 done", DIGITS | DIGIT_RUNS | PUNCTUATION_AS_SPACE),
        ("e\u0301", "é", ACCENTS),
    ],
)
def test_what_does_not_count(one: str, other: str, flags: int) -> None:
    hashes, _ = hashed([one.encode(), other.encode()], flags)
    assert hashes[0] == hashes[1]


def test_what_counts() -> None:
    hashes, _ = hashed(["café".encode(), b"cafe", b"12", b"1", b"a b", b"ab", b""], DIGITS | PUNCTUATION)
    assert len(set(hashes.tolist())) == 7


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["", "a", "é", " b "]), max_size=6), min_size=1, max_size=5), data=st.data()
)
def test_texts_keep_their_other_lines(texts: list[list[str]], data: st.DataObject) -> None:
    gone = [sorted(data.draw(st.sets(st.integers(0, max(len(lines), 1) - 1)))) for lines in texts]
    array = pa.array(["\n".join(lines) for lines in texts], pa.string())
    text = np.repeat(np.arange(len(texts)), [len(numbers) for numbers in gone])
    numbers = np.array([number for numbers in gone for number in numbers], dtype=np.int64)
    lines = ["\n".join(lines).split("\n") for lines in texts]
    kept = [
        "\n".join(line for place, line in enumerate(own) if place not in out)
        for own, out in zip(lines, gone, strict=True)
    ]
    assert without_lines(array, text, numbers).to_pylist() == kept


SENTENCES = st.lists(
    st.sampled_from(["One", "two", ".", "!", "...", '"', ")", " ", "  ", "\n", "3.5", "Mr.", "。", "–"]), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(SENTENCES.map("".join), max_size=5))
def test_sentences_are_those_of_the_sentencizer(texts: list[str]) -> None:
    index = TextIndex.of(pa.array(texts, pa.string()))
    found = sentence_spans(index)
    for row, text in enumerate(texts):
        data = text.encode()
        words = slice(index.words.first[row], index.words.first[row + 1])
        starts, ends, flags = (
            array[words].tolist() for array in (index.words.start, index.words.end, index.words.flags)
        )
        expected, seen = [], False
        for place, flag in enumerate(flags):
            space = data[ends[place - 1] : starts[place]] if place else b""
            if seen and (not flag & 48 or space not in (b"", b" ")):
                expected.append(ends[place - 1])
                seen = False
            seen = seen or bool(flag & 16)
        expected += [len(data)] if flags else []
        own = slice(found.first[row], found.first[row + 1])
        assert found.end[own].tolist() == expected
        assert found.start[own].tolist() == [0, *expected][: len(expected)]


def test_lines_are_found_without_words() -> None:
    data, offsets = string_buffers(pa.array(["a\n\nb", ""], pa.string()))
    (first, starts, ends), *_ = find_lines(data, offsets, np.empty(BLOCK, np.uint8))
    assert (first.tolist(), starts.tolist(), ends.tolist()) == ([0, 3, 4], [0, 2, 3, 0], [1, 2, 4, 0])
