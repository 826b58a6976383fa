"""Places: `at` gives a pathlib.Path for a local path, and for a URL a `Place`, which has the same interface.

A Place asks the store itself each time (listings of fsspec are never kept), tries again what passes by itself, and
says the rest in a StorageError without credentials; only FileNotFoundError and its like come through as pathlib's. A
Place is not opened for writing: `put` and `whole` make files that are there whole or not at all. Options of a store
(endpoint, keys) come from fsspec's own configuration and the environment, never from a recipe.
"""

import fnmatch
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from upath import UPath
from upath.extensions import ProxyUPath

from curate.errors import InputError, StorageError
from curate.storage.patience import refused, retried
from curate.storage.reading import BUFFER_BYTES, RemoteFile, state_of
from curate.storage.redaction import redacted

T = TypeVar("T")

FLAT = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "http", "https")
"""Stores without folders: a key is there or not, and nothing is made before it."""
_AS_PATHLIB = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def system_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, which keeps no listings, and the path in it.

    Raises InputError if no such file system is installed or configured.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{redacted(url)}: this kind of URL cannot be used ({redacted(error)}).") from error
    return _with_few_tries(system), path


def _with_few_tries(system: Any) -> Any:
    if "s3" in (system.protocol if isinstance(system.protocol, tuple | list) else (system.protocol,)):
        system.retries = 1  # s3fs would repeat botocore's own tries up to 25 times, inside each of ours
    return system


class Place(ProxyUPath):
    """A URL with pathlib's interface, patient and exact."""

    __slots__ = ()

    @classmethod
    def named(cls, url: str) -> "Place":
        """The place that a URL names."""
        system, path = system_of(url)
        return cls._from_upath(UPath(system.unstrip_protocol(path), use_listings_cache=False))

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        return _with_few_tries(self.__wrapped__.fs)

    @property
    def _flat(self) -> bool:
        return self.protocol in FLAT

    def _asked(self, operation: Callable[[], T], doing: str = "reached") -> T:
        try:
            return retried(operation, self)
        except (*_AS_PATHLIB, StorageError, InputError):
            raise
        except Exception as error:  # each file system of fsspec has errors of its own
            raise refused(self, error, doing) from error

    def _entry(self) -> dict[str, Any] | None:
        """What the store says of this path, or None if it has neither a file nor a folder of that name."""
        try:
            found: dict[str, Any] = self._asked(lambda: self.fs.info(self.path))
            return found
        except _AS_PATHLIB:
            return None

    def state(self) -> tuple[int, str]:
        """Size and etag of the file. Raises FileNotFoundError."""
        entry = self._entry()
        if entry is None or entry.get("type") == "directory":
            raise FileNotFoundError(f"{redacted(self)}: no such file")
        return state_of(entry)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is a file, or a folder that holds one."""
        return self._entry() is not None

    def is_file(self) -> bool:
        """Whether there is a file of this name."""
        entry = self._entry()
        return entry is not None and entry.get("type") != "directory"

    def is_dir(self) -> bool:
        """Whether there is a folder of this name; in a flat store, whether anything lies below it."""
        entry = self._entry()
        if entry is None:
            return False
        return entry.get("type") == "directory" or (self._flat and bool(self.entries()))

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        """As pathlib's; size and time. Raises FileNotFoundError."""
        return self._asked(self.__wrapped__.stat)

    def entries(self) -> list[dict[str, Any]]:
        """What lies in this folder, one request a thousand names; empty if there is no such folder."""
        try:
            found = self._asked(lambda: self.fs.ls(self.path.rstrip("/") or self.path, detail=True), "listed")
        except _AS_PATHLIB:
            return []
        own = self.path.rstrip("/")
        return [entry for entry in found if entry["name"].rstrip("/") not in (own, own.lstrip("/"))]

    def iterdir(self) -> Iterator["Place"]:
        """What lies in this folder, sorted by name."""
        names = sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in self.entries())
        return iter([self / name for name in names])

    def glob(self, pattern: str, **_: Any) -> Iterator["Place"]:
        """Files and folders in this folder whose name matches; `a/*/b` goes down, `**` goes everywhere."""
        return iter([self / name for name in sorted(entry_names(self, pattern))])

    def rglob(self, pattern: str, **_: Any) -> Iterator["Place"]:
        """As `glob` with `**/` before it."""
        return self.glob(f"**/{pattern}")

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the folder; in a flat store nothing is made, a bucket least of all."""
        if not self._flat:
            self._asked(lambda: self.fs.makedirs(self.path, exist_ok=True), "made")

    def rmdir(self, recursive: Any = None) -> None:
        """Remove the empty folder; in a flat store there is nothing to remove."""
        if not self._flat:
            self._asked(lambda: self.fs.rmdir(self.path), "removed")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file. Raises FileNotFoundError if it is not there, unless `missing_ok`."""
        if not missing_ok:
            self.state()  # an object store removes what is not there
        try:
            self._asked(lambda: self.fs.rm_file(self.path), "removed")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: Any, **_: Any) -> Any:
        """Refused: an object store copies, so nothing may rely on it."""
        raise StorageError(f"{redacted(self)}: nothing is renamed in an object store; write with `storage.whole`.")

    replace = rename

    def resolve(self, strict: bool = False) -> "Place":
        """The place itself: URLs are absolute."""
        return self

    def open(  # type: ignore[override]
        self, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
        newline: str | None = None, *, expected: tuple[int, str] | None = None, block_bytes: int | None = None,
    ) -> Any:  # fmt: skip
        """The file for reading; `expected` is the size and etag that it must still have, `block_bytes` what is read
        at first."""
        if set(mode) - set("rbt"):
            raise StorageError(f"{redacted(self)}: write remote files with `storage.put` or `storage.whole`.")
        raw = self._asked(
            lambda: RemoteFile(self.fs, self.path, str(self), expected=expected, first_bytes=block_bytes), "opened"
        )
        buffered = io.BufferedReader(raw, BUFFER_BYTES)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)

    def read_bytes(self) -> bytes:
        """The file's bytes. Raises FileNotFoundError."""
        with self.open("rb") as file:
            return cast(bytes, file.read())

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        """The file's text. Raises FileNotFoundError."""
        with self.open("r", encoding=encoding, errors=errors, newline=newline) as file:
            return cast(str, file.read())

    def write_bytes(self, data: bytes) -> int:
        """Write the file, whole."""
        from curate.storage.writing import put

        put(cast(Path, self), data)
        return len(data)

    def write_text(
        self, data: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> int:
        """Write the file, whole."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))


def entry_names(folder: Place, pattern: str) -> dict[str, dict[str, Any]]:
    """Entries below `folder` that match, by their name relative to it. Every folder on the way is listed by itself and
    a listing that fails is an error: fsspec's own glob leaves out what it could not list."""
    head, _, rest = pattern.partition("/")
    if head == "**" or "**" in head:
        match = re.compile(fnmatch_path(pattern))
        return {name: entry for name, entry in below(folder).items() if match.fullmatch(name)}
    found: dict[str, dict[str, Any]] = {}
    if not any(mark in head for mark in "*?["):
        entry = None if rest else (folder / head)._entry()
        if rest:
            return {f"{head}/{name}": item for name, item in entry_names(folder / head, rest).items()}
        return {head: entry} if entry is not None else {}
    for entry in folder.entries():
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if not fnmatch.fnmatchcase(name, head):
            continue
        if not rest:
            found[name] = entry
        elif entry["type"] == "directory":
            found |= {f"{name}/{below}": item for below, item in entry_names(folder / name, rest).items()}
    return found


def below(folder: Place) -> dict[str, dict[str, Any]]:
    """All files below `folder`, by their name relative to it; one request a thousand names or a folder."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [("", folder)]
    while waiting:
        prefix, place = waiting.pop()
        for entry in place.entries():
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if entry["type"] == "directory":
                waiting.append((f"{prefix}{name}/", place / name))
            else:
                found[f"{prefix}{name}"] = entry
    return found


def fnmatch_path(pattern: str) -> str:
    """A glob over a whole relative path as a regular expression: `**/` is any number of folders, `*` stays in one."""
    parts = []
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern):
        if part == "**/":
            parts.append("(?:[^/]+/)*")
        elif part == "**":
            parts.append(".*")
        elif part == "*":
            parts.append("[^/]*")
        elif part == "?":
            parts.append("[^/]")
        elif part.startswith("[") and part.endswith("]"):
            parts.append("[^" + part[2:] if part[1] == "!" else part)
        else:
            parts.append(re.escape(part))
    return "".join(parts)
