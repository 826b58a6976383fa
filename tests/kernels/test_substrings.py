"""Kernels of exact substring deduplication against plain Python, on arbitrary Unicode and invalid UTF-8."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels import substrings
from curate.kernels.hashing import hash_strings
from curate.kernels.substrings import (
    compare_ranges,
    hash_ranges,
    sampled_windows,
    shrink_to_characters,
)

TEXTS = st.lists(
    st.one_of(st.binary(max_size=60), st.text(max_size=20).map(str.encode), st.text("ab", max_size=60).map(str.encode)),
    max_size=6,
)


def joined(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate(([0], np.cumsum([len(text) for text in texts], dtype=np.int64)))
    return np.frombuffer(b"".join(texts) or b"\0", dtype=np.uint8), offsets


@given(TEXTS, st.integers(2, 20), st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_every_window_is_in_one_row_and_equal_windows_have_equal_anchors(
    dtype: type, texts: list[bytes], length: int, data: st.DataObject
) -> None:
    core = data.draw(st.integers(1, length))
    symbols, offsets = joined(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(substrings, "STRETCH", data.draw(st.sampled_from([1, 7, 32768])))
        rows = sampled_windows(symbols.astype(dtype), offsets[:-1], offsets[1:], length=length, core=core)
    anchors: dict[bytes, int] = {}
    windows = []
    for anchor, text, start, count in zip(*(column.tolist() for column in rows), strict=True):
        assert 1 <= count <= length - core + 1
        for at in range(start, start + count):
            windows.append((text, at))
            assert anchors.setdefault(texts[text][at : at + length], anchor) == anchor
    assert windows == [(i, at) for i, text in enumerate(texts) for at in range(len(text) - length + 1)]


def test_rows_are_few_on_random_and_on_periodic_symbols_and_anchors_spread() -> None:
    rng = np.random.default_rng(1)
    for symbols in (rng.integers(0, 256, 200_000), np.zeros(200_000), np.arange(200_000) % 30):
        edges = np.array([0]), np.array([200_000])
        anchors, *_ = sampled_windows(symbols.astype(np.uint8), *edges, length=100, core=50)
        assert len(anchors) < 2.2 * 200_000 / 52
    anchors, *_ = sampled_windows(rng.integers(0, 256, 200_000).astype(np.uint8), *edges, length=100, core=50)
    shares = np.bincount((anchors >> np.uint64(60)).astype(np.int64), minlength=16) / len(anchors)
    assert shares.min() > 0.04 and shares.max() < 0.09


@given(st.binary(max_size=200), st.data())
@settings(max_examples=100, deadline=None)
def test_hashes_of_ranges_are_those_of_their_bytes(content: bytes, data: st.DataObject) -> None:
    edge = st.integers(0, len(content))
    ranges = data.draw(st.lists(st.tuples(edge, edge).map(sorted), max_size=8))
    buffer = np.frombuffer(content or b"\0", dtype=np.uint8)
    starts, stops = (np.array([each[end] for each in ranges], dtype=np.int64) for end in (0, 1))
    texts = [content[start:stop] for start, stop in ranges]
    assert hash_ranges(buffer, starts, stops).tolist() == hash_strings(pa.array(texts, pa.binary())).tolist()


@given(st.binary(min_size=1, max_size=40), st.integers(0, 50), st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_ranges_are_equal_if_their_bytes_are(content: bytes, at: int, byte: int) -> None:
    other = bytearray(content)
    if at < len(other):
        other[at] = byte
    left, right = (np.frombuffer(bytes(each), dtype=np.uint8) for each in (content, other))
    sizes = np.arange(len(content) + 1)
    same = np.empty(len(sizes), dtype=bool)
    addresses = [np.full(len(sizes), each.ctypes.data, dtype=np.int64) for each in (left, right)]
    compare_ranges(*addresses, sizes, same)
    assert same.tolist() == [content[:size] == other[:size] for size in sizes.tolist()]


@given(st.one_of(st.binary(max_size=30), st.text(max_size=12).map(str.encode)), st.data())
@settings(max_examples=150, deadline=None)
def test_ranges_shrink_to_whole_characters(content: bytes, data: st.DataObject) -> None:
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    low, high = start, stop
    while low < high and 0x80 <= content[low] < 0xC0:
        low += 1
    while low < high < len(content) and 0x80 <= content[high] < 0xC0:
        high -= 1
    buffer = np.frombuffer(content or b"\0", dtype=np.uint8)
    starts, stops = np.array([start]), np.array([stop])
    shrink_to_characters(np.array([buffer.ctypes.data]), np.array([len(content)]), starts, stops)
    assert (starts[0], stops[0]) == (low, high)
