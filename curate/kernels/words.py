"""Words of texts: UAX #29 within the chunks between spaces, marks as word_rules.py has them.

64 bytes at a time become bit masks: where words start and end by the plain rules of ASCII (and of two-byte letters:
Latin, Cyrillic), and which bytes these rules do not settle. A chunk that has such a byte, about one in twenty of
English, is cut by word_rules.py, which sets its bits anew. Positions, flags and hashes are read off the masks.
"""

from __future__ import annotations

import numpy as np

from curate.kernels import characters as character
from curate.kernels.characters import FLAG_SHIFT, UNDECIDED, character_table, properties_of
from curate.kernels.compile import inlined, kernel, part, pasted
from curate.kernels.hashing import hash_range, hash_short
from curate.kernels.masks import store_places
from curate.kernels.memory import (
    ALL,
    BLOCK,
    ONE,
    TOP,
    ZERO,
    address_of,
    block_address,
    code_point,
    count_code_points,
    first_bits,
    last_words,
    leading_zeros,
    load_byte,
    load_word,
    ones,
    store_word,
    trailing_zeros,
    wide_masks,
    word_masks,
)
from curate.kernels.word_exceptions import LONGEST, exception_table, find_exception
from curate.kernels.word_rules import cut_chunk, set_bit

# Flags of a word.
LETTER = 1
"""It has a letter."""
NOT_PUNCTUATION = 2
"""It has a character that is not punctuation: it is no pure symbol."""
LETTER_OR_NUMBER = 4
"""It has a letter or a number."""
NOT_ASCII = 8
"""It has a byte above 127."""
SENTENCE_END = 16
"""It is one mark that ends a sentence (spaCy's sentencizer)."""
ONLY_PUNCTUATION = 32
"""All of it is of Unicode category P."""

_FROM_TABLE = LETTER | NOT_PUNCTUATION | LETTER_OR_NUMBER | NOT_ASCII
_ALL_PROPERTIES = _FROM_TABLE << FLAG_SHIFT
_WIDTH, _TWO, _THREE = np.uint64(64), np.uint64(2), np.uint64(3)
_FIRST_61 = ALL >> _THREE
_HIGH_BITS = np.uint64(0x8080808080808080)
_ROOM_PER_BYTE = 0.25
"""Words to make room for at first; more are made room for where a text has them"""


@inlined
def _after(mask, last, places=ONE):  # type: ignore[no-untyped-def]
    """A mask moved on by some bytes, the end of the last block's coming in: what stood so many bytes before."""
    return (mask << places) | (last >> (_WIDTH - places))


@inlined
def _before(mask, following):  # type: ignore[no-untyped-def]
    """A mask moved back by a byte: what stands after, `following` telling it of the next block's first byte."""
    return (mask >> ONE) | (np.uint64(following) << TOP)


@part
def _mark(text, size, limit, masks, scratch):  # type: ignore[no-untyped-def]
    """Fill the masks of a text; returns its code points, and whether the last two masks have a bit.

    The masks: word starts, ends (the byte after a word), space, what word_rules.py must look at, and marks that may
    belong to an abbreviation or a contraction. By the plain rules a run of letters and digits is a word, with a comma,
    full stop or colon between two digits, an apostrophe between two letters, the full stop of an initial; any other
    visible byte is one, and so are the usual quotation marks and dashes where a chunk starts or ends. Whatever could
    make it otherwise is for word_rules.py: each condition names a byte of the chunk, whichever. What is not ASCII and
    begins in the last bytes of a block is left to it too.
    """
    starts, ends, spaces, unsettled, spelled = masks
    blocks = (size + BLOCK - 1) >> 6
    last_lower = last_upper = last_letters = last_digits = last_wide_letters = last_leads = ZERO
    last_marks = last_strict = last_stop = last_apostrophe = last_inside = last_alone = last_outer = ZERO
    last_space = ALL
    any_unsettled = any_spelled = ZERO
    points = size
    for k in range(blocks):
        block = block_address(text + (k << 6), limit, scratch)
        (lower, upper, digits, space, wide, stop, comma, colon, apostrophe, hyphen, percent, odd) = word_masks(block)
        here = size - (k << 6)
        following = np.int64(32)
        if here > BLOCK:
            following = np.int64(load_byte(text + ((k + 1) << 6)))
        else:
            valid = first_bits(here)
            lower &= valid
            upper &= valid
            digits &= valid
            space |= ~valid
            wide &= valid
        letters = lower | upper
        digits_1 = _after(digits, last_digits)
        # Quotation marks and dashes at an edge: their bytes, and the byte after; marks that join.
        wide_letters = leads = outer = outer_ends = joiner = curly = ZERO
        if wide != ZERO:
            (continuations, leads, times, e2, x80, dashes, curly, quotes, c2, xa0, guillemets) = wide_masks(block)
            points -= ones(continuations & wide)
            leads &= wide & _before(continuations, 128 <= following < 192)
            leads &= ~_before(times, following == 0x97 or following == 0xB7)
            wide_letters = leads | _after(leads, last_leads)
            letters |= wide_letters
            no_break = c2 & (xa0 >> ONE) & (wide >> ONE)
            space |= no_break | (no_break << ONE)
            space_1, letters_1 = _after(space, last_space), _after(letters, last_letters)
            general = e2 & wide & (x80 >> ONE) & (wide >> _TWO) & _FIRST_61
            dashes = (dashes >> _TWO) & general
            curly = (curly >> _TWO) & general & letters_1 & (letters >> _THREE)
            joiner = curly | (dashes & digits_1 & (digits >> _THREE))
            guillemets = c2 & (guillemets >> ONE) & (wide >> ONE) & (_FIRST_61 | (_FIRST_61 << ONE))
            edge = (((quotes >> _TWO) & general) | dashes) & ~joiner & (space_1 | (space >> _THREE))
            edge |= dashes & letters_1 & (letters >> _THREE)
            two = guillemets & (space_1 | (space >> _TWO))
            outer_ends = (edge << _THREE) | (two << _TWO)
            joiner |= (joiner << ONE) | (joiner << _TWO)
            outer = edge | (edge << ONE) | (edge << _TWO) | two | (two << ONE)
            edge |= two
        else:
            edge = ZERO
            wide_letters = _after(leads, last_leads)
            space_1 = _after(space, last_space)
        both = letters | digits
        strange = wide & ~(wide_letters | outer | joiner | space)
        marks = ~(both | space | wide)
        strict = (odd | hyphen | colon) & marks  # marks that must not touch another one
        stop &= marks
        apostrophe &= marks
        letters_1 = _after(letters, last_letters)
        both_1 = letters_1 | digits_1
        upper_1, upper_2 = _after(upper, last_upper), _after(upper, last_upper, _TWO)
        marks_1, marks_2 = _after(marks, last_marks), _after(marks, last_marks, _TWO)
        outer_1 = _after(outer, last_outer)
        apostrophe_1 = _after(apostrophe, last_apostrophe)
        next_letters = _before(letters, 97 <= following | 32 <= 122)
        next_digits = _before(digits, 48 <= following <= 57)
        next_both = next_letters | next_digits | _before(strange | joiner, following > 127)
        next_seen = _before(~space, not (following == 32 or 9 <= following <= 13 or 28 <= following <= 31))

        joins = apostrophe & letters_1 & next_letters
        initial = stop & upper_1 & _after(space, last_space, _TWO) & ~next_both  # the full stop of "J."
        bridge = ((stop | comma | colon) & digits_1 & next_digits) | joins | initial
        cuts = hyphen & ((both_1 & next_letters) | (digits_1 & next_digits))
        any_mark, any_mark_1 = marks | outer, marks_1 | outer_1
        look = strange
        look |= marks & both_1 & next_both & ~(bridge | cuts | (comma & letters_1 & next_letters))
        look |= both & marks_1 & marks_2 & ~_after(space, last_space, _THREE)
        look |= marks & outer_1 & next_both
        touching = strict | _after(strict, last_strict) | (stop & _after(stop, last_stop)) | (apostrophe & apostrophe_1)
        look |= any_mark & any_mark_1 & touching
        after_letter = (upper_1 & ~upper_2 & ~initial) | _after(wide_letters, last_wide_letters)
        look |= stop & ((space_1 & next_seen) | after_letter | (marks_1 & next_both))
        look |= (odd & marks) & ~(percent & digits_1 & ~next_seen) & (~space_1 | next_seen)
        look |= (hyphen & ~cuts) & (~space_1 | next_seen)
        look |= letters & (digits_1 | (apostrophe_1 & ~_after(joins, ZERO)))
        look &= ~space
        may_spell = (stop & _after(lower, last_lower) & ~next_both) | joins | curly

        inside = both | bridge | strange | joiner
        alone = marks & ~bridge
        inside_1 = _after(inside, last_inside)
        store_word(starts + 8 * k, (inside & ~inside_1) | alone | edge)
        store_word(ends + 8 * k, (inside_1 & ~inside) | _after(alone, last_alone) | outer_ends)
        store_word(spaces + 8 * k, space)
        store_word(unsettled + 8 * k, look)
        store_word(spelled + 8 * k, may_spell)
        any_unsettled |= look
        any_spelled |= may_spell
        last_lower, last_upper, last_letters, last_digits = lower, upper, letters, digits
        last_wide_letters, last_leads, last_space, last_outer = wide_letters, leads, space, outer
        last_marks, last_strict, last_stop, last_apostrophe = marks, strict, stop, apostrophe
        last_inside, last_alone = inside, alone
    store_word(starts + 8 * blocks, ZERO)
    store_word(ends + 8 * blocks, (last_inside | last_alone) >> TOP)
    store_word(spaces + 8 * blocks, ALL)
    return points, any_unsettled != ZERO, any_spelled != ZERO


@inlined
def _bit_before(masks, at, reach):  # type: ignore[no-untyped-def]
    """The highest bit below a place, or -1 if none is in its block and the `reach` blocks before."""
    k = at >> 6
    least = max(k - reach, 0)
    found = load_word(masks + 8 * k) & first_bits(at & 63)
    while found == ZERO and k > least:
        k -= 1
        found = load_word(masks + 8 * k)
    return (k << 6) + 63 - leading_zeros(found) if found != ZERO else np.int64(-1)


@inlined
def _bit_from(masks, at, reach):  # type: ignore[no-untyped-def]
    """The lowest bit at or above a place, or -1 if none is in its block and the `reach` next ones; one is somewhere."""
    k = at >> 6
    most = k + reach
    found = load_word(masks + 8 * k) & (ALL << np.uint64(at & 63))
    while found == ZERO and k < most:
        k += 1
        found = load_word(masks + 8 * k)
    return (k << 6) + trailing_zeros(found) if found != ZERO else np.int64(-1)


@inlined
def _mark_unsettled(unsettled, at):  # type: ignore[no-untyped-def]
    place = unsettled + 8 * (at >> 6)
    store_word(place, load_word(place) | (ONE << np.uint64(at & 63)))


@inlined
def _is_inner(text, at, size):  # type: ignore[no-untyped-def]
    """Whether a hyphen, comma or dash stands at a place (its last byte or its first): what is beside it is no whole
    chunk."""
    byte = load_byte(text + at) if 0 <= at < size else np.uint8(32)
    if byte == 0xE2 and at + 2 < size:
        byte = load_byte(text + at + 2)
    return byte == 45 or byte == 44 or byte == 0x93 or byte == 0x94


@pasted
def _has_apostrophe(text, start, end):  # type: ignore[no-untyped-def]
    for at in range(start, end):
        byte = load_byte(text + at)
        if byte == 39 or byte == 0x99:
            return True
    return False


@part
def _spell(text, blocks, size, limit, exceptions, masks):  # type: ignore[no-untyped-def]
    """Abbreviations get their full stop, contractions are cut at the apostrophe, unless something else is unsettled."""
    starts, ends, _, unsettled, spelled = masks
    near = np.int64(1)
    for k in range(blocks):
        mask = load_word(spelled + 8 * k)
        while mask != ZERO:
            at = (k << 6) + trailing_zeros(mask)
            mask &= mask - ONE
            mark = load_byte(text + at)
            start, end = _bit_before(starts, at, near), _bit_from(ends, at, near)
            if start < 0 or end < 0:
                _mark_unsettled(unsettled, at)
                continue
            if mark == 46:
                # Abbreviations are "Messrs." at most; those in lower case are shorter than three letters.
                if at - start > 6 or (at - start > 2 and load_byte(text + start) >= 97):
                    continue
                if find_exception(text + start, text + at + 1, limit, exceptions) < 0:
                    continue
                if _is_inner(text, start - 1, size):
                    _mark_unsettled(unsettled, at)
                    continue
                keep = ~(ONE << np.uint64(at & 63))
                store_word(starts + 8 * k, load_word(starts + 8 * k) & keep)
                store_word(ends + 8 * k, load_word(ends + 8 * k) & keep)
                continue
            cuts = np.int64(-1)
            if end - start <= LONGEST:
                cuts = find_exception(text + start, text + end, limit, exceptions)
            wide = mark != 39
            last = load_byte(text + end - 1) | 32
            possessive = last == 115 and end == at + (4 if wide else 2)
            if cuts <= 0 and not possessive:
                continue
            inner = _is_inner(text, start - 1, size) or _is_inner(text, end, size)
            if inner or cuts > 15 or (cuts < 0 and _has_apostrophe(text, start, at)):
                _mark_unsettled(unsettled, at)
                continue
            cut = start + cuts if cuts > 0 else at
            set_bit(starts, cut)
            set_bit(ends, cut)


@pasted
def _settle(text, blocks, size, limit, tables, masks):  # type: ignore[no-untyped-def]
    """Cut each chunk that the plain rules leave unsettled."""
    starts, ends, spaces, unsettled, _ = masks
    characters, exceptions = tables
    done = np.int64(0)
    for k in range(blocks):
        mask = load_word(unsettled + 8 * k)
        while mask != ZERO:
            at = (k << 6) + trailing_zeros(mask)
            mask &= mask - ONE
            if at >= done:
                start = _bit_before(spaces, at, blocks) + 1
                done = min(_bit_from(spaces, at, blocks), size)
                cut_chunk(text, text + start, text + done, limit, characters, exceptions, (starts, ends))


@part
def _flags_of(start, end, characters):  # type: ignore[no-untyped-def]
    """Flags of a word, from all of its characters."""
    position = start
    seen, common, points = np.int64(0), np.int64(character.ONLY_PUNCTUATION), 0
    while position < end:
        point, size = code_point(position, end)
        properties = properties_of(characters, point)
        seen |= properties
        common &= properties
        points += 1
        position += size
        if seen & _ALL_PROPERTIES == _ALL_PROPERTIES:
            break
    flags = (seen >> FLAG_SHIFT) & _FROM_TABLE
    if common != 0:
        flags |= ONLY_PUNCTUATION
    if points == 1 and seen & character.SENTENCE_END != 0:
        flags |= SENTENCE_END
    return np.uint8(flags)


@inlined
def _described(text, start, end, limit, characters):  # type: ignore[no-untyped-def]
    """The hash and the flags of a word. (Stored by the caller: an array handed over is counted as a reference, for
    every word.)"""
    address, size = text + start, end - start
    low, high = last_words(address, min(size, 16), limit)
    hashed = hash_short(low, high, size) if size <= 16 else hash_range(address, size, limit)
    flag = load_byte(characters.first_flags + np.int64(load_byte(address)) + ((size > 1) << 8))
    if flag & UNDECIDED != 0 or (low | high) & _HIGH_BITS != ZERO or size > 16:
        flag = _flags_of(address, address + size, characters)
    return hashed, flag


@kernel
def _find_words(data, offsets, tables, space, text, first_word, starts, ends, hashes, flags, code_points):  # type: ignore[no-untyped-def]
    """Fill the arrays of words from a text on; returns the first text whose words have no room there, and their
    number."""
    limit, spare = address_of(data, data.shape[0]), address_of(space, 0)
    stride = 8 * ((space.shape[0] - 8) // 5)
    base = spare + BLOCK
    masks = (base, base + stride, base + 2 * stride, base + 3 * stride, base + 4 * stride)
    for i in range(text, offsets.shape[0] - 1):
        address, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        blocks = (size + BLOCK - 1) >> 6
        points, any_unsettled, any_spelled = _mark(address, size, limit, masks, spare)
        if any_spelled:
            _spell(address, blocks, size, limit, tables[1], masks)
        if any_unsettled or any_spelled:
            _settle(address, blocks, size, limit, tables, masks)
        n, count = first_word[i], np.int64(0)
        for k in range(blocks):
            count += ones(load_word(masks[0] + 8 * k))
        if n + count + 8 > starts.shape[0]:
            return i, count
        store_places(masks[0], blocks, address_of(starts, n))
        store_places(masks[1], blocks + 1, address_of(ends, n))
        for word in range(n, n + count):
            start, end = np.int64(starts[word]), np.int64(ends[word])
            hashes[word], flags[word] = _described(address, start, end, limit, tables[0])
        first_word[i + 1] = n + count
        code_points[i] = points
    return offsets.shape[0] - 1, np.int64(0)


def find_words(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Words of all texts: bytes uint8[...] and offsets int64[d + 1].

    Returns first_word int64[d + 1], starts and ends uint32[w] (bytes from the text's start), hashes uint64[w], flags
    uint8[w], code points of each text int64[d]. The arrays of words are views of arrays with room for more, which was
    never written and takes no memory; NumPy makes them, as it asks for huge pages where that pays.
    """
    texts = len(offsets) - 1
    longest = int(np.diff(offsets).max(initial=0))
    space = np.empty(8 + 5 * (longest // BLOCK + 2), dtype=np.uint64)  # a spare block, and five masks of a text
    first_word, code_points = np.zeros(texts + 1, dtype=np.int64), np.empty(texts, dtype=np.int64)
    room = 64 + int(_ROOM_PER_BYTE * int(offsets[-1] - offsets[0]))
    words = _arrays(room)
    tables = (character_table(), exception_table())
    done = 0
    while True:
        done, needed = _find_words(data, offsets, tables, space, done, first_word, *words, code_points)
        if done == texts:
            break
        found = first_word[done]
        room = 8 + max(int(found) + needed, 2 * room)
        larger = _arrays(room)
        for new, old in zip(larger, words, strict=True):
            new[:found] = old[:found]
        words = larger
    return (first_word, *(array[: first_word[-1]] for array in words), code_points)


def _arrays(room: int) -> tuple[np.ndarray, ...]:
    """Starts, ends, hashes and flags of some words, in one block of memory: so the allocator gives the next batch the
    same one, where it would return several to the system, and pages that are new cost more than what is written."""
    memory = np.empty(17 * room, dtype=np.uint8)
    hashes, positions = memory[: 8 * room].view(np.uint64), memory[8 * room : 16 * room].view(np.uint32)
    return positions[:room], positions[room:], hashes, memory[16 * room :]


@kernel
def _describe_words(data, offsets, characters, first_word, starts, ends, hashes, flags):  # type: ignore[no-untyped-def]
    limit = address_of(data, data.shape[0])
    for i in range(offsets.shape[0] - 1):
        text = address_of(data, offsets[i])
        for word in range(first_word[i], first_word[i + 1]):
            start, end = np.int64(starts[word]), np.int64(ends[word])
            hashes[word], flags[word] = _described(text, start, end, limit, characters)


def describe_words(
    data: np.ndarray, offsets: np.ndarray, first_word: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes uint64[w] and flags uint8[w] of words that were found elsewhere."""
    hashes, flags = np.empty(len(starts), dtype=np.uint64), np.empty(len(starts), dtype=np.uint8)
    _describe_words(data, offsets, character_table(), first_word, starts, ends, hashes, flags)
    return hashes, flags


@inlined
def word_length(text, start, end, flags, limit):  # type: ignore[no-untyped-def]
    """A word's length in code points."""
    size = np.int64(end) - np.int64(start)
    return size if flags & NOT_ASCII == 0 else count_code_points(text + np.int64(start), size, limit)
