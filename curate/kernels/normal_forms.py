"""Hashes of pieces of text (lines, sentences) in a normal form, so that those which differ in little are equal.

White space at the ends goes and a run of it counts as one space; letters count in lower case (one code point to one).
By the flags: accents go (the letter before its canonical decomposition's marks stays), each digit of any script counts
as `0`, punctuation (Unicode category P, the rest of ASCII's, control characters) goes or counts as space; NUL never
counts. Costs one look at each byte, and a buffer of three times the longest piece.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np

from curate.kernels.characters import (
    DIGIT,
    NOT_PUNCTUATION,
    NOT_SPACE,
    ONLY_PUNCTUATION,
    character_table,
    lower_case_of,
    properties_of,
)
from curate.kernels.compile import kernel, part
from curate.kernels.hashing import hash_range
from curate.kernels.memory import (
    address_of,
    code_point,
    count_code_points,
    load_byte,
    load_uint16,
    store_byte,
    utf8_of,
)

ACCENTS, DIGITS, PUNCTUATION, PUNCTUATION_AS_SPACE, DIGIT_RUNS = 1, 2, 4, 8, 16
"""Flags: what does not count. DIGIT_RUNS: a run of digits counts as one `0`."""

_SPACE, _ZERO = 32, 48


@part
def _as_ascii(point, flags, tables):  # type: ignore[no-untyped-def]
    """What counts for a code point beyond ASCII: 0 for nothing, else a code point."""
    ascii_table, letters, characters = tables
    if flags & ACCENTS != 0 and point < 0x10000:
        point = np.int64(load_uint16(letters + 2 * point))
        if point == 0:
            return np.int64(0)
    point = np.int64(lower_case_of(characters, point))
    if point < 128:
        return np.int64(load_byte(ascii_table + point))
    properties = properties_of(characters, point)
    if properties & NOT_SPACE == 0:
        return np.int64(_SPACE)
    if flags & DIGITS != 0 and properties & DIGIT != 0:
        return np.int64(_ZERO)
    punctuation = properties & NOT_PUNCTUATION == 0 or properties & ONLY_PUNCTUATION != 0
    if punctuation and flags & (PUNCTUATION | PUNCTUATION_AS_SPACE) != 0:
        return np.int64(_SPACE if flags & PUNCTUATION_AS_SPACE != 0 else 0)
    return point


@part
def _normalise(start, end, target, flags, tables):  # type: ignore[no-untyped-def]
    """Write the normal form of [start, end); returns the address after it."""
    ascii_table = tables[0]
    begin, last = target, np.int64(_SPACE)
    runs = flags & DIGIT_RUNS != 0
    while start < end:
        byte = load_byte(start)
        if byte < 128:
            value = np.int64(load_byte(ascii_table + np.int64(byte)))
            start += 1
        else:
            point, size = code_point(start, end)
            start += size
            value = _as_ascii(point, flags, tables)
            if value >= 128:
                encoded, size = utf8_of(value)
                for i in range(size):
                    store_byte(target + i, np.uint8((encoded >> (8 * i)) & 255))
                target += size
                last = value
                continue
        store_byte(target, np.uint8(value))
        again = (value == last) & ((value == _SPACE) | (runs & (value == _ZERO)))
        target += np.int64((value != 0) & ~again)
        last = value if value != 0 else last
    return target - np.int64(target > begin and last == _SPACE)


@kernel
def _hashes(data, offsets, rows, first, starts, ends, flags, tables, space, hashes, chars):  # type: ignore[no-untyped-def]
    buffer, limit = address_of(space, 0), address_of(space, space.shape[0])
    for i in range(rows.shape[0]):
        text = address_of(data, offsets[rows[i]])
        for j in range(first[i], first[i + 1]):
            size = _normalise(text + starts[j], text + ends[j], buffer, flags, tables) - buffer
            hashes[j] = hash_range(buffer, size, limit)
            chars[j] = count_code_points(buffer, size, limit)


@cache
def _tables(flags: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8[128]: what counts for each ASCII character, 0 for nothing. uint16[65536]: the letter without its accents, 0
    for a mark."""
    plain = np.zeros(128, dtype=np.uint8)
    for point in range(1, 128):
        character = chr(point)
        if character.isspace():
            plain[point] = _SPACE
        elif flags & DIGITS and character.isdigit():
            plain[point] = _ZERO
        elif character.isalnum() or not flags & (PUNCTUATION | PUNCTUATION_AS_SPACE):
            plain[point] = ord(character.lower())
        elif flags & PUNCTUATION_AS_SPACE:
            plain[point] = _SPACE
    letters = np.arange(0x10000, dtype=np.uint16)
    if flags & ACCENTS:
        for point in range(0xC0, 0xFB50):
            letters[point] = _without_marks(chr(point))
    return plain, letters


def _without_marks(character: str) -> int:
    if unicodedata.category(character) == "Mn":
        return 0
    if not unicodedata.decomposition(character):
        return ord(character)
    parts = [part for part in unicodedata.normalize("NFD", character) if unicodedata.category(part) != "Mn"]
    return ord(parts[0]) if len(parts) == 1 and ord(parts[0]) < 0x10000 else ord(character)


def normal_hashes(
    data: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    spans: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    flags: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Hash (uint64) and length in code points (uint32) of the normal form of each span.

    Texts as in a TextIndex; `spans`: first int64[n + 1] for the n rows, starts and ends in bytes from the text's start.
    """
    first, starts, ends = spans
    hashes, chars = np.empty(len(starts), dtype=np.uint64), np.empty(len(starts), dtype=np.uint32)
    longest = int((ends.astype(np.int64) - starts).max(initial=0))
    space = np.empty(3 * longest + 16, dtype=np.uint8)  # one byte of invalid UTF-8 becomes three
    plain, letters = _tables(flags)
    tables = (plain.ctypes.data, letters.ctypes.data, character_table())
    _hashes(data, offsets, rows, first, starts, ends, flags, tables, space, hashes, chars)
    return hashes, chars
