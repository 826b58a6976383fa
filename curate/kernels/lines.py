"""Lines of texts in the two senses that published filters use: cut at newlines, and cut as `str.splitlines` cuts."""

from __future__ import annotations

import numpy as np

from curate.kernels.compile import kernel
from curate.kernels.memory import BLOCK, ONE, address_of, block_address, break_masks, first_bits, ones, trailing_zeros


@kernel
def find_lines(data, offsets, scratch):  # type: ignore[no-untyped-def]
    """Lines of all texts: uint8[...], int64[d + 1], 64 bytes of scratch.

    Returns two triples (first line int64[d + 1], starts uint32[l], ends uint32[l], in bytes from the text's start):
    lines between newlines (always one more than there are newlines, the last may be empty), and lines of
    `str.splitlines` (at \\n \\r \\r\\n \\v \\f \\x1c \\x1d \\x1e \\x85 U+2028 U+2029; no empty one at the end).
    """
    texts = offsets.shape[0] - 1
    limit, spare = address_of(data, data.shape[0]), address_of(scratch, 0)
    newlines = others = 0
    for i in range(texts):
        size = offsets[i + 1] - offsets[i]
        for low in range(0, size, BLOCK):
            newline, other = break_masks(block_address(address_of(data, offsets[i] + low), limit, spare))
            newlines += ones(newline & first_bits(size - low))
            others += ones(other & first_bits(size - low))
    starts = np.empty(newlines + texts, np.uint32)
    ends = np.empty(newlines + texts, np.uint32)
    split_starts = np.empty(newlines + others + texts, np.uint32)
    split_ends = np.empty(newlines + others + texts, np.uint32)
    first = np.zeros(texts + 1, np.int64)
    split_first = np.zeros(texts + 1, np.int64)
    n = m = 0
    for i in range(texts):
        text, size = offsets[i], offsets[i + 1] - offsets[i]
        line = split = 0  # where the current line starts, in each sense
        for low in range(0, size, BLOCK):
            newline, other = break_masks(block_address(address_of(data, text + low), limit, spare))
            candidates = (newline | other) & first_bits(size - low)
            while candidates != 0:
                position = low + trailing_zeros(candidates)
                candidates &= candidates - ONE
                byte = data[text + position]
                following = data[text + position + 1] if position + 1 < size else 0
                width = 1
                if byte == 10:
                    starts[n], ends[n] = line, position
                    n += 1
                    line = position + 1
                    if position < split:  # the second half of \r\n
                        continue
                elif byte == 13:
                    width = 2 if following == 10 else 1
                elif byte == 0xC2:
                    width = 2 if following == 0x85 else 0
                elif byte == 0xE2:
                    width = 0
                    if following == 0x80 and position + 2 < size and 0xA8 <= data[text + position + 2] <= 0xA9:
                        width = 3
                if width > 0:
                    split_starts[m], split_ends[m] = split, position
                    m += 1
                    split = position + width
        starts[n], ends[n] = line, size
        n += 1
        if split < size:
            split_starts[m], split_ends[m] = split, size
            m += 1
        first[i + 1] = n
        split_first[i + 1] = m
    return (first, starts[:n], ends[:n]), (split_first, split_starts[:m], split_ends[:m])
