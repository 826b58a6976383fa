"""Pairs and rankings of one metric: P(better), decided or not, compute multiplier, crossing, gaps on cells, what
would decide.

A pair is decided at a compute when zero lies outside its interval simultaneously with all other pairs there
(step-down maximum test of uncertainty.py). A dataset's rank is one more than the number of datasets decidedly better:
ties are common.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from curate.comparator.advantage import Advantage, Settings, advantages
from curate.comparator.curves import curve, multipliers
from curate.comparator.gaps import Gaps, cell_differences, error_with_more_runs
from curate.comparator.points import Points
from curate.comparator.uncertainty import Array, Draws, Ints, decided_pairs, interval
from curate.comparator.verdict import (
    CellGap,
    Comparison,
    Crossing,
    Estimate,
    MoreRuns,
    Pair,
    Ranked,
    Ranking,
    Span,
)

MOST_EXTRA_RUNS = 32  # of one dataset at one rung: beyond that, another ladder is the better advice
PAIRS_WITH_ADVICE = 60  # pairs for which the advice on more runs is worked out


def compare_pairs(
    source: Advantage, settings: Settings, estimate: Array, samples: Array, grid: Array, draws: Draws
) -> tuple[tuple[Pair, ...], tuple[Ranking, ...]]:
    points, count = source.points, len(source.points.names)
    couples = list(combinations(range(count), 2))
    first, second = (np.array(side) for side in zip(*couples, strict=True))
    on_grid, grid_samples = advantages(source, grid, count, samples.shape[0])
    comparisons: list[list[Comparison]] = [[] for _ in couples]
    rankings = []
    for index, flops in enumerate(settings.at):
        gap, drawn = gaps_at(estimate[index], samples[:, index], first, second)
        decided, critical = decide(gap, drawn, settings.confidence)
        rankings.append(
            rank(points, flops, estimate[index], samples[:, index], couples, gap, decided, settings.confidence)
        )
        for number, (a, b) in enumerate(couples):
            comparisons[number].append(
                compare_at(
                    source,
                    settings,
                    (a, b),
                    flops,
                    float(gap[number]),
                    drawn[:, number],
                    bool(decided[number]),
                    critical,
                    advise=number < PAIRS_WITH_ADVICE and index == 0,
                )
            )
    pairs = []
    for number, (a, b) in enumerate(couples):
        span = points.span((a, b))
        middle, drawn_curve = on_grid[:, b] - on_grid[:, a], grid_samples[:, :, b] - grid_samples[:, :, a]
        low, high = interval(drawn_curve, settings.confidence)
        pairs.append(
            Pair(
                first=points.names[a],
                second=points.names[b],
                method="paired" if source.paired(a, b) else "laws",
                span=span,
                comparisons=tuple(comparisons[number]),
                crossing=find_crossing(points, (a, b), span, grid, middle, drawn_curve, settings.confidence),
                cells=cell_gaps(points, (a, b), draws, settings.confidence),
                gap_curve=curve(grid, middle, low, high),
            )
        )
    return tuple(pairs), tuple(rankings)


def gaps_at(estimate: Array, samples: Array, first: Ints, second: Ints) -> tuple[Array, Array]:
    """Gaps of pairs at one compute, positive where `first` is better: estimate (pairs,) and draws (B, pairs).

    Far outside the span the draws are skew: where most of them contradict the estimate, their median stands.
    """
    gap = estimate[second] - estimate[first]
    drawn = samples[:, second] - samples[:, first]
    against = (np.sign(gap) * (np.mean(drawn > 0, axis=0) - 0.5)) < 0
    return np.where(against, np.median(drawn, axis=0), gap), drawn


def decide(gap: Array, drawn: Array, confidence: float) -> tuple[npt.NDArray[np.bool_], float]:
    """Which pairs are decided, and the critical value. The test is symmetric; where draws are skew it must not outrun
    the interval that is shown, so zero must lie outside that too.
    """
    decided, critical = decided_pairs(gap, drawn, confidence=confidence)
    low, high = interval(drawn, confidence)
    return decided & ((low > 0) | (high < 0)), critical


def compare_at(
    source: Advantage,
    settings: Settings,
    pair: tuple[int, int],
    flops: float,
    gap: float,
    drawn: Array,
    decided: bool,
    critical: float,
    *,
    advise: bool,
) -> Comparison:
    """One pair at one compute, told from the side of the better one."""
    points = source.points
    better, worse = pair if gap >= 0 else pair[::-1]
    size, samples = abs(gap), drawn if gap >= 0 else -drawn
    low, high = interval(samples, settings.confidence)
    multiplier = None
    if worse in source.laws:
        value, multiples = multipliers(source.laws[worse], points, flops, size, samples)
        bottom, top = np.quantile(
            multiples, [(1 - settings.confidence) / 2, (1 + settings.confidence) / 2], method="nearest"
        )
        multiplier = Estimate(value, float(bottom), float(top))
    more = None
    if advise and not decided and source.gaps is not None and source.paired(*pair):
        more = runs_to_decide(source.gaps, pair, flops, size, float(samples.std()), critical)
    return Comparison(
        at=flops,
        extrapolation=points.span(pair).extrapolation(flops),
        better=points.names[better],
        worse=points.names[worse],
        p_better=float((np.count_nonzero(samples > 0) + 0.5) / (len(samples) + 1)),
        decided=decided,
        gap=Estimate(size, float(low), float(high)),
        multiplier=multiplier,
        more_runs=more,
    )


def rank(
    points: Points,
    flops: float,
    estimate: Array,
    samples: Array,
    couples: list[tuple[int, int]],
    gap: Array,
    decided: np.ndarray,
    confidence: float,
) -> Ranking:
    """Best first by estimate; the rank is one more than the number of datasets decidedly better."""
    count = len(points.names)
    beats = np.zeros((count, count), dtype=bool)
    for (a, b), size, sure in zip(couples, gap, decided, strict=True):
        if sure:
            beats[(a, b) if size > 0 else (b, a)] = True
    best = np.bincount(samples.argmin(axis=1), minlength=count) / len(samples)
    over_mean = estimate.mean() - estimate
    low, high = interval(samples.mean(axis=1, keepdims=True) - samples, confidence)
    rows = []
    for d in np.argsort(estimate, kind="stable"):
        tied = tuple(points.names[o] for o in range(count) if o != d and not beats[d, o] and not beats[o, d])
        advantage = Estimate(float(over_mean[d]), float(low[d]), float(high[d]))
        rows.append(Ranked(points.names[d], 1 + int(beats[:, d].sum()), tied, float(best[d]), advantage))
    return Ranking(flops, points.span(range(count)).extrapolation(flops), tuple(rows))


def find_crossing(
    points: Points, pair: tuple[int, int], span: Span, grid: Array, middle: Array, drawn: Array, confidence: float
) -> Crossing:
    """The last change of sign of the gap inside the pair's span, draw by draw."""
    inside = (grid >= span.low * 0.999) & (grid <= span.high * 1.001)
    if inside.sum() < 2:
        return Crossing(None, 1.0, None, None)
    x, gaps = np.log(grid[inside]), drawn[:, inside]
    where = last_sign_change(x, gaps)
    crossed = ~np.isnan(where)
    if crossed.mean() < 0.05:
        return Crossing(None, float(1.0 - crossed.mean()), None, None)
    low, high = np.exp(interval(where[crossed], confidence))
    own = last_sign_change(x, middle[None, inside])[0]
    value = float(np.exp(own if not np.isnan(own) else np.median(where[crossed])))
    first_leads_above = float((gaps[crossed, -1] > 0).mean()) > 0.5
    above, below = pair if first_leads_above else pair[::-1]
    return Crossing(
        at=Estimate(value, min(float(low), value), max(float(high), value)),
        p_none=float(1.0 - crossed.mean()),
        below=points.names[below],
        above=points.names[above],
    )


def last_sign_change(x: Array, curves: Array) -> Array:
    """Where each curve (B, m) over x (m,) last changes sign, NaN where it does not."""
    change = (curves[:, :-1] > 0) != (curves[:, 1:] > 0)
    last = change.shape[1] - 1 - np.argmax(change[:, ::-1], axis=1)
    row = np.arange(len(curves))
    left, right = curves[row, last], curves[row, last + 1]
    share = np.where(left != right, left / np.where(left != right, left - right, 1.0), 0.5)
    return np.where(change.any(axis=1), x[last] + share * (x[last + 1] - x[last]), np.nan)


def cell_gaps(points: Points, pair: tuple[int, int], draws: Draws, confidence: float) -> tuple[CellGap, ...]:
    """Differences of means on shared cells, with the noise of their runs."""
    cells = cell_differences(points, *pair)
    if not cells:
        return ()
    values = [float(points.value[first].mean() - points.value[second].mean()) for first, second in cells]
    noise = [draws.noise[:, first].mean(axis=1) - draws.noise[:, second].mean(axis=1) for first, second in cells]
    sign = 1.0 if points.lower_is_better else -1.0  # the noise is of `bad`, where lower is better
    low, high = interval(np.array(values) + sign * np.stack(noise, axis=1), confidence)
    return tuple(
        CellGap(
            scale=points.scale[int(first[0])],
            params=float(points.params[first[0]]),
            tokens=float(points.tokens[first[0]]),
            flops=float(points.flops[first[0]]),
            runs_first=len(first),
            runs_second=len(second),
            gap=Estimate(value, float(bottom), float(top)),
        )
        for (first, second), value, bottom, top in zip(cells, values, low, high, strict=True)
    )


def runs_to_decide(
    gaps: Gaps, pair: tuple[int, int], flops: float, size: float, error_now: float, critical: float
) -> MoreRuns | None:
    """The cheapest rung at which more seeds of both datasets would bring the error of a gap of this size below what
    decides it.
    """
    points = gaps.points
    base = error_with_more_runs(gaps, pair, flops, -1, 0)
    if base <= 0 or error_now <= 0:
        return None
    wanted = base * size / (critical * error_now)
    mine = gaps.rows & (points.dataset == pair[0])
    options: list[MoreRuns] = []
    for block in np.unique(points.block[mine]):
        rows = np.flatnonzero(mine & (points.block == block))
        if error_with_more_runs(gaps, pair, flops, int(block), MOST_EXTRA_RUNS) > wanted:
            continue
        low, high = 0, MOST_EXTRA_RUNS
        while high - low > 1:
            half = (low + high) // 2
            low, high = (
                (half, high) if error_with_more_runs(gaps, pair, flops, int(block), half) > wanted else (low, half)
            )
        cost = 2 * high * float(points.flops[rows].max())
        scale = points.scale[int(rows[0])]
        message = f"about {2 * high} more runs at the {scale} rung would decide it, if the gap is what it looks like"
        options.append(MoreRuns(2 * high, scale, cost, message))
    return min(options, key=lambda o: o.flops) if options else None
