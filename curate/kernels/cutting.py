"""Texts without some of their spans: one copy of what stays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.kernels.compile import kernel
from curate.kernels.memory import address_of, copy_bytes
from curate.kernels.strings import string_array, string_buffers


@kernel
def _cut(data, offsets, first, starts, ends, out, out_offsets):  # type: ignore[no-untyped-def]
    target = address_of(out, 0)
    base = target
    for i in range(offsets.shape[0] - 1):
        text, size = address_of(data, offsets[i]), offsets[i + 1] - offsets[i]
        done = np.int64(0)
        for j in range(first[i], first[i + 1]):
            copy_bytes(target, text + done, starts[j] - done)
            target += starts[j] - done
            done = ends[j]
        copy_bytes(target, text + done, size - done)
        target += size - done
        out_offsets[i + 1] = target - base


def without_spans(texts: pa.Array, first: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> pa.Array:
    """The texts without the bytes [start, end) of their spans; those of text i are [first[i], first[i + 1]).

    Spans are counted from the text's start, ascending, and do not overlap. A null counts as an empty text.
    """
    data, offsets = string_buffers(texts)
    first, starts, ends = (np.ascontiguousarray(array, dtype=np.int64) for array in (first, starts, ends))
    sizes, text = np.diff(offsets), np.repeat(np.arange(len(texts)), np.diff(first))
    before = np.zeros_like(starts)
    before[1:] = np.where(text[1:] == text[:-1], ends[:-1], 0)
    if ((starts < before) | (ends < starts) | (ends > sizes[text])).any():
        raise ValueError("Spans must lie within their texts, in ascending order, without overlap.")
    out = np.empty(int(sizes.sum() - (ends - starts).sum()), dtype=np.uint8)
    out_offsets = np.zeros(len(offsets), dtype=np.int64)
    _cut(data, offsets, first, starts, ends, out, out_offsets)
    return string_array(out, out_offsets, texts.type)
