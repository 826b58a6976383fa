"""Words of the index against the rules of UAX #29 written out in plain Python, and against the `regex` module."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.kernels.hashing import hash_strings
from curate.kernels.text_index import TextIndex
from curate.kernels.words import LETTER, LETTER_OR_NUMBER, NOT_ASCII, NOT_PUNCTUATION

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"

CLASSES = [
    *("ALetter", "Hebrew_Letter", "Numeric", "ExtendNumLet", "Katakana", "MidLetter", "MidNum", "MidNumLet"),
    *("Single_Quote", "Double_Quote", "Extend", "Format", "ZWJ", "WSegSpace", "CR", "LF", "Newline"),
    "Regional_Indicator",
]
PATTERNS = [(name, regex.compile(rf"\p{{Word_Break={name}}}")) for name in CLASSES]
PICTOGRAPH = regex.compile(r"\p{Extended_Pictographic}")
IGNORED = {"Extend", "Format", "ZWJ"}
NEWLINES = {"CR", "LF", "Newline"}
LETTERS = {"ALetter", "Hebrew_Letter"}


def word_break_class(character: str) -> str:
    return next((name for name, pattern in PATTERNS if pattern.match(character)), "Other")


def is_boundary(text: str, classes: list[str], i: int) -> bool:
    """Whether UAX #29 breaks before character i, rule by rule."""
    before, after = classes[i - 1], classes[i]
    if before == "CR" and after == "LF":
        return False
    if before in NEWLINES or after in NEWLINES:
        return True
    if before == "ZWJ" and PICTOGRAPH.match(text[i]):
        return False
    if before == after == "WSegSpace":
        return False
    if after in IGNORED:
        return False
    lefts = []  # classes to the left, what WB4 ignores left out
    for j in range(i - 1, -1, -1):
        if classes[j] not in IGNORED or j == 0 or classes[j - 1] in NEWLINES:
            lefts.append(classes[j])
    rights = [classes[i], *(name for name in classes[i + 1 :] if name not in IGNORED)]
    if any(name in NEWLINES for name in classes[i + 1 : i + 2]):
        rights = rights[:1]
    left, left2 = lefts[0], lefts[1] if len(lefts) > 1 else "start"
    right, right2 = rights[0], rights[1] if len(rights) > 1 else "end"
    mid_letter = {"MidLetter", "MidNumLet", "Single_Quote"}
    mid_number = {"MidNum", "MidNumLet", "Single_Quote"}
    word = {"ALetter", "Hebrew_Letter", "Numeric", "Katakana", "ExtendNumLet"}
    flags = 0
    for name in lefts:
        if name != "Regional_Indicator":
            break
        flags += 1
    joined = (
        (left in LETTERS and right in LETTERS)
        or (left in LETTERS and right in mid_letter and right2 in LETTERS)
        or (left2 in LETTERS and left in mid_letter and right in LETTERS)
        or (left == "Hebrew_Letter" and right == "Single_Quote")
        or (left == right2 == "Hebrew_Letter" and right == "Double_Quote")
        or (left2 == right == "Hebrew_Letter" and left == "Double_Quote")
        or (left == right == "Numeric")
        or (left in LETTERS and right == "Numeric")
        or (left == "Numeric" and right in LETTERS)
        or (left2 == right == "Numeric" and left in mid_number)
        or (left == right2 == "Numeric" and right in mid_number)
        or (left == right == "Katakana")
        or (left in word and right == "ExtendNumLet")
        or (left == "ExtendNumLet" and right in word)
        or (left == right == "Regional_Indicator" and flags % 2 == 1)
    )
    return not joined


def reference_words(text: str) -> list[str]:
    classes = [word_break_class(character) for character in text]
    cuts = [0, *(i for i in range(1, len(text)) if is_boundary(text, classes, i)), len(text)]
    words = [text[a:b] for a, b in pairwise(cuts)]
    return [word for word in words if word and not word.isspace()]


def words_of(index: TextIndex, i: int) -> list[bytes]:
    row = index.rows[i]
    raw = index.data[index.offsets[row] : index.offsets[row + 1]].tobytes()
    spans = slice(index.words.first[row], index.words.first[row + 1])
    return [raw[a:b] for a, b in zip(index.words.start[spans].tolist(), index.words.end[spans].tolist(), strict=True)]


def kernel_words(text: str) -> list[str]:
    return [word.decode() for word in words_of(TextIndex.of(pa.array([text], type=pa.string())), 0)]


def replace_invalid(raw: bytes) -> tuple[str, list[int]]:
    """How the kernels read bytes: a byte that begins no whole sequence is U+FFFD. With the offset of each character."""
    characters, offsets, i = [], [], 0
    while i < len(raw):
        lead = raw[i]
        size = 1 if lead < 0xC0 or lead > 0xF7 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        tail = raw[i + 1 : i + size]
        point = 0xFFFD if lead >= 0x80 else lead
        if size > 1 and len(tail) == size - 1 and all(byte & 0xC0 == 0x80 for byte in tail):
            point = lead & (0x7F >> size)
            for byte in tail:
                point = point << 6 | byte & 0x3F
            point = point if point < 0x110000 else 0xFFFD
        else:
            size = 1
        characters.append(chr(point))
        offsets.append(i)
        i += size
    return "".join(characters), [*offsets, len(raw)]


ODD = st.sampled_from(
    list("aZ5_.:,;'\"-#!? \t\n\r\v\f\x1c\x85\xa0’…·éאב״アー漢ひภา🇫🇷👩Ⓜ٣٬𝕬𐐀१한ᄒ‿")
    + list("\u0301\u0308\u00ad\u200b\u200d\u2060\u3000\u2028\u202f\u1680\ufeff")
)
TEXTS = st.one_of(
    st.lists(ODD, max_size=40).map("".join),
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=60),
    st.text("ab' .", max_size=200),
)


@given(TEXTS)
@example("'a' can't l'été 'tis rock 'n' roll a''b a'")
@example("\u3000 \u0308a")
@example("a\u200d👩 .\u200dⓂ א'א א' א\"א א\"")
@example("x" * 63 + "." + "y" * 64 + "1,2.5 3." + " " * 60 + "é")
@settings(max_examples=400, deadline=None)
def test_words_follow_the_annex_on_any_text(text: str) -> None:
    assert kernel_words(text) == reference_words(text)


@given(st.binary(max_size=120) | TEXTS.map(lambda text: text.encode()[1:-1]))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_text_are_read_as_replacement_characters(raw: bytes) -> None:
    text, offsets = replace_invalid(raw)
    index = TextIndex.of(
        pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.int32([0, len(raw)])), pa.py_buffer(raw)])
    )
    position, expected = 0, []
    for word in reference_words(text):
        position = text.index(word, position)
        expected.append(raw[offsets[position] : offsets[position + len(word)]])
        position += len(word)
    assert words_of(index, 0) == expected
    assert index.n_chars[0] == sum(byte & 0xC0 != 0x80 for byte in raw)


def test_the_example_of_the_annex_is_cut_as_printed_there() -> None:
    text = "The quick (“brown”) fox can’t jump 32.3 feet, right?"
    expected = ["The", "quick", "(", "“", "brown", "”", ")", "fox", "can’t", "jump", "32.3", "feet", ",", "right", "?"]
    assert kernel_words(text) == expected


def test_all_code_points_have_the_class_and_flags_of_the_regex_module() -> None:
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    text = "\n".join(map(chr, points))
    index = TextIndex.of(pa.array([text], type=pa.large_string()))
    letters = set(regex.findall(r"\p{L}", text))
    alphanumeric = set(regex.findall(r"[\p{L}\p{N}]", text))
    found = {}
    for word, flags in zip(words_of(index, 0), index.words.flags, strict=True):
        found[word.decode()] = flags
    blank = {chr(point) for point in points if chr(point).isspace()}
    assert set(found) == {chr(point) for point in points} - blank
    for word, flags in found.items():
        assert bool(flags & LETTER) == (word in letters), hex(ord(word))
        assert bool(flags & LETTER_OR_NUMBER) == (word in alphanumeric), hex(ord(word))
        assert bool(flags & NOT_ASCII) == (word > "\x7f"), hex(ord(word))


def test_pure_symbols_are_those_of_datatrove() -> None:
    punctuation = pytest.importorskip("datatrove.utils.text").PUNCTUATION_SET
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000 and not chr(point).isspace()]
    index = TextIndex.of(pa.array(["\n".join(points)], type=pa.large_string()))
    assert [bool(flag & NOT_PUNCTUATION) for flag in index.words.flags] == [
        point not in punctuation for point in points
    ]


@pytest.mark.parametrize("name", ["books", "qa_stackexchange", "wiki_fr", "multi_osguide", "code_python", "instruct"])
def test_real_texts_are_cut_as_the_regex_module_cuts_them(name: str) -> None:
    """But for the apostrophe, which it joins to a vowel that follows ("'a"), against the annex."""
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    texts = [text[:3000] for text in pq.read_table(path, columns=["text"])["text"].to_pylist()[::7][:150]]
    index = TextIndex.of(pa.array(texts))
    split = regex.compile(r"(?wV1)\b").split
    for i, text in enumerate(texts):
        tokens = [token for token in split(text) if token and not token.isspace()]
        expected = []
        for token in tokens:
            expected += ["'", token[1:]] if regex.match(r"'\p{L}", token) else [token]
        assert [word.decode() for word in words_of(index, i)] == expected


@given(st.lists(st.none() | TEXTS, max_size=12), st.integers(0, 5), st.integers(0, 12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_slices_nulls_and_large_strings_index_as_their_texts_do(
    texts: list[str | None], start: int, stop: int, large: bool
) -> None:
    array = pa.array(texts, type=pa.large_string() if large else pa.string())[start:stop]
    index = TextIndex.of(array)
    assert len(index) == len(array)
    for i, text in enumerate(array.to_pylist()):
        assert [word.decode() for word in words_of(index, i)] == kernel_words(text or "")
        assert index.n_chars[i] == len(text or "")
        assert index.n_bytes[i] == len((text or "").encode())
        assert index.n_words[i] == len(words_of(index, i))


@given(st.lists(TEXTS, min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_words_hash_is_that_of_its_bytes(texts: list[str]) -> None:
    index = TextIndex.of(pa.array(texts))
    words = [word.decode() for i in range(len(index)) for word in words_of(index, i)]
    assert index.words.hash.tolist() == hash_strings(pa.array(words, type=pa.string())).tolist()


def test_nothing_is_read_past_the_end_of_a_buffer() -> None:
    """Each text ends where the bytes of its buffer end; whatever lies behind must not change the result."""
    page = np.frombuffer(b"z9'z" * 64, dtype=np.uint8).copy()
    for size in range(1, 140):
        text = ("don't 3.14 stop: " * 10)[:size].encode()
        results = []
        for filler in (b"z", b" ", b"\xcc"):
            page[:] = filler[0]
            page[: len(text)] = np.frombuffer(text, dtype=np.uint8)
            buffers = [None, pa.py_buffer(np.int32([0, size])), pa.py_buffer(page[:size])]
            index = TextIndex.of(pa.Array.from_buffers(pa.string(), 1, buffers))
            results.append((words_of(index, 0), index.words.hash.tolist()))
        assert results[0] == results[1] == results[2]


def test_a_selection_shares_the_words_and_keeps_its_order() -> None:
    index = TextIndex.of(pa.array(["one two", "three", "four, five six", ""]))
    odd = index.select(np.array([False, True, False, True]))
    back = index.select(np.array([2, 0]))
    assert odd.n_words.tolist() == [1, 0]
    assert back.n_words.tolist() == [4, 2]
    assert back.select(np.array([False, True])).n_chars.tolist() == [7]
    assert back.words.hash is index.words.hash
    with pytest.raises(ValueError, match="3 values for 4 texts"):
        index.select(np.array([True, False, True]))


def test_other_arrays_are_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match="not int64; cast the column first"):
        TextIndex.of(pa.array([1, 2]))
    with pytest.raises(InputError, match="combine_chunks"):
        TextIndex.of(pa.chunked_array([["a"], ["b"]]))


def test_two_runs_give_the_same_index() -> None:
    texts = pa.array([f"Line {i}: it's é {i * 3.5}, \u200d👩 'n' roll. " * (i % 7) for i in range(300)])
    first, second = TextIndex.of(texts), TextIndex.of(texts)
    for left, right in zip(first.words, second.words, strict=True):
        assert left.tobytes() == right.tobytes()
