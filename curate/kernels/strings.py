"""The border between Arrow string arrays and kernels: bytes and offsets out, bytes and offsets in, nothing copied."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError


def string_buffers(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Bytes uint8[...] (read-only, shared with Arrow) and offsets int64[n + 1] of a (large) string or binary array.

    Slices keep the whole buffer and get offsets into it; a null becomes an empty string. Raises InputError for any
    other type.
    """
    if isinstance(strings, pa.ChunkedArray):
        raise InputError("Kernels take one Arrow array, not a chunked one; call combine_chunks() on the column first.")
    kind = strings.type
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        width = np.dtype(np.int64)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        width = np.dtype(np.int32)
    else:
        raise InputError(f"Texts must be an Arrow string or large_string array, not {kind}; cast the column first.")
    if strings.null_count:
        strings = pc.fill_null(strings, pa.scalar(b"" if "binary" in str(kind) else "", type=kind))
    _, offset_buffer, byte_buffer = strings.buffers()
    if len(strings) == 0 or offset_buffer is None:
        offsets = np.zeros(len(strings) + 1, dtype=np.int64)
    else:
        offsets = np.frombuffer(
            offset_buffer, dtype=width, count=len(strings) + 1, offset=strings.offset * width.itemsize
        )
    data = np.frombuffer(byte_buffer if byte_buffer is not None and byte_buffer.size else b"", dtype=np.uint8)
    return data, offsets.astype(np.int64)


def string_array(data: np.ndarray, offsets: np.ndarray, kind: pa.DataType) -> pa.Array:
    """An Arrow array of type `kind` over bytes uint8[...] and offsets int64[n + 1] that start at 0."""
    narrow = pa.types.is_string(kind) or pa.types.is_binary(kind)
    stored = offsets.astype(np.int32) if narrow else offsets
    return pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(stored), pa.py_buffer(data)])
