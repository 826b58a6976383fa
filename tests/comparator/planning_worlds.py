"""A laboratory that trains what a plan asks for, in worlds whose laws are known: the tests of plan.py measure with it.

Losses are worlds.Source's (Chinchilla form); noise is shared by the branches of a run. `realised` judges the pairs as
`compare` does, with the truth beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pyarrow as pa

from curate.comparator.gaps import pair_gaps
from curate.comparator.planning.outlook import usable_points
from curate.comparator.planning.planned import CandidateScale, PlannedRuns
from curate.comparator.uncertainty import Array, decided_pairs
from curate.measurements import SCHEMA
from tests.comparator.worlds import Source

LADDER = tuple(
    CandidateScale(f"{params / 1e6:.3g}M", params, longest, (0.25 * longest, 0.5 * longest))
    for params, longest in ((1.2e5, 1.0e6), (3.5e5, 1.6e6), (1.0e6, 2.4e6), (3.2e6, 3.2e6))
)
TARGET = LADDER[-1].params, LADDER[-1].tokens
TARGET_FLOPS = 6 * TARGET[0] * TARGET[1]
ONE_ROUND = sum(scale.flops() for scale in LADDER)  # of one dataset


@dataclass
class Laboratory:
    """Trains datasets with known laws and keeps the rows of the measurements table."""

    sources: dict[str, Source]
    rng: np.random.Generator
    noise: float = 0.03
    rho: float = 0.8
    rows: list[dict[str, object]] = field(default_factory=list)
    seeds: dict[tuple[str, str], int] = field(default_factory=dict)
    flops: float = 0.0

    def train(self, runs: Sequence[PlannedRuns]) -> None:
        for run in runs:
            for name in run.datasets:
                for _ in range(run.seeds):
                    self.one(name, CandidateScale(run.scale, run.params, run.tokens, run.branch_tokens))

    def one(self, name: str, scale: CandidateScale) -> None:
        seed = self.seeds.get((name, scale.name), 0)
        self.seeds[name, scale.name] = seed + 1
        self.flops += scale.flops()
        common = self.rng.standard_normal() * np.sqrt(self.rho)
        for tokens in scale.budgets:
            own = self.rng.standard_normal() * np.sqrt(1 - self.rho)
            self.rows.append(
                {
                    "run_id": f"{name}-{scale.name}-{seed}",
                    "dataset": name,
                    "scale": scale.name,
                    "params": scale.params,
                    "tokens": tokens,
                    "unique_tokens": 2e7,
                    "flops": 6 * scale.params * tokens,
                    "flops_convention": "6ND",
                    "seed": seed,
                    "metric": "bits_per_byte",
                    "value": self.sources[name].loss(scale.params, tokens) + self.noise * float(common + own),
                    "lower_is_better": True,
                    "cooled_down": True,
                }
            )

    def uniform(self, seeds: int = 1, scales: Sequence[CandidateScale] = LADDER) -> None:
        for name in self.sources:
            for scale in scales:
                for _ in range(seeds):
                    self.one(name, scale)

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=SCHEMA)

    @property
    def truth(self) -> dict[str, float]:
        """Loss at the target: the dearest scale of the ladder."""
        return {name: source.loss(*TARGET) for name, source in self.sources.items()}

    @property
    def best(self) -> str:
        return min(self.truth, key=lambda name: self.truth[name])


@dataclass(frozen=True)
class Judged:
    """Per pair: decided, decided with the right sign; and the dataset that is decidedly better than all others."""

    decided: Array
    right: Array
    winner: str | None
    beaten: frozenset[str]


def realised(lab: Laboratory, *, confidence: float = 0.95, seed: int = 0, only: Sequence[str] | None = None) -> Judged:
    """What the measurements so far decide at the target, all pairs together."""
    table = lab.table
    points = usable_points(table, "bits_per_byte", [])
    gaps = pair_gaps(points, bootstraps=600, seed=seed)
    assert gaps is not None
    estimate, samples = gaps.advantage(np.array([TARGET_FLOPS]))
    names = [points.names[m] for m in gaps.members]
    kept = [i for i, name in enumerate(names) if only is None or name in only]
    estimate, samples, names = estimate[:, kept], samples[:, :, kept], [names[i] for i in kept]
    first, second = (np.array(side) for side in zip(*combinations(range(len(names)), 2), strict=True))
    gap, drawn = (estimate[0, second] - estimate[0, first]), (samples[:, 0, second] - samples[:, 0, first])
    decided, _ = decided_pairs(gap, drawn, confidence=confidence)
    truth = np.array([lab.truth[name] for name in names])
    right = decided & (np.sign(gap) == np.sign(truth[second] - truth[first]))
    worse = np.where(gap > 0, second, first)
    better = np.where(gap > 0, first, second)
    wins = np.bincount(better[decided], minlength=len(names))
    winner = names[int(wins.argmax())] if wins.max() == len(names) - 1 else None
    return Judged(decided, right, winner, frozenset(names[d] for d in worse[decided]))


def drawn_sources(count: int, rng: np.random.Generator, *, level: float, change: float) -> dict[str, Source]:
    """Laws whose floors differ with sd `level` / sqrt(2) and whose terms in N and D make gaps change by about
    `change` over the ladder.
    """
    base = Source()
    # over the ladder the term in N falls by this much per unit of A, the term in D by that per unit of B
    fall_n = (LADDER[0].params / 1e5) ** -base.alpha - (LADDER[-1].params / 1e5) ** -base.alpha
    fall_d = (LADDER[0].budgets[0] / 2.5e5) ** -base.beta - (LADDER[-1].tokens / 2.5e5) ** -base.beta
    z = rng.standard_normal((count, 3)) / np.sqrt(2)
    return {
        f"d{i}": Source(
            E=base.E + level * z[i, 0], A=base.A + change / fall_n * z[i, 1], B=base.B + change / fall_d * z[i, 2]
        )
        for i in range(count)
    }
