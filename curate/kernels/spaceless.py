"""Words of scripts that write no spaces: Han, Hiragana, Thai, Lao, Khmer, Burmese and their relatives.

UAX #29 has no dictionary: a segment there is one letter with its marks (a run of Katakana stays whole). Counts of words
are therefore taken as segments / `segments_per_word`, a number that each language's profile states, and a stop word is
looked for as a run of segments that touch. A segment belongs here by its first character: see `_SPACELESS`.
Their tokenizers cut at every mark, so that a URL or Markdown is many words where ours are one: see `mark_cuts`.
Costs two more passes over the words, only for documents whose profile asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curate.kernels.compile import inlined, kernel
from curate.kernels.memory import address_of, code_point, load_byte
from curate.kernels.text_index import TextIndex
from curate.kernels.words import LETTER, NOT_ASCII, NOT_PUNCTUATION

_BUCKETS = 256

_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3005),  # ideographic iteration mark
    (0x303B, 0x303B),  # vertical iteration mark
    (0x3041, 0x309F),  # Hiragana
    (0x3400, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar extended
    (0xAA60, 0xAADF),  # Myanmar extended, Tai Viet
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x11700, 0x1174F),  # Ahom
    (0x16FE3, 0x16FE3),  # old Chinese iteration mark
    (0x1B001, 0x1B11F),  # Hiragana, old forms
    (0x1B150, 0x1B152),  # Hiragana, small forms
    (0x20000, 0x323AF),  # Han, extensions
)
"""Ranges of code points, both ends included: letters of Line_Break = Complex_Context, and of Han and Hiragana."""


@inlined
def _writes_no_spaces(point):  # type: ignore[no-untyped-def]
    for low, high in _SPACELESS:
        if point <= high:
            return point >= low
    return False


@kernel
def _spaceless(rows, data, offsets, words, bucket_first, run_first, run_hashes, counts):  # type: ignore[no-untyped-def]
    first_word, starts, ends, hashes, flags = words
    seen = np.zeros(run_first.shape[0], np.int64)
    for i in range(rows.shape[0]):
        row = rows[i]
        text = address_of(data, offsets[row])
        last = first_word[row + 1]
        segments = runs = 0
        for j in range(first_word[row], last):
            if flags[j] & NOT_ASCII != 0 and flags[j] & LETTER != 0:
                point, _ = code_point(text + np.int64(starts[j]), text + np.int64(ends[j]))
                segments += _writes_no_spaces(point)
            bucket = np.int64(hashes[j]) & (_BUCKETS - 1)
            for run in range(bucket_first[bucket], bucket_first[bucket + 1]):
                size = run_first[run + 1] - run_first[run]
                if seen[run] == i + 1 or j + size > last:
                    continue
                same = hashes[j] == run_hashes[run_first[run]]
                for k in range(1, size):
                    if not same:
                        break
                    same = hashes[j + k] == run_hashes[run_first[run] + k] and starts[j + k] == ends[j + k - 1]
                if same:
                    seen[run] = i + 1
                    runs += 1
        counts[0, i] = segments
        counts[1, i] = runs


def spaceless(index: TextIndex, *, runs: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """int64[len(index)] each: words (segments) with a letter of a script that writes no spaces, and how many different
    ones of `runs` (strings of one segment or more, none empty) stand in the text from segment border to segment border.
    """
    words = TextIndex.of(pa.array(list(dict.fromkeys(runs)), pa.string())).words
    heads = words.hash[words.first[:-1]] if len(words.first) > 1 else np.empty(0, np.uint64)
    buckets = (heads & np.uint64(_BUCKETS - 1)).astype(np.int64)
    order = np.argsort(buckets, kind="stable")
    sizes = np.diff(words.first)[order]
    run_first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    run_hashes = np.concatenate(
        [np.empty(0, np.uint64), *(words.hash[words.first[run] : words.first[run + 1]] for run in order)]
    )
    bucket_first = np.searchsorted(buckets[order], np.arange(_BUCKETS + 1)).astype(np.int64)
    counts = np.empty((2, len(index)), dtype=np.int64)
    _spaceless(index.rows, index.data, index.offsets, index.words, bucket_first, run_first, run_hashes, counts)
    return counts[0], counts[1]


@kernel
def _mark_cuts(rows, data, offsets, words, counts):  # type: ignore[no-untyped-def]
    first_word, starts, ends, _, flags = words
    for i in range(rows.shape[0]):
        text = address_of(data, offsets[rows[i]])
        for j in range(first_word[rows[i]], first_word[rows[i] + 1]):
            runs = lettered = marks = 0
            in_run = has_letter = False
            for at in range(np.int64(starts[j]), np.int64(ends[j])):
                byte = load_byte(text + at)
                letter = byte > 127 or 97 <= byte | 32 <= 122
                if letter or 48 <= byte <= 57:
                    has_letter &= in_run
                    runs += not in_run
                    lettered += letter and not has_letter
                    has_letter |= letter
                    in_run = True
                else:
                    marks += 1
                    in_run = False
            if marks == 0 or marks + runs == 1:
                continue
            counts[0, i] += marks + runs - 1
            if flags[j] & NOT_PUNCTUATION != 0:
                counts[1, i] += runs - 1
                counts[3, i] += marks
            if flags[j] & LETTER != 0:
                counts[2, i] += lettered - 1


def mark_cuts(index: TextIndex) -> np.ndarray:
    """int64[4, len(index)]: what changes where words are cut around each ASCII byte that is no letter or digit.

    More words; more of those that are not pure symbols; more of those with a letter; characters (the marks) that no
    longer belong to words that are not pure symbols.
    """
    counts = np.zeros((4, len(index)), dtype=np.int64)
    _mark_cuts(index.rows, index.data, index.offsets, index.words, counts)
    return counts
