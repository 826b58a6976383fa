"""A set of 64-bit hashes that need not be cleared between texts: a slot counts only if its stamp is the text's."""

from __future__ import annotations

import numpy as np

from curate.kernels.compile import inlined, pasted


@inlined
def table_bits(entries):  # type: ignore[no-untyped-def]
    """log2 of a table with at least twice as many slots as entries."""
    bits = 4
    while (1 << bits) < 2 * entries:
        bits += 1
    return bits


@pasted
def add_to_set(slots, stamps, stamp, mask, hashed):  # type: ignore[no-untyped-def]
    """Add a hash; returns whether it was there. `mask` is the number of slots in use, a power of two, less one."""
    slot = np.int64(hashed) & mask
    while stamps[slot] == stamp and slots[slot] != hashed:
        slot = (slot + 1) & mask
    present = stamps[slot] == stamp
    slots[slot] = hashed
    stamps[slot] = stamp
    return present
