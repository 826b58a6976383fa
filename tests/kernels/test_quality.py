"""Quality signals against plain Python, and against the decisions of datatrove's own filters on our words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.quality import STOP_WORDS, fineweb_quality, gopher_quality, paragraph_lines
from curate.kernels.text_index import TextIndex

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"

PIECES = st.sampled_from(
    [
        *("the ", "be", " to", "with", "of. ", "...", "..", ".", "…", "#", "##", "- ", "•", "\n", "\n", "\r\n"),
        *(
            "\u2028",
            " ",
            "\xa0",
            "é",
            "漢字",
            "3.14",
            "word ",
            "x" * 31,
            "。",
            "!",
            "?",
            "؟",
            "$5",
            "_",
            "\u3000",
            "ÀÉ ",
        ),
    ]
)
TEXTS = st.lists(st.lists(PIECES, max_size=40).map("".join), max_size=5)


def words_of(index: TextIndex, i: int) -> list[str]:
    row = index.rows[i]
    base = index.offsets[row]
    spans = range(index.words.first[row], index.words.first[row + 1])
    return [bytes(index.data[base + index.words.start[j] : base + index.words.end[j]]).decode() for j in spans]


def share(count: float, total: float) -> float:
    return count / total if total else 0.0


def reference_gopher(text: str, words: list[str]) -> dict[str, float]:
    from datatrove.utils.text import PUNCTUATION_SET

    real = [word for word in words if any(character not in PUNCTUATION_SET for character in word)]
    lines = text.splitlines()
    return {
        "words": len(real),
        "tokens": len(words),
        "mean_word_length": share(sum(map(len, real)), len(real)),
        "hash_to_words": share(text.count("#"), len(words)),
        "ellipsis_to_words": share(text.count("...") + text.count("…"), len(words)),
        "bullet_lines": share(sum(line.lstrip().startswith(("-", "•")) for line in lines), len(lines)),
        "ellipsis_lines": share(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        "alphabetic_words": share(sum(any(c.isalpha() for c in word) for word in words), len(words)),
        "stop_words": len(set(words) & set(STOP_WORDS)),
    }


def reference_fineweb(text: str, words: list[str]) -> dict[str, float]:
    from datatrove.utils.text import TERMINAL_PUNCTUATION

    lines = [line for line in text.split("\n") if line.strip()]
    seen: set[str] = set()
    duplicate = 0
    for line in lines:
        duplicate += len(line) if line in seen else 0
        seen.add(line)
    return {
        "lines": len(lines),
        "terminal_punctuation_lines": share(
            sum(line.endswith(tuple(TERMINAL_PUNCTUATION)) for line in lines), len(lines)
        ),
        "short_lines": share(sum(len(line) <= 30 for line in lines), len(lines)),
        "duplicate_line_chars": share(duplicate, len(text.replace("\n", ""))),
        "newlines_to_words": share(text.count("\n"), len(words)),
    }


def assert_columns(columns: dict[str, np.ndarray], rows: list[dict[str, float]]) -> None:
    for i, row in enumerate(rows):
        assert {name: column[i].item() for name, column in columns.items()} == row


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_gopher_signals_are_those_of_plain_python(texts: list[str]) -> None:
    pytest.importorskip("datatrove")
    index = TextIndex.of(pa.array(texts, type=pa.string()))
    assert_columns(gopher_quality(index), [reference_gopher(text, words_of(index, i)) for i, text in enumerate(texts)])


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_fineweb_signals_are_those_of_plain_python(texts: list[str]) -> None:
    pytest.importorskip("datatrove")
    index = TextIndex.of(pa.array(texts, type=pa.string()))
    assert_columns(
        fineweb_quality(index), [reference_fineweb(text, words_of(index, i)) for i, text in enumerate(texts)]
    )


@given(st.lists(st.binary(max_size=80), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_numbers_and_the_same_ones_twice(raws: list[bytes]) -> None:
    offsets = np.cumsum([0, *map(len, raws)], dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(raws))]
    index = TextIndex.of(pa.Array.from_buffers(pa.string(), len(raws), buffers))
    for measure in (gopher_quality, fineweb_quality):
        first, second = measure(index), measure(index)
        for name, column in first.items():
            assert np.isfinite(column).all() and (column >= 0).all(), name
            assert column.tobytes() == second[name].tobytes(), name


@given(st.lists(st.sampled_from(["x" * 199, "y" * 200, "é" * 200, "é" * 199, "", " "]), max_size=8).map("\n".join))
@settings(max_examples=60, deadline=None)
def test_paragraph_lines_are_counted_in_characters(text: str) -> None:
    index = TextIndex.of(pa.array([text]))
    assert paragraph_lines(index).tolist() == [sum(len(line) >= 200 for line in text.split("\n"))]


def test_other_stop_words_and_a_selection() -> None:
    texts = pa.array(["der die das", "The the", None, "und und der"])
    index = TextIndex.of(texts).select(np.array([3, 2, 0]))
    assert gopher_quality(index, stop_words=["der", "und", "der"])["stop_words"].tolist() == [2, 0, 1]
    assert gopher_quality(index, stop_words=[])["stop_words"].tolist() == [0, 0, 0]
    assert gopher_quality(TextIndex.of(texts))["stop_words"].tolist() == [0, 1, 0, 0]


def decide_gopher(signals: dict[str, Any], i: int) -> str | bool:
    def value(name: str) -> float:
        return signals[name][i]

    rules = [
        (value("words") < 50, "gopher_short_doc"),
        (value("words") > 100000, "gopher_long_doc"),
        (value("mean_word_length") < 3, "gopher_below_avg_threshold"),
        (value("mean_word_length") > 10, "gopher_above_avg_threshold"),
        (value("hash_to_words") > 0.1, "gopher_too_many_hashes"),
        (value("ellipsis_to_words") > 0.1, "gopher_too_many_ellipsis"),
        (value("bullet_lines") > 0.9, "gopher_too_many_bullets"),
        (value("ellipsis_lines") > 0.3, "gopher_too_many_end_ellipsis"),
        (value("alphabetic_words") < 0.8, "gopher_below_alpha_threshold"),
        (value("stop_words") < 2, "gopher_enough_stop_words"),
    ]
    return next((name for failed, name in rules if failed), True)


def decide_fineweb(signals: dict[str, Any], i: int) -> str | bool:
    rules = [
        (signals["lines"][i] == 0, "empty"),
        (signals["terminal_punctuation_lines"][i] < 0.12, "line_punct_ratio"),
        (signals["short_lines"][i] > 0.67, "short_line_ratio"),
        (signals["duplicate_line_chars"][i] > 0.01, "char_dup_ratio"),
        (signals["newlines_to_words"][i] > 0.3, "list_ratio"),
    ]
    return next((name for failed, name in rules if failed), True)


@pytest.mark.parametrize("name", ["qa_stackexchange", "multi_osguide", "code_python", "quality_human_dclm"])
def test_datatrove_decides_the_same_on_real_texts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gopher = pytest.importorskip("datatrove.pipeline.filters.gopher_quality_filter")
    fineweb = pytest.importorskip("datatrove.pipeline.filters.fineweb_quality_filter")
    from datatrove.data import Document

    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    texts = [text[:20000] for text in pq.read_table(path, columns=["text"])["text"].to_pylist()[::5][:120]]
    index = TextIndex.of(pa.array(texts))
    words = {text: words_of(index, i) for i, text in enumerate(texts)}
    monkeypatch.setattr(gopher, "split_into_words", lambda text, language: words[text])
    monkeypatch.setattr(fineweb, "split_into_words", lambda text, language: words[text])
    for theirs, decide, signals in (
        (gopher.GopherQualityFilter(), decide_gopher, gopher_quality(index)),
        (fineweb.FineWebQualityFilter(), decide_fineweb, fineweb_quality(index)),
    ):
        for i, text in enumerate(texts):
            verdict = theirs.filter(Document(text=text, id=str(i)))
            assert decide(signals, i) == (verdict[1] if isinstance(verdict, tuple) else verdict)
