"""The state of a training and its one step: model, optimiser, position and random state of a group of runs.

A group is one run (a plain model) or several of one shape that train in lockstep as a stack; each member has its own
data, order, seed and learning rate and never feels the others. The same step serves a CPU, a GPU and every rank of a
`World`. Everything that the next step depends on is in `tensors()`, so that a restored trainer goes on bit for bit on
a CPU. A step whose batch does not fit into memory is tried again in halves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from curate.out_of_memory import is_out_of_memory
from curate.proxy_training.model import Proxy
from curate.proxy_training.network.compiling import compile_model, compile_now
from curate.proxy_training.network.optimiser import AdamSettings, make_optimiser, tensor_rules
from curate.proxy_training.network.parametrisation import Parametrisation
from curate.proxy_training.packing import Sequences
from curate.proxy_training.run import Run
from curate.proxy_training.tokens.tokenizer import end_of_text, load_tokenizer
from curate.proxy_training.training.faults import OutOfMemory, Spikes
from curate.proxy_training.training.feeding import Feed
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.throughput import Clock
from curate.proxy_training.training.world import World


@dataclass(frozen=True)
class Step:
    """What one step did, by member."""

    losses: list[float]
    """Mean cross entropy of the batch before the update, in nats."""
    gradient_norms: list[float]
    """Before clipping."""
    learning_rates: list[float]
    """Of this step."""
    spiked: list[bool]
    """Whether the loss is a spike (faults.py)."""
    diverged: list[int]
    """Members whose loss or gradient is not finite: from now on their weights stay as they were before this step."""
    shrunk: str | None
    """A sentence if memory ran out and the step went on with smaller micro batches."""


class Trainer:
    """Everything that a checkpoint holds, and the step that moves it."""

    def __init__(
        self, runs: Sequence[Run], *, options: TrainingOptions | None = None, world: World | None = None
    ) -> None:
        options = options or TrainingOptions()
        first = runs[0]
        self.runs = tuple(runs)
        self.world = world or World()
        self.model = make_model(first, members=None if len(runs) == 1 else len(runs))
        self.model.initialise([run.initialisation_seed for run in runs])
        compile_model(self.model, first.procedure.compile)
        launch = first.scale.launch
        self.wrapped = self.world.wrap(
            self.model,
            sharded=launch.strategy == "fsdp",
            recompute=options.recompute or launch.checkpoint_activations,
        )
        self.optimiser = make_optimiser(
            self.model,
            adam_settings(first),
            tensor_rules(self.model, self.model.parametrisation, decayed=first.procedure.weight_decay_on),
            members=self.model.members,
        )
        length = first.procedure.sequence_length
        self.sequences = [
            Sequences(run.dataset, length=length, seed=run.order_seed, drawn_from_tokens=run.drawn_from_tokens)
            for run in runs
        ]
        self._rows = self.world.share(first.batch_sequences)
        at_once = options.micro_batch_sequences or launch.micro_batch_sequences or first.batch_sequences
        self.micro_batch = _divisor(self._rows.stop - self._rows.start, at_once)
        self._feed = Feed(self._draw, self.world.device)
        if first.procedure.compile != "eager" and self.world.size == 1:
            batch = (self.micro_batch, length + 1)
            compile_now(self.model, batch if self.model.members is None else (len(runs), *batch))
        self.step = 0
        self.alive = [True] * len(runs)
        self.spikes = Spikes(len(runs))
        self.clock = Clock()

    @property
    def living(self) -> list[int]:
        """Members that have not diverged."""
        return [member for member, alive in enumerate(self.alive) if alive]

    @property
    def batch_tokens(self) -> int:
        """Tokens of one member in a step."""
        return self.runs[0].batch_tokens

    def advance(self, *, decay: tuple[int, int] | None) -> Step:
        """Train on the next batch; `decay` as in schedule.py. Raises OutOfMemory, naming the rung, when even one
        sequence does not fit."""
        rates = [run.learning_rate_at(self.step, decay=decay) for run in self.runs]
        losses_here, shrunk = self._gradients_that_fit()
        norms = self.optimiser.step(rates)
        losses = self.world.mean(losses_here).tolist()
        diverged = [i for i in self.living if not (math.isfinite(losses[i]) and math.isfinite(norms[i]))]
        for member in diverged:
            self.take_out(member)
        spiked = self.spikes.note(losses).tolist()
        self.step += 1
        return Step(losses, norms, rates, spiked, diverged, shrunk)

    def take_out(self, member: int) -> None:
        """This member is not updated any more; the others go on as if it were."""
        self.alive[member] = False
        if self.model.members is not None:
            self.optimiser.take_out(member)

    def _gradients_that_fit(self) -> tuple[Tensor, str | None]:
        """As `_gradients`, in smaller micro batches when memory runs out; and the sentence that says so."""
        said = None
        while True:
            try:
                return self._gradients(), said
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                problem = (str(error).strip().splitlines() or ["no memory left"])[0]
            said = self._shrink(problem)  # outside of the handler, which keeps the step's tensors alive

    def _gradients(self) -> Tensor:
        """Add the gradients of this rank's part of the batch to the weights; its mean losses (M,)."""
        if self.model.shape.dropout:  # drawn anew from the position: a resumed step drops the same
            torch.manual_seed(hash((self.runs[0].initialisation_seed, self.step, self.world.rank)) & (2**63 - 1))
        rows = self._rows
        weight = self.micro_batch / (rows.stop - rows.start)
        losses = torch.zeros(len(self.runs), device=self.world.device)
        for start in range(rows.start, rows.stop, self.micro_batch):
            position = self._cursor(self.step, start)
            last = start + self.micro_batch == rows.stop
            following = self._cursor(self.step + 1, rows.start) if last else position + self.micro_batch
            with self.world.accumulate(self.wrapped, last=last):
                minimised, cross_entropy = self.wrapped(self._feed.batch(position, then=following))
                (minimised.sum() * weight).backward()
            losses += cross_entropy.detach() * weight
        return losses

    def _cursor(self, step: int, row: int) -> int:
        """Where row `row` of the batch of `step` stands in the order of sequences."""
        return step * self.runs[0].batch_sequences + row

    def _draw(self, cursor: int) -> np.ndarray:
        """A micro batch from `cursor` on: (B, T+1) for a plain model, (M, B, T+1) for a stack."""
        rows = [sequences.batch(cursor, self.micro_batch) for sequences in self.sequences]
        return rows[0] if self.model.members is None else np.stack(rows)

    def close(self) -> None:
        """Let go of what reads ahead."""
        self._feed.close()

    def _shrink(self, problem: str) -> str:
        """Halve the micro batch and forget half-made gradients; a sentence about it."""
        run, before = self.runs[0], self.micro_batch
        stacked = f", {len(self.runs)} runs stacked" if len(self.runs) > 1 else ""
        where = f"rung {run.scale.name} ({run.shape.params / 1e6:.3g}M parameters{stacked}) on {self.world.device}"
        if before == 1 or self.world.size > 1:  # ranks that wait in a collective cannot try again
            remedy = "set `recompute: true`, or take a smaller rung, more memory or more processes"
            if before > 1:
                remedy = f"set `micro_batch_sequences` to {before // 2} or less"
            raise OutOfMemory(f"Out of memory at {where}, {before} sequences at once ({problem}); {remedy}.")
        for weight in self.model.parameters():
            if weight.grad is not None:
                weight.grad.zero_()
        if self.world.device.type == "cuda":
            torch.cuda.empty_cache()
        self._set_micro_batch(before // 2)
        return (
            f"Out of memory at {where}: it goes on with {self.micro_batch} sequences at once instead of {before}, "
            f"to the same batch of {run.batch_sequences}."
        )

    def _set_micro_batch(self, most: int) -> None:
        """At most so many sequences at once; what was read ahead has the old size."""
        self.micro_batch = _divisor(self._rows.stop - self._rows.start, most)
        self._feed.close()
        self._feed = Feed(self._draw, self.world.device)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of everything that the next step depends on, by name; of a GPU's tensors on the CPU."""
        state = {
            "random_state": torch.get_rng_state(),
            "trainer.alive": torch.tensor(self.alive),
            "trainer.micro_batch": torch.tensor([self.micro_batch]),
            "trainer.seconds": torch.tensor([self.clock.seconds, self.clock.cpu_seconds], dtype=torch.float64),
            "trainer.spike_window": torch.from_numpy(self.spikes.window.copy()),
            "trainer.spike_counts": torch.tensor([self.spikes.seen, *self.spikes.count.tolist()]),
        }
        if self.world.device.type == "cuda":
            state["random_state_cuda"] = torch.cuda.get_rng_state(self.world.device)
        state |= {f"model.{name}": _copy(weight.detach()) for name, weight in self.model.named_parameters()}
        return state | {f"optimiser.{name}": _to_cpu(value) for name, value in self.optimiser.tensors().items()}

    def restore(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Become what `tensors` were taken from; a member that has diverged since stays out."""
        self.step = step
        torch.set_rng_state(tensors["random_state"].cpu())
        if "random_state_cuda" in tensors and self.world.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_state_cuda"].cpu(), self.world.device)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(tensors[f"model.{name}"])
        of_the_optimiser = {name for name in tensors if name.startswith("optimiser.")}
        self.optimiser.restore({name.removeprefix("optimiser."): tensors[name] for name in of_the_optimiser})
        if (saved := int(tensors["trainer.micro_batch"])) < self.micro_batch:  # memory ran out in an earlier session
            self._set_micro_batch(saved)
        self.clock.set(*tensors["trainer.seconds"].tolist())
        self.spikes.window[:] = tensors["trainer.spike_window"].numpy()
        self.spikes.seen = int(tensors["trainer.spike_counts"][0])
        self.spikes.count[:] = tensors["trainer.spike_counts"][1:].numpy()
        for member, alive in enumerate(tensors["trainer.alive"].tolist()):
            if not (alive and self.alive[member]):
                self.take_out(member)


def make_model(run: Run, *, members: int | None, for_training: bool = True) -> Proxy:
    """The model of `run`, or a stack of `members` like it; for evaluation in float32, whatever the training is."""
    rules = run.settings
    end = end_of_text(load_tokenizer(run.dataset.tokenizer_path)) if rules.document_mask else None
    model = Proxy(
        run.shape,
        members=members,
        bf16=for_training and rules.precision == "bf16",
        z_loss=rules.z_loss,
        document_mask=end,
        parametrisation=Parametrisation.of(run.shape, rules),
    )
    return model.train(for_training)


def adam_settings(run: Run) -> AdamSettings:
    """AdamW as the procedure and the scale say."""
    rules = run.settings
    return AdamSettings(rules.beta1, rules.beta2, rules.adam_eps, rules.weight_decay, rules.clip_norm)


def _divisor(whole: int, most: int) -> int:
    """The largest divisor of `whole` that is at most `most`."""
    return next(size for size in range(min(whole, most), 0, -1) if whole % size == 0)


def _copy(tensor: Tensor) -> Tensor:
    """A copy on the CPU, so that a GPU holds its state once; of a sharded tensor where it lies."""
    return tensor.clone() if isinstance(tensor, DTensor) else tensor.to("cpu", copy=True)


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, DTensor) else tensor.cpu()
