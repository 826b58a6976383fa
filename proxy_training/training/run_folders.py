"""Where a run's results lie, and how it ended, as its files say: `result.json`, or `failed.json` of a divergence.
No torch here."""

import json
from pathlib import Path


def run_folder(out: Path, run_id: str) -> Path:
    """Where a run's results lie."""
    return out / "runs" / run_id


def is_finished(out: Path, run_id: str) -> bool:
    """Whether a run has come to its end: it has its result, or it diverged."""
    folder = run_folder(out, run_id)
    return (folder / "result.json").exists() or divergence(folder) is not None


def divergence(folder: Path) -> str | None:
    """The sentence on a run that diverged in `folder`, if one did: a finding, which no other try would change."""
    try:
        record = json.loads((folder / "failed.json").read_text())
    except (OSError, ValueError):
        return None
    return record["error"] if isinstance(record, dict) and record.get("diverged") else None
