"""Hashes of strings: what they depend on, and how well they spread."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.kernels.hashing import hash128_strings, hash_strings

MASK = 2**64 - 1


def reference(raw: bytes, seed: int = 0, step: int = 0x9E3779B97F4A7C15) -> int:
    state = (len(raw) + seed) * step & MASK
    for start in range(0, max(len(raw), 1), 16):
        low, high = raw[start : start + 8], raw[start + 8 : start + 16]
        state = (state ^ int.from_bytes(low, "little")) * 0xFF51AFD7ED558CCD & MASK
        state = (state ^ state >> 32 ^ int.from_bytes(high, "little")) * step & MASK
        state ^= state >> 32
    state = state * 0xC4CEB9FE1A85EC53 & MASK
    return state ^ state >> 32


@given(st.lists(st.binary(max_size=50), max_size=20))
@settings(max_examples=200, deadline=None)
def test_hashes_are_those_of_plain_python(raws: list[bytes]) -> None:
    strings = pa.array(raws, type=pa.binary())
    both = hash128_strings(strings)
    assert hash_strings(strings).tolist() == [reference(raw) for raw in raws]
    assert both[:, 0].tolist() == [reference(raw) for raw in raws]
    assert both[:, 1].tolist() == [reference(raw, 0xC4CEB9FE1A85EC53, 0xD6E8FEB86659FD93) for raw in raws]


def test_a_hash_depends_on_the_string_alone() -> None:
    strings = ["", "a", "abcdefgh", "abcdefghi", "x" * 1000, None]
    plain = hash_strings(pa.array(strings))
    assert hash_strings(pa.array(strings, type=pa.large_string())).tolist() == plain.tolist()
    assert hash_strings(pa.array(["pad", *strings])[1:]).tolist() == plain.tolist()
    assert plain[0] == plain[5] and len(set(plain.tolist())) == 5


def test_trailing_zero_bytes_change_the_hash() -> None:
    hashes = hash128_strings(pa.array([b"a" + b"\0" * n for n in range(20)], type=pa.binary()))
    assert len(np.unique(hashes[:, 0])) == len(np.unique(hashes[:, 1])) == 20


def test_a_million_similar_strings_have_different_hashes() -> None:
    hashes = hash_strings(pa.array([f"https://example.org/page/{i}" for i in range(1_000_000)]))
    assert len(np.unique(hashes)) == 1_000_000


def test_each_input_bit_flips_half_of_the_output_bits() -> None:
    generator = np.random.default_rng(0)
    raws = generator.integers(0, 256, size=(400, 24), dtype=np.uint8)
    before = hash128_strings(pa.array([raw.tobytes() for raw in raws], type=pa.binary()))
    for bit in range(0, 24 * 8, 5):
        flipped = raws.copy()
        flipped[:, bit // 8] ^= np.uint8(1 << bit % 8)
        after = hash128_strings(pa.array([raw.tobytes() for raw in flipped], type=pa.binary()))
        for lane in (0, 1):
            share = np.bitwise_count(before[:, lane] ^ after[:, lane]).mean() / 64
            assert abs(share - 0.5) < 0.02, (bit, lane)
