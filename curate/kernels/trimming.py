"""Whitespace at the ends of a piece of text, as `str.strip` sees it, words between whitespace, other looks at ends."""

from __future__ import annotations

import numpy as np

from curate.kernels.characters import NOT_SPACE, properties_of
from curate.kernels.compile import inlined, part
from curate.kernels.memory import code_point, load_byte


@inlined
def is_ascii_space(byte):  # type: ignore[no-untyped-def]
    """`str.isspace` of a byte below 128."""
    return byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31


@inlined
def _is_visible_ascii(byte):  # type: ignore[no-untyped-def]
    return 32 < byte < 128


@inlined
def last_code_point(start, end):  # type: ignore[no-untyped-def]
    """The last code point of the bytes [start, end) and its size; (0xFFFD, 1) where no whole sequence ends there."""
    address = end - 1
    while address > start and end - address < 4 and load_byte(address) & 0xC0 == 0x80:
        address -= 1
    point, size = code_point(address, end)
    if size != end - address:
        return 0xFFFD, 1
    return point, size


@part
def _skip_space(start, end, characters):  # type: ignore[no-untyped-def]
    while start < end:
        byte = load_byte(start)
        if byte < 128:
            if not is_ascii_space(byte):
                break
            start += 1
        else:
            point, size = code_point(start, end)
            if properties_of(characters, point) & NOT_SPACE != 0:
                break
            start += size
    return start


@part
def _trim_space(start, end, characters):  # type: ignore[no-untyped-def]
    while end > start:
        byte = load_byte(end - 1)
        if byte < 128:
            if not is_ascii_space(byte):
                break
            end -= 1
        else:
            point, size = last_code_point(start, end)
            if properties_of(characters, point) & NOT_SPACE != 0:
                break
            end -= size
    return end


@inlined
def skip_space(start, end, characters):  # type: ignore[no-untyped-def]
    """Address of the first character of [start, end) that is not whitespace, or `end`."""
    if start < end and _is_visible_ascii(load_byte(start)):
        return start
    return _skip_space(start, end, characters)


@inlined
def trim_space(start, end, characters):  # type: ignore[no-untyped-def]
    """Address after the last character of [start, end) that is not whitespace, or `start`."""
    if start < end and _is_visible_ascii(load_byte(end - 1)):
        return end
    return _trim_space(start, end, characters)


@inlined
def ends_in_ellipsis(start, end):  # type: ignore[no-untyped-def]
    """Whether [start, end) ends in three full stops or the character for them."""
    if end - start < 3:
        return False
    a, b, c = load_byte(end - 3), load_byte(end - 2), load_byte(end - 1)
    return (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@inlined
def starts_with_bullet(start, end):  # type: ignore[no-untyped-def]
    """Whether [start, end) starts with `-` or the bullet U+2022."""
    if start >= end:
        return False
    if load_byte(start) == 45:
        return True
    return (
        end - start >= 3
        and load_byte(start) == 0xE2
        and load_byte(start + 1) == 0x80
        and load_byte(start + 2) == np.uint8(0xA2)
    )


@part
def count_split_words(start, end, enough, characters):  # type: ignore[no-untyped-def]
    """Words between whitespace, as `str.split` gives them; stops at `enough`."""
    count = 0
    while count < enough:
        start = skip_space(start, end, characters)
        if start == end:
            break
        count += 1
        start = word_end(start, end, characters)
    return count


@part
def word_end(start, end, characters):  # type: ignore[no-untyped-def]
    """Where the word that begins at `start` meets whitespace, or `end`."""
    while start < end:
        byte = load_byte(start)
        if byte < 128:
            if is_ascii_space(byte):
                break
            start += 1
            continue
        point, size = code_point(start, end)
        if properties_of(characters, point) & NOT_SPACE == 0:
            break
        start += size
    return start
