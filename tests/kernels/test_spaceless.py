"""Scripts that write no spaces: whose segments they are, runs of segments, n-grams of more segments than words."""

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.kernels.repetition import DUPLICATE, TOP, gopher_repetition
from curate.kernels.spaceless import _SPACELESS, mark_cuts, spaceless
from curate.kernels.text_index import TextIndex
from curate.kernels.words import LETTER, NOT_PUNCTUATION

OURS = regex.compile(r"[\p{Line_Break=SA}\p{Script=Han}\p{Script=Hiragana}]")
CHARACTERS = "的在中年はかのコーヒーไทยที่และ ລາວខ្មែរမြန်မာ abc Düsseldorf 。、.,\n \u200b\u0301漢字𠮷"
RUNS = ("และ", "ที่", "的", "中年", "漢字𠮷", "コーヒー", "abc", "ของเรา")


def texts_of(raw: list[bytes]) -> pa.Array:
    offsets = np.cumsum([0, *(len(text) for text in raw)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(raw), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(raw))])


def segments_of(index: TextIndex, row: int) -> list[tuple[bytes, int, int]]:
    """The words of a text as bytes, with where they begin and end."""
    text = bytes(index.data[index.offsets[row] : index.offsets[row + 1]])
    places = range(index.words.first[row], index.words.first[row + 1])
    bounds = [(int(index.words.start[place]), int(index.words.end[place])) for place in places]
    return [(text[start:end], start, end) for start, end in bounds]


def reference(index: TextIndex, row: int, runs: tuple[str, ...]) -> tuple[int, int]:
    segments = segments_of(index, row)
    count = 0
    for word, _, _ in segments:
        text = word.decode("utf-8", "replace")
        ours = any(low <= ord(text[0]) <= high for low, high in _SPACELESS)
        count += ours and regex.search(r"\p{L}", text) is not None
    found = 0
    for run in runs:
        parts = [word for word, _, _ in segments_of(TextIndex.of(pa.array([run])), 0)]
        found += any(
            [word for word, _, _ in segments[at : at + len(parts)]] == parts
            and all(segments[place][2] == segments[place + 1][1] for place in range(at, at + len(parts) - 1))
            for at in range(len(segments) - len(parts) + 1)
        )
    return count, found


def test_the_ranges_are_unicodes_letters_of_these_scripts() -> None:
    for point in range(0x110000):
        if chr(point).isalpha():
            inside = any(low <= point <= high for low, high in _SPACELESS)
            assert inside == (OURS.match(chr(point)) is not None), hex(point)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.sampled_from(CHARACTERS), max_size=60).map(str.encode),
            st.lists(st.sampled_from([*RUNS, " ", "ก", "字"]), max_size=12).map("".join).map(str.encode),
            st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.binary(max_size=30),
        ),
        max_size=5,
    )
)
@example(["และ".encode()[:-1], "และ".encode(), b"", "\u0301和".encode()])
def test_segments_and_runs_are_those_of_plain_python(raw: list[bytes]) -> None:
    index = TextIndex.of(texts_of(raw))
    segments, runs = spaceless(index, runs=RUNS)
    assert list(zip(segments.tolist(), runs.tolist(), strict=True)) == [
        reference(index, row, RUNS) for row in range(len(raw))
    ]


def test_a_view_of_the_texts_is_looked_at_alone() -> None:
    index = TextIndex.of(pa.array(["漢字", "a b", "และ และ", "中"]))
    segments, runs = spaceless(index.select(np.array([2, 0])), runs=["และ", "漢字", "漢字"])
    assert segments.tolist() == [6, 2]
    assert runs.tolist() == [1, 1]  # each once, however often it stands there or is asked for
    assert spaceless(index)[1].tolist() == [0, 0, 0, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*"的a1Z9.-/:=…é， ", "http://a.org/b-1?c", "**", "...", "don't"]), max_size=20)
        .map("".join)
        .map(str.encode)
        | st.binary(max_size=30),
        max_size=4,
    )
)
def test_cuts_at_marks_are_those_of_plain_python(raw: list[bytes]) -> None:
    index = TextIndex.of(texts_of(raw))
    found = mark_cuts(index)
    for row in range(len(raw)):
        more = [0, 0, 0, 0]
        for place in range(index.words.first[row], index.words.first[row + 1]):
            word = raw[row][index.words.start[place] : index.words.end[place]]
            pieces = re.findall(rb"[A-Za-z0-9\x80-\xff]+|[^A-Za-z0-9\x80-\xff]", word)
            marks = [piece for piece in pieces if re.fullmatch(rb"[^A-Za-z0-9\x80-\xff]", piece)]
            if not marks or len(pieces) == 1:
                continue
            flags = index.words.flags[place]
            more[0] += len(pieces) - 1
            if flags & NOT_PUNCTUATION:
                more[1] += len(pieces) - len(marks) - 1
                more[3] += len(marks)
            if flags & LETTER:
                more[2] += sum(re.search(rb"[A-Za-z\x80-\xff]", piece) is not None for piece in pieces) - 1
        assert found[:, row].tolist() == more


def ngram_reference(words: list[str], size: int, counts_as: int) -> int:
    """Code points in the n-grams of `size` segments, as datatrove counts those of `counts_as` words."""
    if counts_as in TOP:
        grams = Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
        if not grams:
            return 0
        gram, times = grams.most_common(1)[0]
        return (sum(map(len, gram)) + counts_as - 1) * times
    seen, total, at = set(), 0, 0
    while at + size <= len(words):
        gram = tuple(words[at : at + size])
        if gram in seen:
            total += sum(map(len, gram))
            at += size
        else:
            seen.add(gram)
            at += 1
    return total


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("的在中。a "), max_size=150), max_size=4),
    st.sampled_from([1.0, 1.5, 1.7, 2.5, 3.4]),
)
def test_n_grams_are_runs_of_as_many_segments_as_their_words_have(texts: list[str], segments_per_word: float) -> None:
    index = TextIndex.of(pa.array(texts, pa.string()))
    found = gopher_repetition(index, segments_per_word=segments_per_word)
    for row, text in enumerate(texts):
        words = [word.decode() for word, _, _ in segments_of(index, row)]
        for n in TOP + DUPLICATE:
            size = int(n * segments_per_word + 0.5)
            name = f"top_{n}_gram_chars" if n in TOP else f"duplicate_{n}_gram_chars"
            wanted = ngram_reference(words, size, n) / len(text) if text else 0
            assert found[name][row] == wanted, (name, text)
