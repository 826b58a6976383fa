"""One run: a dataset, a scale, a seed; a stable trunk from which a branch is cooled down at each token budget.

The data, the order and the rates of a budget D are those of a separate training of D tokens up to the trunk's
warm-up; three budgets D, D/2, D/4 cost 1.15 x the longest instead of 1.75 x. A run lives in a folder:
`run.json` (what it is), `curve.jsonl` (losses), `checkpoints/`, `points/<tokens>.json` (one a budget),
`model.safetensors` (the longest branch, cooled down) and `result.json`, written last. A kill at any moment
loses seconds; the resumed run gives the same losses, bit for bit on a CPU.
"""

import fcntl
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor

from curate.errors import TrainingError
from curate.fingerprints import write_json
from curate.proxy_training.checkpoints import newest_checkpoint, remove_phase, save_checkpoint
from curate.proxy_training.evaluate import HeldOutSet, score
from curate.proxy_training.model import Proxy
from curate.proxy_training.packing import Sequences
from curate.proxy_training.procedure import scheduled_learning_rate
from curate.proxy_training.run import Run

CURVE_POINTS = 500  # losses kept of a whole trunk, about


class Stopped(TrainingError):
    """The run was asked to stop; it saved a checkpoint and can be resumed."""


def _say_nothing(*_: object) -> None:
    """Named, unlike a lambda, so that a Watch can be sent to another process."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Watch:
    """How a run talks to whoever started it."""

    advanced: Callable[[int, float], None] = _say_nothing
    """Called after every step with its tokens and its loss."""
    stop: Callable[[], bool] = _never
    """Asked before every step; True saves a checkpoint and raises Stopped."""
    warn: Callable[[str], None] = _say_nothing
    """Told what a person should know."""
    checkpoint_seconds: float = 30.0
    """Time between checkpoints."""


class Trainer:
    """Model, optimiser and position of a run: everything that a checkpoint holds."""

    def __init__(self, run: Run) -> None:
        procedure = run.procedure
        self.run = run
        self.step = 0
        self.model = Proxy(run.shape, bf16=procedure.precision == "bf16", z_loss=procedure.z_loss)
        self.model.initialise(run.initialisation_seed)
        if procedure.compile == "blocks":
            # one graph a scale; past the limit dynamo would silently run eagerly
            torch._dynamo.config.recompile_limit = 1000
            for block in self.model.blocks:
                block.compile(dynamic=False)
        self.sequences = Sequences(run.dataset, length=procedure.sequence_length, seed=run.order_seed)
        decayed = [w for name, w in self.model.named_parameters() if w.ndim == 2 and not name.startswith("embedding")]
        others = [w for name, w in self.model.named_parameters() if w.ndim != 2 or name.startswith("embedding")]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": procedure.weight_decay}, {"params": others, "weight_decay": 0.0}],
            betas=(procedure.beta1, procedure.beta2),
            eps=procedure.adam_eps,
            fused=True,
        )

    def advance(self, learning_rate: float) -> float:
        """One step on the next batch; returns its mean cross entropy in nats. Raises TrainingError when it is
        not finite."""
        run = self.run
        batch = self.sequences.batch(self.step * run.batch_sequences, run.batch_sequences)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        minimised, cross_entropy = self.model(torch.from_numpy(batch))
        minimised.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), run.procedure.clip_norm)
        loss = float(cross_entropy)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            raise TrainingError(
                f"Run {run.name} diverged: loss {loss}, gradient norm {float(norm)} at step {self.step} "
                f"({self.step * run.batch_tokens} tokens, learning rate {learning_rate:.3g}); lower its learning rate."
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Copies of weights, optimiser state and torch's random state, by name."""
        state = {"random_state": torch.get_rng_state()}
        for name, weight in self.model.named_parameters():
            state[f"model.{name}"] = weight.detach().clone()
            for key, value in self.optimiser.state[weight].items():
                state[f"optimiser.{name}.{key}"] = value.clone()
        return state

    def restore(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Become what `tensors` were taken from."""
        self.step = step
        torch.set_rng_state(tensors["random_state"])
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(tensors[f"model.{name}"])
                prefix = f"optimiser.{name}."
                state = {key[len(prefix) :]: value.clone() for key, value in tensors.items() if key.startswith(prefix)}
                if state:
                    self.optimiser.state[weight] = state
                else:
                    self.optimiser.state.pop(weight, None)


def train_run(run: Run, heldout: Mapping[str, HeldOutSet], *, folder: Path, watch: Watch | None = None) -> dict:
    """Train a run to its end and return its result, what `result.json` holds; finished parts are not done again.

    Raises Stopped when asked to stop, TrainingError when it diverges, its checkpoints are damaged, or another
    process trains it.
    """
    watch = watch or Watch()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / "result.json").exists():
            return json.loads((folder / "result.json").read_text())
        write_json(folder / "run.json", run.facts())
        try:
            result = _train(run, heldout, folder=folder, watch=watch)
        except Stopped:
            raise
        except Exception as error:
            write_json(folder / "failed.json", {"run": run.name, "error": f"{type(error).__name__}: {error}"})
            raise
        (folder / "failed.json").unlink(missing_ok=True)
        return result


def _train(run: Run, heldout: Mapping[str, HeldOutSet], *, folder: Path, watch: Watch) -> dict:
    """The recipe: for each budget, the trunk goes on, a branch cools down and is measured, the trunk comes back."""
    trainer = Trainer(run)
    curve = _Curve(folder / "curve.jsonl", every=max(1, run.steps(run.scale.budgets_tokens[-1]) // CURVE_POINTS))
    for budget in run.scale.budgets_tokens:
        point_path = folder / "points" / f"{run.tokens(budget)}.json"
        if point_path.exists():
            continue
        steps = run.steps(budget)
        start = run.procedure.decay_start(steps)
        branch = f"branch-{run.tokens(budget)}"
        clock = (time.monotonic(), time.process_time())

        _train_phase(trainer, "trunk", until=start, decay=None, folder=folder, curve=curve, watch=watch)
        trunk = trainer.tensors()
        _train_phase(trainer, branch, until=steps, decay=(start, steps), folder=folder, curve=curve, watch=watch)
        point = _measure(run, trainer.model, heldout, folder=folder, tokens=run.tokens(budget))
        point["seconds"] = time.monotonic() - clock[0]
        point["cpu_seconds"] = time.process_time() - clock[1]
        if budget == run.scale.budgets_tokens[-1]:
            save_file(
                {name: weight.detach() for name, weight in trainer.model.named_parameters()},
                folder / "model.safetensors",
            )
        write_json(point_path, point)

        remove_phase(folder / "checkpoints", branch)
        trainer.restore(start, trunk)
    remove_phase(folder / "checkpoints", "trunk")
    points = [
        json.loads((folder / "points" / f"{run.tokens(budget)}.json").read_text())
        for budget in run.scale.budgets_tokens
    ]
    result = {**run.facts(), "points": points, "torch": torch.__version__}
    write_json(folder / "result.json", result)
    return result


def _train_phase(
    trainer: Trainer,
    phase: str,
    *,
    until: int,
    decay: tuple[int, int] | None,
    folder: Path,
    curve: "_Curve",
    watch: Watch,
) -> None:
    """Take `trainer` to step `until`, from the newest checkpoint of the phase if there is one."""
    run, checkpoints = trainer.run, folder / "checkpoints"
    facts = {"run": run.fingerprint, "procedure": run.procedure.fingerprint()}
    found = newest_checkpoint(checkpoints, phase=phase, facts=facts, warn=watch.warn)
    if found and found[0] > trainer.step:
        trainer.restore(*found)
    curve.cut(phase, trainer.step)

    def save() -> None:
        curve.flush()
        cursor = trainer.step * run.batch_sequences
        position = {"cursor": cursor, "epoch": trainer.sequences.epochs(cursor)}
        save_checkpoint(
            checkpoints, phase=phase, step=trainer.step, tensors=trainer.tensors(), facts={**facts, **position}
        )

    saved = time.monotonic()
    while trainer.step < until:
        if watch.stop():
            save()
            raise Stopped(f"Run {run.name} was stopped at step {trainer.step}; the same command resumes it.")
        rate = scheduled_learning_rate(trainer.step, peak=run.learning_rate, warmup_steps=run.warmup_steps, decay=decay)
        loss = trainer.advance(rate)
        curve.add(phase, trainer.step, trainer.step * run.batch_tokens, loss, rate, last=trainer.step == until)
        watch.advanced(run.batch_tokens, loss)
        if time.monotonic() - saved > watch.checkpoint_seconds:
            save()
            saved = time.monotonic()
    if phase == "trunk":
        save()
    else:
        curve.flush()


def _measure(run: Run, model: Proxy, heldout: Mapping[str, HeldOutSet], *, folder: Path, tokens: int) -> dict:
    """Scores of the cooled-down model; nats by document go to `points/<tokens>.parquet` for paired comparisons."""
    plain = Proxy(run.shape)  # float32 and eager, whatever the training is
    plain.load_state_dict(model.state_dict())
    scores = {name: score(plain.token_nats, some) for name, some in heldout.items()}
    values = np.array([one.bits_per_byte for one in scores.values()])
    if not np.isfinite(values).all():
        raise TrainingError(f"Run {run.name} diverged: bits per byte are {values.tolist()} at {tokens} tokens.")
    (folder / "points").mkdir(exist_ok=True)
    documents = pa.table(
        {
            "heldout": [name for name, one in scores.items() for _ in one.document_nats],
            "document": [i for one in scores.values() for i in range(len(one.document_nats))],
            "bytes": np.concatenate([some.document_bytes for some in heldout.values()]),
            "nats": np.concatenate([one.document_nats for one in scores.values()]),
        }
    )
    pq.write_table(documents, folder / "points" / f"{tokens}.parquet", compression="zstd")
    errors = {name: None if math.isnan(one.error) else one.error for name, one in scores.items()}
    return {
        "tokens": tokens,
        "steps": tokens // run.batch_tokens,
        "decay_steps": tokens // run.batch_tokens - run.procedure.decay_start(tokens // run.batch_tokens),
        "bits_per_byte": {name: one.bits_per_byte for name, one in scores.items()},
        "error": errors,
    }


class _Curve:
    """Losses as JSON lines, about `every` steps; cut back when a phase resumes, so that no step stands twice."""

    def __init__(self, path: Path, *, every: int) -> None:
        self.path = path
        self.every = every
        self.waiting: list[dict] = []

    def add(self, phase: str, step: int, tokens: int, loss: float, rate: float, *, last: bool) -> None:
        if step % self.every == 0 or last:
            self.waiting.append({"phase": phase, "step": step, "tokens": tokens, "loss": loss, "learning_rate": rate})

    def flush(self) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.waiting)
        self.waiting = []

    def cut(self, phase: str, step: int) -> None:
        """Forget what `phase` wrote after `step`, and a line that a kill left unfinished."""
        self.waiting = []
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
            rows = [json.loads(line) for line in lines]
            kept = [line for line, row in zip(lines, rows, strict=True) if row["phase"] != phase or row["step"] <= step]
            temporary = self.path.with_suffix(".new")
            temporary.write_text("".join(kept))
            temporary.replace(self.path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it falls with the process, however it ends."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"{folder}: another process trains this run; wait for it or stop it.") from error
        yield
