"""A Bloom filter in blocks of 512 bits, and the rules of BFF by which it decides on paragraphs and documents.

Blocks: Putze, Sanders and Singler 2007; all bits of an n-gram lie in one cache line, which is asked for in advance.
Rules: DCLM's BFF (`dedup/bff/src/main.rs`), its modes by number. N-grams are 64-bit rolling hashes of words as they
are. A blocked filter is wrong more often than a classic one of equal size: `blocks_for` sizes it for that, with 3% more
bits at a rate of 1%, 8% at .1%.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from curate.kernels.compile import inlined, kernel, part
from curate.kernels.fasttext_vectors import high_product, prefetch
from curate.kernels.hashing import mix
from curate.kernels.memory import address_of, load_byte, load_uint32, load_word, ones, store_byte, store_word
from curate.kernels.text_index import TextIndex

BLOCK_BITS = 512
BLOCK_BYTES = BLOCK_BITS // 8
MODES = ("paragraph", "document", "old-both", "both")
"""A mode's number is its place here."""
PARAGRAPH, DOCUMENT, OLD_BOTH, BOTH = range(4)

_BASE = np.uint64(0x5851F42D4C957F2D)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_NEXT = np.uint64(0xD1342543DE82EF95)
_ODD = np.uint64(0x2545F4914F6CDD1D)
_ONE = np.uint64(1)
_AHEAD = 16
_MOST_PROBES = 24


@inlined
def grams_of(words, least, most):  # type: ignore[no-untyped-def]
    """N-grams of a unit of so many words: of `most` words each, one of them all if there are fewer, none below
    `least`."""
    if words >= most:
        return words - most + 1
    return np.int64(words >= least and words > 0)


@kernel
def _ngrams(rows, index_words, lines, least, most, whole):  # type: ignore[no-untyped-def]
    first_word, starts, _, hashes, _ = index_words
    first_line, _, line_ends = lines
    word_starts, word_hashes = address_of(starts, 0), address_of(hashes, 0)
    unit_offsets = np.zeros(rows.shape[0] + 1, np.int64)
    for i in range(rows.shape[0]):
        unit_offsets[i + 1] = unit_offsets[i] + first_line[rows[i] + 1] - first_line[rows[i]]
    units = np.zeros(unit_offsets[rows.shape[0]], np.uint32)
    gram_offsets = np.zeros(rows.shape[0] + 1, np.int64)
    for i in range(rows.shape[0]):
        word, last = first_word[rows[i]], first_word[rows[i] + 1]
        unit, count = unit_offsets[i], grams_of(last - word, least, most) if whole else np.int64(0)
        for line in range(first_line[rows[i]], first_line[rows[i] + 1]):
            begin, end = word, np.int64(line_ends[line])
            while word < last and load_uint32(word_starts + 4 * word) < end:
                word += 1
            units[unit] = word - begin
            unit += 1
            if not whole:
                count += grams_of(word - begin, least, most)
        gram_offsets[i + 1] = gram_offsets[i] + count
    leaving = _ONE
    for _ in range(most):
        leaving *= _BASE
    grams = np.empty(gram_offsets[rows.shape[0]], np.uint64)
    gram = 0
    for i in range(rows.shape[0]):
        begin, last = first_word[rows[i]], first_word[rows[i] + 1]
        unit = unit_offsets[i]
        while begin < last:
            end = last if whole else begin + np.int64(units[unit])
            unit += 1
            if grams_of(end - begin, least, most) > 0:
                state = np.uint64(0)
                for word in range(begin, end):
                    state = state * _BASE + load_word(word_hashes + 8 * word)
                    if word - begin >= most:
                        state -= load_word(word_hashes + 8 * (word - most)) * leaving
                    if word - begin >= most - 1 or (word == end - 1 and word - begin < most):
                        grams[gram] = mix(state)
                        gram += 1
            begin = end
    return unit_offsets, units, gram_offsets, grams


def paragraph_ngrams(
    index: TextIndex, *, least: int, most: int, whole: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Offsets int64[d + 1] and words uint32 of each text's paragraphs (lines between newlines); offsets int64[d + 1]
    and hashes uint64 of its n-grams: those within paragraphs, or of the whole text."""
    return _ngrams(index.rows, index.words, index.lines, least, most, whole)


@inlined
def _block_of(blocks, hashed):  # type: ignore[no-untyped-def]
    """Bytes from the filter's start to the block of an n-gram."""
    return np.int64(high_product(hashed, blocks)) << 6


@inlined
def _holds(block, hashed, probes):  # type: ignore[no-untyped-def]
    state, held = hashed * _SPREAD, _ONE
    for _ in range(probes):
        state = state * _NEXT + _ODD
        bit = np.int64(state >> np.uint64(55))
        held &= load_word(block + ((bit >> 6) << 3)) >> np.uint64(bit & 63)
    return held


@inlined
def _add(block, hashed, probes):  # type: ignore[no-untyped-def]
    state = hashed * _SPREAD
    for _ in range(probes):
        state = state * _NEXT + _ODD
        bit = np.int64(state >> np.uint64(55))
        place = block + ((bit >> 6) << 3)
        store_word(place, load_word(place) | (_ONE << np.uint64(bit & 63)))


@part
def _look(span, last, bloom, held):  # type: ignore[no-untyped-def]
    """Which n-grams of a span are held (uint8 each, at the address `held`), and how many; those after it, up to
    `last`, are asked for in advance. `span`: address of the first n-gram, and their number."""
    grams, count = span
    base, blocks, probes = bloom
    found = np.int64(0)
    for i in range(count):
        gram = grams + 8 * i
        if gram + 8 * _AHEAD < last:
            prefetch(base + _block_of(blocks, load_word(gram + 8 * _AHEAD)))
        hashed = load_word(gram)
        one = _holds(base + _block_of(blocks, hashed), hashed, probes)
        store_byte(held + i, np.uint8(one))
        found += np.int64(one)
    return found


@part
def _enter(span, bloom):  # type: ignore[no-untyped-def]
    grams, count = span
    base, blocks, probes = bloom
    for i in range(count):
        hashed = load_word(grams + 8 * i)
        _add(base + _block_of(blocks, hashed), hashed, probes)


@part
def _spanning(units, grams, held, sizes, threshold, removed, bloom):  # type: ignore[no-untyped-def]
    """Mode `both` on a document that stays: paragraphs go by the n-grams that lie within them; those n-grams that
    touch none of what goes are entered. `units`: words (uint32 each) and removed (uint8 each) of its paragraphs;
    `sizes`: paragraphs, n-grams, words of an n-gram."""
    count, total, most = sizes
    begin = np.int64(0)
    for unit in range(count):
        words = np.int64(load_uint32(units + 4 * unit))
        own = max(words - most + 1, 0)
        inside = np.int64(0)
        for i in range(begin, begin + own):
            inside += load_byte(held + i)
        store_byte(removed + unit, np.uint8(own > 0 and inside >= threshold * own))
        begin += words
    gone_until = np.int64(0)  # an n-gram that begins before this word reaches into a paragraph that goes
    back, back_end = np.int64(0), np.int64(load_uint32(units))
    for i in range(total):
        last = i + most - 1
        while last >= back_end and back + 1 < count:
            if load_byte(removed + back) != 0:
                gone_until = back_end
            back += 1
            back_end += np.int64(load_uint32(units + 4 * back))
        touches = i < gone_until or load_byte(removed + back) != 0
        if not touches:
            hashed = load_word(grams + 8 * i)
            _add(bloom[0] + _block_of(bloom[1], hashed), hashed, bloom[2])


@kernel
def _judge(unit_offsets, units, gram_offsets, grams, rules, bits, blocks, probes, held, removed, contained, gone):  # type: ignore[no-untyped-def]
    least, most, mode, threshold = rules
    bloom = (address_of(bits, 0), blocks, probes)
    base, flags, marks = address_of(grams, 0), address_of(held, 0), address_of(removed, 0)
    words, last = address_of(units, 0), address_of(grams, 0) + 8 * grams.shape[0]
    for i in range(contained.shape[0]):
        begin, total = gram_offsets[i], gram_offsets[i + 1] - gram_offsets[i]
        first_unit, count = unit_offsets[i], unit_offsets[i + 1] - unit_offsets[i]
        span = (base + 8 * begin, total)
        if total == 0:
            continue
        if mode == DOCUMENT:
            contained[i] = _look(span, last, bloom, flags)
            gone[i] = contained[i] > threshold * total
            if not gone[i]:
                _enter(span, bloom)
        elif mode == BOTH:
            contained[i] = _look(span, last, bloom, flags)
            gone[i] = contained[i] >= threshold * total
            own = words + 4 * first_unit
            if not gone[i]:
                _spanning(own, span[0], flags, (count, total, most), threshold, marks + first_unit, bloom)
        else:
            at = begin
            for unit in range(first_unit, first_unit + count):
                own = grams_of(np.int64(load_uint32(words + 4 * unit)), least, most)
                if own == 0:
                    continue
                part_span = (base + 8 * at, own)
                found = _look(part_span, last, bloom, flags)
                contained[i] += found
                if found > threshold * own:
                    removed[unit] = 1
                else:
                    _enter(part_span, bloom)
                at += own
            gone[i] = mode == OLD_BOTH and contained[i] > threshold * total


@kernel
def _rate(bits, probes):  # type: ignore[no-untyped-def]
    base = address_of(bits, 0)
    total = 0.0
    blocks = bits.shape[0] // 64
    for block in range(blocks):
        count = np.int64(0)
        for i in range(8):
            count += ones(load_word(base + 64 * block + 8 * i))
        share, rate = count / 512.0, 1.0
        for _ in range(probes):
            rate *= share
        total += rate
    return total / blocks


@kernel
def _probe(grams, bits, blocks, probes, held, enter):  # type: ignore[no-untyped-def]
    bloom = (address_of(bits, 0), blocks, probes)
    span = (address_of(grams, 0), grams.shape[0])
    if enter:
        base = span[0]
        for i in range(span[1]):
            if i + _AHEAD < span[1]:
                prefetch(bloom[0] + _block_of(blocks, load_word(base + 8 * (i + _AHEAD))))
            hashed = load_word(base + 8 * i)
            _add(bloom[0] + _block_of(blocks, hashed), hashed, probes)
        return np.int64(0)
    return _look(span, span[0] + 8 * span[1], bloom, address_of(held, 0))


@cache
def shape_for(rate: float) -> tuple[float, int]:
    """N-grams a block and bits an n-gram (probes) at which a filter is wrong at that rate, with as few bits as can be.

    A block's load is Poisson: the rate is the mean of (1 - (1 - 1/512)^(load x probes))^probes over it.
    """
    best = (0.0, 1)
    for probes in range(1, _MOST_PROBES + 1):
        low, high = 1e-3, float(BLOCK_BITS)
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if _blocked_rate(middle, probes) <= rate else (low, middle)
        best = max(best, (low, probes))
    return best


def _blocked_rate(load: float, probes: int) -> float:
    counts = np.arange(int(load + 12 * math.sqrt(load) + 24))
    logs = counts * math.log(load) - load - np.array([math.lgamma(count + 1) for count in counts.tolist()])
    return float(np.sum(np.exp(logs) * (1 - (1 - 1 / BLOCK_BITS) ** (counts * probes)) ** probes))


def blocks_for(ngrams: int, rate: float) -> int:
    """Blocks of a filter that is wrong at `rate` once it holds so many different n-grams."""
    return max(1, math.ceil(ngrams / shape_for(rate)[0]))


class BloomFilter:
    """A filter for so many different n-grams, wrong about others at `rate`; any number of blocks will do."""

    def __init__(self, ngrams: int, rate: float) -> None:
        self.blocks = blocks_for(ngrams, rate)
        self.probes = shape_for(rate)[1]
        self.bits = _aligned_zeros(self.blocks * BLOCK_BYTES)

    @property
    def nbytes(self) -> int:
        """Bytes of the filter."""
        return len(self.bits)

    def enter(self, grams: np.ndarray) -> None:
        """Add n-grams (uint64)."""
        _probe(grams, self.bits, np.uint64(self.blocks), self.probes, np.empty(0, np.uint8), True)

    def holds(self, grams: np.ndarray) -> np.ndarray:
        """bool: which n-grams (uint64) it takes for known."""
        held = np.empty(len(grams), dtype=np.uint8)
        _probe(grams, self.bits, np.uint64(self.blocks), self.probes, held, False)
        return held.astype(bool)

    def judge(
        self,
        unit_offsets: np.ndarray,
        units: np.ndarray,
        gram_offsets: np.ndarray,
        grams: np.ndarray,
        *,
        least: int,
        most: int,
        mode: str,
        threshold: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Go through documents (`paragraph_ngrams`) in order: which paragraphs go bool[u], n-grams that were known
        int64[d], and which documents go as a whole bool[d]. N-grams of what stays are added."""
        removed = np.zeros(len(units), dtype=np.uint8)
        contained = np.zeros(len(unit_offsets) - 1, dtype=np.int64)
        gone = np.zeros(len(contained), dtype=np.bool_)
        held = np.empty(int(np.diff(gram_offsets).max(initial=0)), dtype=np.uint8)
        rules = (least, most, MODES.index(mode), float(threshold))
        blocks = np.uint64(self.blocks)
        _judge(
            unit_offsets,
            units,
            gram_offsets,
            grams,
            rules,
            self.bits,
            blocks,
            self.probes,
            held,
            removed,
            contained,
            gone,
        )
        return removed.astype(bool), contained, gone

    @property
    def rate(self) -> float:
        """How often it is wrong now about an n-gram that it has not seen: from the bits that are set."""
        return float(_rate(self.bits, self.probes))


def _aligned_zeros(size: int) -> np.ndarray:
    """uint8[size], from a multiple of 64 on; never written pages take no memory."""
    space = np.zeros(size + BLOCK_BYTES, dtype=np.uint8)
    start = -space.ctypes.data % BLOCK_BYTES
    return space[start : start + size]
