"""How kernels are compiled: one decorator for what Python calls, others for what they consist of.

Kernels are cached on disk by Numba (in `__pycache__`, or in the user's cache folder where that cannot be written),
release the GIL, and check neither bounds nor zero divisors. Numba looks only at the file of a kernel to see whether
its cache is stale; ours inline code from other files of this folder, so the stamp is a hash of them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


@cache
def source_stamp() -> str:
    """A hash of the sources of all kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls; the machine code is kept on disk until any kernel's source changes."""
    try:
        dispatcher = numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for the cache can be written: each process compiles for itself
        return numba.njit(**OPTIONS)(function)
    dispatcher._cache._cache_file._source_stamp = source_stamp()
    return dispatcher


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that only kernels call, a few times a text; it becomes part of their machine code.

    Numba compiles it once more for each literal that it is called with, and for variables that start as one: hand it
    `np.int64(0)`, not `0`.
    """
    return numba.njit(**OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a small function for inner loops: LLVM must inline it, where it would not by itself."""
    return numba.njit(forceinline=True, **OPTIONS)(function)


def pasted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a small function as if its text stood where it is called; for those that take arrays in an inner loop."""
    return numba.njit(inline="always", **OPTIONS)(function)
