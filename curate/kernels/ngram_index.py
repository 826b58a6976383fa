"""Words as decontamination compares them, and the places where n-grams of an index stand in texts.

A word is a run of letters, marks and numbers: in lower case, full-width forms as plain ones, without the accents of
Latin, Greek and Cyrillic (composed or not), soft hyphens and joiners; all else separates words (so `don't` is two). In
scripts without spaces (Han, kana but katakana, Thai, ...) each letter is a word. An n-gram is a hash of its words'
hashes: one of m in an index and one of N in a corpus are the same by chance with probability m N / 2^64. One pass over
the bytes: at each word the hash of the last few is asked of a bitmap, and of the sorted hashes only what is there.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.kernels.characters import CLASS, CLASSES, LETTER_OR_NUMBER, character_table, lower_case_of, properties_of
from curate.kernels.compile import inlined, kernel, part
from curate.kernels.fasttext_vectors import prefetch
from curate.kernels.hashing import mix, mixed
from curate.kernels.masks import letter_masks
from curate.kernels.memory import (
    BLOCK,
    ONE,
    TOP,
    ZERO,
    address_of,
    block_address,
    bytes_as_word,
    code_point,
    first_bits,
    load_byte,
    load_uint32,
    load_word,
    store_uint32,
    store_word,
    trailing_zeros,
)
from curate.kernels.strings import string_buffers

LONGEST_NGRAM = 63
"""Words that the kernel looks back on."""

_SEPARATES, _IGNORED = 0, 1
_ALONE = 1 << 31
"""Beside a folded code point: it is a word of its own."""
_POINTS = 0x110000
_LATER = np.uint64(0x9E3779B97F4A7C15)
_BIT_5, _HALF = np.uint64(0x2020202020202020), np.uint64(32)
_BASE = np.uint64(0x5851F42D4C957F2D)  # multiplies what stands before a word
_AT_ONCE = 128
"""Words whose n-grams are looked up together, so that memory is asked for many of them at a time."""
_WINDOW = 256
"""Words of which the kernel keeps hashes and places; a power of two, at least _AT_ONCE + LONGEST_NGRAM + 1."""
_BUCKET_GRAMS = 2
_BITS_PER_GRAM = 16
_FEWEST_BITS, _MOST_BITS = 10, 26
"""The bitmap has 2^10 to 2^26 bits (8 MB): most of what is asked is answered from a core's second cache."""

_FEWEST_HITS = 4096
"""Room for hits at first; twice as much each time that it was too little."""

_ACCENTED = (range(0xC0, 0x530), range(0x1E00, 0x2000))
_NOT_SEEN = (0xAD, 0x61C, *range(0x300, 0x370), 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F))
_NOT_SEEN_EITHER = (*range(0x2060, 0x2070), *range(0x20D0, 0x2100), *range(0xFE00, 0xFE10), 0xFEFF)
_FULL_WIDTH = (range(0xFF10, 0xFF1A), range(0xFF21, 0xFF3B), range(0xFF41, 0xFF5B))
_SKIN_TONES = slice(0x1F3FB, 0x1F400)


class Words(NamedTuple):
    """Words of texts; those of text i are [first[i], first[i + 1])."""

    first: np.ndarray
    """int64[d + 1]"""
    hash: np.ndarray
    """uint64[w]"""


@dataclass(frozen=True)
class NgramTable:
    """Hashes of n-grams of several lengths, as they are looked up."""

    grams: np.ndarray
    """uint64[g], ascending, distinct"""
    heads: np.ndarray
    """uint32[2^k + 1]: where the hashes with these k upper bits begin"""
    bitmap: np.ndarray
    """uint8[...]: which upper bits the hashes of the last `tail` words have"""
    bits: int
    """log2 of the bitmap's bits"""
    head_bits: int
    """k"""
    lengths: np.ndarray
    """int64[...]: words of the n-grams, ascending"""
    tail: int
    """Words whose hash is asked of the bitmap: the shortest length"""

    @classmethod
    def of(cls, grams: np.ndarray, lengths: np.ndarray, tails: np.ndarray) -> NgramTable:
        """A table of distinct hashes in any order; `tails`: hashes of the last words of each, as many as the shortest
        of the `lengths` has. Raises ValueError for n-grams of more than LONGEST_NGRAM words."""
        if len(lengths) and (min(lengths) < 1 or max(lengths) > LONGEST_NGRAM):
            raise ValueError(f"An n-gram has 1 to {LONGEST_NGRAM} words.")
        grams = np.sort(grams.astype(np.uint64))
        buckets = max(1, int(len(grams) // _BUCKET_GRAMS).bit_length())
        heads = np.searchsorted(grams >> np.uint64(64 - buckets), np.arange((1 << buckets) + 1, dtype=np.uint64))
        bits = min(max(_FEWEST_BITS, (_BITS_PER_GRAM * len(grams)).bit_length()), _MOST_BITS)
        place = tails >> np.uint64(64 - bits)
        bitmap = np.zeros(1 << (bits - 3), dtype=np.uint8)
        np.bitwise_or.at(bitmap, place >> np.uint64(3), np.uint8(1) << (place & np.uint64(7)).astype(np.uint8))
        distinct = np.unique(np.asarray(lengths, dtype=np.int64))
        tail = int(distinct[0]) if len(distinct) else 1
        return cls(grams, heads.astype(np.uint32), bitmap, bits, buckets, distinct, tail)

    @property
    def nbytes(self) -> int:
        """Memory of the table."""
        return int(self.grams.nbytes + self.heads.nbytes + self.bitmap.nbytes)


class Hits(NamedTuple):
    """Places of the table's n-grams in texts, in order of text and of their last word; uint32[h] each."""

    text: np.ndarray
    gram: np.ndarray
    """Its number in `NgramTable.grams`"""
    start: np.ndarray
    """Byte where it begins, from the text's start"""
    end: np.ndarray
    """One past its last byte"""


@kernel
def _fill(table, characters, extend):  # type: ignore[no-untyped-def]
    for point in range(table.shape[0]):
        properties = properties_of(characters, point)
        kind = properties & CLASS
        if properties & LETTER_OR_NUMBER != 0:
            lower = np.uint32(lower_case_of(characters, point))
            table[point] = lower | np.uint32(_ALONE) if kind == 0 else lower
        elif kind == extend:
            table[point] = np.uint32(point)


@cache
def _folding() -> np.ndarray:
    """uint32[0x110000]: what becomes of each code point, as the module says."""
    table = np.zeros(_POINTS, dtype=np.uint32)
    _fill(table, character_table(), CLASSES["Extend"])
    for point in (point for points in _ACCENTED for point in points):
        base = unicodedata.normalize("NFD", chr(point))[0]
        if base != chr(point) and base.isalpha():
            table[point] = ord(base.lower())
    for points in _FULL_WIDTH:
        for point in points:
            table[point] = ord(chr(point - 0xFEE0).lower())
    table[_SKIN_TONES] = _SEPARATES
    table[list(_NOT_SEEN + _NOT_SEEN_EITHER)] = _IGNORED
    return table


@inlined
def _take(state, chunk):  # type: ignore[no-untyped-def]
    """Take up to 8 bytes, zeros above them, into a word's hash. Bit 5 is set: A to Z become a to z, digits stay."""
    state = (state ^ (chunk | _BIT_5)) * _LATER
    return state ^ (state >> _HALF)


@inlined
def _ascii_hash(address, size, limit):  # type: ignore[no-untyped-def]
    """Hash of a word of ASCII letters and digits."""
    state = np.uint64(0)
    while size > 8:
        state = _take(state, load_word(address))
        address += 8
        size -= 8
    return mix(_take(state, bytes_as_word(address, size, limit)))


@inlined
def _folded(address, end, table):  # type: ignore[no-untyped-def]
    """What the code point at an address becomes, and its size."""
    point, size = code_point(address, end)
    return load_uint32(table + 4 * point), size


@part
def _next_word(address, end, table):  # type: ignore[no-untyped-def]
    """Start, end and hash of the word at or after an address; start = `end` if there is none."""
    letter, size = np.int64(0), np.int64(0)
    while address < end:
        letter, size = _folded(address, end, table)
        if letter > _IGNORED:
            break
        address += size
    start, state, chunk, used = address, np.uint64(0), np.uint64(0), np.int64(0)
    while address < end and letter != _SEPARATES:
        if letter > _IGNORED:
            if letter & _ALONE != 0 and address > start:
                break
            pieces = 1 if letter < 0x80 else 5  # beyond ASCII in pieces of 5 bits, above which bit 5 tells nothing
            for piece in range(pieces):
                byte = letter if pieces == 1 else 0x80 | ((letter >> (5 * piece)) & 31)
                if used == 8:
                    state = _take(state, chunk)
                    chunk, used = np.uint64(0), np.int64(0)
                chunk |= np.uint64(byte) << np.uint64(8 * used)
                used += 1
        address += size
        if letter & _ALONE != 0:
            break
        if address < end:
            letter, size = _folded(address, end, table)
    return start, address, mix(_take(state, chunk))


@inlined
def _runs_of_block(text, low, size, limit, spare, carry):  # type: ignore[no-untyped-def]
    """Edges of the runs of letters, digits and bytes beyond ASCII in a block; those bytes; whether a run goes on."""
    plain, beyond = letter_masks(block_address(text + low, limit, spare))
    valid = first_bits(size - low)
    beyond &= valid
    inside = (plain & valid) | beyond
    return inside ^ ((inside << ONE) | carry), beyond, inside >> TOP


@kernel
def _words(data, offsets, table_array, first, hashes):  # type: ignore[no-untyped-def]
    # One code point at a time: benchmarks are small.
    table = address_of(table_array, 0)
    n = 0
    for i in range(offsets.shape[0] - 1):
        address, end = address_of(data, offsets[i]), address_of(data, offsets[i + 1])
        while True:
            start, address, hashed = _next_word(address, end, table)
            if start == end:
                break
            hashes[n] = hashed
            n += 1
        first[i + 1] = n
    return n


def words_of(texts: pa.Array) -> Words:
    """The words of texts (an Arrow array of strings; a null has none)."""
    data, offsets = string_buffers(texts)
    most = int(offsets[-1] - offsets[0]) // 2 + len(texts) + 1  # two words of one byte have one between them
    first, hashes = np.zeros(len(offsets), dtype=np.int64), np.empty(most, dtype=np.uint64)
    n = _words(data, offsets, _folding(), first, hashes)
    return Words(first, hashes[:n].copy())


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """uint64[len(words) - n + 1]: the hash of each n words in a row, as the kernel finds them."""
    count = max(0, len(words) - n + 1)
    state = np.zeros(count, dtype=np.uint64)
    for word in range(n):
        state = state * _BASE + words[word : word + count]
    return mixed(state)


@part
def _looked_up(first, count, row, window, index, waiting, hits, n, capacity):  # type: ignore[no-untyped-def]
    """Note the n-grams of a text that end at its words first + 1 .. count; returns how many hits there are, also
    beyond the capacity. Each stage fetches what the next one reads."""
    prefixes, starts, ends, bits = window
    grams, heads, shift, filled, lengths, powers, n_lengths = index
    n_waiting = np.int64(0)
    for word in range(first + 1, count + 1):
        slot = 8 * (word & (_WINDOW - 1))
        bit = load_word(bits + slot)
        if load_byte(filled + np.int64(bit >> np.uint64(3))) >> np.uint8(bit & np.uint64(7)) & 1 == 0:
            continue
        for k in range(n_lengths):
            length = np.int64(load_word(lengths + 8 * k))
            if word < length:
                break
            before = load_word(prefixes + 8 * ((word - length) & (_WINDOW - 1)))
            gram = mix(load_word(prefixes + slot) - before * load_word(powers + 8 * length))
            prefetch(heads + 4 * np.int64(gram >> shift))
            store_word(waiting + 24 * n_waiting, gram)
            store_word(waiting + 24 * n_waiting + 8, np.uint64(word))
            store_word(waiting + 24 * n_waiting + 16, np.uint64(length))
            n_waiting += 1
    for i in range(n_waiting):
        gram = load_word(waiting + 24 * i)
        prefetch(grams + 8 * load_uint32(heads + 4 * np.int64(gram >> shift)))
    for i in range(n_waiting):
        gram = load_word(waiting + 24 * i)
        bucket = heads + 4 * np.int64(gram >> shift)
        at, last = load_uint32(bucket), load_uint32(bucket + 4)
        while at < last and load_word(grams + 8 * at) < gram:
            at += 1
        if at == last or load_word(grams + 8 * at) != gram:
            continue
        if n < capacity:
            word, length = load_word(waiting + 24 * i + 8), load_word(waiting + 24 * i + 16)
            first_word = np.int64(word - length) & (_WINDOW - 1)
            last_word = (np.int64(word) - 1) & (_WINDOW - 1)
            hit = hits + 16 * n
            store_uint32(hit, row)
            store_uint32(hit + 4, at)
            store_uint32(hit + 8, np.int64(load_word(starts + 8 * first_word)))
            store_uint32(hit + 12, np.int64(load_word(ends + 8 * last_word)))
        n += 1
    return n


@kernel
def _find(data, offsets, row, table_array, scratch, arrays, memory, hits_array):  # type: ignore[no-untyped-def]
    """Look through texts from `row` on; stops before the one whose hits do not fit. How many hits, and that text."""
    grams, heads, bitmap, bits, head_bits, lengths, tail = arrays
    table, limit, spare = address_of(table_array, 0), address_of(data, data.shape[0]), address_of(scratch, 0)
    bit_shift, filled = np.uint64(64 - bits), address_of(bitmap, 0)
    # All by address: of arrays, references would be counted for every word. The caller keeps them alive.
    rings, powers, waiting_array = memory
    leaving = powers[tail]
    prefixes, starts = address_of(rings, 0), address_of(rings, _WINDOW)
    ends, asked = address_of(rings, 2 * _WINDOW), address_of(rings, 3 * _WINDOW)
    window = (prefixes, starts, ends, asked)
    waiting, hits, capacity = address_of(waiting_array, 0), address_of(hits_array, 0), hits_array.shape[0]
    places = (address_of(grams, 0), address_of(heads, 0), np.uint64(64 - head_bits), filled)
    index = (*places, address_of(lengths, 0), address_of(powers, 0), lengths.shape[0])
    n = np.int64(0)
    while row < offsets.shape[0] - 1:
        text, size, kept = address_of(data, offsets[row]), offsets[row + 1] - offsets[row], n
        carry, run, is_beyond = ZERO, np.int64(0), False
        count, state, seen = np.int64(0), np.uint64(0), np.int64(tail - 1)
        store_word(prefixes, ZERO)
        for low in range(0, size + 1, BLOCK):
            edges, beyond, after = _runs_of_block(text, low, size, limit, spare, carry)
            inside = carry != ZERO
            while edges != ZERO:
                edge = trailing_zeros(edges)
                edges &= edges - ONE
                if not inside:
                    run, is_beyond, inside = low + edge, False, True
                    continue
                inside = False
                is_beyond |= beyond & first_bits(edge) & ~first_bits(max(run - low, 0)) != ZERO
                start, end = text + run, text + low + edge
                while start < end:
                    word = start
                    if is_beyond:
                        word, start, hashed = _next_word(start, end, table)
                        if word == end:
                            break
                    else:
                        hashed = _ascii_hash(start, end - start, limit)
                        start = end
                    slot = 8 * (count & (_WINDOW - 1))
                    store_word(starts + slot, np.uint64(word - text))
                    store_word(ends + slot, np.uint64(start - text))
                    count += 1
                    state = state * _BASE + hashed
                    slot = 8 * (count & (_WINDOW - 1))
                    store_word(prefixes + slot, state)
                    before = load_word(prefixes + 8 * ((count - tail) & (_WINDOW - 1)))
                    bit = mix(state - before * leaving) >> bit_shift
                    store_word(asked + slot, bit)
                    prefetch(filled + np.int64(bit >> np.uint64(3)))
                    if count - seen == _AT_ONCE:
                        n = _looked_up(seen, count, row, window, index, waiting, hits, n, capacity)
                        seen = count
            if inside:
                is_beyond |= beyond & ~first_bits(max(run - low, 0)) != ZERO
            carry = after
        n = _looked_up(seen, count, row, window, index, waiting, hits, n, capacity)
        if n > capacity:
            return kept, row
        row += 1
    return n, row


def find_ngrams(texts: pa.Array, table: NgramTable) -> Hits:
    """Where n-grams of the table stand in texts (an Arrow array of strings). Raises InputError for a text of 4 GB or
    more."""
    data, offsets = string_buffers(texts)
    sizes = np.diff(offsets)
    if sizes.size and sizes.max() >= 2**32:
        raise InputError(
            f"Text {int(sizes.argmax())} of the batch has {sizes.max()} bytes; the limit is 4 GB. Split it."
        )
    index = (table.grams, table.heads, table.bitmap, table.bits, table.head_bits, table.lengths, table.tail)
    powers = np.multiply.accumulate(np.append(np.uint64(1), np.full(LONGEST_NGRAM, _BASE)))
    waiting = np.empty(3 * _AT_ONCE * max(1, len(table.lengths)), dtype=np.uint64)
    memory = (np.zeros(4 * _WINDOW, dtype=np.uint64), powers, waiting)
    scratch, capacity, row = np.empty(BLOCK, dtype=np.uint8), _FEWEST_HITS, 0
    found = [np.empty((0, 4), dtype=np.uint32)]
    while row < len(texts):
        hits = np.empty((capacity, 4), dtype=np.uint32)
        n, row = _find(data, offsets, row, _folding(), scratch, index, memory, hits)
        found.append(hits[:n].copy())
        capacity *= 2
    return Hits(*np.ascontiguousarray(np.concatenate(found).T))
