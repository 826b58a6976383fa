"""Bit masks of a text's bytes, a word for each block of 64: which are letters, and where the bits that are set lie."""

from __future__ import annotations

from typing import Any

from curate.kernels.compile import part
from curate.kernels.memory import ONE, load_word, ones, store_uint32, trailing_zeros
from curate.kernels.vectors import below, block_masks, splat, within


@block_masks(2)
def letter_masks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: ASCII letters and digits; bytes that are not ASCII."""
    letters = within(builder, builder.or_(block, splat(32)), ord("a"), ord("z"))
    return [builder.or_(letters, within(builder, block, ord("0"), ord("9"))), below(builder, block, 0)]


@part
def store_places(masks, blocks, target):  # type: ignore[no-untyped-def]
    """Write the places of the bits of a mask to `target` as uint32; up to 28 bytes more are written."""
    for k in range(blocks):
        mask = load_word(masks + 8 * k)
        following = target + 4 * ones(mask)
        while target < following:  # eight at a time, whatever is left: a loop that ends at an unforeseen bit costs more
            for i in range(8):
                store_uint32(target + 4 * i, (k << 6) + trailing_zeros(mask))
                mask &= mask - ONE
            target += 32
        target = following
