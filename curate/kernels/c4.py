"""C4's edit: which lines of a text stay, and the text they make (Raffel et al. 2020, 2.2).

Rules and their order are those of datatrove 0.10 (`c4_filters.py`), with two differences. Phrases are found whatever
the case of their ASCII letters; Python's `lower` also makes a k of the Kelvin sign. Sentences are those of its
splitter, given the same words (sentences.py), but what is blank is none: an empty line, spaces that a citation leaves
at a line's end. A line is copied once, edited and judged in the new buffer; one that lost a citation has other words
then, and is indexed once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.kernels.characters import DIGIT, character_table, properties_of
from curate.kernels.compile import inlined, kernel, part
from curate.kernels.memory import (
    BLOCK,
    ONE,
    ZERO,
    address_of,
    clear_bytes,
    code_point,
    copy_bytes,
    count_code_points,
    first_bits,
    load_byte,
    phrase_masks,
    store_byte,
    trailing_zeros,
)
from curate.kernels.sentences import count_sentences, next_end
from curate.kernels.strings import string_array
from curate.kernels.text_index import TextIndex
from curate.kernels.trimming import (
    count_split_words,
    is_ascii_space,
    skip_space,
    trim_space,
    word_end,
)

COUNTS = (
    "lines",
    "kept_lines",
    "sentences",
    "citations",
    "long_word_lines",
    "no_terminal_punctuation_lines",
    "few_words_lines",
    "javascript_lines",
    "policy_lines",
)
"""int64 columns: lines of the text, lines kept, sentences in these, citations removed, lines dropped by each rule"""

_PADDING = 3 * BLOCK + 8  # masks of a line's last block read past its end; the last two blocks are spare ones

_JAVASCRIPT = 1
_LOREM_IPSUM = 2
_POLICY = 4
_CURLY_BRACKET = 8
_SQUARE_BRACKET = 16


@dataclass(frozen=True, slots=True, eq=False)
class C4Lines:
    """The edited texts, and what was found."""

    text: pa.Array
    """the kept lines of each text, type of the input"""
    columns: dict[str, np.ndarray]
    """COUNTS, and bool: lorem_ipsum, curly_bracket (in a line that the rules before it keep)"""


@part
def _spells(address, end, word):  # type: ignore[no-untyped-def]
    """Whether a phrase in lower case (its address and size) stands at an address, whatever its case there."""
    letters, size = word
    if address + size > end:
        return False
    for i in range(size):
        byte = load_byte(address + i)
        if 65 <= byte <= 90:
            byte |= np.uint8(32)
        if byte != load_byte(letters + i):
            return False
    return True


@part
def _phrase_at(start, address, end, phrases):  # type: ignore[no-untyped-def]
    """Which phrase begins at an address of the line [start, end); for "cookies", what stands before it counts too."""
    javascript, lorem_ipsum, terms, privacy, cookie_policy, cookies, uses, use_of, use = phrases
    if _spells(address, end, javascript):
        return _JAVASCRIPT
    if _spells(address, end, lorem_ipsum):
        return _LOREM_IPSUM
    if _spells(address, end, terms) or _spells(address, end, privacy) or _spells(address, end, cookie_policy):
        return _POLICY
    if _spells(address, end, cookies):
        for before in (uses, use_of, use):
            if address - before[1] >= start and _spells(address - before[1], end, before):
                return _POLICY
    return 0


@part
def _look(start, end, phrases):  # type: ignore[no-untyped-def]
    """What a line holds: any of the phrases, `{`, `[`, as bits. Reads up to 67 bytes past its end."""
    found = 0
    for low in range(0, end - start, BLOCK):
        square, curly, candidates = phrase_masks(start + low)
        valid = first_bits(end - start - low)
        if square & valid != ZERO:
            found |= _SQUARE_BRACKET
        if curly & valid != ZERO:
            found |= _CURLY_BRACKET
        candidates &= valid
        while candidates != ZERO:
            found |= _phrase_at(start, start + low + trailing_zeros(candidates), end, phrases)
            candidates &= candidates - ONE
    return found


@part
def _look_at_all(text, size, limit, spare, phrases):  # type: ignore[no-untyped-def]
    """What a text holds, as `_look` says it of a line, or more: nothing that is not found here is in any line."""
    found = 0
    for low in range(0, size, BLOCK):
        address = text + low
        block = address
        if address + BLOCK + 8 > limit:
            clear_bytes(spare, BLOCK + 8)
            copy_bytes(spare, address, limit - address)
            block = spare
        square, curly, candidates = phrase_masks(block)
        valid = first_bits(size - low)
        found |= _SQUARE_BRACKET * (square & valid != ZERO) | _CURLY_BRACKET * (curly & valid != ZERO)
        candidates &= valid
        while candidates != ZERO:
            found |= _phrase_at(text, address + trailing_zeros(candidates), text + size, phrases)
            candidates &= candidates - ONE
    return found


@part
def _citation_end(address, end, characters, edit, citation_needed):  # type: ignore[no-untyped-def]
    """Address after the `[12]`, `[]`, `[edit]` or `[citation needed]` that begins here, or `address` if none does."""
    if _exactly(address, end, edit):
        return address + edit[1]
    if _exactly(address, end, citation_needed):
        return address + citation_needed[1]
    position = address + 1
    while position < end:
        point, size = code_point(position, end)
        if point == 93:
            return position + 1
        if properties_of(characters, point) & DIGIT == 0:
            break
        position += size
    return address


@part
def _exactly(address, end, word):  # type: ignore[no-untyped-def]
    letters, size = word
    if address + size > end:
        return False
    same = True
    for i in range(size):
        same &= load_byte(address + i) == load_byte(letters + i)
    return same


@part
def _remove_citations(start, end, characters, marks):  # type: ignore[no-untyped-def]
    """Close the gaps where citations were, in place; returns the new end and how many there were."""
    edit, citation_needed = marks
    count = 0
    target = position = start
    while position < end:
        byte = load_byte(position)
        if byte == 91:
            after = _citation_end(position, end, characters, edit, citation_needed)
            if after > position:
                count += 1
                position = after
                continue
        store_byte(target, byte)
        target += 1
        position += 1
    return target, count


@part
def _has_long_word(start, end, max_chars, characters, limit):  # type: ignore[no-untyped-def]
    """Whether a word between whitespace has more than `max_chars` code points.

    Steps from ASCII space to ASCII space while one lies in each `max_chars` + 1 bytes: a longer word has none.
    """
    while end - start > max_chars:
        position = start + max_chars
        while position >= start and not is_ascii_space(load_byte(position)):
            position -= 1
        if position < start:
            break
        start = position + 1
    if end - start <= max_chars:
        return False
    start = skip_space(start, end, characters)
    while start < end:
        after = word_end(start, end, characters)
        if after - start > max_chars and count_code_points(start, after - start, limit) > max_chars:
            return True
        start = skip_space(after, end, characters)
    return False


@inlined
def _ends_a_sentence(start, end):  # type: ignore[no-untyped-def]
    """Whether a line ends in . ? ! " or ', and not in three full stops."""
    if end == start:
        return False
    last = load_byte(end - 1)
    if last == 46:
        return not (end - start >= 3 and load_byte(end - 2) == 46 and load_byte(end - 3) == 46)
    return last == 63 or last == 33 or last == 34 or last == 39


@kernel
def _edit(rows, data, offsets, lines, words, rules, phrases, marks, characters, out, out_offsets, again, counts, pages):  # type: ignore[no-untyped-def]
    """Returns the bytes of `out` that are used, and how many lines are to be indexed `again`."""
    terminal_punctuation, min_words, max_word_length, citations, javascript, policy = rules
    limit = address_of(data, data.shape[0])
    first_line, line_starts, line_ends = lines
    first_word = words[0]
    found_words = address_of(words[1], 0), address_of(words[2], 0), address_of(words[4], 0)
    again_bytes, again_offsets, again_rows = again
    n_again = np.int64(0)
    base = address_of(out, 0)
    spare = base + out.shape[0] - 2 * BLOCK
    target = base
    for i in range(rows.shape[0]):
        row = rows[i]
        text, size = address_of(data, offsets[row]), offsets[row + 1] - offsets[row]
        begin = target
        somewhere = _look_at_all(text, size, limit, spare, phrases)
        bracketed = citations and somewhere & _SQUARE_BRACKET != 0
        kept = 0
        page = 0
        last_word = first_word[row + 1]
        sentence_end = next_end(found_words, first_word[row], last_word)
        for j in range(first_line[row], first_line[row + 1]):
            counts[0, i] += 1
            start = skip_space(text + line_starts[j], text + line_ends[j], characters)
            end = trim_space(start, text + line_ends[j], characters)
            if 0 <= max_word_length < end - start and _has_long_word(start, end, max_word_length, characters, limit):
                counts[4, i] += 1
                continue
            # Without a bracket there is no citation, and what need not stay need not be copied.
            if not bracketed and terminal_punctuation and not _ends_a_sentence(start, end):
                counts[5, i] += 1
                continue
            if not bracketed and count_split_words(start, end, min_words, characters) < min_words:
                counts[6, i] += 1
                continue
            line = target + (kept > 0)  # leave room for the newline before it
            line_end = line + (end - start)
            copy_bytes(line, start, end - start)
            found = _look(line, line_end, phrases) if somewhere != 0 else 0
            removed = np.int64(0)
            if bracketed:
                if found & _SQUARE_BRACKET != 0:
                    line_end, removed = _remove_citations(line, line_end, characters, marks)
                    counts[3, i] += removed
                    if removed > 0:
                        found = _look(line, line_end, phrases)
                if terminal_punctuation and not _ends_a_sentence(line, line_end):
                    counts[5, i] += 1
                    continue
                if count_split_words(start, end, min_words, characters) < min_words:
                    counts[6, i] += 1
                    continue
            page |= found & _LOREM_IPSUM
            if javascript and found & _JAVASCRIPT != 0:
                counts[7, i] += 1
                continue
            page |= found & _CURLY_BRACKET
            if policy and found & _POLICY != 0:
                counts[8, i] += 1
                continue
            if removed > 0:
                place = again_offsets[n_again]
                copy_bytes(address_of(again_bytes, place), line, line_end - line)
                again_offsets[n_again + 1] = place + (line_end - line)
                again_rows[n_again] = i
                n_again += 1
            elif end > start:
                span = start - text, end - text
                sentences, sentence_end = count_sentences(text, span, found_words, sentence_end, last_word)
                counts[2, i] += sentences
            if kept > 0:
                store_byte(target, np.uint8(10))
            kept += 1
            target = line_end
        counts[1, i] = kept
        pages[i] = page
        start = skip_space(begin, target, characters)
        end = trim_space(start, target, characters)
        if start > begin:
            for q in range(end - start):
                store_byte(begin + q, load_byte(start + q))
        target = begin + (end - start)
        out_offsets[i + 1] = target - base
    return target - base, n_again


def _places(words: tuple[bytes, ...]) -> tuple[tuple[tuple[int, int], ...], np.ndarray]:
    """Address and size of each word, and the array that must live as long as these are used."""
    letters = np.frombuffer(b"".join(words), dtype=np.uint8)
    starts = np.cumsum([0, *map(len, words)])
    return tuple((letters.ctypes.data + int(at), len(word)) for at, word in zip(starts, words, strict=False)), letters


_PHRASES, _PHRASE_LETTERS = _places(
    (
        b"javascript",
        b"lorem ipsum",
        b"terms of use",
        b"privacy policy",
        b"cookie policy",
        b"cookies",
        b"uses ",
        b"use of ",
        b"use ",
    )
)
_MARKS, _MARK_LETTERS = _places((b"[edit]", b"[citation needed]"))


def c4_lines(
    index: TextIndex,
    *,
    terminal_punctuation: bool = True,
    min_words: int = 3,
    max_word_length: int = 1000,
    citations: bool = True,
    javascript: bool = True,
    policy: bool = True,
) -> C4Lines:
    """Edit texts line by line (lines of `str.splitlines`) as C4 does; the rules, in their order:

    a line is dropped if a word has more than `max_word_length` code points; its citations are removed; it is dropped
    if it does not end in terminal punctuation, or had fewer than `min_words` words; it is looked
    at for "lorem ipsum"; "javascript" drops it; it is looked at for `{`; a policy phrase drops it. A number of -1
    switches its rule off. What drops a page is left to the caller (`lorem_ipsum`, `curly_bracket`, `sentences`).
    Sentences follow the index's words; in lines that lost a citation, always our own words.
    """
    size = int(index.n_bytes.sum())
    n_lines = int((index.split_lines.first[index.rows + 1] - index.split_lines.first[index.rows]).sum())
    again_bytes = np.empty(size if citations else 0, dtype=np.uint8)
    again_offsets = np.zeros(n_lines + 1, dtype=np.int64)
    again_rows = np.empty(n_lines, dtype=np.int64)
    out = np.empty(size + _PADDING, dtype=np.uint8)
    out_offsets = np.zeros(len(index) + 1, dtype=np.int64)
    counts = np.zeros((len(COUNTS), len(index)), dtype=np.int64)
    pages = np.zeros(len(index), dtype=np.int8)
    rules = (
        terminal_punctuation,
        min_words,
        max_word_length,
        citations,
        javascript,
        policy,
    )
    used, n_again = _edit(
        index.rows,
        index.data,
        index.offsets,
        index.split_lines,
        index.words,
        rules,
        _PHRASES,
        _MARKS,
        character_table(),
        out,
        out_offsets,
        (again_bytes, again_offsets, again_rows),
        counts,
        pages,
    )
    if n_again:
        lines = string_array(again_bytes[: again_offsets[n_again]], again_offsets[: n_again + 1], pa.large_binary())
        edited = c4_lines(
            TextIndex.of(lines),
            terminal_punctuation=False,
            min_words=-1,
            max_word_length=-1,
            citations=False,
            javascript=False,
            policy=False,
        )
        np.add.at(counts[COUNTS.index("sentences")], again_rows[:n_again], edited.columns["sentences"])
    columns: dict[str, np.ndarray] = dict(zip(COUNTS, counts, strict=True))
    columns["lorem_ipsum"] = pages & _LOREM_IPSUM != 0
    columns["curly_bracket"] = pages & _CURLY_BRACKET != 0
    return C4Lines(text=string_array(out[:used], out_offsets, index.kind), columns=columns)
