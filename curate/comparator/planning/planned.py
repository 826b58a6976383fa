"""The values of a plan: what may be run, what is known beforehand, what to run, and how sure that makes each pair.

A `Plan` prints itself as tables and gives itself as rows and as plain JSON. Compute is in FLOPs; a gap is positive
where the dataset named first is better, in the metric's unit.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curate.comparator.verdict import Estimate, to_plain
from curate.errors import MeasurementError

PLAN_VERSION = 1
PAIRS_SHOWN = 12

Goal = Literal["order", "best"]


@dataclass(frozen=True)
class CandidateScale:
    """A scale at which runs may be bought: model size, tokens of a run, and earlier budgets at which the same run is
    cooled down and measured.
    """

    name: str
    params: float
    tokens: float
    branch_tokens: tuple[float, ...] = ()
    decay_fraction: float = 0.2
    """Part of an earlier budget that its cool-down trains again (0.2 in open-sci-ref and in curate's own ladders)."""

    def __post_init__(self) -> None:
        values = (self.params, self.tokens, *self.branch_tokens)
        if not all(np.isfinite(v) and v > 0 for v in values):
            raise MeasurementError(f"scale {self.name!r}: params and tokens must be positive numbers, not {values}.")
        if any(t >= self.tokens for t in self.branch_tokens):
            raise MeasurementError(
                f"scale {self.name!r}: branch_tokens {self.branch_tokens} must lie below tokens {self.tokens}."
            )
        if not 0 <= self.decay_fraction < 1:
            raise MeasurementError(f"scale {self.name!r}: decay_fraction is {self.decay_fraction}; it lies in [0, 1).")

    @property
    def budgets(self) -> tuple[float, ...]:
        return (*sorted(self.branch_tokens), self.tokens)

    def flops(self, flops_per_nd: float = 6.0) -> float:
        """Compute of one run with its branches."""
        return flops_per_nd * self.params * (self.tokens + self.decay_fraction * sum(self.branch_tokens))


@dataclass(frozen=True)
class Pilot:
    """What is believed before anything was measured, in the metric's unit."""

    noise_sd: float
    """Standard deviation of one run over seeds."""
    gap_sd: float
    """Standard deviation of the gap between two datasets at the target."""
    rho: float = 0.8
    """Share of the noise's variance that the branches of one run have in common."""
    change_sd: float | None = None
    """How much a gap changes from the smallest to the largest scale, in size and in tokens each; by default gap_sd,
    which is to say that small scales can mislead."""
    misfit: float = 0.05
    """Variance of what a smooth gap misses at a scale, over noise_sd^2; no number of seeds removes it."""

    def __post_init__(self) -> None:
        for name in ("noise_sd", "gap_sd"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise MeasurementError(f"pilot: {name} is {getattr(self, name)}; it must be positive.")
        if not 0 <= self.rho < 1:
            raise MeasurementError(f"pilot: rho is {self.rho}; it is a share, from 0 to below 1.")
        if not (np.isfinite(self.misfit) and self.misfit >= 0):
            raise MeasurementError(f"pilot: misfit is {self.misfit}; it must be zero or more.")
        if self.change_sd is not None and not (np.isfinite(self.change_sd) and self.change_sd > 0):
            raise MeasurementError(f"pilot: change_sd is {self.change_sd}; it must be positive.")

    @property
    def change(self) -> float:
        return self.gap_sd if self.change_sd is None else self.change_sd


@dataclass(frozen=True)
class PlannedRuns:
    """Runs to do at one scale: `seeds` new ones of each of `datasets`, on seeds not used there yet."""

    scale: str
    params: float
    tokens: float
    branch_tokens: tuple[float, ...]
    datasets: tuple[str, ...]
    seeds: int
    flops: float

    @property
    def runs(self) -> int:
        return self.seeds * len(self.datasets)


@dataclass(frozen=True)
class PlannedPair:
    """A pair's chance to be decided with the right sign, before and after the runs; `gap` is what it looks like now."""

    first: str
    second: str
    gap: Estimate | None
    p_before: float
    p_after: float
    error_after: float


@dataclass(frozen=True)
class Alternative:
    """Another way to spend the same budget, with its mean P(decided) over the pairs that count."""

    name: str
    runs: int
    flops: float
    p_after: float


@dataclass(frozen=True)
class Dropped:
    """A dataset that gets no more runs: at which look, against which one, with which probability, and why."""

    dataset: str
    against: str
    p: float
    look: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """Which runs to do, what they cost, and what they are likely to decide at `target_flops`."""

    metric: str
    datasets: tuple[str, ...]
    target_flops: float
    budget_flops: float
    flops: float
    goal: Goal
    runs: tuple[PlannedRuns, ...]
    pairs: tuple[PlannedPair, ...]
    p_before: float
    p_after: float
    alternatives: tuple[Alternative, ...]
    by_budget: tuple[tuple[float, float], ...]
    """(budget in FLOPs, P(decided) of the best plan for it)."""
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    noise_sd: float
    confidence: float
    """Of the simultaneous test that decides, after the adjustment over looks."""
    look: int
    looks: int
    source: str
    seed: int
    version: int = PLAN_VERSION

    @property
    def active(self) -> tuple[str, ...]:
        """Datasets that are still in the race."""
        return tuple(d for d in self.datasets if d not in {gone.dataset for gone in self.dropped})

    @property
    def lines(self) -> tuple[str, ...]:
        from curate.comparator.planning.planned_words import plan_lines  # the words live apart from the values

        return plan_lines(self)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def rows(self) -> list[dict[str, Any]]:
        """The runs as a table: one row for each scale and group of datasets."""
        return [
            {
                "scale": run.scale,
                "params": run.params,
                "tokens": run.tokens,
                "branch_tokens": ", ".join(f"{t:.3g}" for t in run.branch_tokens),
                "datasets": ", ".join(run.datasets),
                "seeds": run.seeds,
                "runs": run.runs,
                "flops": run.flops,
            }
            for run in self.runs
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and finite numbers, with the printed lines under `lines`."""
        plain: dict[str, Any] = to_plain(self)
        plain["lines"] = list(self.lines)
        return plain

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from curate.report.notebook import rows_html

        return str(rows_html(self))

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)
