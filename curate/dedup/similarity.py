"""Similarity of pairs of documents: Jaccard or containment on their shingles, or Jaccard estimated from signatures.

Only the shingles (signatures) of the documents of one block of pairs are in memory: `BLOCK_BYTES` or one pair, twice
while they are gathered. Partials may be memory-mapped: a block reads each of its documents once, in file order.
The estimate, the share of equal minima, has the standard error sqrt(s (1 - s) / minima): .045 at s = .65 for 112.
"""

from collections.abc import Callable, Iterator

import numpy as np

from curate.dedup.corpus import Corpus
from curate.kernels.minhash import containment_pairs, jaccard_pairs
from curate.rounds import first_of_equals

BLOCK_BYTES = 128 << 20

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Places left, places right (uint64[pairs] each) -> similarity, float64[pairs]."""
Compare = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Offsets and hashes of sorted sets, which are left, which are right -> similarity, float64[pairs]."""


def exact_jaccard(corpus: Corpus) -> Similarity:
    """Jaccard of the sets of shingles."""
    return _of_sets(corpus, jaccard_pairs)


def containment(corpus: Corpus) -> Similarity:
    """The share of the smaller set of shingles that the larger one holds: 1 for a document within another."""
    return _of_sets(corpus, containment_pairs)


def _of_sets(corpus: Corpus, compare: Compare) -> Similarity:
    def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = np.empty(len(left))
        named = np.sort(np.concatenate([left, right]))
        named = named[first_of_equals(named)]
        sizes = corpus.numbers("size", named)
        costs = 8 * (sizes[np.searchsorted(named, left)] + sizes[np.searchsorted(named, right)])
        for block in _blocks(costs):
            places, which = np.unique(np.concatenate([left[block], right[block]]), return_inverse=True)
            lists = corpus.view.take("shingles", places)
            lengths = np.concatenate([np.diff(array.offsets.to_numpy()) for array in lists])
            hashes = np.concatenate([array.flatten().to_numpy() for array in lists])
            offsets = np.concatenate(([0], np.cumsum(lengths)))
            corpus.check_sets(places, offsets, hashes)
            half = len(which) // 2
            found[block] = compare(offsets, hashes, which[:half], which[half:])
            corpus.view.release()
        return found

    return similarity


def estimated_jaccard(corpus: Corpus, minima: int) -> Similarity:
    """Share of equal minima."""

    def similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = np.empty(len(left))
        for block in _blocks(np.full(len(left), 8 * minima)):
            places, which = np.unique(np.concatenate([left[block], right[block]]), return_inverse=True)
            signatures = corpus.matrix("signature", places, np.uint32)
            corpus.check_signatures(places, signatures)
            half = len(which) // 2
            found[block] = (signatures[which[:half]] == signatures[which[half:]]).mean(axis=1)
            corpus.view.release()
        return found

    return similarity


def _blocks(costs: np.ndarray) -> Iterator[slice]:
    total = np.cumsum(costs)
    start = 0
    while start < len(costs):
        spent = total[start - 1] if start else 0
        end = max(int(np.searchsorted(total, spent + BLOCK_BYTES, side="right")), start + 1)
        yield slice(start, end)
        start = end
