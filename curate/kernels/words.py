"""Words of texts: the segments of UAX #29 (default word boundaries, no tailoring) that are not whitespace.

A text is cut twice as fast as its hardest part: 64 bytes of ASCII become bit masks from which word starts and ends fall
out; runs between ASCII whitespace that hold any other byte go through the rules code point by code point.
The `regex` module's `(?wV1)\\b` differs in two places, where we keep to the annex: it joins an apostrophe to a vowel that
follows it ("'a"), and a lone regional indicator to what follows.
"""

from __future__ import annotations

import numpy as np

from curate.kernels import characters as character
from curate.kernels.characters import CLASSES, properties_of
from curate.kernels.compile import inlined, kernel, part, pasted
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
    ones,
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

_FLAG_SHIFT = 5  # character.LETTER, NOT_PUNCTUATION, LETTER_OR_NUMBER >> 5 are the first three flags
_ASCII_WORD = LETTER | NOT_PUNCTUATION | LETTER_OR_NUMBER
_ANY_FLAG = _ASCII_WORD | NOT_ASCII
_WIDE = NOT_ASCII << _FLAG_SHIFT   # the bit that characters.py leaves free for this

_A_LETTER = CLASSES["ALetter"]
_HEBREW = CLASSES["Hebrew_Letter"]
_NUMERIC = CLASSES["Numeric"]
_EXTEND_NUM_LET = CLASSES["ExtendNumLet"]
_KATAKANA = CLASSES["Katakana"]
_MID_LETTER = CLASSES["MidLetter"]
_MID_NUM = CLASSES["MidNum"]
_MID_NUM_LET = CLASSES["MidNumLet"]
_SINGLE_QUOTE = CLASSES["Single_Quote"]
_DOUBLE_QUOTE = CLASSES["Double_Quote"]
_EXTEND = CLASSES["Extend"]
_ZWJ = CLASSES["ZWJ"]
_SPACE = CLASSES["WSegSpace"]
_CR = CLASSES["CR"]
_LF = CLASSES["LF"]
_NEWLINE = CLASSES["Newline"]
_FLAG = CLASSES["Regional_Indicator"]
_FLAG_PAIR = 19  # a pair of regional indicators is complete: nothing joins it
_END = 20  # the end of the text: nothing joins it


@inlined
def _is_space(byte):  # type: ignore[no-untyped-def]
    return byte == 32 or 9 <= byte <= 13 or 28 <= byte <= 31


@inlined
def _joins(left, right):  # type: ignore[no-untyped-def]
    """WB5, WB8 to WB10, WB13 to WB13b: no boundary between these two classes."""
    letter_or_number = right <= _NUMERIC and right != 0
    if left == 0 or left > _KATAKANA:
        return False
    if left <= _NUMERIC:
        return letter_or_number or right == _EXTEND_NUM_LET
    if left == _EXTEND_NUM_LET:
        return letter_or_number or right == _EXTEND_NUM_LET or right == _KATAKANA
    return right == _KATAKANA or right == _EXTEND_NUM_LET


@inlined
def _may_bridge(left, mid):  # type: ignore[no-untyped-def]
    """The first halves of WB6, WB7b and WB12: whether `mid` after `left` waits for what follows."""
    if left == _A_LETTER or left == _HEBREW:
        return mid == _MID_LETTER or mid == _MID_NUM_LET or mid == _SINGLE_QUOTE or (
            left == _HEBREW and mid == _DOUBLE_QUOTE
        )
    return left == _NUMERIC and (mid == _MID_NUM or mid == _MID_NUM_LET or mid == _SINGLE_QUOTE)


@inlined
def _bridges(left, mid, right):  # type: ignore[no-untyped-def]
    """WB6 and WB7, WB7b and WB7c, WB11 and WB12: no boundary on either side of `mid`."""
    if left == _NUMERIC:
        return right == _NUMERIC
    if mid == _DOUBLE_QUOTE:
        return right == _HEBREW
    return right == _A_LETTER or right == _HEBREW


@pasted
def _add(words, n, start, end, seen):  # type: ignore[no-untyped-def]
    """Store a word unless it is whitespace; returns how many there are now. `seen` is all properties of its characters."""
    if seen & character.NOT_SPACE != 0:
        words[0][n] = start
        words[1][n] = end
        words[3][n] = (seen >> _FLAG_SHIFT) & _ANY_FLAG
        n += 1
    return n


@part
def _segment(text, start, end, characters, words, n):  # type: ignore[no-untyped-def]
    """Words of the bytes at addresses [start, end) by the rules of UAX #29, code point by code point.

    `left` is the class of the last character that counts (WB4 skips Extend, Format and ZWJ), `before` that of the last one
    whatever it is. A character that may bridge two letters or numbers is `waiting` until the next one decides.
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
        mask = masks[k]
        low = k << 6
        if low < start:
            mask &= ALL << np.uint64(start - low)
        if low + BLOCK > end:
            mask &= first_bits(end - low)
        following = n + ones(mask)
        while n < following:  # eight at a time, whatever is left: a loop that ends at an unforeseen bit costs more
            for i in range(8):
                out[n + i] = low + trailing_zeros(mask) + shift
                mask &= mask - ONE
            n += 8
        n = following
    return n


@part
def _add_ascii(text, start, end, masks, words, n, characters):  # type: ignore[no-untyped-def]
    """Words of the text's bytes [start, end), all ASCII and bounded by whitespace, from the masks."""
    starts, ends, _, flags = words
    last = _emit(masks[0], start, end, np.int64(0), starts, n)
    _emit(masks[1], start, end, np.int64(1), ends, n)
    for i in range(n, last):
        seen = properties_of(characters, np.int64(load_byte(text + starts[i])))
        if (seen & character.LETTER == 0) & (ends[i] - starts[i] > 1):  # letters may follow a number or an underscore
            for position in range(np.int64(starts[i]) + 1, np.int64(ends[i])):
                seen |= properties_of(characters, np.int64(load_byte(text + position)))
        flags[i] = (seen >> _FLAG_SHIFT) & _ASCII_WORD
    return last


@part
def _mark(text, size, limit, masks, scratch):  # type: ignore[no-untyped-def]
    """Fill the masks of word starts, word ends (last bytes) and non-ASCII bytes of a text.

    A letter, a digit or `_` belongs to a word, and so does a mid-letter between letters and a mid-number between digits;
    any other byte but whitespace is a word of its own. Returns the most words there can be, and whether all is ASCII.
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
        starts[k] = (inside & ~((inside << ONE) | inside_before)) | alone
        if k > 0:
            ends[k - 1] = (inside_last & ~((inside_last >> ONE) | (inside << TOP))) | alone_last
        not_ascii[k] = wide
        any_not_ascii |= wide
        bound += ones(starts[k]) + ones(wide)
        letters_before, digits_before, inside_before = letters >> TOP, digits >> TOP, inside >> TOP
        inside_last, alone_last = inside, alone
        letters, digits, space, wide = next_letters, next_digits, next_space, next_wide
        underscore, mid_letter, mid_number = next_underscore, next_mid_letter, next_mid_number
    if blocks > 0:
        ends[blocks - 1] = (inside_last & ~(inside_last >> ONE)) | alone_last
    return bound, any_not_ascii == ZERO


@part
def _add_mixed(text, size, masks, words, n, characters):  # type: ignore[no-untyped-def]
    """Words of a text that is not all ASCII: by the masks, and by the rules from whitespace to whitespace around the rest."""
    done = np.int64(0)
    k = 0
    blocks = (size + BLOCK - 1) >> 6
    while k < blocks:
        mask = masks[2][k]
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
def find_words(data, offsets, characters, scratch):  # type: ignore[no-untyped-def]
    """Words of all texts: uint8[...], int64[d + 1], the table of characters, 64 bytes of scratch.

    Returns first_word int64[d + 1], starts and ends uint32[w] (bytes from the text's start), hashes uint64[w], flags
    uint8[w], code points of each text int64[d]. The arrays of words have room for more than first_word[-1]; the rest is
    never written, so takes no memory.
    """
    texts = offsets.shape[0] - 1
    limit, spare = address_of(data, data.shape[0]), address_of(scratch, 0)
    longest = 0
    for i in range(texts):
        longest = max(longest, offsets[i + 1] - offsets[i])
    blocks = (longest >> 6) + 2
    masks = (np.empty(blocks, np.uint64), np.empty(blocks, np.uint64), np.empty(blocks, np.uint64))
    room = 8  # for _emit
    for i in range(texts):
        size = offsets[i + 1] - offsets[i]
        bound, _ = _mark(address_of(data, offsets[i]), size, limit, masks, spare)
        room += bound
    starts = np.empty(room, np.uint32)
    ends = np.empty(room, np.uint32)
    hashes = np.empty(room, np.uint64)
    flags = np.empty(room, np.uint8)
    words = (starts, ends, hashes, flags)
    first_word = np.zeros(texts + 1, np.int64)
    code_points = np.empty(texts, np.int64)
    n = beginning = np.int64(0)
    for i in range(texts):
        text, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        _, all_ascii = _mark(text, size, limit, masks, spare)
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
    return first_word, starts, ends, hashes, flags, code_points
