"""Manifests: JSON that says what a part or a stage is made of. A part counts once its manifest names it.

Data files are written under their final names first, the part's manifest last; whoever finds no manifest, or files that
do not match it, does the part again. Nothing relies on rename, so the same holds in an object store.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.fingerprints import file_fingerprint, write_json


def part_manifest(folder: Path, number: int, kind: str = "part") -> Path:
    """Path of the manifest of one part; kind is `part`, `partial` or `state`."""
    return folder / f"{kind}-{number:05d}.json"


PART_FIELDS = ("part", "records_in", "records_out", "fates", "ignored", "funnel", "histograms", "samples", "seconds")
"""What the manifest of a finished part always has."""


def read_valid(path: Path, fields: Sequence[str] = (), *, verify: bool = False) -> dict[str, Any] | None:
    """The manifest at `path` if it has `fields`, and its files have their sizes (with `verify`: hashes)."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for file in manifest["files"].values():
            data = path.parent / file["name"]
            if data.stat().st_size != file["bytes"] or (verify and file_fingerprint(data) != file["hash"]):
                return None
        return dict(manifest) if all(name in manifest for name in fields) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, half-written, or not ours: it is done again


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest; its data files must be whole on the disk already."""
    write_json(path, manifest)


def file_entry(path: Path, rows: int) -> dict[str, Any]:
    """How a manifest names a data file that was written without a writer that hashes."""
    return {"name": path.name, "bytes": path.stat().st_size, "rows": rows, "hash": file_fingerprint(path)}
