"""Where files are: a local path or any fsspec URL (s3://, gs://, hf://, memory://), behind pathlib's interface.

`at` gives a pathlib.Path for a local path and a `Place` for a URL; both have `/`, `name`, `exists`, `stat().st_size`,
`glob`, `iterdir`, `mkdir`, `unlink` and `open` for reading. `put` and `whole` write: a file is there whole or not at
all, as a local file is written beside its place and moved over it, and an object store makes an object only when its
upload is complete. What passes by itself (throttling, broken connections) is tried again for two minutes; then, and
for what does not pass, a StorageError says so. fsspec is imported when the first URL is met.
"""

import os
import re
from pathlib import Path
from typing import Any, BinaryIO, cast

from curate.errors import StorageError
from curate.storage.local_copies import cache_folder, local_copy, local_folder
from curate.storage.patience import is_transient, patience_seconds, retried
from curate.storage.reading import open_local
from curate.storage.redaction import public_url, redacted
from curate.storage.together import together
from curate.storage.writing import WholeFile, put, sync_folder, whole

Location = Path
"""A local path, or a Place (which has the same interface)."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a URL rather than a local path (`file://` is a local path)."""
    return "://" in str(path) and not str(path).startswith("file://")


def at(path: str | os.PathLike[str]) -> Location:
    """The place that `path` names. Raises InputError if its kind of URL cannot be used, StorageError for a URL that
    went through a pathlib.Path, which takes one of its slashes."""
    text = str(path)
    if not is_remote(path):
        if _SCHEME.match(text) and not Path(text).exists():
            raise StorageError(f"{redacted(text)} is no path: a URL is written with two slashes after the colon.")
        return Path(text.removeprefix("file://")) if text.startswith("file://") else Path(path)
    from curate.storage.places import Place

    if isinstance(path, Place):
        return cast(Location, path)
    return cast(Location, Place.named(text))


def open_input(path: str, *, expected: tuple[int, str], block_bytes: int | None = None) -> BinaryIO:
    """An input's bytes, seekable. `expected` is its size and etag (of a local file: mtime_ns; "" is not compared).

    Raises OSError if it cannot be opened, InputError if it has changed, StorageError if the disk or the store fails.
    """
    if is_remote(path):
        place: Any = at(path)
        return cast(BinaryIO, place.open("rb", expected=expected, block_bytes=block_bytes))
    return open_local(str(at(path)), expected=expected)


__all__ = [
    "Location",
    "WholeFile",
    "at",
    "cache_folder",
    "is_remote",
    "is_transient",
    "local_copy",
    "local_folder",
    "open_input",
    "patience_seconds",
    "public_url",
    "put",
    "redacted",
    "retried",
    "sync_folder",
    "together",
    "whole",
]
