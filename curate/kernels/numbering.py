"""Dense numbers for scattered places (part in the upper 32 bits, row in the lower ones), in ascending order.

A bit for each row up to the last one named of each part, and the bits before each word of 64: 1.5 bits a row of the
corpus, however few are named; no sort, and a number costs one look-up. Places are streamed twice: once to learn how
long parts are, once to mark them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from curate.kernels.compile import kernel
from curate.kernels.memory import first_bits, ones, trailing_zeros

_ROW = np.uint64((1 << 32) - 1)


@kernel
def _extend(places, rows):  # type: ignore[no-untyped-def]
    for i in range(places.shape[0]):
        part, row = np.int64(places[i] >> np.uint64(32)), np.int64(places[i] & _ROW)
        rows[part] = max(rows[part], row + 1)


@kernel
def _mark(places, starts, bits):  # type: ignore[no-untyped-def]
    for i in range(places.shape[0]):
        slot = starts[np.int64(places[i] >> np.uint64(32))] + np.int64(places[i] & _ROW)
        bits[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)


@kernel
def _count(bits, before):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for word in range(bits.shape[0]):
        before[word] = total
        total += np.int64(ones(bits[word]))
    return total


@kernel
def _number(places, starts, bits, before, numbers):  # type: ignore[no-untyped-def]
    for i in range(places.shape[0]):
        slot = starts[np.int64(places[i] >> np.uint64(32))] + np.int64(places[i] & _ROW)
        lower = bits[slot >> 6] & first_bits(np.uint64(slot & 63))
        numbers[i] = np.int64(before[slot >> 6]) + np.int64(ones(lower))


@kernel
def _name(bits, starts, places):  # type: ignore[no-untyped-def]
    found, part = 0, 0
    for word in range(bits.shape[0]):
        left = bits[word]
        while left:
            slot = word * 64 + np.int64(trailing_zeros(left))
            left &= left - np.uint64(1)
            while starts[part + 1] <= slot:
                part += 1
            places[found] = (np.uint64(part) << np.uint64(32)) | np.uint64(slot - starts[part])
            found += 1


class Numbering:
    """Numbers 0, 1, ... of all places that a stream names."""

    def __init__(self, streamed: Callable[[], Iterable[np.ndarray]], parts: int) -> None:
        """`streamed()`: the places (uint64), array by array, of parts below `parts`; it is called twice."""
        rows = np.zeros(parts, dtype=np.int64)
        for places in streamed():
            _extend(places, rows)
        self._starts = np.concatenate(([0], np.cumsum(rows)))
        self._bits = np.zeros((int(self._starts[-1]) + 63) // 64, dtype=np.uint64)
        for places in streamed():
            _mark(places, self._starts, self._bits)
        self._before = np.empty(len(self._bits), dtype=np.uint32 if self._starts[-1] < 2**32 else np.int64)
        self.count = int(_count(self._bits, self._before))
        """Places that were named, each once."""

    def of(self, places: np.ndarray) -> np.ndarray:
        """int64: the number of each place, which must be one of them."""
        numbers = np.empty(len(places), dtype=np.int64)
        _number(places, self._starts, self._bits, self._before, numbers)
        return numbers

    def places(self) -> np.ndarray:
        """uint64: the place of each number, ascending."""
        named = np.empty(self.count, dtype=np.uint64)
        _name(self._bits, self._starts, named)
        return named
