"""The curve of a run: JSON lines always, TensorBoard and Weights & Biases when asked.

A row of `curve.jsonl`: phase ("trunk" or "branch-<tokens>"), step, tokens, loss (nats), learning_rate, gradient_norm,
tokens_per_second (this run's), share_of_peak (the device's, all members of the group), seconds (of training, trunk
included) and, in rows of a loss spike only, spike. Rows wait for a checkpoint, so that a resumed run repeats none; in
the end they stand as if the training had never been interrupted. The two services get the same rows when the file does;
their packages load only then.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from curate.errors import InputError
from curate.proxy_training.run import Run

PLACE = ("phase", "step", "tokens")


class Sink(Protocol):
    """Something else that shows a curve."""

    def add(self, row: dict[str, Any]) -> None:
        """Show one row."""

    def close(self) -> None:
        """Write what waits; no more rows come."""


class Curve:
    """One run's rows, kept until they are flushed and cut back when a phase resumes, so that no step stands twice."""

    def __init__(self, path: Path, *, sinks: Sequence[Sink] = ()) -> None:
        self.path = path
        self.sinks = sinks
        self.waiting: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.waiting.append(row)

    def flush(self) -> None:
        """Write what waits."""
        if self.waiting:
            with self.path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in self.waiting)
            for sink in self.sinks:
                for row in self.waiting:
                    sink.add(row)
        self.waiting = []

    def cut(self, phase: str, step: int, *, until: float = math.inf) -> None:
        """Forget what `phase` wrote after `step`, and a line that a kill left unfinished; what lies behind `until` is
        not trained again now, and stays."""
        self.waiting = []
        if self.path.exists():
            rows = [(line, json.loads(line)) for line in whole_lines(self.path)]
            self._write([line for line, row in rows if row["phase"] != phase or not step < row["step"] <= until])

    def put_in_order(self, leaves: Mapping[str, int]) -> None:
        """As if nothing had been trained twice: the trunk to the step where a branch leaves it (`leaves`, by phase, the
        shortest budget first), the branch, and the trunk again."""
        branches = list(leaves)

        def place(line: str) -> tuple[int, int, int]:
            row = json.loads(line)
            phase, step = row["phase"], row["step"]
            return (leaves[phase], 1 + branches.index(phase), step) if phase in leaves else (step, 0, step)

        self.flush()
        if self.path.exists() and (lines := whole_lines(self.path)) != (ordered := sorted(lines, key=place)):
            self._write(ordered)

    def _write(self, lines: Sequence[str]) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_text("".join(lines))
        temporary.replace(self.path)

    def close(self) -> None:
        """Write what waits and let the sinks go."""
        self.flush()
        for sink in self.sinks:
            sink.close()


def whole_lines(curve: Path) -> list[str]:
    """The lines of a `curve.jsonl`, without one that a kill left unfinished."""
    return [line for line in curve.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def open_sinks(names: Sequence[str], run: Run, folder: Path) -> list[Sink]:
    """The sinks called `names` for a run in `folder`. Raises InputError naming the package that is missing."""
    return [SINKS[name](run, folder) for name in names]


class TensorBoardSink:
    """Scalars `<phase>/<field>` by step, under `<folder>/tensorboard`."""

    def __init__(self, run: Run, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", error) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("run", run.name)

    def add(self, row: dict[str, Any]) -> None:
        """As Sink says."""
        for name, value in _scalars(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """As Sink says."""
        self._writer.close()


class WandbSink:
    """A run of Weights & Biases whose id is the run's fingerprint, so that a resumed run goes on in it.

    Project, entity and mode follow wandb's own variables (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline). Its step
    must rise, ours goes back where a branch starts: fields are shown over `tokens`.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", error) from error
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "curate"),
                name=run.name,
                id=run.fingerprint,
                group=run.dataset.name,
                config=run.facts(),
                dir=str(folder),
                resume="allow",
                reinit="create_new",  # the members of a group are logged side by side
                settings=wandb.Settings(silent=True),
            )
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            raise InputError(
                f"Weights & Biases cannot be used ({error}): run `wandb login`, set WANDB_MODE=offline, or take "
                "`wandb` out of `log`."
            ) from error
        self._run.define_metric("tokens")
        self._run.define_metric("*", step_metric="tokens")

    def add(self, row: dict[str, Any]) -> None:
        """As Sink says."""
        self._run.log({"tokens": row["tokens"], **_scalars(row)})

    def close(self) -> None:
        """As Sink says."""
        self._run.finish()


SINKS: dict[str, Callable[[Run, Path], Sink]] = {"tensorboard": TensorBoardSink, "wandb": WandbSink}


def _scalars(row: dict[str, Any]) -> dict[str, float]:
    """`<phase>/<field>` of everything but where the row stands."""
    return {f"{row['phase']}/{name}": float(value) for name, value in row.items() if name not in PLACE}


def _missing(package: str, error: ImportError) -> InputError:
    return InputError(
        f"`log: [{package}]` needs the package {package} ({error}): pip install 'curate[logs]', or do without it."
    )
