"""Shingles of words and of characters against the rule in plain Python, one character at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.shingles import Unit, shingles

MASK = 2**64 - 1
MARK = regex.compile(r"[\p{Word_Break=Extend}\p{Word_Break=Format}\p{Word_Break=ZWJ}]")
LETTER_OR_NUMBER = regex.compile(r"[\p{L}\p{N}]")
OF_A_RUN = regex.compile(r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Numeric}\p{WB=Katakana}\p{WB=ExtendNumLet}]")


def decoded(raw: bytes) -> list[str]:
    """Code points; U+FFFD for each byte that begins no whole sequence."""
    found, at = [], 0
    while at < len(raw):
        size = next((size for size in (1, 2, 3, 4) if raw[at] < (0x80, 0xE0, 0xF0, 0xF8)[size - 1]), 0)
        tail = raw[at + 1 : at + size]
        whole = size == 1 or (
            size and raw[at] >= 0xC0 and len(tail) == size - 1 and all(b & 0xC0 == 0x80 for b in tail)
        )
        if not whole:
            found.append("\ufffd")
            at += 1
            continue
        point = raw[at] if size == 1 else raw[at] & (0x7F >> size)
        for byte in tail:
            point = point << 6 | byte & 0x3F
        found.append(chr(point) if point < 0x110000 else "\ufffd")
        at += size
    return found


def lower(character: str) -> str:
    return character.lower() if len(character.lower()) == 1 else character


def words_of(characters: list[str]) -> list[tuple[int, str]]:
    """Where each word begins, and the word in lower case."""
    words: list[tuple[int, str]] = []
    joins = own = False  # whether the character before is in a word, and whether that is a word of its own
    for place, c in enumerate(characters):
        if MARK.fullmatch(c):
            if joins:
                words[-1] = (words[-1][0], words[-1][1] + lower(c))
        elif LETTER_OR_NUMBER.fullmatch(c):
            alone = not OF_A_RUN.fullmatch(c)
            if joins and not own and not alone:
                words[-1] = (words[-1][0], words[-1][1] + lower(c))
            else:
                words.append((place, lower(c)))
            joins, own = True, alone
        else:
            joins = own = False
    return words


def combine(state: int, word: int) -> int:
    state = (state ^ word) * 0x9E3779B97F4A7C15 & MASK
    return state ^ state >> 32


def mix(word: int) -> int:
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * multiplier & MASK
    return word ^ word >> 33


def word_number(word: str) -> int:
    state, raw = 0x9FB21C651E98DF25, word.encode("utf-8", "surrogatepass")
    for start in range(0, len(raw), 16):
        piece = raw[start : start + 16].ljust(16, b"\0")
        state = combine(combine(state, int.from_bytes(piece[:8], "little")), int.from_bytes(piece[8:], "little"))
    return state


def reference(raw: bytes, n: int, unit: Unit) -> list[int]:
    words = words_of(decoded(raw))
    if unit == "words":
        numbers = [word_number(word) for _, word in words]
    else:
        numbers = []
        for (start, word), (before, last) in zip(words, [(0, ""), *words], strict=False):
            gap = numbers and start > before + len(last)
            numbers += [mix(ord(c)) for c in (" " if gap else "") + word]
    found = []
    for i in range(max(len(numbers) - n + 1, min(len(numbers), 1))):
        state = 0
        for number in numbers[i : i + n]:
            state = (state * 0x5851F42D4C957F2D + number) & MASK
        found.append(mix(state))
    return found


def texts_of(raws: list[bytes]) -> pa.Array:
    ends = np.cumsum([0, *map(len, raws)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(raws), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(raws))])


def check(raws: list[bytes], n: int, unit: Unit) -> None:
    offsets, hashes = shingles(texts_of(raws), n, unit=unit)
    for i, raw in enumerate(raws):
        assert hashes[offsets[i] : offsets[i + 1]].tolist() == reference(raw, n, unit)


_MARKED = "e\u0301 字\u0301 \u200d \xad \u0301 नमस्ते ไทย 🇩🇪"
_PLAIN = "Alpha BETA x7 É don’t ſ ΩΣ K Ⱥ 漢 ひ カタ 한국 ² ½ 🙂 a_B Ж 𐐀x İ ' \0 , — … -"
_LONG = ["q" * 15, "q" * 16, "Q" * 17, "é" * 40, "z" * 61]
_SPACES = [" ", "\u00a0", "  ", "\n", "\u3000", " " * 62]
PIECES = st.sampled_from([*_MARKED.split(" "), *_PLAIN.split(" "), *_LONG, *_SPACES])
UNITS = st.sampled_from(["words", "characters"])


@given(st.lists(st.lists(PIECES, max_size=40).map("".join), max_size=4), st.integers(1, 6), UNITS)
@settings(max_examples=300, deadline=None)
def test_shingles_are_those_of_the_rule(texts: list[str], n: int, unit: Unit) -> None:
    check([text.encode() for text in texts], n, unit)


@given(st.lists(st.one_of(st.text(max_size=80).map(str.encode), st.binary(max_size=90)), max_size=4), UNITS)
@settings(max_examples=200, deadline=None)
def test_any_text_and_any_bytes_have_the_shingles_of_the_rule(raws: list[bytes], unit: Unit) -> None:
    check(raws, 2, unit)


def test_case_punctuation_and_space_do_not_matter_and_accents_do() -> None:
    texts = [
        "The cat's  ÉTUDE, is (over)!",
        "the CAT’S\nétude — is over",
        "the cats étude is over",
        "THE CAT S ETUDE IS OVER",
    ]
    for unit, n in (("words", 3), ("characters", 7)):
        offsets, hashes = shingles(pa.array(texts), n, unit=unit)  # type: ignore[arg-type]
        parts = [hashes[offsets[i] : offsets[i + 1]].tolist() for i in range(4)]
        assert parts[0] == parts[1] != parts[2]
        assert parts[3] != parts[0]


def test_a_short_document_is_one_shingle_unless_it_shall_have_none() -> None:
    texts = pa.array(["one two", "two one", "one two three", "!?", None, ""])
    offsets, hashes = shingles(texts, 3)
    assert np.diff(offsets).tolist() == [1, 1, 1, 0, 0, 0]
    assert len(set(hashes.tolist())) == 3
    assert np.diff(shingles(texts, 3, short=False)[0]).tolist() == [0, 0, 1, 0, 0, 0]
    with pytest.raises(ValueError, match="at least one word"):
        shingles(texts, 0)
