"""The two sources of a gap joined: the paired model where datasets share cells, the difference of their laws where
they do not.

All datasets of a metric are put on one footing ("badness", lower is better) at any compute, as an estimate and as
draws.
"""

from dataclasses import dataclass

import numpy as np

from curate.comparator.curves import FittedLaw
from curate.comparator.gaps import Gaps
from curate.comparator.laws import Law
from curate.comparator.points import Points
from curate.comparator.uncertainty import Array
from curate.errors import MeasurementError


@dataclass(frozen=True)
class Settings:
    """What the caller asked for."""

    law: Law
    at: tuple[float, ...]
    seed: int
    bootstraps: int
    confidence: float


@dataclass(frozen=True)
class Advantage:
    """What says how datasets differ: the paired gap model of those that share cells, and each dataset's law."""

    gaps: Gaps | None
    laws: dict[int, FittedLaw]  # the verdict's law
    beyond: dict[int, FittedLaw]  # the law that carries paired gaps out of the span
    points: Points

    def paired(self, first: int, second: int) -> bool:
        return self.gaps is not None and first in self.gaps.members and second in self.gaps.members


def advantages(source: Advantage, flops: Array, count: int, bootstraps: int) -> tuple[Array, Array]:
    """Badness of every dataset on one footing at compute (m,): estimate (m, count) and draws (B, m, count).

    Members of the paired model keep their paired differences; the whole group is placed beside the others by its laws.
    """
    estimate = np.full((len(flops), count), np.nan)
    samples = np.full((bootstraps, len(flops), count), np.nan)
    for dataset, fitted in source.laws.items():
        estimate[:, dataset], samples[:, :, dataset] = fitted.losses(source.points, flops)
    if source.gaps is not None:
        members = list(source.gaps.members)
        paired, drawn = paired_advantage(source, flops)
        known = [m for m in members if m in source.laws]
        if known:
            at = [members.index(m) for m in known]
            paired += (estimate[:, known].mean(axis=1) - paired[:, at].mean(axis=1))[:, None]
            drawn += (samples[:, :, known].mean(axis=2) - drawn[:, :, at].mean(axis=2))[:, :, None]
        estimate[:, members], samples[:, :, members] = paired, drawn
    missing = [source.points.names[d] for d in range(count) if np.isnan(estimate[:, d]).any()]
    if missing:
        raise MeasurementError(
            f"{source.points.metric}: dataset {missing[0]!r} shares no (params, tokens) cell with the others "
            "and has too few points for a law of its own; measure it on the ladder of the others."
        )
    return estimate, samples


def paired_advantage(source: Advantage, flops: Array) -> tuple[Array, Array]:
    """The paired gaps at compute (m,). Outside what was measured, half of the draws go on as the gap model does and
    half as the laws do.

    Both start from the paired gap at the edge. Alone, the gap model's intervals cover .5 to .9 at a hundred times the
    compute when noise is small, and the laws' differences are twice as wide as need be; the pool covers .97 to 1
    (simulated as in gaps.py).
    """
    gaps = source.gaps
    assert gaps is not None
    edge = np.clip(flops, gaps.low_flops, gaps.high_flops)
    estimate, samples = gaps.advantage(flops)
    if np.array_equal(edge, flops) or any(m not in source.beyond for m in gaps.members):
        return estimate, samples
    at_edge, drawn_at_edge = gaps.advantage(edge)
    by_law = [source.beyond[m].losses(source.points, flops) for m in gaps.members]
    law_at_edge = [source.beyond[m].losses(source.points, edge) for m in gaps.members]
    change = np.stack([far[0] - near[0] for far, near in zip(by_law, law_at_edge, strict=True)], axis=-1)
    drawn_change = np.stack([far[1] - near[1] for far, near in zip(by_law, law_at_edge, strict=True)], axis=-1)
    outside = (edge != flops)[:, None]
    other = at_edge + change - change[:, :1]
    estimate = np.where(outside, 0.5 * (estimate + other), estimate)
    take = (np.arange(len(samples)) % 2 == 1)[:, None, None] & outside
    return estimate, np.where(take, drawn_at_edge + drawn_change - drawn_change[:, :, :1], samples)
