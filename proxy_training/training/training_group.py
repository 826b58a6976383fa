"""What a training of a group works on: its runs and their folders, who watches it, and how each run ended.

A run that diverged leaves `failed.json` with `"diverged": true` and has ended; one that a fault of the machine stopped
leaves it without and is tried again. The folders are locked while a process trains their runs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from curate.errors import TrainingError
from curate.fingerprints import fingerprint, write_json
from curate.proxy_training.evaluation.evaluators import Evaluator
from curate.proxy_training.run import Run, name_together
from curate.proxy_training.training.locks import locked
from curate.proxy_training.training.logs import Curve
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.run_folders import divergence
from curate.proxy_training.training.trainer import Trainer
from curate.proxy_training.training.world import World


@dataclass(frozen=True)
class Watch:
    """How a training talks to whoever started it."""

    advanced: Callable[[int, float], None] = lambda tokens, loss: None
    """Called after every step with the tokens of all living members and the mean of their losses."""
    stop: Callable[[], bool] = lambda: False
    """Asked before every step; True, on any rank, saves a checkpoint and raises Stopped."""
    warn: Callable[[str], None] = lambda text: None
    """Told what a person should know."""


@dataclass(frozen=True)
class GroupResult:
    """How a group ended: each run is in one of the two, by fingerprint."""

    results: Mapping[str, dict[str, Any]]
    """What `result.json` holds."""
    failures: Mapping[str, str]
    """A sentence for each run that diverged."""


@dataclass
class TrainingGroup:
    """What a training of a group works on."""

    runs: tuple[Run, ...]
    folders: Mapping[str, Path]
    folder: Path
    evaluators: list[Evaluator]
    options: TrainingOptions
    watch: Watch
    world: World
    curves: list[Curve] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For people."""
        return name_together(self.runs)

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        runs = [run.fingerprint for run in self.runs]
        whose = {"run": runs[0]} if len(runs) == 1 else {"group": fingerprint(runs)}
        return {**whose, "procedure": self.runs[0].procedure.fingerprint()}

    def of(self, member: int) -> Path:
        """The folder of a member."""
        return self.folders[self.runs[member].fingerprint]

    def point(self, member: int, tokens: int) -> Path:
        """Where a member's point at `tokens` is written."""
        return self.of(member) / "points" / f"{tokens}.json"

    def has_points(self, members: Sequence[int], tokens: int) -> bool:
        """Whether all these members have been measured at `tokens`."""
        return all(self.point(member, tokens).exists() for member in members)

    def take(self, locks: ExitStack) -> None:
        """Make the folders and hold them against other processes."""
        for folder in dict.fromkeys([self.folder, *(self.of(member) for member in range(len(self.runs)))]):
            folder.mkdir(parents=True, exist_ok=True)
            locks.enter_context(locked(folder / "lock", busy=partial(_refuse, folder)))

    def ended(self) -> GroupResult:
        """The runs that need no training any more."""
        results, failures = {}, {}
        for member, run in enumerate(self.runs):
            folder = self.of(member)
            if (folder / "result.json").exists():
                results[run.fingerprint] = json.loads((folder / "result.json").read_text())
            elif sentence := divergence(folder):
                failures[run.fingerprint] = f"{sentence} (Not tried again: delete {folder / 'failed.json'} for that.)"
            else:
                write_json(folder / "run.json", run.facts())
        return GroupResult(results, failures)

    def failed(self, error: BaseException) -> None:
        """Say in the folders of all runs that have not ended what went wrong with the group."""
        text = f"{type(error).__name__}: {error}"
        for member, run in enumerate(self.runs):
            if not (self.of(member) / "result.json").exists() and not divergence(self.of(member)):
                with suppress(OSError):  # a full disk: the error itself says so
                    write_json(self.of(member) / "failed.json", {"run": run.name, "error": text})


def diverged(
    group: TrainingGroup, trainer: Trainer, member: int, what: str, *, learning_rate: float, step: int | None = None
) -> None:
    """Write `failed.json` of a member that is taken out, and say so."""
    run, step = group.runs[member], trainer.step if step is None else step
    tokens = step * run.batch_tokens
    sentence = (
        f"Run {run.name} diverged: {what} at step {step} ({tokens} tokens, learning rate {learning_rate:.3g}) of rung "
        f"{run.scale.name}{'' if run.learning_rate_factor != 1 else '; lower its learning rate'}."
    )
    record = {
        "run": run.name,
        "run_id": run.fingerprint,
        "rung": run.scale.name,
        "dataset": run.dataset.name,
        "seed": run.seed,
        "diverged": True,
        "step": step,
        "tokens": tokens,
        "learning_rate": learning_rate,
        "spikes": int(trainer.spikes.count[member]),
        "error": sentence,
    }
    group.curves[member].flush()
    write_json(group.of(member) / "failed.json", record)
    group.watch.warn(sentence if len(group.runs) == 1 else f"{sentence} The other runs of its group go on.")


def check_alike(runs: Sequence[Run]) -> None:
    """Raises TrainingError naming two runs that cannot be stacked."""

    def kind(run: Run) -> tuple[object, ...]:
        return (run.shape, run.settings, run.scale.budgets_tokens, run.batch_sequences, run.warmup_steps)

    for run in runs[1:]:
        if kind(run) != kind(runs[0]):
            raise TrainingError(
                f"Runs {runs[0].name!r} and {run.name!r} cannot train as one group: their shape, budgets, batch, "
                "warm-up or procedure differ."
            )


def _refuse(folder: Path) -> None:
    raise TrainingError(f"{folder}: another process trains this run; wait for it or stop it.")
