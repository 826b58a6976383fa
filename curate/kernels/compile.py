"""How kernels are compiled: one decorator for what Python calls, others for what they consist of.

Kernels are cached on disk by Numba (in `__pycache__`, or in the user's cache folder where that cannot be written),
release the GIL, and check neither bounds nor zero divisors. Numba looks only at the file of a kernel to see whether
its cache is stale; ours inline code from the files that theirs imports, so the stamp is a hash of them all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy", "no_cfunc_wrapper": True}
PART_OPTIONS: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True}
"""Only kernels call parts, so parts need no way in from Python."""

_FOLDER = Path(__file__).parent
_IMPORTS = re.compile(r"^\s*(?:from|import) curate\.kernels\b[^(\n]*(?:\([^)]*\))?", re.MULTILINE)
"""An import from this folder; a name in it that is also a file's counts as that file."""


@cache
def _source(path: Path) -> tuple[bytes, tuple[Path, ...]]:
    """A file's bytes, and the files of this folder that it imports."""
    content = path.read_bytes()
    names = set(re.findall(r"\w+", " ".join(_IMPORTS.findall(content.decode()))))
    files = (_FOLDER / f"{name}.py" for name in sorted(names))
    return content, tuple(file for file in files if file.exists())


@cache
def source_stamp(path: Path) -> str:
    """A hash of all sources that a kernel of this file may consist of: its own, and of this folder what it imports."""
    found, waiting = {path}, [path]
    while waiting:
        new = set(_source(waiting.pop())[1]) - found
        found |= new
        waiting += new
    digest = hashlib.sha256()
    for source in sorted(found):
        digest.update(source.name.encode() + b"\0" + _source(source)[0] + b"\0")
    return digest.hexdigest()


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that Python calls; the machine code is kept on disk until its sources change."""
    try:
        dispatcher = numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for the cache can be written: each process compiles for itself
        return numba.njit(**OPTIONS)(function)
    dispatcher._cache._cache_file._source_stamp = source_stamp(Path(function.__code__.co_filename))
    return dispatcher


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that only kernels call, a few times a text; it becomes part of their machine code.

    Numba compiles it once more for each literal that it is called with, and for variables that start as one: hand it
    `np.int64(0)`, not `0`.
    """
    return numba.njit(**PART_OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a small function for inner loops: LLVM must inline it, where it would not by itself."""
    return numba.njit(forceinline=True, **PART_OPTIONS)(function)


def pasted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function as if its text stood where it is called: for one that takes arrays in an inner loop, and one
    that is called at one place, which is then not optimised apart and once more in each caller's caller.
    """
    return numba.njit(inline="always", **PART_OPTIONS)(function)
