"""Shingles: 64-bit hashes of n words, or n characters, in a row, after a normalisation that costs one look at the text.

A word is a run of letters, numbers and the marks on them, in lower case (one code point to one, all scripts); all else,
punctuation, symbols, apostrophes and white space, only stands between words. Characters of scripts that write no spaces
(Han, Hiragana, Thai, ...: letters and numbers to which UAX #29 gives no word-break class) are words of their own.
Characters are those of the words with one space for whatever stands between two runs. Accents count, and NFC and NFD
differ. Text is UTF-8; invalid bytes stand between words. Beside the shingles, 8 bytes each, the longest text of a batch
needs 3 times its bytes in scratch (8 times for characters).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa

from curate.kernels import characters as character
from curate.kernels.characters import CLASS, LETTER_OR_NUMBER, character_table, lower_case_of, properties_of
from curate.kernels.compile import inlined, kernel, part
from curate.kernels.hashing import combine, mix
from curate.kernels.masks import letter_masks, store_places
from curate.kernels.memory import (
    BLOCK,
    ONE,
    TOP,
    ZERO,
    address_of,
    block_address,
    code_point,
    first_bits,
    load_word,
    ones,
    store_word,
    trailing_zeros,
    utf8_of,
)
from curate.kernels.strings import string_buffers

Unit = Literal["words", "characters"]

_BASE = np.uint64(0x5851F42D4C957F2D)
_CASE = np.uint64(0x2020202020202020)
_HIGH_BITS = np.uint64(0x8080808080808080)
_START = np.uint64(0x9FB21C651E98DF25)
_EXTEND, _FORMAT, _ZWJ = (character.CLASSES[name] for name in ("Extend", "Format", "ZWJ"))
_SPACE = np.uint64(32)


@part
def _mark_wide(text, size, base, masks, characters):  # type: ignore[no-untyped-def]
    """What the code points beyond ASCII that begin in a block do to it and to the next one.

    `masks`: bytes in words, bytes beyond ASCII, cuts (bytes that begin a word although one ends right before), and
    whether the byte before the block is in a word. Returns words and cuts of the block; words, cuts and bytes seen of
    the next one.
    """
    inside, wide, cuts, before = masks
    inside_next = cuts_next = seen_next = ZERO
    while wide != ZERO:
        at = trailing_zeros(wide)
        point, length = code_point(text + base + at, text + size)
        bytes_here = first_bits(length) << np.uint64(at)
        bytes_next = (first_bits(length) >> ONE) >> np.uint64(63 - at)
        wide &= ~bytes_here
        seen_next |= bytes_next
        properties = properties_of(characters, point)
        kind = properties & CLASS
        bit = ONE << np.uint64(at)
        if kind in (_EXTEND, _FORMAT, _ZWJ):
            if ((inside << ONE) | before) & bit == ZERO:
                continue
            own = cuts & bit != ZERO  # it joins a word of its own, whose end moves on
            cuts &= ~bit
        elif properties & LETTER_OR_NUMBER != 0:
            own = kind == 0
            if own:
                cuts |= bit
        else:
            continue
        inside |= bytes_here
        inside_next |= bytes_next
        if own and at + length < 64:
            cuts |= ONE << np.uint64(at + length)
        elif own:
            cuts_next |= ONE << np.uint64(at + length - 64)
    return inside, cuts, inside_next, cuts_next, seen_next


@part
def _mark_words(text, size, limit, starts, ends, spare, characters):  # type: ignore[no-untyped-def]
    """Fill two bit masks of a text, of bytes that begin a word and of bytes right after one; returns how many words."""
    blocks = (size + BLOCK - 1) >> 6
    inside_next = cuts_next = seen_next = before = ZERO
    count = np.int64(0)
    for k in range(blocks):
        inside, wide = letter_masks(block_address(text + (k << 6), limit, spare))
        here = size - (k << 6)
        if here < BLOCK:
            inside &= first_bits(here)
            wide &= first_bits(here)
        inside |= inside_next
        wide &= ~seen_next
        cuts = cuts_next
        inside_next = cuts_next = seen_next = ZERO
        if wide != ZERO:
            masks = (inside, wide, cuts, before)
            inside, cuts, inside_next, cuts_next, seen_next = _mark_wide(text, size, k << 6, masks, characters)
        after = (inside << ONE) | before
        started = inside & (~after | cuts)
        store_word(starts + 8 * k, started)
        store_word(ends + 8 * k, after & (~inside | cuts))
        count += ones(started)
        before = inside >> TOP
    store_word(ends + 8 * blocks, before)
    return count


@part
def _hash_lowered(start, end, characters):  # type: ignore[no-untyped-def]
    """Hash of a word in lower case, sixteen bytes at a time, zeros after the last ones (no word holds any)."""
    state, low, high, filled = _START, ZERO, ZERO, np.int64(0)
    while start < end:
        point, size = code_point(start, end)
        start += size
        encoded, size = utf8_of(lower_case_of(characters, point))
        while size > 0:
            byte = np.uint64(encoded & 255)
            encoded >>= 8
            size -= 1
            if filled < 8:
                low |= byte << np.uint64(8 * filled)
            else:
                high |= byte << np.uint64(8 * filled - 64)
            filled += 1
            if filled == 16:
                state = combine(combine(state, low), high)
                low, high, filled = ZERO, ZERO, np.int64(0)
    return combine(combine(state, low), high) if filled > 0 else state


@inlined
def _word_hash(address, size, limit, keep, characters):  # type: ignore[no-untyped-def]
    """`_hash_lowered`; for short words of ASCII at once, whose letters and digits one bit sets in lower case. `keep`
    is the address of a mask of 16 bytes for each size up to 16."""
    if size > 16 or address + 16 > limit:
        return _hash_lowered(address, address + size, characters)
    low = load_word(address) & load_word(keep + 16 * size)
    high = load_word(address + 8) & load_word(keep + 16 * size + 8)
    if (low | high) & _HIGH_BITS != ZERO:
        return _hash_lowered(address, address + size, characters)
    return combine(combine(_START, low | ((low >> ONE) & _CASE)), high | ((high >> ONE) & _CASE))


@part
def _characters_of(text, count, starts, ends, symbols, characters):  # type: ignore[no-untyped-def]
    """Write a number for each character of the words and of the spaces between them; returns how many there are."""
    used = np.int64(0)
    last = np.int64(-1)
    for word in range(count):
        at, end = np.int64(starts[word]), np.int64(ends[word])
        if last >= 0 and at > last:
            symbols[used] = mix(_SPACE)
            used += 1
        last = end
        while at < end:
            point, length = code_point(text + at, text + end)
            symbols[used] = mix(np.uint64(lower_case_of(characters, point)))
            used += 1
            at += length
    return used


@part
def shingles_of(text, size, limit, cut, characters, scratch, hashes):  # type: ignore[no-untyped-def]
    """Write a text's shingles to the beginning of `hashes`; returns how many there are.

    `cut`: n, whether n-grams of characters are meant, whether a shorter document has one shingle. For `scratch`, and
    how many hashes there may be, see `room_for`.
    """
    n, by_characters, short = cut
    masks, starts, ends, symbols, block = scratch
    begins = address_of(masks, 0)
    finishes = begins + 8 * (masks.shape[0] >> 1)
    keep = address_of(block, BLOCK)
    blocks = (size + BLOCK - 1) >> 6
    count = _mark_words(text, size, limit, begins, finishes, address_of(block, 0), characters)
    store_places(begins, blocks, address_of(starts, 0))
    store_places(finishes, blocks + 1, address_of(ends, 0))
    if by_characters:
        count = _characters_of(text, count, starts, ends, symbols, characters)
    else:
        for word in range(count):
            start = np.int64(starts[word])
            symbols[word] = _word_hash(text + start, np.int64(ends[word]) - start, limit, keep, characters)
    if count == 0 or (count < n and not short):
        return np.int64(0)
    leaving = np.uint64(1)
    for _ in range(n):
        leaving *= _BASE
    first = min(n, count)
    state = ZERO
    for j in range(first):
        state = state * _BASE + symbols[j]
    hashes[0] = mix(state)
    for j in range(first, count):
        state = state * _BASE + (symbols[j] - symbols[j - n] * leaving)
        hashes[j - first + 1] = mix(state)
    return count - first + 1


def room_for(sizes: np.ndarray, unit: Unit) -> np.ndarray:
    """int64[d]: the most words (characters) that texts of so many bytes have.

    A word takes two bytes with the space after it, three with the ideograph after it.
    """
    return sizes + 1 if unit == "characters" else sizes * 2 // 3 + 1


def scratch_for(sizes: np.ndarray, unit: Unit) -> tuple[np.ndarray, ...]:
    """Where kernels work on one text at a time: two masks, starts and ends of words, numbers of words or characters, a
    spare block with a mask of 16 bytes for each size up to 16."""
    words = int(room_for(sizes, unit).max(initial=0))
    kept = [255 if place < size else 0 for size in range(17) for place in range(16)]
    return (
        np.empty(2 * (int(sizes.max(initial=0)) // BLOCK + 2), dtype=np.uint64),
        np.empty(words + 8, dtype=np.uint32),
        np.empty(words + 8, dtype=np.uint32),
        np.empty(words, dtype=np.uint64),
        np.array([0] * BLOCK + kept, dtype=np.uint8),
    )


@kernel
def _shingles(data, offsets, cut, characters, scratch, hashes):  # type: ignore[no-untyped-def]
    found = np.zeros(offsets.shape[0], np.int64)
    limit = address_of(data, data.shape[0])
    for i in range(offsets.shape[0] - 1):
        text, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        found[i + 1] = found[i] + shingles_of(text, size, limit, cut, characters, scratch, hashes[found[i] :])
    return found


def shingles(texts: pa.Array, n: int, *, unit: Unit = "words", short: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64[d + 1] and hashes uint64[...] of each document's n-grams, in order, repeats included.

    A document of fewer than n words (characters) has one shingle of them all, or none if not `short`; one without words
    has none.
    """
    if n < 1:
        raise ValueError(f"A shingle has at least one word or character, not {n}.")
    data, offsets = string_buffers(texts)
    sizes = np.diff(offsets)
    hashes = np.empty(int(room_for(sizes, unit).sum()), dtype=np.uint64)  # what is not written takes no memory
    cut = (n, unit == "characters", short)
    found = _shingles(data, offsets, cut, character_table(), scratch_for(sizes, unit), hashes)
    return found, hashes[: found[-1]]
