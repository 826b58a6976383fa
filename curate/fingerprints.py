"""Fingerprints: the hash that names what was computed from what. Equal inputs give equal names in every clone.

BLAKE2b, 16 bytes, over canonical JSON (sorted keys) or over a file's bytes. Contents are hashed once and remembered: of
local files by size and mtime, of remote ones by size and etag. Where and how a stage ran never enters.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.storage import is_remote, public_url, put, redacted

CHUNK = 1 << 20


def fingerprint(value: Any) -> str:
    """32 hex digits for any JSON-like value; dataclasses, sets and paths must be turned into plain data first."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def seed_of(value: Any) -> int:
    """60 bits of the fingerprint: the seed of what is drawn for `value`."""
    return int(fingerprint(value)[:15], 16)


def file_fingerprint(path: Path) -> str:
    """32 hex digits for the bytes of a file, local or remote (of `storage.at`)."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


class ContentMemory:
    """Content hashes in one JSON file, by path, size and mtime, or URL, size and etag; `verify` hashes again.

    A URL is remembered without its credentials: a link that is signed anew is known again.
    """

    def __init__(self, path: Path, *, verify: bool = False) -> None:
        self.path = path
        self.verify = verify
        self._seen: set[str] = set()
        self._known: dict[str, list[Any]] = {}
        if path.exists():
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, OSError):
                known = None
            if isinstance(known, dict):  # only a memory: without it everything is hashed again
                self._known = {key: item for key, item in known.items() if isinstance(item, list) and len(item) == 3}

    def of(self, path: Path) -> str:
        """The fingerprint of a file's content. Raises InputError if it cannot be read."""
        try:
            return self._of(path)
        except OSError as error:
            raise InputError(f"{redacted(path)}: cannot be read ({redacted(error.strerror or error)}).") from error

    def _of(self, path: Path) -> str:
        key, stamp = _known_as(path)
        known = self._known.get(key)
        # A store that gives no etag gives no way to tell a changed file.
        if known and known[:2] == stamp and stamp[1] != "" and (not self.verify or key in self._seen):
            return str(known[2])
        digest = file_fingerprint(path)
        self._known[key] = [*stamp, digest]
        self._seen.add(key)
        return digest

    def save(self) -> None:
        """Write the memory; it is never needed for a result."""
        # A path that is not text (bytes that are no UTF-8) cannot be remembered.
        write_json(self.path, {key: item for key, item in self._known.items() if key.isprintable()})


def _known_as(path: Any) -> tuple[str, list[Any]]:
    """Under which name a file is remembered, and what tells that it has changed."""
    if is_remote(path):
        return public_url(str(path)), list(path.state())
    status = path.stat()
    return str(path.resolve()), [status.st_size, status.st_mtime_ns]


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON so that a reader sees the old file or the new one, whole; `indent` costs ten times the processor."""
    put(path, json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=True).encode("utf-8"))
