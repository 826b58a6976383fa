"""How many sentences a line has: those of spaCy's sentencizer, read off the flags of an index's words.

A sentence goes on through the marks after the one that ends it, and a new one begins at the next word that is no mark.
Space that is not one U+0020 is a token of spaCy's: the sentence begins there, whatever follows. Costs a look at
eight flags a step, and a few words at each end of a sentence.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compile import inlined, part
from curate.kernels.memory import ZERO, load_byte, load_uint32, load_word, trailing_zeros
from curate.kernels.words import ONLY_PUNCTUATION, SENTENCE_END

_EIGHT_ENDS = np.uint64(SENTENCE_END * 0x0101010101010101)
_MARK = SENTENCE_END | ONLY_PUNCTUATION


@inlined
def _position(places, word):  # type: ignore[no-untyped-def]
    return np.int64(load_uint32(places + 4 * word))


@inlined
def begins(text, words, word):  # type: ignore[no-untyped-def]
    """Whether a new sentence begins at a word (or the space before it), the one before being at its end."""
    starts, ends, flags = words
    if load_byte(flags + word) & _MARK == 0:
        return True
    before = _position(ends, word - 1)
    space = _position(starts, word) - before
    return space > 1 or (space == 1 and load_byte(text + before) != 32)


@part
def next_end(words, word, last):  # type: ignore[no-untyped-def]
    """The first word from `word` on that may end a sentence, or `last`. `words`: addresses of starts, ends, flags."""
    flags = words[2]
    while word + 8 <= last:
        found = load_word(flags + word) & _EIGHT_ENDS
        if found != ZERO:
            return word + (trailing_zeros(found) >> 3)
        word += 8
    while word < last and load_byte(flags + word) & SENTENCE_END == 0:
        word += 1
    return word


@part
def count_sentences(text, line, words, mark, last):  # type: ignore[no-untyped-def]
    """Sentences of a line that is not blank, and `next_end` from the line's end on.

    `line`: start and end in bytes from the text's start; `mark`: `next_end` from any earlier word on; `last`: one past
    the text's last word.
    """
    start, end = line
    starts = words[0]
    count = np.int64(1)
    while mark < last and _position(starts, mark) < start:
        mark = next_end(words, mark + 1, last)
    while mark < last and _position(starts, mark) < end:
        word = mark + 1
        while word < last and _position(starts, word) < end and not begins(text, words, word):
            word += 1
        count += word < last and _position(starts, word) < end
        mark = next_end(words, word, last)
    return count, mark
