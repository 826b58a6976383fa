"""Finding the files of a source: paths, globs, folders and fsspec URLs, with names that are the same in another clone.

A file's name is its path relative to the folder before the pattern's first wildcard (with several patterns: to their
common folder). Names enter document ids and parts are cut by file, so the order is by name, not as the disk gives it.
"""

import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.readers.base import InputFile

WILDCARDS = "*?["


def list_files(pattern: str | Sequence[str], *, base: Path | None = None) -> list[InputFile]:
    """The files that match, sorted by name, each once.

    `pattern` is a file, a folder (all files below it but hidden ones and those that start with `_`), a glob with
    `*`, `?`, `[...]` and `**` (hidden ones not meant), or an fsspec URL of one of these; or several of them. Relative
    paths start at `base` (the recipe's folder). Raises InputError if a pattern finds nothing or cannot be listed.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    if not patterns:
        raise InputError("The source names no file: give a path, a glob or a folder.")
    found: dict[str, tuple[int, str]] = {}
    roots = []
    for item in patterns:
        root, files = _remote(item) if "://" in item else _local(item, base)
        if not files:
            raise InputError(f"{item}: no file found{_hint(item, base)}.")
        roots.append(root)
        found |= files
    root = _common(roots, patterns)
    named = [InputFile(path, posixpath.relpath(path, root), size, etag) for path, (size, etag) in found.items()]
    return sorted(named, key=lambda file: file.name)


def _hint(pattern: str, base: Path | None) -> str:
    if "://" in pattern or Path(pattern).is_absolute():
        return ""
    return f" (looked in {(base or Path.cwd()).resolve()})"


def _root(path: str) -> str:
    """The folder before the first wildcard of a '/'-separated pattern."""
    places = [path.find(mark) for mark in WILDCARDS if mark in path]
    return posixpath.dirname(path[: min(places)] if places else path)


def _common(roots: list[str], patterns: list[str]) -> str:
    schemes = {root.split("://")[0] if "://" in root else "" for root in roots}
    if len(schemes) > 1:
        raise InputError(f"{', '.join(patterns)}: one source lies in one file system; make two sources of them.")
    scheme = schemes.pop()
    if not scheme:
        return posixpath.commonpath(roots)
    return f"{scheme}://" + posixpath.commonpath([root.split("://", 1)[1] for root in roots])


def _local(pattern: str, base: Path | None) -> tuple[str, dict[str, tuple[int, str]]]:
    path = Path(os.path.abspath((base or Path.cwd()) / Path(pattern).expanduser()))
    text = path.as_posix()
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{pattern}: cannot be read ({error}).") from error
    if exists or not any(mark in text for mark in WILDCARDS):
        # A file whose name holds a bracket is a file, not a pattern.
        candidates = [path] if path.is_file() else list(_below(path)) if path.is_dir() else []
        root = text if path.is_dir() else posixpath.dirname(text)
    else:
        root = _root(text)
        rest = text[len(root) :].lstrip("/")
        found = (item for item in Path(root).glob(rest) if item.is_file())
        candidates = [item for item in found if _named(item.relative_to(root).as_posix(), rest)]
    return root, {item.as_posix(): _local_state(item) for item in candidates}


def _named(name: str, pattern: str) -> bool:
    """Whether a match counts: hidden files and folders do only if the pattern names a hidden one, as in a shell."""
    return "/." in f"/{pattern}" or "/." not in f"/{name}"


def _below(folder: Path) -> Iterator[Path]:
    for item in folder.rglob("*"):
        hidden = any(part[0] in "._" for part in item.relative_to(folder).parts)
        if not hidden and item.is_file():
            yield item


def _local_state(path: Path) -> tuple[int, str]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    return status.st_size, str(status.st_mtime_ns)


def _remote(pattern: str) -> tuple[str, dict[str, tuple[int, str]]]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(pattern)
        if any(mark in path for mark in WILDCARDS):
            root = _root(path)
            rest = path[len(root) :].lstrip("/")
            infos = system.glob(path, detail=True)
            infos = {name: info for name, info in infos.items() if _named(name[len(root) :].lstrip("/"), rest)}
        elif system.isdir(path):
            root = path.rstrip("/")
            infos = system.find(root, detail=True)
            infos = {name: info for name, info in infos.items() if not _hidden(name, root)}
        else:
            root = posixpath.dirname(path)
            infos = {path: system.info(path)} if system.exists(path) else {}
    except Exception as error:  # each file system of fsspec has errors of its own
        raise InputError(f"{pattern}: cannot be listed ({error}).") from error
    files = {system.unstrip_protocol(name): info for name, info in infos.items() if info.get("type") != "directory"}
    return system.unstrip_protocol(root), {url: _remote_state(info) for url, info in files.items()}


def _hidden(name: str, root: str) -> bool:
    return any(part[:1] in ("_", ".") for part in name[len(root) :].strip("/").split("/"))


def _remote_state(info: dict[str, Any]) -> tuple[int, str]:
    for key in ("etag", "ETag", "oid", "blob_id", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(key) is not None:
            return int(info.get("size") or 0), str(info[key])
    return int(info.get("size") or 0), ""
