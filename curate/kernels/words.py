"""Words of texts: the segments of UAX #29 (default word boundaries, no tailoring) that are not whitespace.

A text is cut twice as fast as its hardest part: 64 bytes of ASCII become bit masks from which word starts and ends
fall out; runs between ASCII whitespace that hold any other byte go through the rules code point by code point. The
`regex` module's `(?wV1)\\b` differs in two places, where we keep to the annex: it joins an apostrophe to a vowel that
follows it ("'a"), and a lone regional indicator to what follows.
"""

from __future__ import annotations

import numpy as np

from curate.kernels import characters as character
from curate.kernels.characters import CLASSES, FLAG_SHIFT, UNDECIDED, character_table, properties_of
from curate.kernels.compile import inlined, kernel, part
from curate.kernels.hashing import hash_range
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
    load_byte,
    load_uint32,
    load_word,
    ones,
    store_byte,
    store_uint32,
    store_word,
    trailing_zeros,
    word_masks,
)

# Flags of a word.
LETTER = 1
"""It has a letter."""
NOT_PUNCTUATION = 2
"""It has a character that is not punctuation: it is no pure symbol."""
LETTER_OR_NUMBER = 4
"""It has a letter or a number."""
NOT_ASCII = 8
"""It has a byte above 127."""

_ASCII_WORD = LETTER | NOT_PUNCTUATION | LETTER_OR_NUMBER
_ANY_FLAG = _ASCII_WORD | NOT_ASCII
_WIDE = NOT_ASCII << FLAG_SHIFT  # the bit that characters.py leaves free for this

_A_LETTER = CLASSES["ALetter"]
_HEBREW = CLASSES["Hebrew_Letter"]
_NUMERIC = CLASSES["Numeric"]
_EXTEND_NUM_LET = CLASSES["ExtendNumLet"]
_KATAKANA = CLASSES["Katakana"]
_SINGLE_QUOTE = CLASSES["Single_Quote"]
_DOUBLE_QUOTE = CLASSES["Double_Quote"]
_EXTEND = CLASSES["Extend"]
_ZWJ = CLASSES["ZWJ"]
_SPACE = CLASSES["WSegSpace"]
_CR = CLASSES["CR"]
_LF = CLASSES["LF"]
_NEWLINE = CLASSES["Newline"]
_FLAG = CLASSES["Regional_Indicator"]
_LETTERS = 1 << _A_LETTER | 1 << _HEBREW
_NUMBERS = 1 << _NUMERIC
_CONNECTORS = 1 << _EXTEND_NUM_LET
_KATAKANAS = 1 << _KATAKANA
_MID_LETTERS = 1 << CLASSES["MidLetter"] | 1 << CLASSES["MidNumLet"] | 1 << _SINGLE_QUOTE
_MID_NUMBERS = 1 << CLASSES["MidNum"] | 1 << CLASSES["MidNumLet"] | 1 << _SINGLE_QUOTE
_FLAG_PAIR = 19  # a pair of regional indicators is complete: nothing joins it
_END = 20  # the end of the text: nothing joins it


@inlined
def _is_space(byte):  # type: ignore[no-untyped-def]
    return byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31


@inlined
def _is(kind, kinds):  # type: ignore[no-untyped-def]
    """Whether a class is one of those whose bits are set."""
    return (kinds >> kind) & 1 != 0


@inlined
def _joins(left, right):  # type: ignore[no-untyped-def]
    """WB5, WB8 to WB10, WB13 to WB13b: no boundary between these two classes."""
    if _is(left, _LETTERS | _NUMBERS):
        return _is(right, _LETTERS | _NUMBERS | _CONNECTORS)
    if left == _EXTEND_NUM_LET:
        return _is(right, _LETTERS | _NUMBERS | _KATAKANAS | _CONNECTORS)
    return left == _KATAKANA and _is(right, _KATAKANAS | _CONNECTORS)


@inlined
def _may_bridge(left, mid):  # type: ignore[no-untyped-def]
    """The first halves of WB6, WB7b and WB12: whether `mid` after `left` waits for what follows."""
    if left == _NUMERIC:
        return _is(mid, _MID_NUMBERS)
    return _is(left, _LETTERS) and (_is(mid, _MID_LETTERS) or (left == _HEBREW and mid == _DOUBLE_QUOTE))


@inlined
def _bridges(left, mid, right):  # type: ignore[no-untyped-def]
    """WB6 and WB7, WB7b and WB7c, WB11 and WB12: no boundary on either side of `mid`."""
    if left == _NUMERIC:
        return right == _NUMERIC
    if mid == _DOUBLE_QUOTE:
        return right == _HEBREW
    return _is(right, _LETTERS)


@inlined
def _add(words, n, start, end, seen):  # type: ignore[no-untyped-def]
    """Store a word unless it is whitespace; returns how many there are now. `seen`: properties of its characters."""
    starts, ends, flags = words
    store_uint32(starts + 4 * n, start)
    store_uint32(ends + 4 * n, end)
    store_byte(flags + n, np.uint8((seen >> FLAG_SHIFT) & _ANY_FLAG))
    return n + (seen & character.NOT_SPACE != 0)


@part
def _segment(text, start, end, characters, words, n):  # type: ignore[no-untyped-def]
    """Words of the bytes at addresses [start, end) by the rules of UAX #29, code point by code point.

    `left` is the class of the last character that counts (WB4 skips Extend, Format and ZWJ), `before` that of the
    last one whatever it is. A character that may bridge two letters or numbers is `waiting` until the next one
    decides.
    """
    left = before = np.int64(-1)
    word, seen = start, np.int64(0)
    waiting, waiting_at, waiting_seen = np.int64(0), start, np.int64(0)
    position = start
    while position <= end:
        kind, properties, size = np.int64(_END), np.int64(0), np.int64(1)
        if position < end:
            point, size = code_point(position, end)
            properties = properties_of(characters, point)
            kind = properties & character.CLASS
            properties &= ~character.CLASS
            if point > 127:
                properties |= _WIDE
        if kind == _A_LETTER and before == _A_LETTER and left == _A_LETTER:  # most of the time; WB5
            seen |= properties
            position += size
            continue
        after_newline = _CR <= before <= _NEWLINE
        if _EXTEND <= kind <= _ZWJ and before >= 0 and not after_newline:  # WB4
            if waiting != 0:
                waiting_seen |= properties
            else:
                seen |= properties
            before = kind
            position += size
            continue
        join = False
        if waiting != 0:
            join = _bridges(left, waiting, kind)
            if join or (left == _HEBREW and waiting == _SINGLE_QUOTE):  # the second case is WB7a
                seen |= waiting_seen
            else:
                n = _add(words, n, word - text, waiting_at - text, seen)
                word, seen = waiting_at, waiting_seen
            left = waiting
            waiting = 0
        now = kind
        if before < 0:
            join = True
        elif after_newline or _CR <= kind <= _NEWLINE:  # WB3 to WB3b
            join = before == _CR and kind == _LF
        elif (before == _ZWJ and properties & character.PICTOGRAPH != 0) or (before == _SPACE and kind == _SPACE):
            join = True  # WB3c, WB3d
        elif not join:
            if _may_bridge(left, kind):
                waiting, waiting_at, waiting_seen = kind, position, properties
                before = kind
                position += size
                continue
            if left == _FLAG and kind == _FLAG:  # WB15, WB16
                join = True
                now = _FLAG_PAIR
            else:
                join = _joins(left, kind)
        if not join:
            n = _add(words, n, word - text, position - text, seen)
            word, seen = position, 0
        seen |= properties
        left = now
        before = kind
        position += size
    return n


@part
def _emit(masks, start, end, shift, out, n):  # type: ignore[no-untyped-def]
    """Write the positions of the bits [start, end) of the masks, plus `shift`; returns how many there are now.

    Up to seven more places of `out` are written.
    """
    if start >= end:
        return n
    last = (end - 1) >> 6
    for k in range(start >> 6, last + 1):
        mask = load_word(masks + 8 * k)
        low = k << 6
        if low < start:
            mask &= ALL << np.uint64(start - low)
        if low + BLOCK > end:
            mask &= first_bits(end - low)
        following = n + ones(mask)
        while n < following:  # eight at a time, whatever is left: a loop that ends at an unforeseen bit costs more
            for i in range(8):
                store_uint32(out + 4 * (n + i), low + trailing_zeros(mask) + shift)
                mask &= mask - ONE
            n += 8
        n = following
    return n


@part
def _add_ascii(text, start, end, masks, words, n, characters):  # type: ignore[no-untyped-def]
    """Words of the text's bytes [start, end), all ASCII and bounded by whitespace, from the masks."""
    starts, ends, flags = words
    last = _emit(masks[0], start, end, np.int64(0), starts, n)
    _emit(masks[1], start, end, np.int64(1), ends, n)
    seen = np.uint8(0)
    for i in range(n, last):
        flag = load_byte(characters.first_flags + np.int64(load_byte(text + load_uint32(starts + 4 * i))))
        store_byte(flags + i, flag)
        seen |= flag
    if seen & UNDECIDED != 0:
        for i in range(n, last):
            if load_byte(flags + i) & UNDECIDED != 0:
                properties = np.int64(0)
                for position in range(load_uint32(starts + 4 * i), load_uint32(ends + 4 * i)):
                    properties |= properties_of(characters, np.int64(load_byte(text + position)))
                store_byte(flags + i, np.uint8((properties >> FLAG_SHIFT) & _ASCII_WORD))
    return last


@part
def _mark(text, size, limit, masks, scratch):  # type: ignore[no-untyped-def]
    """Fill the masks of word starts, word ends (last bytes) and non-ASCII bytes of a text.

    A letter, a digit or `_` belongs to a word, and so does a mid-letter between letters and a mid-number between
    digits; any other byte but whitespace is a word of its own. Returns the most words there can be, and whether all
    is ASCII.
    """
    starts, ends, not_ascii = masks
    blocks = (size + BLOCK - 1) >> 6
    letters_before = digits_before = inside_before = ZERO
    inside_last = alone_last = ZERO
    bound = 0
    any_not_ascii = ZERO
    letters, digits, space, wide, underscore, mid_letter, mid_number = word_masks(block_address(text, limit, scratch))
    for k in range(blocks):
        here = size - (k << 6)
        valid = first_bits(here)
        letters &= valid
        digits &= valid
        next_letters = next_digits = next_space = next_wide = next_underscore = next_mid_letter = next_mid_number = ZERO
        if here > BLOCK:
            (next_letters, next_digits, next_space, next_wide, next_underscore, next_mid_letter, next_mid_number) = (
                word_masks(block_address(text + ((k + 1) << 6), limit, scratch))
            )
            after = first_bits(here - BLOCK)
            next_letters &= after
            next_digits &= after
        bridge = mid_letter & ((letters << ONE) | letters_before) & ((letters >> ONE) | (next_letters << TOP))
        bridge |= mid_number & ((digits << ONE) | digits_before) & ((digits >> ONE) | (next_digits << TOP))
        inside = (letters | digits | underscore | bridge) & valid
        alone = ~(inside | space | wide) & valid
        wide &= valid
        begins = (inside & ~((inside << ONE) | inside_before)) | alone
        store_word(starts + 8 * k, begins)
        if k > 0:
            store_word(ends + 8 * (k - 1), (inside_last & ~((inside_last >> ONE) | (inside << TOP))) | alone_last)
        store_word(not_ascii + 8 * k, wide)
        any_not_ascii |= wide
        bound += ones(begins) + ones(wide)
        letters_before, digits_before, inside_before = letters >> TOP, digits >> TOP, inside >> TOP
        inside_last, alone_last = inside, alone
        letters, digits, space, wide = next_letters, next_digits, next_space, next_wide
        underscore, mid_letter, mid_number = next_underscore, next_mid_letter, next_mid_number
    if blocks > 0:
        store_word(ends + 8 * (blocks - 1), (inside_last & ~(inside_last >> ONE)) | alone_last)
    return bound, any_not_ascii == ZERO


@part
def _add_mixed(text, size, masks, words, n, characters):  # type: ignore[no-untyped-def]
    """Words of a text that is not all ASCII: by the rules around other bytes, space to space; by masks elsewhere."""
    done = np.int64(0)
    k = 0
    blocks = (size + BLOCK - 1) >> 6
    while k < blocks:
        mask = load_word(masks[2] + 8 * k)
        if (k << 6) < done:
            mask &= ALL << np.uint64(done - (k << 6)) if done - (k << 6) < BLOCK else ZERO
        if mask == ZERO:
            k += 1
            continue
        start = (k << 6) + trailing_zeros(mask)
        end = start + 1
        while start > done and not _is_space(load_byte(text + start - 1)):
            start -= 1
        if load_byte(text + start) > 127:  # it may extend the space before it
            while start > done and _is_space(load_byte(text + start - 1)):
                start -= 1
        while end < size:
            if _is_space(load_byte(text + end)):
                following = end + 1
                while following < size and _is_space(load_byte(text + following)):
                    following += 1
                if following == size or load_byte(text + following) <= 127:
                    break
                end = following
            end += 1
        n = _add_ascii(text, done, start, masks, words, n, characters)
        n = _segment(text, text + start, text + end, characters, words, n)
        done = end
        k = done >> 6
    return _add_ascii(text, done, size, masks, words, n, characters)


@inlined
def word_length(text, start, end, flags, limit):  # type: ignore[no-untyped-def]
    """A word's length in code points."""
    size = np.int64(end) - np.int64(start)
    return size if flags & NOT_ASCII == 0 else count_code_points(text + np.int64(start), size, limit)


@kernel
def _find_words(data, offsets, characters, space, first_word, starts, ends, hashes, flags, code_points):  # type: ignore[no-untyped-def]
    """Fill the arrays of words; if these have no room yet, only find out how much they need. Returns that."""
    limit, spare = address_of(data, data.shape[0]), address_of(space, 0)
    blocks = (space.shape[0] - 8) // 3
    masks = (spare + BLOCK, spare + BLOCK + 8 * blocks, spare + BLOCK + 16 * blocks)
    words = (address_of(starts, 0), address_of(ends, 0), address_of(flags, 0))
    counting = starts.shape[0] == 0
    room = np.int64(8)  # for _emit
    n = beginning = np.int64(0)
    for i in range(offsets.shape[0] - 1):
        text, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        bound, all_ascii = _mark(text, size, limit, masks, spare)
        room += bound
        if counting:
            continue
        if all_ascii:
            last = _add_ascii(text, beginning, size, masks, words, n, characters)
            code_points[i] = size
        else:
            last = _add_mixed(text, size, masks, words, n, characters)
            code_points[i] = count_code_points(text, size, limit)
        for word in range(n, last):
            hashes[word] = hash_range(text + starts[word], np.int64(ends[word]) - starts[word], limit)
        n = last
        first_word[i + 1] = n
    return room


def find_words(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Words of all texts: bytes uint8[...] and offsets int64[d + 1].

    Returns first_word int64[d + 1], starts and ends uint32[w] (bytes from the text's start), hashes uint64[w], flags
    uint8[w], code points of each text int64[d]. The arrays of words are views of arrays with room for more, which was
    never written and takes no memory; NumPy makes them, as it asks for huge pages where that pays.
    """
    texts = len(offsets) - 1
    longest = int(np.diff(offsets).max(initial=0))
    space = np.empty(8 + 3 * (longest // BLOCK + 2), dtype=np.uint64)  # a spare block, and three masks of a text
    first_word, code_points = np.zeros(texts + 1, dtype=np.int64), np.empty(texts, dtype=np.int64)
    kinds = (np.uint32, np.uint32, np.uint64, np.uint8)
    words = [np.empty(0, dtype=kind) for kind in kinds]
    room = _find_words(data, offsets, character_table(), space, first_word, *words, code_points)
    words = [np.empty(room, dtype=kind) for kind in kinds]
    _find_words(data, offsets, character_table(), space, first_word, *words, code_points)
    return (first_word, *(array[: first_word[-1]] for array in words), code_points)
