"""Signals of Gopher's repetition rules (Rae et al. 2021, table A1): duplicate lines, paragraphs and word n-grams.

Definitions are those of datatrove 0.10 (`gopher_repetition_filter.py`), given the words of the index. n-grams are
compared as sequences of words; datatrove compares their concatenation, which differs only if two n-grams spell the
same characters cut elsewhere. A repeated (n+1)-gram consists of two repeated n-grams, so each n looks only at what
the last one left.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.characters import character_table
from curate.kernels.compile import kernel, part
from curate.kernels.hashing import combine, hash_range, mix
from curate.kernels.memory import address_of, count_code_points
from curate.kernels.ratio import ratio
from curate.kernels.sets import add_to_set, table_bits
from curate.kernels.text_index import TextIndex
from curate.kernels.trimming import skip_space, trim_space
from curate.kernels.words import word_length

TOP = (2, 3, 4)
"""n-grams whose most frequent one counts"""
DUPLICATE = (5, 6, 7, 8, 9, 10)
"""n-grams that count when they were seen before"""

_SEED = np.uint64(0)
_SMALLEST, _LAST_TOP, _LARGEST = TOP[0], TOP[-1], DUPLICATE[-1]


@part
def _count_lines(text, row, all_ascii, lines, limit, slots, stamps, stamp):  # type: ignore[no-untyped-def]
    """Lines between runs of newlines, those seen before, and the code points of these.

    An empty line counts where the text begins or ends with a newline, as it does for `re.split("\\n+", text)`.
    """
    first, starts, ends = lines
    begin, stop = first[row], first[row + 1]
    mask = (1 << table_bits(stop - begin)) - 1
    n = duplicates = chars = edges = 0
    for j in range(begin, stop):
        size = np.int64(ends[j]) - np.int64(starts[j])
        if size == 0:
            edges += j == begin or j == stop - 1
            continue
        n += 1
        if add_to_set(slots, stamps, stamp, mask, hash_range(text + starts[j], size, limit)):
            duplicates += 1
            chars += size if all_ascii else count_code_points(text + starts[j], size, limit)
    return n + edges, duplicates + (edges == 2), chars


@part
def _count_paragraphs(text, size, row, all_ascii, lines, limit, slots, stamps, stamp, characters):  # type: ignore[no-untyped-def]
    """Pieces of the stripped text between two newlines or more, those seen before, and the code points of these."""
    first, starts, ends = lines
    mask = (1 << table_bits(first[row + 1] - first[row])) - 1
    begin = skip_space(text, text + size, characters)
    stop = trim_space(begin, text + size, characters)
    n = duplicates = chars = 0
    start = end = begin
    for j in range(first[row], first[row + 1]):
        line_start, line_end = max(begin, text + starts[j]), min(stop, text + ends[j])
        if line_end < begin or line_start > stop:
            continue
        if line_end > line_start:
            if end == start:
                start = line_start
            end = line_end
        if end > start and line_end in (line_start, stop):
            n += 1
            if add_to_set(slots, stamps, stamp, mask, hash_range(start, end - start, limit)):
                duplicates += 1
                chars += end - start if all_ascii else count_code_points(start, end - start, limit)
            start = end
    return max(n, 1), duplicates, chars


@kernel
def _repetition(rows, data, offsets, code_points, words, lines, characters, counts):  # type: ignore[no-untyped-def]
    limit = address_of(data, data.shape[0])
    first_word, word_starts, word_ends, word_hashes, word_flags = words
    first_line = lines[0]
    most_lines = most_words = 0
    for i in range(rows.shape[0]):
        most_lines = max(most_lines, first_line[rows[i] + 1] - first_line[rows[i]])
        most_words = max(most_words, first_word[rows[i] + 1] - first_word[rows[i]])
    slots = np.empty(1 << table_bits(most_lines), np.uint64)
    stamps = np.zeros(1 << table_bits(most_lines), np.int64)
    table = np.empty(1 << table_bits(most_words), np.uint32)  # 1 + position of the first n-gram of a kind; 0 is empty
    keys = np.empty(most_words, np.uint64)
    kind = np.empty(most_words + 1, np.uint32)  # position of the first n-gram that is equal
    count = np.empty(most_words, np.uint32)  # how often it occurs, at its first position
    repeated = np.empty(most_words, np.uint32)  # positions of the n-grams that occur more than once
    marked = np.zeros(most_words, np.int64)
    until = np.zeros(most_words + 1, np.int64)  # code points of the words before each
    for i in range(rows.shape[0]):
        row = rows[i]
        text, size = address_of(data, offsets[row]), offsets[row + 1] - offsets[row]
        all_ascii = code_points[row] == size
        n_lines, duplicate_lines, line_chars = _count_lines(
            text, row, all_ascii, lines, limit, slots, stamps, 2 * i + 1
        )
        n_paragraphs, duplicate_paragraphs, paragraph_chars = _count_paragraphs(
            text, size, row, all_ascii, lines, limit, slots, stamps, 2 * i + 2, characters
        )
        counts[0, i] = n_lines
        counts[1, i] = duplicate_lines
        counts[2, i] = line_chars
        counts[3, i] = n_paragraphs
        counts[4, i] = duplicate_paragraphs
        counts[5, i] = paragraph_chars
        begin = first_word[row]
        n_words = first_word[row + 1] - begin
        for j in range(n_words):
            word = begin + j
            until[j + 1] = until[j] + word_length(text, word_starts[word], word_ends[word], word_flags[word], limit)
        for n in range(_SMALLEST, _LARGEST + 1):
            counts[4 + n, i] = 0
        candidates = 0  # how many are in `repeated`
        for n in range(_SMALLEST, _LARGEST + 1):
            if n_words < n:
                break
            # n-grams to look at: all pairs of words, then those that begin two repeated (n-1)-grams in a row
            entries = n_words - 1 if n == _SMALLEST else candidates
            bits = table_bits(entries)
            shift = np.uint64(64 - bits)
            mask = (1 << bits) - 1
            table[: mask + 1] = 0
            looked = 0
            for q in range(entries):
                if n == _SMALLEST:
                    position = q
                    key = mix(combine(combine(_SEED, word_hashes[begin + q]), word_hashes[begin + q + 1]))
                    slot = np.int64(key >> shift)
                else:
                    position = np.int64(repeated[q])
                    if q + 1 == entries or np.int64(repeated[q + 1]) != position + 1:
                        continue
                    key = (np.uint64(kind[position]) << np.uint64(32)) | np.uint64(kind[position + 1])
                    slot = np.int64(mix(key) >> shift)
                keys[position] = key
                while True:
                    found = np.int64(table[slot]) - 1
                    if found < 0:
                        table[slot] = position + 1
                        kind[position] = position
                        count[position] = 1
                        break
                    if keys[found] == key:
                        kind[position] = found
                        count[found] += np.uint32(1)
                        break
                    slot = (slot + 1) & mask
                repeated[looked] = position
                looked += 1
            candidates = 0
            for q in range(looked):
                position = np.int64(repeated[q])
                repeated[candidates] = position
                candidates += count[kind[position]] > 1
            if n <= _LAST_TOP:
                best, most = 0, np.uint32(1)
                for q in range(candidates):
                    position = np.int64(repeated[q])
                    if kind[position] == position and count[position] > most:
                        best, most = position, count[position]
                counts[4 + n, i] = (until[best + n] - until[best] + n - 1) * np.int64(most)
            else:
                free = 0  # an n-gram that was counted hides those that overlap it
                for q in range(candidates):
                    position = np.int64(repeated[q])
                    if position < free:
                        continue
                    first = np.int64(kind[position])
                    if marked[first] == 16 * (i + 1) + n:
                        counts[4 + n, i] += until[position + n] - until[position]
                        free = position + n
                    else:
                        marked[first] = 16 * (i + 1) + n


def gopher_repetition(index: TextIndex) -> dict[str, np.ndarray]:
    """Signals of Gopher's repetition rules, float64[len(index)] each.

    duplicate_lines, duplicate_paragraphs: the share that was seen before in the text; duplicate_line_chars and
    duplicate_paragraph_chars: their code points; top_N_gram_chars (N 2 to 4): code points of the most frequent n-gram
    (of the first of them, with a space between words) times how often it occurs; duplicate_N_gram_chars (N 5 to 10):
    code points, spaces left out, of n-grams seen before, without overlap. All of code points are shares of the
    text's.
    """
    counts = np.empty((6 + len(TOP) + len(DUPLICATE), len(index)), dtype=np.int64)
    _repetition(
        index.rows, index.data, index.offsets, index.code_points, index.words, index.lines, character_table(), counts
    )
    chars = index.n_chars
    columns = {
        "duplicate_lines": ratio(counts[1], counts[0]),
        "duplicate_paragraphs": ratio(counts[4], counts[3]),
        "duplicate_line_chars": ratio(counts[2], chars),
        "duplicate_paragraph_chars": ratio(counts[5], chars),
    }
    for n in TOP:
        columns[f"top_{n}_gram_chars"] = ratio(counts[4 + n], chars)
    for n in DUPLICATE:
        columns[f"duplicate_{n}_gram_chars"] = ratio(counts[4 + n], chars)
    return columns
