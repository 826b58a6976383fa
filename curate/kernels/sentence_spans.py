"""Where the sentences of texts begin and end: those of spaCy's sentencizer over a whole text (see sentences.py).

The sentences of a text lie end to end: the space between two belongs to the second, what follows the last word to the
last one. Costs a look at eight words' flags a step, and 8 bytes a sentence.
"""

from __future__ import annotations

import numpy as np

from curate.kernels.compile import kernel
from curate.kernels.memory import address_of
from curate.kernels.sentences import begins, next_end
from curate.kernels.text_index import Lines, TextIndex


@kernel
def _spans(rows, data, offsets, index_words, first, starts, ends):  # type: ignore[no-untyped-def]
    first_word, word_starts, word_ends, _, flags = index_words
    words = (address_of(word_starts, 0), address_of(word_ends, 0), address_of(flags, 0))
    counting = starts.shape[0] == 0
    n = np.int64(0)
    for i in range(rows.shape[0]):
        row = rows[i]
        text = address_of(data, offsets[row])
        word, last = first_word[row], first_word[row + 1]
        start = np.int64(0)
        while word < last:
            word = next_end(words, word, last) + 1
            while word < last and not begins(text, words, word):
                word += 1
            end = np.int64(word_ends[word - 1]) if word < last else offsets[row + 1] - offsets[row]
            if not counting:
                starts[n], ends[n] = start, end
            n += 1
            start = end
        first[i + 1] = n
    return n


def sentence_spans(index: TextIndex) -> Lines:
    """The sentences of the texts of an index, as bytes from each text's start; a text without words has none."""
    first, nothing = np.zeros(len(index) + 1, dtype=np.int64), np.empty(0, dtype=np.uint32)
    count = _spans(index.rows, index.data, index.offsets, index.words, first, nothing, nothing)
    starts, ends = np.empty(count, dtype=np.uint32), np.empty(count, dtype=np.uint32)
    _spans(index.rows, index.data, index.offsets, index.words, first, starts, ends)
    return Lines(first, starts, ends)
