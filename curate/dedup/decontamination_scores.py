"""How much of which item stands in which document: from the places of n-grams, and how often the corpus has them.

An n-gram in more than `common_documents` documents of the corpus weighs less, by common_documents / documents: famous
quotations, licence headers and boilerplate say little. An item's share is the weight of its n-grams that a document
holds, over the weight of all of them: where every n-gram is equally frequent, as in items that were copied whole,
nothing changes. An item is found if its share is above `max_share`, and the weight of what is
held reaches `min_ngrams`, or all that it has.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.dedup.corpus import list_rows
from curate.dedup.decontamination_index import BenchmarkIndex
from curate.rounds import KEY, View, first_of_equals

MATCHES_SCHEMA = pa.schema(
    [
        KEY,  # place of the document
        pa.field("item", pa.uint32(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("held", pa.uint32(), nullable=False),  # n-grams of the item that the document holds
        pa.field("of", pa.uint32(), nullable=False),  # n-grams of the item
    ]
)
FREQUENCIES_SCHEMA = pa.schema([KEY, pa.field("documents", pa.uint32(), nullable=False)])
"""Hash of an n-gram, documents that hold it."""
_ROUNDED = 6
_PAIRS_AT_ONCE = 1 << 22
"""Pairs of an n-gram of a document and an item that are looked at together (some 50 bytes each)."""


@dataclass(frozen=True)
class Places:
    """Places of n-grams in the documents of a part."""

    first: np.ndarray
    """int64[d + 1]: those of document i are [first[i], first[i + 1])"""
    gram: np.ndarray
    """Number in the index"""

    @classmethod
    def of(cls, partial: pa.Table) -> "Places":
        """From what `map` said of a part."""
        first, gram = list_rows(partial.column("grams"))
        return cls(first, gram.astype(np.int64))

    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Document and n-gram of each pair of them, in order."""
        document = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        order = np.lexsort((self.gram, document))
        document, gram = document[order], self.gram[order]
        first = first_of_equals(document, gram)
        return document[first], gram[first]


@dataclass(frozen=True)
class Found:
    """Items that were found in documents, in order of document and item."""

    document: np.ndarray
    item: np.ndarray
    share: np.ndarray
    held: np.ndarray
    of: np.ndarray


def frequencies(places: Places, index: BenchmarkIndex) -> pa.Table:
    """How many documents of a part hold each n-gram."""
    gram, count = np.unique(places.distinct()[1], return_counts=True)
    return pa.table([index.table.grams[gram], count.astype(np.uint32)], schema=FREQUENCIES_SCHEMA)


def found_items(
    places: Places, index: BenchmarkIndex, view: View, *, common_documents: int, max_share: float, min_ngrams: float
) -> Found:
    """The items found in the documents of a part; `view` has the table `frequencies`."""
    document, gram = places.distinct()
    pieces = [
        _found(document[low:high], gram[low:high], index, view, common_documents, max_share, min_ngrams)
        for low, high in _shares(document, index.gram_first[gram + 1] - index.gram_first[gram])
    ]
    columns = zip(*pieces, strict=True) if pieces else ((np.empty(0, dtype=np.int64),) for _ in range(5))
    return Found(*(np.concatenate(column) for column in columns))


def _shares(document: np.ndarray, pairs: np.ndarray) -> list[tuple[int, int]]:
    """Runs of whole documents with about _PAIRS_AT_ONCE pairs each."""
    if not len(document):
        return []
    share = (np.cumsum(pairs) - pairs) // _PAIRS_AT_ONCE
    starts = np.flatnonzero(first_of_equals(document))
    edges = starts[first_of_equals(share[starts])].tolist()
    return list(zip(edges, [*edges[1:], len(document)], strict=True))


def _found(
    document: np.ndarray,
    gram: np.ndarray,
    index: BenchmarkIndex,
    view: View,
    common_documents: int,
    max_share: float,
    min_ngrams: float,
) -> tuple[np.ndarray, ...]:
    position, item = index.items_of(gram)
    order = np.lexsort((item, document[position]))
    pair_document, pair_item, pair_gram = document[position][order], item[order], gram[position][order]
    first = first_of_equals(pair_document, pair_item)
    group = np.cumsum(first) - 1
    candidates = np.unique(pair_item)
    owner, owned = index.grams_of(candidates)
    grams = np.unique(owned)
    weight = index.weight[grams] * _corpus_weight(index.table.grams[grams], view, common_documents)
    all_of = np.bincount(owner, weights=weight[np.searchsorted(grams, owned)], minlength=len(candidates))
    held_weight = np.bincount(group, weights=weight[np.searchsorted(grams, pair_gram)])
    at = np.searchsorted(candidates, pair_item[first])
    share = np.round(held_weight / all_of[at], _ROUNDED)
    enough = np.round(held_weight, _ROUNDED) >= np.round(np.minimum(min_ngrams, all_of[at]), _ROUNDED)
    is_found = enough & (share > max_share)
    held, of = np.bincount(group), np.bincount(owner, minlength=len(candidates))[at]
    return pair_document[first][is_found], pair_item[first][is_found], share[is_found], held[is_found], of[is_found]


def _corpus_weight(hashes: np.ndarray, view: View, common_documents: int) -> np.ndarray:
    known, found = view.lookup("frequencies", hashes)
    documents = np.ones(len(hashes))
    documents[known] = found["documents"]
    return np.minimum(1.0, common_documents / documents)


def held_places(places: Places, index: BenchmarkIndex, document: np.ndarray, item: np.ndarray) -> np.ndarray:
    """bool, one a place: whether its n-gram is of an item that was found in its document (pairs in that order)."""
    held = np.zeros(len(places.gram), dtype=bool)
    for row in np.unique(document).tolist():
        low, high = places.first[row], places.first[row + 1]
        own = item[np.searchsorted(document, row) : np.searchsorted(document, row, side="right")]
        held[low:high] = np.isin(places.gram[low:high], index.grams_of(own)[1])
    return held
