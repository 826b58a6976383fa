"""What a ladder costs before it is trained: parameters, tokens, steps, FLOPs, memory, time, money, epochs.

`plan_ladder` settles every rung by the rules that train it (a `Run` whose dataset is empty), so that the plan is what
will be done. Where a scale's own numbers differ from its rule, or ours from what the source prints, the plan says so.
Costs milliseconds; no torch here.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curate.errors import RecipeError
from curate.proxy_training.network.shape import ModelShape
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.planning.device_costs import DEVICES, Device, cpu_tokens_per_second, memory_bytes
from curate.proxy_training.planning.expand import LearningRates, runs_by_rung
from curate.proxy_training.planning.ladder_file import Ladder, Scale
from curate.proxy_training.planning.plan_notes import against_the_rule, against_the_source, warnings
from curate.proxy_training.planning.simulated_epochs import SimulatedEpochs
from curate.proxy_training.procedure import Procedure, settle_precision
from curate.proxy_training.run import Run

CPU_PARAMS_MAX = 2e7
"""A ladder whose largest model is above this is planned for GPUs unless something else is asked for."""


@dataclass(frozen=True)
class PlannedBudget:
    """One branch of a rung."""

    tokens: int
    """In whole batches."""
    steps: int
    """Of the whole training."""
    decay_steps: int
    """Of the cool-down (under cosine: all)."""
    flops: float
    """6 N D."""
    flops_exact: float
    """With attention and the head, without norms."""
    epochs: Mapping[str, float]
    """How often each dataset is seen; above 1 it repeats."""


@dataclass(frozen=True)
class Rung:
    """A scale as it will be trained; costs are those of one run with all its branches."""

    scale: Scale
    """As the ladder has it."""
    shape: ModelShape
    """The model."""
    procedure: Procedure
    """The rules, with what the scale sets for itself."""
    learning_rate: float
    """Peak."""
    batch_sequences: int
    """Sequences in a step."""
    batch_tokens: int
    """Tokens in a step."""
    warmup_steps: int
    """Steps of linear warm-up."""
    budgets: tuple[PlannedBudget, ...]
    """Rising."""
    trained_tokens: int
    """Of trunk and branches together."""
    memory_bytes: float
    """Of one device, at the launch's micro batch; within a half or so."""
    micro_batch_sequences: int
    """Sequences that one device holds at once, which the memory is for."""
    device_seconds: Mapping[str, float]
    """Of one run, by device: time x devices."""
    notes: tuple[str, ...]
    """Where ours differs from what the source prints, and what the ladder says of the scale."""
    rule_differs: Mapping[str, str]
    """What the scale sets itself, against what the rule would give, by field."""
    runs: int
    """Trainings of each dataset: seeds, and other learning rates."""
    agrees: tuple[tuple[str, str], ...]
    """Fields that are as the source prints them, with what it prints."""


@dataclass(frozen=True)
class LadderPlan:
    """The whole ladder."""

    ladder: Ladder
    """What is planned."""
    rungs: tuple[Rung, ...]
    """In the ladder's order."""
    devices: tuple[Device, ...]
    """What it is planned for."""
    datasets: Mapping[str, int | None]
    """Tokens of each dataset, None where they are not known yet."""
    workers: int
    """Processes side by side on CPU cores."""
    simulated: SimulatedEpochs | None = None
    """What the runs are cut down by, so that they repeat as a larger training would."""
    estimated: frozenset[str] = frozenset()
    """Datasets whose tokens were counted before, under what may be another tokenizer or other documents."""

    @property
    def runs(self) -> int:
        """Trainings in all."""
        return len(self.datasets) * sum(rung.runs for rung in self.rungs)

    def total(self, of_a_run: Mapping[str, float]) -> float:
        """Sum over all runs of a cost that is given by scale."""
        return len(self.datasets) * sum(rung.runs * of_a_run[rung.scale.name] for rung in self.rungs)

    def device_seconds(self, device: Device) -> float:
        """Of all runs, time x devices."""
        return self.total({rung.scale.name: rung.device_seconds[device.name] for rung in self.rungs})

    def wall_seconds(self, device: Device) -> float:
        """With the plan's workers on CPU cores; never shorter than the longest run. GPUs: one at a time."""
        longest = max(rung.device_seconds[device.name] for rung in self.rungs)
        return max(longest, self.device_seconds(device) / (self.workers if device.name == "cpu" else 1))

    @property
    def flops(self) -> float:
        """6 N x trained tokens of all runs, branches included."""
        return self.total({rung.scale.name: rung.shape.flops_per_token * rung.trained_tokens for rung in self.rungs})

    @property
    def repeated(self) -> Mapping[str, float]:
        """Datasets that are seen more than once at the longest budget, with their epochs, as far as they are known."""
        found = {name: max(rung.budgets[-1].epochs.get(name, 0.0) for rung in self.rungs) for name in self.datasets}
        return {name: epochs for name, epochs in found.items() if epochs > 1.005}

    def simulates(self, dataset: str) -> bool:
        """Whether the runs of a dataset are cut down, as far as it is known."""
        epochs = None if self.simulated is None else self.simulated.epochs(dataset, self.datasets[dataset])
        return epochs is not None and epochs > 1

    def is_estimate(self, dataset: str) -> bool:
        """Whether its epochs follow from a count that may be out of date, not from what a study says of all of it."""
        return dataset in self.estimated and (self.simulated is None or dataset not in self.simulated.full_tokens)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Datasets of a simulation of which nothing is known before they are packed."""
        simulated = self.simulated
        if simulated is None:
            return ()
        return tuple(name for name, there in self.datasets.items() if simulated.epochs(name, there) is None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for --json."""
        return {
            "ladder": self.ladder.name,
            "source": list(sources(self.ladder)),
            "procedure": self.ladder.procedure.model_dump(mode="json"),
            "sequence_length": self.ladder.sequence_length,
            "tokenizer": self.ladder.tokenizer,
            "datasets": dict(self.datasets),
            "datasets_estimated": sorted(self.estimated),
            "epochs": dict(self.repeated),
            "runs": self.runs,
            "flops": self.flops,
            "devices": {
                device.name: {
                    **asdict(device),
                    "device_hours": self.device_seconds(device) / 3600,
                    "wall_hours": self.wall_seconds(device) / 3600,
                    "dollars": self.device_seconds(device) / 3600 * device.dollars_per_hour,
                }
                for device in self.devices
            },
            "scales": [_rung_as_data(rung) for rung in self.rungs],
        }


def plan_ladder(
    ladder: Ladder,
    *,
    datasets: Mapping[str, int | None] | None = None,
    devices: Sequence[str | Device] | None = None,
    dollars_per_hour: Mapping[str, float] | None = None,
    learning_rates: LearningRates | None = None,
    simulate_epochs: SimulatedEpochs | None = None,
    estimated: Collection[str] = (),
    workers: int = 2,
) -> LadderPlan:
    """What training `ladder` on `datasets` (tokens by name; None where not known) would do and cost.

    Without datasets the plan is for one. `devices` are names of DEVICES or values; without them cores for small
    ladders, GPUs for large ones. `learning_rates` are those that a study trains besides the tuned one; `estimated` are
    datasets whose tokens may have changed since they were counted. Raises RecipeError for a device that nobody knows,
    for a rung whose budgets are no different steps, and for epochs that cannot be simulated.
    """
    datasets = dict(datasets or {"one dataset": None})
    settled = tuple(_device(device, dollars_per_hour or {}) for device in devices or _usual_devices(ladder))
    runs = runs_by_rung(ladder, learning_rates)
    rungs = tuple(
        _rung(ladder, scale, datasets, settled, simulate_epochs, runs=runs[scale.name]) for scale in ladder.scales
    )
    return LadderPlan(ladder, rungs, settled, datasets, workers, simulate_epochs, frozenset(estimated))


def planned_run(ladder: Ladder, scale: Scale) -> Run:
    """The run of a scale on a dataset that is not there yet: all that does not depend on the data."""
    precision = settle_precision(ladder.precision, compiled=ladder.compile != "eager")
    procedure = Procedure(
        **ladder.procedure.model_dump(),
        tokenizer=ladder.tokenizer or "",
        sequence_length=ladder.sequence_length,
        precision=precision,
        compile="eager" if ladder.compile == "eager" else "blocks",
    )
    nothing = TokenizedDataset("", Path(), 0, 0, 0, ladder.vocab_size, "", "", "")
    return Run(nothing, scale, 0, procedure, "")


def sources(ladder: Ladder) -> tuple[str, ...]:
    """Citations of a ladder."""
    return (ladder.source,) if isinstance(ladder.source, str) else ladder.source


def _rung(
    ladder: Ladder,
    scale: Scale,
    datasets: Mapping[str, int | None],
    devices: Sequence[Device],
    simulated: SimulatedEpochs | None,
    *,
    runs: int,
) -> Rung:
    run = planned_run(ladder, scale)
    shape, launch = run.shape, scale.launch
    if simulated is not None and (trouble := simulated.trouble(run)):
        raise RecipeError(f"simulate_epochs: {trouble}")
    known = {name: _unique(run, name, tokens, simulated) for name, tokens in datasets.items()}
    unique = {name: tokens for name, tokens in known.items() if tokens is not None}
    budgets = tuple(_budget(run, tokens, unique) for tokens in scale.budgets_tokens)
    micro = min(launch.micro_batch_sequences or run.batch_sequences, math.ceil(run.batch_sequences / launch.gpus))
    notes, same = against_the_source(run, budgets)
    run.check_steps()
    return Rung(
        scale=scale,
        shape=shape,
        procedure=run.settings,
        learning_rate=run.learning_rate,
        batch_sequences=run.batch_sequences,
        batch_tokens=run.batch_tokens,
        warmup_steps=run.warmup_steps,
        budgets=budgets,
        trained_tokens=run.trained_tokens,
        memory_bytes=memory_bytes(
            shape,
            tokens_at_once=micro * ladder.sequence_length,
            shards=launch.gpus if launch.strategy == "fsdp" else 1,
            bf16=run.procedure.precision == "bf16",
            recompute=launch.checkpoint_activations,
        ),
        micro_batch_sequences=micro,
        device_seconds={device.name: _seconds(run, device) for device in devices},
        notes=(*notes, *filter(None, (scale.note, *warnings(run, budgets)))),
        rule_differs=against_the_rule(run, budgets),
        runs=runs,
        agrees=same,
    )


def _unique(run: Run, name: str, packed_tokens: int | None, simulated: SimulatedEpochs | None) -> float | None:
    """Tokens of a dataset that the run draws from; None where they are not known."""
    drawn = simulated and simulated.drawn_from(name, packed_tokens, longest_tokens=run.longest_tokens)
    return drawn or packed_tokens


def _budget(run: Run, tokens: int, unique: Mapping[str, float]) -> PlannedBudget:
    steps, trained = run.steps(tokens), run.tokens(tokens)
    return PlannedBudget(
        tokens=trained,
        steps=steps,
        decay_steps=steps - run.procedure.decay_start(steps),
        flops=run.shape.flops_per_token * trained,
        flops_exact=run.shape.flops_per_token_exact * trained,
        epochs={name: trained / some for name, some in unique.items()},
    )


def _seconds(run: Run, device: Device) -> float:
    if device.name == "cpu":
        return run.trained_tokens / cpu_tokens_per_second(run.shape, precision=run.procedure.precision)
    flops = run.shape.flops_per_token_exact * run.trained_tokens
    return flops / (device.peak_flops * device.share(run.shape.params))


def _usual_devices(ladder: Ladder) -> tuple[str, ...]:
    largest = max(planned_run(ladder, scale).shape.params for scale in ladder.scales)
    return ("cpu",) if largest <= CPU_PARAMS_MAX else ("a100", "h100")


def _device(device: str | Device, prices: Mapping[str, float]) -> Device:
    if isinstance(device, str):
        if device not in DEVICES:
            raise RecipeError(f"No device is called {device!r}: take {', '.join(DEVICES)}.")
        device = DEVICES[device]
    return replace(device, dollars_per_hour=prices.get(device.name, device.dollars_per_hour))


def _rung_as_data(rung: Rung) -> dict[str, Any]:
    shape = rung.shape
    return {
        "scale": rung.scale.name,
        "shape": asdict(shape),
        "params_blocks": shape.parameters_blocks,
        "params_norms": shape.parameters_norms,
        "params_embedding": shape.parameters_embedding,
        "params": shape.params,
        "params_stored": shape.params_stored,
        "flops_per_token": shape.flops_per_token,
        "flops_per_token_exact": shape.flops_per_token_exact,
        "seeds": rung.scale.seeds,
        "runs_of_each_dataset": rung.runs,
        "learning_rate": rung.learning_rate,
        "final_learning_rate": rung.procedure.final_learning_rate,
        "batch_sequences": rung.batch_sequences,
        "batch_tokens": rung.batch_tokens,
        "warmup_steps": rung.warmup_steps,
        "weight_decay": rung.procedure.weight_decay,
        "z_loss": rung.procedure.z_loss,
        "schedule": rung.procedure.schedule,
        "budgets": [asdict(budget) for budget in rung.budgets],
        "trained_tokens": rung.trained_tokens,
        "memory_bytes": rung.memory_bytes,
        "micro_batch_sequences": rung.micro_batch_sequences,
        "device_seconds": dict(rung.device_seconds),
        "published": rung.scale.published.model_dump(mode="json") if rung.scale.published else None,
        "as_published": [{"what": what, "printed": text} for what, text in rung.agrees],
        "notes": list(rung.notes),
        "rule_differs": dict(rung.rule_differs),
    }
