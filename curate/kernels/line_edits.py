"""RefinedWeb's line edits as DCLM's code makes them: which lines of a text go, which are shortened, and what is left.

Method: Penedo et al. 2023 (arXiv:2306.01116, appendix G.2); exact rules, their order and the phrases from DCLM's
`baselines/mappers/modifiers.py` and `dclm_baseline_refinedweb.yaml`. Each rule is a pass over the lines that the
passes before it left, and after each (but the one for short lines) the text is stripped, as there.
A text is copied once; lines are edited in the copy, so the cost is a few looks at each line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from curate.kernels import characters as character
from curate.kernels.characters import character_table, lower_case_of, properties_of
from curate.kernels.compile import inlined, kernel, part
from curate.kernels.memory import (
    BLOCK,
    ONE,
    TOP,
    ZERO,
    address_of,
    block_address,
    code_point,
    copy_bytes,
    count_code_points,
    first_bits,
    load_byte,
    load_int32,
    ones,
    store_byte,
    trailing_zeros,
)
from curate.kernels.strings import string_array
from curate.kernels.text_index import TextIndex
from curate.kernels.trimming import count_split_words, last_code_point, skip_space, trim_space
from curate.kernels.vectors import below, block_masks, equal, splat, within

COUNTS = (
    "lines",
    "kept_lines",
    "uppercase_lines",
    "numeric_lines",
    "counter_lines",
    "short_lines",
    "phrase_lines",
    "shortened_lines",
    "words",
    "kept_words",
    "flagged_words",
)
"""int64 columns: lines of the text and lines kept; lines removed by each rule; lines kept of which a phrase was cut;
words (between ASCII spaces, starting with a letter or number) before and after, and in lines that were touched"""

COUNTERS = (
    "likes",
    "shares",
    "comments",
    "retweets",
    "reposts",
    "quotes",
    "bookmarks",
    "upvotes",
    "downvotes",
    "downloads",
    "views",
    "followers",
)
"""What DCLM takes for a counter after a number; the paper names `3 likes` only."""

_PADDING = 2 * BLOCK  # masks of a line's last block read past its end; the last block is a spare one
_ANY = -1


class Phrases(NamedTuple):
    """Phrases as code points in lower case; addresses of arrays that must live as long as these are used."""

    letters: int
    """int32[...]: -1 stands for any character"""
    begins: int
    """int32[count + 1]"""
    beginnings: int
    """uint8[128]: 1 for an ASCII character that a phrase may begin with, whatever its case"""
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class EditedLines:
    """The edited texts, and what was found."""

    text: pa.Array
    """what is left of each text, type of the input"""
    columns: dict[str, np.ndarray]
    """COUNTS"""


@block_masks(3)
def _line_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: A to Z, 0 to 9, the lead byte of a non-ASCII code point."""
    return [
        within(builder, block, ord("A"), ord("Z")),
        within(builder, block, ord("0"), ord("9")),
        within(builder, block, 0xC2, 0xF4),
    ]


@block_masks(2)
def _space_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: ASCII whitespace, bytes that another kind of space may begin with."""
    controls = builder.or_(within(builder, block, 9, 13), within(builder, block, 28, 31))
    return [builder.or_(controls, equal(builder, block, " ")), equal(builder, block, "\xc2\xe1\xe2\xe3")]


@block_masks(3)
def _token_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: what fastText takes for a space, ASCII letters and digits, other bytes."""
    return [
        builder.or_(within(builder, block, 9, 13), equal(builder, block, " \0")),
        builder.or_(
            within(builder, builder.or_(block, splat(32)), ord("a"), ord("z")),
            within(builder, block, ord("0"), ord("9")),
        ),
        below(builder, block, 0),
    ]


@intrinsic
def _move(typing_context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy bytes between addresses that may overlap."""
    signature = types.void(types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(argument, pointer) for argument in arguments[:2])
        cgutils.raw_memmove(builder, target, source, arguments[2], 1)
        return context.get_dummy_value()

    return signature, generate


@part
def count_tokens(text, size, limit, spare, characters):  # type: ignore[no-untyped-def]
    """Words as DCLM counts them: fastText's tokens (ASCII whitespace and NUL part them) that start with a letter or
    number."""
    count = 0
    space_before = ONE
    for low in range(0, size, BLOCK):
        space, plain, wide = _token_masks(block_address(text + low, limit, spare))
        begins = ~space & ((space << ONE) | space_before) & first_bits(size - low)
        space_before = space >> TOP
        count += ones(begins & plain)
        begins &= wide
        while begins != ZERO:
            address = text + low + trailing_zeros(begins)
            begins &= begins - ONE
            point, _ = code_point(address, text + size)
            count += properties_of(characters, point) & character.LETTER_OR_NUMBER != 0
    return count


@inlined
def _is_upper(point, properties):  # type: ignore[no-untyped-def]
    """`str.isupper` of one character: upper-case letters, and Roman numerals and letters in circles or squares."""
    return (
        properties & character.UPPER_CASE != 0
        or 0x2160 <= point <= 0x216F
        or 0x24B6 <= point <= 0x24CF
        or 0x1F130 <= point <= 0x1F149
        or 0x1F150 <= point <= 0x1F169
        or 0x1F170 <= point <= 0x1F189
    )


@inlined
def _is_other_digit(point):  # type: ignore[no-untyped-def]
    """`str.isdigit` of what is no decimal digit: raised, lowered and circled digits, and those of a few scripts."""
    if point < 0x1369:
        return point == 0xB2 or point == 0xB3 or point == 0xB9
    if point < 0x2070:
        return point <= 0x1371 or point == 0x19DA
    if point < 0x10A40:
        return (
            point == 0x2070
            or 0x2074 <= point <= 0x2079
            or 0x2080 <= point <= 0x2089
            or 0x2460 <= point <= 0x2468
            or 0x2474 <= point <= 0x247C
            or 0x2488 <= point <= 0x2490
            or point == 0x24EA
            or 0x24F5 <= point <= 0x24FD
            or point == 0x24FF
            or 0x2776 <= point <= 0x277E
            or 0x2780 <= point <= 0x2788
            or 0x278A <= point <= 0x2792
        )
    return point <= 0x10A43 or 0x10E60 <= point <= 0x10E68 or 0x11052 <= point <= 0x1105A or 0x1F100 <= point <= 0x1F10A


@part
def _upper_and_digits(start, end, characters):  # type: ignore[no-untyped-def]
    """Upper-case letters and digits of a line. Reads up to 63 bytes past its end."""
    uppers = digits = 0
    for low in range(0, end - start, BLOCK):
        upper, digit, leads = _line_masks(start + low)
        valid = first_bits(end - start - low)
        uppers += ones(upper & valid)
        digits += ones(digit & valid)
        leads &= valid
        while leads != ZERO:
            point, _ = code_point(start + low + trailing_zeros(leads), end)
            leads &= leads - ONE
            properties = properties_of(characters, point)
            uppers += _is_upper(point, properties)
            digits += properties & character.DIGIT != 0 or _is_other_digit(point)
    return uppers, digits


@part
def _split_length(start, end, enough, characters):  # type: ignore[no-untyped-def]
    """How many words `str.split` would give; `enough` or more once there are so many. Reads up to 63 bytes on."""
    count = 0
    space_before = ONE
    for low in range(0, end - start, BLOCK):
        space, others = _space_masks(start + low)
        valid = first_bits(end - start - low)
        if others & valid != ZERO:
            return count_split_words(start, end, enough, characters)
        count += ones(~space & ((space << ONE) | space_before) & valid)
        if count >= enough:
            break
        space_before = space >> TOP
    return count


@inlined
def _fold(point, characters):  # type: ignore[no-untyped-def]
    """A letter as Python's `re.IGNORECASE` compares it: the dotted and dotless i are i, the long s is s."""
    if point < 128:
        return point + 32 if 65 <= point <= 90 else point
    if point == 0x130 or point == 0x131:
        return np.int64(105)
    if point == 0x17F:
        return np.int64(115)
    return lower_case_of(characters, point)


@part
def _phrase_end(address, end, which, phrases, characters):  # type: ignore[no-untyped-def]
    """Address after phrase number `which` if it stands here, whatever its case; else -1."""
    for k in range(load_int32(phrases.begins + 4 * which), load_int32(phrases.begins + 4 * which + 4)):
        if address >= end:
            return -1
        point, size = code_point(address, end)
        wanted = load_int32(phrases.letters + 4 * k)
        if wanted != _ANY and wanted != _fold(point, characters):
            return -1
        address += size
    return address


@part
def _any_phrase_end(address, end, phrases, characters):  # type: ignore[no-untyped-def]
    """Address after the first phrase of the list that stands here, else -1."""
    for which in range(phrases.count):
        after = _phrase_end(address, end, which, phrases, characters)
        if after >= 0:
            return after
    return -1


@inlined
def _space_before(start, address, characters):  # type: ignore[no-untyped-def]
    """Size of the space that ends at an address, 0 if there is none after `start`."""
    if address == start:
        return 0
    point, size = last_code_point(start, address)
    return size if properties_of(characters, point) & character.NOT_SPACE == 0 else 0


@part
def _cut_anywhere(start, end, phrases, characters):  # type: ignore[no-untyped-def]
    """Close the gaps where phrases and a space before each were, in place; returns the new end."""
    target = done = position = start
    while position < end:
        byte = load_byte(position)
        if byte < 128 and load_byte(phrases.beginnings + np.int64(byte)) == 0:
            position += 1
            continue
        after = _any_phrase_end(position, end, phrases, characters)
        if after >= 0:
            until = position - _space_before(done, position, characters)
            _move(target, done, until - done)
            target += until - done
            position = done = after
        else:
            position += code_point(position, end)[1]
    if target < done:
        _move(target, done, end - done)
    return target + (end - done)


@part
def _cut_at_end(start, end, phrases, characters):  # type: ignore[no-untyped-def]
    """Where a line ends without the longest of the phrases at its end and a space before it."""
    cut = end
    for which in range(phrases.count):
        position = end
        for _ in range(load_int32(phrases.begins + 4 * which + 4) - load_int32(phrases.begins + 4 * which)):
            if position > start:
                position -= last_code_point(start, position)[1]
        if _phrase_end(position, end, which, phrases, characters) == end:
            cut = min(cut, position - _space_before(start, position, characters))
    return cut


@part
def _cut_at_start(start, end, phrases, characters):  # type: ignore[no-untyped-def]
    """Where a line starts without the phrase at its start and one space after it."""
    after = _any_phrase_end(start, end, phrases, characters)
    if after < 0:
        return start
    if after < end:
        point, size = code_point(after, end)
        if properties_of(characters, point) & character.NOT_SPACE == 0:
            after += size
    return after


@inlined
def _is_word(point, characters):  # type: ignore[no-untyped-def]
    """Python's `\\w`."""
    return point == 95 or properties_of(characters, point) & character.LETTER_OR_NUMBER != 0


@part
def _skip_symbols(address, end, characters):  # type: ignore[no-untyped-def]
    while address < end:
        point, size = code_point(address, end)
        if _is_word(point, characters):
            break
        address += size
    return address


@part
def word_end_if(address, end, which, words, characters):  # type: ignore[no-untyped-def]
    """Address after word number `which` if it stands here as `str.lower` would write it; else -1."""
    for k in range(load_int32(words.begins + 4 * which), load_int32(words.begins + 4 * which + 4)):
        if address >= end:
            return -1
        point, size = code_point(address, end)
        if lower_case_of(characters, point) != load_int32(words.letters + 4 * k):
            return -1
        address += size
    return address


@part
def _is_counter(start, end, words, characters):  # type: ignore[no-untyped-def]
    """Whether a line is a number (`1,234`, `5.6k`), space and one of the words, with only symbols around."""
    address = _skip_symbols(start, end, characters)
    first = address
    while address < end:
        point, size = code_point(address, end)
        digit = properties_of(characters, point) & character.DIGIT != 0
        if not digit and (address == first or (point != 44 and point != 46)):
            break
        address += size
    if not first < address < end:
        return False
    point, size = code_point(address, end)
    lower = lower_case_of(characters, point)
    if lower == 107 or lower == 109 or lower == 98:
        address += size
    word = skip_space(address, end, characters)
    if not address < word < end:
        return False
    for which in range(words.count):
        after = word_end_if(word, end, which, words, characters)
        if after >= 0 and (after == end or not _is_word(code_point(after, end)[0], characters)):
            return _skip_symbols(after, end, characters) == end
    return False


@part
def _strip(starts, ends, n, characters):  # type: ignore[no-untyped-def]
    """`str.strip` of the lines joined: blank ones go from both ends. Returns which are left, as [first, last)."""
    first, last = 0, n
    while first < last:
        start = skip_space(starts[first], ends[first], characters)
        if start < ends[first]:
            starts[first] = start
            break
        first += 1
    while first < last:
        end = trim_space(starts[last - 1], ends[last - 1], characters)
        if end > starts[last - 1]:
            ends[last - 1] = end
            break
        last -= 1
    return first, last


@kernel
def _edit(rows, data, offsets, lines, order, rules, counters, phrases, characters, out, out_offsets, counts):  # type: ignore[no-untyped-def]
    max_uppercase, max_numeric, min_words, max_phrase_words = rules
    anywhere, at_end, at_start = phrases
    first_line, line_starts, line_ends = lines
    base = address_of(out, 0)
    limit = base + out.shape[0] - BLOCK
    spare = limit
    most = 0
    for i in range(rows.shape[0]):
        most = max(most, first_line[rows[i] + 1] - first_line[rows[i]])
    starts = np.empty(most, np.int64)
    ends = np.empty(most, np.int64)
    shortened = np.empty(most, np.bool_)
    numeric = np.empty(most, np.float64)
    words = np.empty(most, np.int64)
    enough = max(min_words, max_phrase_words + 1)
    target = base
    for i in range(rows.shape[0]):
        row = rows[i]
        size = offsets[row + 1] - offsets[row]
        copy_bytes(target, address_of(data, offsets[row]), size)
        counts[8, i] = count_tokens(target, size, limit, spare, characters)
        first, last = 0, first_line[row + 1] - first_line[row]
        counts[0, i] = last
        counted = False
        for j in range(last):
            starts[j] = target + line_starts[first_line[row] + j]
            ends[j] = target + line_ends[first_line[row] + j]
            shortened[j] = False
        for rule in order:  # each a pass over what the rules before it left
            if rule > 3 and not counted:
                for j in range(first, last):
                    words[j] = _split_length(starts[j], ends[j], enough, characters)
            counted |= rule >= 3
            kept = 0
            for j in range(first, last):
                start, end, was_shortened = starts[j], ends[j], shortened[j]
                gone = False
                if start == end:  # an empty line stays, whatever the rule
                    pass
                elif rule == 0 or (rule == 1 and (order[0] == 1 or j == first or j == last - 1)):
                    uppers, digits = _upper_and_digits(start, end, characters)
                    length = count_code_points(start, end - start, limit)
                    numeric[kept] = digits / length
                    gone = uppers / length > max_uppercase if rule == 0 else numeric[kept] > max_numeric
                elif rule == 1:  # known from the pass before, as only the first and the last line were stripped
                    gone = numeric[j] > max_numeric
                elif rule == 2:
                    gone = _is_counter(start, end, counters, characters)
                elif rule == 3:
                    words[kept] = _split_length(start, end, enough, characters)
                    gone = words[kept] < min_words
                else:
                    words[kept] = words[j]
                    if words[j] > max_phrase_words:
                        pass
                    elif rule == 4:
                        end = _cut_anywhere(start, end, anywhere, characters)
                    elif rule == 5:
                        end = _cut_at_end(start, end, at_end, characters)
                    else:
                        start = _cut_at_start(start, end, at_start, characters)
                    was_shortened |= end - start < ends[j] - starts[j]
                    gone = words[j] <= max_phrase_words and skip_space(start, end, characters) == end
                if gone:
                    counts[2 + min(rule, 4), i] += 1
                    continue
                starts[kept], ends[kept], shortened[kept] = start, end, was_shortened
                kept += 1
            first, last = 0, kept
            if rule != 3:
                first, last = _strip(starts, ends, kept, characters)
        begin = target
        for j in range(first, last):
            if j > first:
                store_byte(target, np.uint8(10))
                target += 1
            if shortened[j]:
                counts[7, i] += 1
                counts[10, i] += count_tokens(starts[j], ends[j] - starts[j], limit, spare, characters)
            if target < starts[j]:
                _move(target, starts[j], ends[j] - starts[j])
            target += ends[j] - starts[j]
        counts[1, i] = last - first
        counts[9, i] = count_tokens(begin, target - begin, limit, spare, characters)
        counts[10, i] += counts[8, i] - counts[9, i]
        out_offsets[i + 1] = target - base
    return target - base


def phrase_table(phrases: Sequence[str], *, any_sign: str | None) -> tuple[Phrases, tuple[np.ndarray, ...]]:
    """The phrases for a kernel, and the arrays that must live as long; `any_sign` stands for any character."""
    points = [[_ANY if letter == any_sign else ord(_lower(letter)) for letter in phrase] for phrase in phrases]
    letters = np.array([point for phrase in points for point in phrase], dtype=np.int32)
    begins = np.cumsum([0, *map(len, points)], dtype=np.int32)
    beginnings = np.zeros(128, dtype=np.uint8)
    for phrase in phrases:
        beginnings[[ord(letter) for letter in (phrase[0].lower(), phrase[0].upper()) if letter.isascii()]] = 1
    arrays = (letters, begins, beginnings)
    return Phrases(letters.ctypes.data, begins.ctypes.data, beginnings.ctypes.data, len(points)), arrays


def _lower(letter: str) -> str:
    return letter.lower() if len(letter.lower()) == 1 else letter


def edit_lines(
    index: TextIndex,
    *,
    max_uppercase: float = 0.5,
    max_numeric: float = 0.999999,
    counters: Sequence[str] = COUNTERS,
    min_words: int = 2,
    max_phrase_words: int = 10,
    anywhere: Sequence[str] = ("items in cart",),
    at_end: Sequence[str] = ("Read more...",),
    at_start: Sequence[str] = ("Sign-in",),
) -> EditedLines:
    """Edit texts line by line (lines between newlines), the rules in their order:

    a line is removed if more than `max_uppercase` of its characters are upper-case letters, if more than `max_numeric`
    are digits, if it is a number and one of the `counters` (as lower-case words), if it has fewer than `min_words`
    words. From lines of at most `max_phrase_words` words the phrases are cut, with a space beside them: `anywhere`,
    then `at_end`, then `at_start`; what is blank then is removed. A full stop in a phrase stands for any character, as
    DCLM gives phrases to a regular expression. A number of -1 and an empty list switch a rule off.
    """
    size = int(index.n_bytes.sum())
    out = np.empty(size + _PADDING, dtype=np.uint8)
    out_offsets = np.zeros(len(index) + 1, dtype=np.int64)
    counts = np.zeros((len(COUNTS), len(index)), dtype=np.int64)
    words, kept_alive = phrase_table(counters, any_sign=None)
    tables = [phrase_table(phrases, any_sign=".") for phrases in (anywhere, at_end, at_start)]
    switched_on = (max_uppercase >= 0, max_numeric >= 0, counters, min_words >= 0, anywhere, at_end, at_start)
    used = _edit(
        index.rows,
        index.data,
        index.offsets,
        index.lines,
        np.flatnonzero([bool(rule) for rule in switched_on]),
        (float(max_uppercase), float(max_numeric), min_words, max_phrase_words),
        words,
        tuple(phrases for phrases, _ in tables),
        character_table(),
        out,
        out_offsets,
        counts,
    )
    del kept_alive, tables
    columns = dict(zip(COUNTS, counts, strict=True))
    return EditedLines(text=string_array(out[:used], out_offsets, index.kind), columns=columns)
