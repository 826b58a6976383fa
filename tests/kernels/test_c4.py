"""C4's edit against plain Python, and against datatrove's filter and its sentences on the same texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.quality import c4_lines
from curate.kernels.text_index import TextIndex
from curate.kernels.words import ONLY_PUNCTUATION, SENTENCE_END

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"

CITATION = r"\[\d*]|\[edit]|\[citation needed]"
POLICY = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]
PIECES = st.sampled_from(
    [
        *("One two three. ", "a b", " c.", "\n", "\n", "\r\n", "\x85", " ", "\xa0", ".", "...", "?", '"', "'"),
        *("[1]", "[]", "[edit]", "[citation needed]", "[٣]", "[x]", "[", "]", "JavaScript", "java", "script"),
        *("Lorem ipsum", "{", "Use", " of ", " cookies", "Terms of Use ", "privacy policy", "USES cookies"),
        *("x" * 20, "é" * 12, "。", "漢字", "! ", ")", "  ", "Then "),
    ]
)
TEXTS = st.lists(st.lists(PIECES, max_size=25).map("".join), max_size=4)


def sentences_of(index: TextIndex, row: int) -> int:
    """Sentences of spaCy's sentencizer in the lines of a text, by the flags of its words."""
    raw = index.data.tobytes()[index.offsets[row] : index.offsets[row + 1]]
    words = range(index.words.first[row], index.words.first[row + 1])
    lines = range(index.split_lines.first[row], index.split_lines.first[row + 1])
    count = 0
    for start, end in ((index.split_lines.start[line], index.split_lines.end[line]) for line in lines):
        ended, before = False, None
        for word in words:
            if not start <= index.words.start[word] < end:
                continue
            flags = index.words.flags[word]
            spaced = before is not None and raw[before : index.words.start[word]] not in (b"", b" ")
            if before is None or (ended and spaced):
                count += 1
                ended = False
            if ended and not flags & (SENTENCE_END | ONLY_PUNCTUATION):
                count += 1
                ended = False
            elif flags & SENTENCE_END:
                ended = True
            before = index.words.end[word]
    return count


def reference(text: str, **rules: Any) -> tuple[str, dict[str, int]]:
    terminal, min_words, max_length = rules["terminal_punctuation"], rules["min_words"], rules["max_word_length"]
    counts = dict.fromkeys(["lines", "kept", "citations", "long", "terminal", "few", "javascript", "policy"], 0)
    counts |= {"lorem_ipsum": False, "curly_bracket": False}
    kept = []
    for line in text.splitlines():
        counts["lines"] += 1
        line = line.strip()
        words = line.split()
        if max_length != -1 and any(len(word) > max_length for word in words):
            counts["long"] += 1
            continue
        if rules["citations"]:
            line, removed = re.subn(CITATION, "", line)
            counts["citations"] += removed
        lower = line.lower()
        if terminal and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
            counts["terminal"] += 1
        elif len(words) < min_words:
            counts["few"] += 1
        else:
            counts["lorem_ipsum"] |= "lorem ipsum" in lower
            if rules["javascript"] and "javascript" in lower:
                counts["javascript"] += 1
                continue
            counts["curly_bracket"] |= "{" in line
            if rules["policy"] and any(phrase in lower for phrase in POLICY):
                counts["policy"] += 1
            else:
                kept.append(line)
    counts["kept"] = len(kept)
    counts["sentences"] = sentences_of(TextIndex.of(pa.array(["\n".join(kept)])), 0)
    return "\n".join(kept).strip(), counts


RULES = st.fixed_dictionaries(
    {
        "terminal_punctuation": st.booleans(),
        "min_words": st.sampled_from([-1, 0, 2, 3]),
        "max_word_length": st.sampled_from([-1, 5, 12, 1000]),
        "citations": st.booleans(),
        "javascript": st.booleans(),
        "policy": st.booleans(),
    }
)
NAMES = {
    "lines": "lines",
    "kept": "kept_lines",
    "sentences": "sentences",
    "citations": "citations",
    "long": "long_word_lines",
    "terminal": "no_terminal_punctuation_lines",
    "few": "few_words_lines",
    "javascript": "javascript_lines",
    "policy": "policy_lines",
    "lorem_ipsum": "lorem_ipsum",
    "curly_bracket": "curly_bracket",
}


@given(TEXTS, RULES, st.booleans())
@settings(max_examples=500, deadline=None)
def test_texts_and_counts_are_those_of_plain_python(texts: list[str], rules: dict[str, Any], large: bool) -> None:
    array = pa.array(texts, type=pa.large_string() if large else pa.string())
    edited = c4_lines(TextIndex.of(array), **rules)
    edited.text.validate(full=True)
    assert edited.text.type == array.type
    for i, text in enumerate(texts):
        expected, counts = reference(text, **rules)
        assert edited.text[i].as_py() == expected
        assert {short: edited.columns[name][i] for short, name in NAMES.items()} == counts


@pytest.mark.parametrize("terminal_punctuation", [True, False])
@pytest.mark.parametrize("name", ["qa_stackexchange", "multi_osguide", "code_python", "quality_human_dclm"])
def test_datatrove_edits_real_texts_to_the_same_bytes(name: str, terminal_punctuation: bool) -> None:
    filters = pytest.importorskip("datatrove.pipeline.filters.c4_filters")
    from datatrove.data import Document

    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()[:150]
    edited = c4_lines(TextIndex.of(pa.array(texts)), terminal_punctuation=terminal_punctuation)
    theirs = filters.C4QualityFilter(min_num_sentences=-1, filter_no_terminal_punct=terminal_punctuation)
    for i, text in enumerate(texts):
        document = Document(text=text, id=str(i))
        verdict = theirs.filter(document)
        found = {page for page in ("lorem_ipsum", "curly_bracket") if edited.columns[page][i]}
        if verdict is True:
            assert not found and edited.text[i].as_py() == document.text
        else:
            assert verdict[1] in found  # datatrove stops at the first


LINES = {
    "One sentence here.": 1,
    "One. Two! Three?": 3,
    "No mark at the end": 1,
    "One. and more": 2,
    "Pi is 3.14 or so. Then more": 2,
    'He said "stop." Then he left.': 2,
    "J. Smith met U.S. Army men, e.g. Mr. Jones. They ran.": 2,
    "What?! Really... Yes (no.) Done": 3,
    "One.) ( Two": 2,
    "One. . Two": 2,
    "One.  . Two": 3,
    "One.\t) Two": 2,
    "One.\xa0\xa0": 1,
    "هل هذا؟ نعم.": 2,
    "x" * 70 + " . Y" + "z" * 70 + " . W.": 3,
    "It flew.[1] It sank [citation needed]. Gone.": 3,
    "[1] One.  [2]": 1,
    "[1]": 0,
    " ": 0,
}


@pytest.mark.parametrize(("line", "expected"), LINES.items())
def test_sentences_of_a_line_are_those_of_datatrove(line: str, expected: int) -> None:
    pytest.importorskip("spacy")
    edited = c4_lines(TextIndex.of(pa.array([line])), terminal_punctuation=False, min_words=-1)
    assert edited.columns["sentences"].tolist() == [expected]
    assert theirs(re.sub(CITATION, "", line.strip())) == expected


def theirs(line: str) -> int:
    """datatrove's sentences, but blank ones: a line that is empty or ends in spaces has one more."""
    text = pytest.importorskip("datatrove.utils.text")
    return sum(not sentence.isspace() for sentence in text.split_into_sentences(line) if sentence)


def test_chinese_sentences_end_without_spaces() -> None:
    edited = c4_lines(TextIndex.of(pa.array(["你好。再见！谢谢"])), terminal_punctuation=False, min_words=-1)
    assert edited.columns["sentences"].tolist() == [3]


MARKS = st.sampled_from(
    [
        *("One", "two's", "J.", "e.g.", "3.5", "well-known", "漢字", "é", "x" * 9),
        *(".", "!", "?", "...", "?!", "。", "।", "؟", ",", '"', "”", ")", "(", "-", "$", "€", "#"),
        *(" ", " ", " ", "  ", "\t", "\xa0", "\u2009", " \t", "\n", "\r\n", "\u2028", "\x1c"),
    ]
)


@given(st.lists(st.lists(MARKS, max_size=30).map("".join) | st.text(max_size=30), max_size=4))
@settings(max_examples=200, deadline=None)
def test_given_datatroves_words_sentences_are_datatroves(texts: list[str]) -> None:
    text_of = pytest.importorskip("datatrove.utils.text")
    pytest.importorskip("spacy")
    first, starts, ends, expected = [0], [], [], []
    for text in texts:
        raw, at = text.encode(), 0
        for word in text_of.split_into_words(text):
            starts.append(raw.index(word.encode(), at))
            at = starts[-1] + len(word.encode())
            ends.append(at)
        first.append(len(starts))
        expected.append(sum(theirs(line.strip()) for line in text.splitlines()))
    index = TextIndex.of(pa.array(texts, pa.string()), (np.array(first), np.array(starts), np.array(ends)))
    edited = c4_lines(index, terminal_punctuation=False, min_words=-1, citations=False)
    assert edited.columns["sentences"].tolist() == expected


@given(st.lists(st.binary(max_size=80), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_edited_and_the_same_way_twice(raws: list[bytes]) -> None:
    offsets = np.cumsum([0, *map(len, raws)], dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(raws))]
    index = TextIndex.of(pa.Array.from_buffers(pa.string(), len(raws), buffers))
    first = c4_lines(index, terminal_punctuation=False, min_words=-1)
    second = c4_lines(index, terminal_punctuation=False, min_words=-1)
    assert first.text.buffers()[2].to_pybytes() == second.text.buffers()[2].to_pybytes()
    assert len(first.text.buffers()[2]) <= sum(map(len, raws))
    off = {"terminal_punctuation": False, "citations": False, "javascript": False, "policy": False}
    whole = c4_lines(index, min_words=-1, **off)
    assert whole.columns["sentences"].tolist() == [sentences_of(index, row) for row in range(len(index))]
    for name, column in first.columns.items():
        assert column.tobytes() == second.columns[name].tobytes()


def test_a_selection_is_edited_in_its_order() -> None:
    index = TextIndex.of(pa.array(["One two three.", None, "no", "Four five six.\nno"]))
    edited = c4_lines(index.select(np.array([3, 1, 0])))
    assert edited.text.to_pylist() == ["Four five six.", "", "One two three."]
