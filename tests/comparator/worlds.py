"""Synthetic ladders drawn from known laws: what the calibration tests compare with the truth.

A world is a few datasets on the demo's ladder (4 sizes x 3 decay branches, 3 seeds at the smallest size), losses of
the Chinchilla form in bits per byte at laptop scale, seed noise shared by the branches of a run with correlation
`rho`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from curate.comparator.gaps import pair_gaps
from curate.comparator.points import make_points
from curate.comparator.uncertainty import decided_pairs, interval
from curate.measurements import SCHEMA

SIZES = {"0.12M": 1.2e5, "0.35M": 3.5e5, "1M": 1.0e6, "3.2M": 3.2e6}
LONGEST = {"0.12M": 1.0e6, "0.35M": 1.6e6, "1M": 2.4e6, "3.2M": 3.2e6}
BRANCHES = (0.25, 0.5, 1.0)
SEEDS = {"0.12M": 3}


@dataclass(frozen=True)
class Source:
    """The true law of one dataset: L(N, D) = E + A (N/1e5)^-alpha + B (D/2.5e5)^-beta."""

    E: float = 0.8
    A: float = 0.9
    B: float = 1.2
    alpha: float = 0.3
    beta: float = 0.3

    def loss(self, params: float, tokens: float) -> float:
        return float(self.E + self.A * (params / 1e5) ** -self.alpha + self.B * (tokens / 2.5e5) ** -self.beta)


def ladder(
    sources: dict[str, Source],
    *,
    rng: np.random.Generator,
    noise: float = 0.03,
    rho: float = 0.8,
    seeds: dict[str, int] | None = None,
    metric: str = "bits_per_byte",
    degrees: float = np.inf,
    noise_by_size: dict[str, float] | None = None,
) -> pa.Table:
    """Measurements of every source; `degrees` < inf draws Student noise of that many degrees of freedom with the same
    variance.
    """
    seeds = SEEDS if seeds is None else seeds
    rows = []
    for name, source in sources.items():
        for scale, params in SIZES.items():
            sd = noise * (noise_by_size or {}).get(scale, 1.0)
            for seed in range(seeds.get(scale, 1)):
                common = draw_noise(rng, degrees) * np.sqrt(rho)
                for share in BRANCHES:
                    tokens = LONGEST[scale] * share
                    own = draw_noise(rng, degrees) * np.sqrt(1 - rho)
                    rows.append(
                        {
                            "run_id": f"{name}-{scale}-{seed}",
                            "dataset": name,
                            "scale": scale,
                            "params": params,
                            "tokens": tokens,
                            "unique_tokens": 2e7,
                            "flops": 6 * params * tokens,
                            "flops_convention": "6ND",
                            "seed": seed,
                            "metric": metric,
                            "value": source.loss(params, tokens) + sd * float(common + own),
                            "lower_is_better": True,
                            "cooled_down": True,
                        }
                    )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def draw_noise(rng: np.random.Generator, degrees: float) -> float:
    if np.isinf(degrees):
        return float(rng.standard_normal())
    return float(rng.standard_t(degrees) * np.sqrt((degrees - 2) / degrees))


@dataclass(frozen=True)
class Figures:
    """What a simulation measured: shares over worlds."""

    coverage: float  # of the pairwise intervals
    false_decided: float  # worlds in which an equal pair was called decided, or a pair in the wrong order
    decided: float  # of the pairs with a true gap
    reliability: float  # mean |share that came true - stated P| over bins of stated P, weighted by their size
    width: float  # median width of the intervals


def simulate(
    sources: dict[str, Source],
    *,
    worlds: int,
    seed: int = 0,
    at: float = 1.0,
    bootstraps: int = 400,
    spoil: Callable[[pa.Table, np.random.Generator], pa.Table] | None = None,
    **ladder_options: Any,
) -> Figures:
    """Draw `worlds` ladders and judge the paired gaps at `at` x the largest common compute against the truth."""
    names = list(sources)
    couples = list(combinations(range(len(names)), 2))
    first, second = (np.array(side) for side in zip(*couples, strict=True))
    rng = np.random.default_rng(seed)
    covered, wrong, found, stated, came_true, widths = [], [], [], [], [], []
    for world in range(worlds):
        table = ladder(sources, rng=rng, **ladder_options)
        if spoil is not None:
            table = spoil(table, rng)
        points = make_points(table)
        gaps = pair_gaps(points, bootstraps=bootstraps, seed=world)
        assert gaps is not None
        flops = np.array([gaps.high_flops * at])
        estimate, samples = gaps.advantage(flops)
        gap = (estimate[:, second] - estimate[:, first])[0]
        drawn = (samples[:, :, second] - samples[:, :, first])[:, 0]
        decided, _ = decided_pairs(gap, drawn, confidence=0.95)
        low, high = interval(drawn, 0.95)
        place = points.on_trajectory(flops)
        truth = np.array([sources[n].loss(place["params"][0], place["tokens"][0]) for n in names])
        true_gap = truth[second] - truth[first]
        covered.append((low <= true_gap) & (true_gap <= high))
        equal = np.abs(true_gap) < 1e-9
        wrong.append((decided & (equal | (np.sign(gap) != np.sign(true_gap)))).any())
        found.append(decided[~equal] & (np.sign(gap) == np.sign(true_gap))[~equal])
        p = (drawn > 0).mean(axis=0)
        stated.append(p[~equal])
        came_true.append((true_gap > 0)[~equal])
        widths.append(high - low)
    p, true = np.concatenate(stated), np.concatenate(came_true)
    return Figures(
        coverage=float(np.mean(covered)),
        false_decided=float(np.mean(wrong)),
        decided=float(np.mean(found)) if len(p) else float("nan"),
        reliability=reliability_error(p, true),
        width=float(np.median(widths)),
    )


def reliability_error(stated: np.ndarray, came_true: np.ndarray) -> float:
    """Stated probabilities against how often they came true, in ten bins of P(the dataset said to be better)."""
    if not len(stated):
        return float("nan")
    side = stated >= 0.5
    p, hit = np.where(side, stated, 1 - stated), np.where(side, came_true, ~came_true)
    bins = np.minimum(((p - 0.5) * 20).astype(int), 9)
    return float(sum(abs(p[bins == b].mean() - hit[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)))
