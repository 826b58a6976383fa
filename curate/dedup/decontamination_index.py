"""The n-gram index of benchmarks: which n-grams their items have, and how much each of them says.

An item's n-grams are those of prompt and answer read on, and of each other choice. Of an item that has none, as all are
shorter, the whole prompt counts if it has enough words; if not, prompt and answer together. Words that 9 of 10 prompts
of a benchmark begin or end with (`Question:`, `Answer:`, instructions) are left out. Items with the same n-grams are
one. An n-gram that k items share says 1/k, as which of them a document holds is open; one that more than `common_items`
share says nothing. What is left without n-grams cannot be checked, and is listed. About 60 bytes an n-gram in memory.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.dedup.decontamination_items import BenchmarkError, Item, Role, items_by_file
from curate.errors import InputError
from curate.kernels.ngram_index import NgramTable, ngram_hashes, words_of
from curate.rounds import first_of_equals, key_order

SCAFFOLD_SHARE = 0.9
SCAFFOLD_ITEMS = 20
"""Fewest items of a benchmark that show what its prompts have in common."""
TOO_SHORT, TOO_COMMON = "too short", "too common"


@dataclass(frozen=True, eq=False)
class BenchmarkIndex:
    """The items of several benchmarks by their n-grams. An item's number is its row in the files."""

    items: tuple[Item, ...]
    same_as: np.ndarray
    """int64, one an item: the first item with the same n-grams; itself if there is none"""
    unchecked: Mapping[int, str]
    """Why an item cannot be checked: TOO_SHORT or TOO_COMMON"""
    table: NgramTable
    weight: np.ndarray
    """float64, one an n-gram: what it says, before the corpus is asked"""
    gram_first: np.ndarray
    """int64[g + 1]: the items of n-gram g are gram_items[gram_first[g] : gram_first[g + 1]]"""
    gram_items: np.ndarray
    """int64: items that others are the same as are named, the others not"""
    item_first: np.ndarray
    """int64[items + 1]: the n-grams of an item, in the same way"""
    item_grams: np.ndarray

    @classmethod
    def of(cls, items: Sequence[Item], *, ngram: int, min_words: int, common_items: int) -> "BenchmarkIndex":
        """Index items; n-grams of `ngram` words, wholes of at least `min_words`."""
        item, gram, tail, lengths = _grams(items, ngram, min_words)
        by_item = np.argsort(item, kind="stable")
        order = by_item[key_order(gram[by_item])]
        order = order[first_of_equals(gram[order], item[order])]
        item, gram, tail = item[order], gram[order], tail[order]
        same_as = _same(item, gram, len(items))
        unchecked = _without(item, same_as, TOO_SHORT)
        own = same_as[item] == item
        item, gram, tail = item[own], gram[own], tail[own]
        first = np.flatnonzero(first_of_equals(gram))
        count = np.diff(np.append(first, len(gram)))
        says = np.repeat(count <= common_items, count)
        item, gram, tail, count = item[says], gram[says], tail[says], count[count <= common_items]
        unchecked = _without(item, same_as, TOO_COMMON) | unchecked
        gram_first = np.append(0, np.cumsum(count))
        number = np.repeat(np.arange(len(count)), count)
        by_item = np.argsort(item, kind="stable")
        return cls(
            items=tuple(items),
            same_as=same_as,
            unchecked=unchecked,
            table=NgramTable.of(gram[gram_first[:-1]], lengths, tail[gram_first[:-1]]),
            weight=1.0 / count,
            gram_first=gram_first,
            gram_items=item,
            item_first=_starts(item[by_item], len(items)),
            item_grams=number[by_item],
        )

    @property
    def not_checked_in_words(self) -> str:
        """`12 of 100 items of benchmarks could not be checked (10 too short, 2 too common)`."""
        why = Counter(self.unchecked.values())
        said = ", ".join(f"{why[reason]:,} {reason}" for reason in (TOO_SHORT, TOO_COMMON) if why[reason])
        return f"{len(self.unchecked):,} of {len(self.items):,} items of benchmarks could not be checked ({said})"

    def items_of(self, grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All items of each of these n-grams (by number): positions in `grams`, and items."""
        return _expanded(self.gram_first, self.gram_items, grams)

    def grams_of(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All n-grams of each of these items: positions in `items`, and numbers of n-grams."""
        return _expanded(self.item_first, self.item_grams, items)


@lru_cache(maxsize=2)
def load_index(
    stamps: tuple[tuple[str, int, int], ...],
    fields: tuple[tuple[Role, str], ...],
    ngram: int,
    min_words: int,
    common_items: int,
) -> BenchmarkIndex:
    """The index of files (see `stamps_of`), kept for the process. Raises BenchmarkError for a file of which no item can
    be checked."""
    files = items_by_file([Path(path) for path, _, _ in stamps], dict(fields))
    items = list(chain.from_iterable(files))
    index = BenchmarkIndex.of(items, ngram=ngram, min_words=min_words, common_items=common_items)
    low = 0
    for number, ((path, _, _), own) in enumerate(zip(stamps, files, strict=True)):
        why = Counter(filter(None, map(index.unchecked.get, range(low, low + len(own)))))
        low += len(own)
        if why.total() == len(own):
            error = BenchmarkError(f"{path}: {_none_checked(why, ngram, min_words, common_items)}.")
            error.at = ("benchmarks", number)
            raise error
    return index


def _none_checked(why: Counter[str], ngram: int, min_words: int, common_items: int) -> str:
    reasons = {
        TOO_SHORT: f"too short (fewer words than `ngram` {ngram} and, as a whole, than `min_words` {min_words}; "
        "without those that nearly all begin or end with)",
        TOO_COMMON: f"too common (more than `common_items` {common_items} items share their words)",
    }
    said = ", ".join(f"{why[reason]:,} {words}" for reason, words in reasons.items() if why[reason])
    remedies = {TOO_SHORT: "lower `min_words`", TOO_COMMON: "raise `common_items`"}
    remedy = " or ".join(words for reason, words in remedies.items() if why[reason])
    return f"of its items ({why.total():,}) none can be checked: {said}; leave the file out, or {remedy}"


def stamps_of(paths: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of each file, so that a changed one is read again."""
    try:
        return tuple((path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in paths)
    except OSError as error:
        raise InputError(f"{error.filename}: the benchmark cannot be read ({error.strerror}).") from error


def _grams(items: Sequence[Item], ngram: int, min_words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Item, hash and hash of the last words of all n-grams; and their lengths."""
    texts = [(item.prompt, item.answer, *item.choices) for item in items]
    sizes = np.array([len(each) for each in texts], dtype=np.int64)
    words = words_of(pa.array(chain.from_iterable(texts), pa.large_string()))
    text_item = np.repeat(np.arange(len(items)), sizes)
    prompts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(items) else sizes
    starts, ends = words.first[:-1].copy(), words.first[1:].copy()
    _leave_out_scaffolds(items, words.hash, prompts, starts, ends)
    kept = np.zeros(len(words.hash) + 1, dtype=np.int64)
    np.add.at(kept, starts, 1)
    np.add.at(kept, ends, -1)
    kept_words = np.cumsum(kept)[:-1] > 0
    text = np.repeat(np.arange(len(text_item)), np.diff(words.first))[kept_words]
    is_prompt = np.zeros(len(text_item), dtype=bool)
    is_prompt[prompts] = True
    # Prompt and answer are one passage, each other choice is one: an answer's number is its prompt's.
    passage = np.arange(len(text_item))
    passage[prompts + 1] = prompts
    passages = passage[text]
    hashes = words.hash[kept_words]
    prompt_words = ends[prompts] - starts[prompts]
    whole_words = prompt_words + (ends - starts)[prompts + 1]
    passage_words = ends - starts
    passage_words[prompts] = whole_words
    longest = np.maximum.reduceat(passage_words, prompts) if len(items) else prompts
    whole = np.where(prompt_words >= min_words, prompt_words, whole_words)
    lengths_of_whole = np.where((longest < ngram) & (whole >= min_words), whole, 0)
    lengths = np.unique(np.append(lengths_of_whole[lengths_of_whole > 0], ngram))
    tail = int(lengths[0])
    first_word = np.searchsorted(text, prompts)
    grams, tails = ngram_hashes(hashes, ngram), ngram_hashes(hashes, tail)
    at = np.flatnonzero(passages[: len(grams)] == passages[len(passages) - len(grams) :])
    found = [(text_item[text[at]], grams[at], tails[at + ngram - tail])]
    for length in lengths[:-1].tolist():
        owner = np.flatnonzero(lengths_of_whole == length)
        at = first_word[owner]
        wholes = ngram_hashes(hashes[at[:, None] + np.arange(length)].reshape(-1), length)[::length]
        found.append((owner, wholes, tails[at + length - tail]))
    item, gram, last = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return item.astype(np.int64), gram, last, lengths


def _leave_out_scaffolds(
    items: Sequence[Item], hashes: np.ndarray, prompts: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> None:
    """Move `starts` and `ends` of prompts over the words that those of their benchmark have in common."""
    of_benchmark: defaultdict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        of_benchmark[item.benchmark].append(number)
    for numbers in of_benchmark.values():
        if len(numbers) < SCAFFOLD_ITEMS:
            continue
        own = prompts[np.array(numbers)]
        for edge, step in ((starts, 1), (ends, -1)):
            alike, least = own, SCAFFOLD_SHARE * len(own)
            while True:
                alike = alike[starts[alike] < ends[alike]]
                words = hashes[edge[alike] - (step < 0)]
                word, count = np.unique(words, return_counts=True)
                if not len(word) or count.max() < least:
                    break
                alike = alike[words == word[count.argmax()]]
                edge[alike] += step


def _without(item: np.ndarray, same_as: np.ndarray, why: str) -> dict[int, str]:
    """The items of which (or of whose equals) no n-gram is there."""
    left = np.bincount(item, minlength=len(same_as))[same_as]
    return dict.fromkeys(np.flatnonzero(left == 0).tolist(), why)


def _same(item: np.ndarray, gram: np.ndarray, count: int) -> np.ndarray:
    """For each item the first one with the same set of n-grams (rows in order of n-gram); without any, itself."""
    by_item = np.argsort(item, kind="stable")
    item, gram = item[by_item], gram[by_item]
    first = _starts(item, count)
    seen: dict[bytes, int] = {}
    same = np.arange(count)
    for number in range(count):
        own = gram[first[number] : first[number + 1]]
        if len(own):
            same[number] = seen.setdefault(own.tobytes(), number)
    return same


def _starts(ascending: np.ndarray, count: int) -> np.ndarray:
    return np.searchsorted(ascending, np.arange(count + 1))


def _expanded(first: np.ndarray, values: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = first[keys + 1] - first[keys]
    position = np.repeat(np.arange(len(keys)), size)
    before = np.repeat(np.cumsum(size) - size, size)
    return position, values[np.repeat(first[keys], size) + np.arange(len(position)) - before]
