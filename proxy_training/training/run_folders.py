"""Where a run's results lie, and how it ended, as its files say. No torch here.

`points/<tokens>.json`, written last, says that a budget is trained; what the model is worth lies beside it, a file for
each evaluation. The run ended on an evaluation when it has `result.json` and all its points on it, or when it diverged:
in training (`failed.json`), or where its weights are measured (`failed-<evaluation>.json`).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from curate.proxy_training.run import Run


def run_folder(out: Path, run_id: str) -> Path:
    """Where a run's results lie."""
    return out / "runs" / run_id


def trained_file(folder: Path, tokens: int) -> Path:
    """What led to `tokens`."""
    return folder / "points" / f"{tokens}.json"


def point_file(folder: Path, tokens: int, evaluation: str) -> Path:
    """What led to `tokens`, and what the model there is worth on `evaluation`."""
    return folder / "points" / str(tokens) / f"{evaluation[:16]}.json"


def weights_file(folder: Path, tokens: int, *, longest: bool) -> Path:
    """The cooled-down weights at `tokens`, if they were kept."""
    return folder / "model.safetensors" if longest else folder / "points" / f"{tokens}.safetensors"


def is_finished(out: Path, run: "Run") -> bool:
    """Whether a run has come to its end on what it is measured on now."""
    return has_ended(run_folder(out, run.fingerprint), run.budgets, run.evaluation)


def has_ended(folder: Path, budgets: "Sequence[int]", evaluation: str) -> bool:
    """Whether the run in `folder` is trained and measured at all `budgets`, or diverged."""
    measured = all(point_file(folder, tokens, evaluation).exists() for tokens in budgets)
    return (measured and (folder / "result.json").exists()) or divergence(folder, evaluation) is not None


def has_weights(folder: Path, run: "Run", tokens: int) -> bool:
    """Whether the model at `tokens` was trained and kept, so that it can be measured again."""
    longest = tokens == run.budgets[-1]
    return trained_file(folder, tokens).exists() and weights_file(folder, tokens, longest=longest).exists()


def is_kept(folder: Path, run: "Run") -> bool:
    """Whether the run is trained, and can be measured on what is asked now without a step."""
    known = (
        point_file(folder, some, run.evaluation).exists() or has_weights(folder, run, some) for some in run.budgets
    )
    return (folder / "result.json").exists() and all(known)


def lost(folder: Path, run: "Run") -> list[int]:
    """Budgets that were trained, but neither measured on what is asked now nor kept."""
    return [
        tokens
        for tokens in run.budgets
        if trained_file(folder, tokens).exists()
        and not point_file(folder, tokens, run.evaluation).exists()
        and not weights_file(folder, tokens, longest=tokens == run.budgets[-1]).exists()
    ]


def divergence(folder: Path, evaluation: str) -> str | None:
    """The sentence on a run that diverged in `folder`, if one did: a finding, which no other try would change."""
    told = divergence_file(folder, evaluation)
    return None if told is None else json.loads(told.read_text())["error"]


def divergence_file(folder: Path, evaluation: str) -> Path | None:
    """The record of that, which whoever wants another try deletes."""
    for path in (folder / "failed.json", failed_on(folder, evaluation)):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("diverged"):
            return path
    return None


def failed_on(folder: Path, evaluation: str) -> Path:
    """Where it is said that the weights give no finite value on `evaluation`."""
    return folder / f"failed-{evaluation[:16]}.json"
