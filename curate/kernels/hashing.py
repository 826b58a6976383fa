"""64-bit and 128-bit hashes of byte ranges: words, lines, whole texts.

Sixteen bytes at a time, the last ones filled up with zeros, so that most words take the same few steps without a
branch: xor, multiply by an odd constant, fold the high half onto the low one. Not for use against an adversary: who
can choose texts can choose collisions. Two texts of a corpus of n collide by chance with probability n^2 / 2^65, at
128 bits n^2 / 2^129.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.kernels.compile import inlined, kernel
from curate.kernels.memory import address_of, last_words, load_word
from curate.kernels.strings import string_buffers

_STEP = np.uint64(0x9E3779B97F4A7C15)
_OTHER_STEP = np.uint64(0xD6E8FEB86659FD93)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_NO_SEED = np.uint64(0)
_HALF = np.uint64(32)
_FOLD = np.uint64(33)


def mixed(words: np.ndarray) -> np.ndarray:
    """The finaliser of MurmurHash3 (public domain, Appleby): each bit of the result depends on each bit of the word.

    Of an array (uint64), that of each word.
    """
    words = (words ^ (words >> _FOLD)) * _MIX_1
    words = (words ^ (words >> _FOLD)) * _MIX_2
    return words ^ (words >> _FOLD)


mix = inlined(mixed)
"""`mixed`, for kernels"""


@inlined
def _take(state, low, high, step):  # type: ignore[no-untyped-def]
    """Take sixteen bytes into a hash."""
    state = (state ^ low) * _MIX_1
    state = ((state ^ (state >> _HALF)) ^ high) * step
    return state ^ (state >> _HALF)


@inlined
def _finish(state):  # type: ignore[no-untyped-def]
    state *= _MIX_2
    return state ^ (state >> _HALF)


@inlined
def _hash_range(address, size, limit, seed, step):  # type: ignore[no-untyped-def]
    state = (np.uint64(size) + seed) * step
    while size > 16:
        state = _take(state, load_word(address), load_word(address + 8), step)
        address += 16
        size -= 16
    return _finish(_take(state, *last_words(address, size, limit), step))


@inlined
def hash_range(address, size, limit):  # type: ignore[no-untyped-def]
    """64-bit hash of `size` bytes at an address; bytes may be read (and ignored) up to the limit."""
    return _hash_range(address, size, limit, _NO_SEED, _STEP)


@inlined
def hash_short(low, high, size):  # type: ignore[no-untyped-def]
    """`hash_range` of at most 16 bytes, which are two words with zeros above them (`last_words`)."""
    return _finish(_take(np.uint64(size) * _STEP, low, high, _STEP))


@inlined
def _lower_ascii(word):  # type: ignore[no-untyped-def]
    """Eight bytes at once: A to Z become a to z."""
    low = word & np.uint64(0x7F7F7F7F7F7F7F7F)
    from_a = low + np.uint64(0x3F3F3F3F3F3F3F3F)  # the high bit is set from A on
    past_z = low + np.uint64(0x2525252525252525)  # and here past Z
    upper = from_a & ~past_z & ~word & np.uint64(0x8080808080808080)
    return word | (upper >> np.uint64(2))


@inlined
def hash_lower_ascii(address, size, limit):  # type: ignore[no-untyped-def]
    """`hash_range` of the bytes with A to Z in lower case."""
    state = np.uint64(size) * _STEP
    while size > 16:
        state = _take(state, _lower_ascii(load_word(address)), _lower_ascii(load_word(address + 8)), _STEP)
        address += 16
        size -= 16
    low, high = last_words(address, size, limit)
    return _finish(_take(state, _lower_ascii(low), _lower_ascii(high), _STEP))


@inlined
def combine(state, hashed):  # type: ignore[no-untyped-def]
    """Take one more hash into the hash of a sequence; order matters."""
    state = (state ^ hashed) * _STEP
    return state ^ (state >> _HALF)


@kernel
def _hash_texts(data, offsets, hashes):  # type: ignore[no-untyped-def]
    limit = address_of(data, data.shape[0])
    for i in range(hashes.shape[0]):
        address, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        hashes[i, 0] = hash_range(address, size, limit)
        if hashes.shape[1] == 2:
            hashes[i, 1] = _hash_range(address, size, limit, _MIX_2, _OTHER_STEP)


def hash_strings(strings: pa.Array) -> np.ndarray:
    """uint64[n]: a 64-bit hash of each string's bytes; a null hashes like an empty string."""
    data, offsets = string_buffers(strings)
    hashes = np.empty((len(strings), 1), dtype=np.uint64)
    _hash_texts(data, offsets, hashes)
    return hashes[:, 0]


def hash128_strings(strings: pa.Array) -> np.ndarray:
    """uint64[n, 2]: a 128-bit hash of each string's bytes in two lanes, the first of them `hash_strings`."""
    data, offsets = string_buffers(strings)
    hashes = np.empty((len(strings), 2), dtype=np.uint64)
    _hash_texts(data, offsets, hashes)
    return hashes
