"""What exact substring deduplication needs of texts: sampled windows, hashes and comparison of byte ranges, cutting.

A window is `length` symbols one after the other: bytes, or words (their hashes). It holds length - core + 1 cores of
`core` symbols each, and its *anchor* is the least of their mixed rolling hashes: a function of the window's content
alone, so that equal windows have equal anchors wherever they stand. Windows that follow each other and have the same
anchor make a row: about 2 / (length - core + 2) of the symbols begin one in ordinary text, fewer in periodic text.
The least is looked for anew when it leaves: on most texts once or twice a row, at worst `length` steps a symbol.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compile import inlined, kernel
from curate.kernels.hashing import hash_range, mix
from curate.kernels.memory import ALL, ONE, ZERO, address_of, load_byte, load_word

_BASE = np.uint64(0xD1B54A32D192ED03)
"""Of the rolling hash, a polynomial modulo 2^64. Two cores that collide only meet for nothing."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
STRETCH = 32768
"""Windows whose rows are found at once; rows end with them."""


@inlined
def _spread(state):  # type: ignore[no-untyped-def]
    """The hash of a core from the rolling one, whose low bits are poor."""
    return (state ^ (state >> _HALF)) * _SPREAD


@kernel
def _sample(symbols, first, last, length, core, hashes, keys, texts, starts, counts):  # type: ignore[no-untyped-def]
    """Rows found; those beyond the room for them are only counted. `hashes`: room for a stretch and its last window."""
    width = length - core + 1
    stretch = hashes.shape[0] - width
    room = keys.shape[0]
    found = np.int64(0)
    leaving = ONE
    for _ in range(core):
        leaving *= _BASE
    for text in range(first.shape[0]):
        windows = last[text] - first[text] - length + 1
        for passed in range(0, windows, stretch):
            here = min(stretch, windows - passed)
            cores = here + width - 1
            at = first[text] + passed
            state = ZERO
            for i in range(at, at + core):
                state = state * _BASE + np.uint64(symbols[i])
            hashes[0] = _spread(state)
            for i in range(1, cores):
                entering = np.uint64(symbols[at + i + core - 1]) - leaving * np.uint64(symbols[at + i - 1])
                state = state * _BASE + entering
                hashes[i] = _spread(state)
            # The least of window w is among the cores w to w + width - 1; `place` is its last one there.
            least, place = ALL, np.int64(-1)
            window = np.int64(0)
            while window < here:
                if place < window:
                    least = ALL
                    for i in range(window, window + width):
                        least = min(least, hashes[i])
                    place = window + width - 1
                    while hashes[place] != least:
                        place -= 1
                end = min(window + width, here)  # a row has no more windows
                next_window = window + 1
                while next_window < end:
                    entered = hashes[next_window + width - 1]
                    if entered <= least:
                        if entered < least:
                            break
                        place = next_window + width - 1
                    elif place < next_window:
                        break
                    next_window += 1
                if found < room:
                    keys[found], texts[found] = mix(least), text
                    starts[found], counts[found] = passed + window, next_window - window
                found += 1
                window = next_window
                if window < here and hashes[window + width - 1] < least:
                    place = window + width - 1
                    least = hashes[place]
    return found


def sampled_windows(
    symbols: np.ndarray, first: np.ndarray, last: np.ndarray, *, length: int, core: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of windows with one anchor, in order: its hash (uint64), text, first window and number of windows (int64).

    `symbols`: uint8 or uint64; those of text i are [first[i], last[i]); windows are numbered from its first symbol.
    Every window is in exactly one row; a row has at most length - core + 1.
    """
    width = length - core + 1
    hashes = np.empty(max(STRETCH, 8 * width) + width, dtype=np.uint64)
    expected = int(np.maximum(last - first, 0).sum()) * 2 // width + 2 * len(first) + 64
    while True:
        numbers = [np.empty(expected, dtype=np.int64) for _ in range(3)]
        keys = np.empty(expected, dtype=np.uint64)
        found = _sample(symbols, first, last, length, core, hashes, keys, *numbers)
        if found <= expected:
            texts, starts, counts = (array[:found] for array in numbers)
            return keys[:found], texts, starts, counts
        expected = found


@kernel
def _hash_ranges(data, starts, stops, hashes):  # type: ignore[no-untyped-def]
    limit = address_of(data, data.shape[0])
    for i in range(starts.shape[0]):
        hashes[i] = hash_range(address_of(data, starts[i]), stops[i] - starts[i], limit)


def hash_ranges(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """uint64[n]: hashes of ranges of bytes, which may overlap."""
    hashes = np.empty(len(starts), dtype=np.uint64)
    _hash_ranges(data, starts, stops, hashes)
    return hashes


@inlined
def _same_bytes(left, right, size):  # type: ignore[no-untyped-def]
    while size >= 8:
        if load_word(left) != load_word(right):
            return False
        left += 8
        right += 8
        size -= 8
    different = np.uint8(0)
    for i in range(size):
        different |= load_byte(left + i) ^ load_byte(right + i)
    return different == 0


@kernel
def compare_ranges(addresses, others, sizes, same):  # type: ignore[no-untyped-def]
    """Whether so many bytes at two addresses (int64) are the same; `same`: bool[n]. Who calls keeps the bytes alive."""
    for i in range(addresses.shape[0]):
        same[i] = _same_bytes(addresses[i], others[i], sizes[i])


@inlined
def _continues(address):  # type: ignore[no-untyped-def]
    return load_byte(address) & 0xC0 == 0x80


@kernel
def shrink_to_characters(texts, sizes, starts, stops):  # type: ignore[no-untyped-def]
    """Move the ends of ranges inwards to the next boundary of characters, in place.

    `texts`: the address (int64) of the text of each range; `sizes`: its bytes. Who calls keeps the bytes alive.
    """
    for i in range(texts.shape[0]):
        start, stop = starts[i], stops[i]
        while start < stop and _continues(texts[i] + start):
            start += 1
        while start < stop < sizes[i] and _continues(texts[i] + stop):
            stop -= 1
        starts[i], stops[i] = start, stop
