"""MinHash signatures of texts (Broder 1997), bands, and exact similarity of candidate pairs.

A minimum is that of a hash function of the low 32 bits of each shingle (curate.kernels.shingles), one of datasketch's
two families by its own numbers from a seed (curate.kernels.minima), so that a signature is bit for bit what
`datasketch.MinHash` of that scheme makes of the same shingles. The share of equal minima has the mean J, the Jaccard
similarity, and the standard deviation sqrt(J (1 - J) / k); sets of many millions of shingles look more alike than they
are, as 32 bits are then not enough. All is done a text at a time, in scratch that the next text takes over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from curate.kernels.characters import character_table
from curate.kernels.compile import kernel, part
from curate.kernels.hashing import combine, mix
from curate.kernels.memory import address_of, leading_zeros
from curate.kernels.minima import LANES, PRIME, lowest_affine32, lowest_legacy
from curate.kernels.ratio import ratio
from curate.kernels.shingles import Unit, room_for, scratch_for, shingles_of
from curate.kernels.strings import string_buffers

Scheme = Literal["affine32", "legacy"]
"""datasketch's names: its default since version 2, and all that it had before."""

EMPTY = np.uint32(0xFFFFFFFF)
"""Every minimum of a document without shingles."""

_STRIP = 1024
"""Shingles whose minima are taken together: few enough for the first level of the cache"""


@dataclass(frozen=True)
class HashFunctions:
    """k hash functions from 32 to 32 bits, as `datasketch.MinHash(num_perm=k, seed=seed, scheme=scheme)` has them."""

    count: int
    scheme: Scheme
    multipliers: np.ndarray
    """uint32[...], or uint64[...] for `legacy`: a multiple of 16, those beyond `count` unused"""
    addends: np.ndarray
    """As the multipliers"""

    @classmethod
    def of(cls, count: int, *, seed: int, scheme: Scheme = "affine32") -> HashFunctions:
        """The functions of a seed, 0 to 2^32 - 1."""
        generator = np.random.RandomState(seed)
        if scheme == "affine32":
            multipliers = generator.randint(0, 2**31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
            addends = generator.randint(0, 2**32, count, dtype=np.uint32)
        else:
            drawn = [
                (
                    generator.randint(1, PRIME, dtype=np.uint64),
                    generator.randint(0, PRIME, dtype=np.uint64),
                )
                for _ in range(count)
            ]
            multipliers, addends = np.array(drawn, dtype=np.uint64).reshape(count, 2).T
        padding = (0, -count % LANES)
        return cls(count, scheme, np.pad(multipliers, padding), np.pad(addends, padding))


@part
def _lower_minima(hashes, count, functions, strip, minima):  # type: ignore[no-untyped-def]
    """Lower the minima (a row of uint32, as long as the functions) to those of a text's shingles."""
    affine, multipliers, addends = functions
    for start in range(0, count, _STRIP):
        some = min(count - start, _STRIP)
        for j in range(some):
            x = np.uint32(hashes[start + j])
            if affine:  # the finaliser of 32-bit MurmurHash3; Numba widens uint32 arithmetic: cast back each time
                x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
                x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
                x = np.uint32(x ^ (x >> np.uint32(16)))
            strip[j] = x
        for p in range(0, minima.shape[0], LANES):
            a, b, lowest = address_of(multipliers, p), address_of(addends, p), address_of(minima, p)
            if affine:
                lowest_affine32(address_of(strip, 0), some, a, b, lowest)
            else:
                lowest_legacy(address_of(strip, 0), some, a, b, lowest)


@part
def _sift(hashes, root, count):  # type: ignore[no-untyped-def]
    """Let a hash sink in a heap whose greatest one is on top."""
    held = hashes[root]
    while 2 * root + 1 < count:
        child = 2 * root + 1
        child += child + 1 < count and hashes[child + 1] > hashes[child]
        if hashes[child] <= held:
            break
        hashes[root] = hashes[child]
        root = child
    hashes[root] = held


@part
def _sort(hashes, count, counts, out):  # type: ignore[no-untyped-def]
    """Sort hashes into `out`: into as many buckets as there are hashes by their highest bits, then by insertion.

    Hashes are as good as random, so that a bucket holds one or two different ones; if a text was made to break that,
    a heap takes over. (Numba's own sort would cost a user two seconds to compile.)
    """
    if count < 2:
        for j in range(count):
            out[j] = hashes[j]
        return
    bits = 64 - leading_zeros(np.uint64(count - 1))
    shift = np.uint64(64 - bits)
    for bucket in range((1 << bits) + 1):
        counts[bucket] = 0
    for j in range(count):
        counts[np.int64(hashes[j] >> shift) + 1] += 1
    for bucket in range(1 << bits):
        counts[bucket + 1] += counts[bucket]
    for j in range(count):
        bucket = np.int64(hashes[j] >> shift)
        out[counts[bucket]] = hashes[j]
        counts[bucket] += 1
    moves = 0
    for j in range(1, count):
        held, place = out[j], j
        while place > 0 and out[place - 1] > held:
            out[place] = out[place - 1]
            place -= 1
        out[place] = held
        moves += j - place
        if moves > 16 * count:
            break
    if moves > 16 * count:
        for root in range(count // 2 - 1, -1, -1):
            _sift(out, root, count)
        for last in range(count - 1, 0, -1):
            out[0], out[last] = out[last], out[0]
            _sift(out, np.int64(0), last)


@part
def _drop_repeats(hashes, count):  # type: ignore[no-untyped-def]
    """Keep one of each of sorted hashes; returns how many there are."""
    kept = np.int64(0)
    for j in range(count):
        if j == 0 or hashes[j] != hashes[j - 1]:
            hashes[kept] = hashes[j]
            kept += 1
    return kept


@kernel
def _sketch(data, offsets, cut, characters, scratch, functions, wants, results):  # type: ignore[no-untyped-def]
    """Fill the results; returns where each text's set begins."""
    shingle_scratch, hashes, counts, strip, row = scratch
    with_minima, with_sets = wants
    minima, digests, sizes, sets = results
    found = np.zeros(offsets.shape[0], np.int64)
    limit = address_of(data, data.shape[0])
    for i in range(offsets.shape[0] - 1):
        text, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        count = shingles_of(text, size, limit, cut, characters, shingle_scratch, hashes)
        if with_minima:
            for p in range(row.shape[0]):
                row[p] = EMPTY
            _lower_minima(hashes, count, functions, strip, row)
            for p in range(minima.shape[1]):
                minima[i, p] = row[p]
        own = hashes
        if with_sets:
            own = sets[found[i] :]
            _sort(hashes, count, counts, own)
            count = _drop_repeats(own, count)
            found[i + 1] = found[i] + count
        one = other = np.uint64(0)
        for j in range(count):
            one += own[j]
            other += mix(own[j])
        digests[i, 0], digests[i, 1] = one, other
        sizes[i] = count
    return found


@dataclass(frozen=True)
class Sketches:
    """What the shingles of d texts come to."""

    sizes: np.ndarray
    """int64[d]: distinct shingles, or all of them where sets were not asked for"""
    digests: np.ndarray
    """uint64[d, 2]: 128 bits, equal for equal sets of shingles; without sets, for the same shingles as often"""
    minima: np.ndarray
    """uint32[d, k]; k is 0 without functions"""
    offsets: np.ndarray
    """int64[d + 1]: where each text's set begins"""
    sets: np.ndarray
    """uint64[...]: each text's distinct shingles, in ascending order; nothing where sets were not asked for"""


def sketches(
    texts: pa.Array, n: int, *, unit: Unit = "words", functions: HashFunctions | None = None, sets: bool = False
) -> Sketches:
    """Signatures by the functions, if given, and sets of shingles, if wanted, of an Arrow array of (large) strings.

    A text of fewer than n words (characters) is one shingle of them all.
    """
    data, offsets = string_buffers(texts)
    lengths, count = np.diff(offsets), len(offsets) - 1
    room = room_for(lengths, unit)
    longest = int(room.max(initial=0))
    used = functions or HashFunctions.of(1, seed=0)
    minima = np.empty((count, functions.count if functions else 0), dtype=np.uint32)
    digests, sizes = np.empty((count, 2), dtype=np.uint64), np.empty(count, dtype=np.int64)
    held = np.empty(int(room.sum()) if sets else 0, dtype=np.uint64)  # what is not written takes no memory
    scratch = (
        scratch_for(lengths, unit),
        np.empty(longest, dtype=np.uint64),
        np.empty(2 * longest + 2 if sets else 0, dtype=np.uint32),
        np.empty(_STRIP, dtype=np.uint32),
        np.empty(len(used.multipliers), dtype=np.uint32),
    )
    found = _sketch(
        data,
        offsets,
        (n, unit == "characters", True),
        character_table(),
        scratch,
        (used.scheme == "affine32", used.multipliers, used.addends),
        (functions is not None, sets),
        (minima, digests, sizes, held),
    )
    return Sketches(sizes, digests, minima, found, held[: found[-1]].copy())  # the rest of its room goes back


@kernel
def _band_keys(minima, rows, keys):  # type: ignore[no-untyped-def]
    for i in range(keys.shape[0]):
        for band in range(keys.shape[1]):
            state = mix(np.uint64(band + 1))
            for p in range(band * rows, (band + 1) * rows):
                state = combine(state, np.uint64(minima[i, p]))
            keys[i, band] = mix(state)


def band_keys(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """uint64[d, bands]: a hash of each band of `rows` minima; equal keys in a column make a candidate pair.

    Keys of different bands differ. Raises ValueError if the signatures are shorter than bands x rows.
    """
    if bands < 1 or rows < 1 or bands * rows > signatures.shape[1]:
        raise ValueError(f"{bands} bands of {rows} rows do not fit into signatures of {signatures.shape[1]} minima.")
    keys = np.empty((len(signatures), bands), dtype=np.uint64)
    _band_keys(np.ascontiguousarray(signatures, dtype=np.uint32), rows, keys)
    return keys


@kernel
def _common(offsets, hashes, left, right, common):  # type: ignore[no-untyped-def]
    for i in range(left.shape[0]):
        p, p_end = offsets[left[i]], offsets[left[i] + 1]
        q, q_end = offsets[right[i]], offsets[right[i] + 1]
        n = 0
        while p < p_end and q < q_end:
            a, b = hashes[p], hashes[q]
            n += a == b
            p += a <= b
            q += b <= a
        common[i] = n


def _intersections(
    offsets: np.ndarray, sorted_hashes: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes of both sets of each pair, and of what they share."""
    offsets = np.ascontiguousarray(offsets, dtype=np.int64)
    left, right = (np.ascontiguousarray(side, dtype=np.int64) for side in (left, right))
    documents = len(offsets) - 1
    for side in (left, right):
        if side.size and (side.min() < 0 or side.max() >= documents):
            raise ValueError(f"Pairs name documents {side.min()} to {side.max()}; there are {documents}.")
    common = np.empty(len(left), dtype=np.int64)
    _common(offsets, np.ascontiguousarray(sorted_hashes, dtype=np.uint64), left, right, common)
    sizes = np.diff(offsets)
    return sizes[left], sizes[right], common


def jaccard_pairs(offsets: np.ndarray, sorted_hashes: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64[pairs]: |A and B| / |A or B| of sorted sets of shingles (`sorted_unique`); 0 if both are empty."""
    left_size, right_size, common = _intersections(offsets, sorted_hashes, left, right)
    return ratio(common, left_size + right_size - common)


def containment_pairs(
    offsets: np.ndarray, sorted_hashes: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """float64[pairs]: |A and B| / min(|A|, |B|) of sorted sets of shingles (`sorted_unique`); 0 if one is empty."""
    left_size, right_size, common = _intersections(offsets, sorted_hashes, left, right)
    return ratio(common, np.minimum(left_size, right_size))
