"""`compare`: a measurements table in, a verdict out. Which dataset is better, at which compute, by how much, and how sure.

Gaps come from paired cells (gaps.py), curves and multipliers from laws (curves.py), both from one set of bootstraps by run
(uncertainty.py). A pair is decided at a compute when zero lies outside its interval simultaneously with all other pairs there (step-down
maximum test): with equal datasets, any pair is called decided with probability 1 - confidence at most. P(better) is one pair's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.comparator.checks import run_checks
from curate.comparator.curves import FittedLaw, compute_grid, curve, describe, fit_laws, multipliers
from curate.comparator.gaps import Gaps, cell_differences, error_with_more_runs, noise_without_pairs, pair_gaps
from curate.comparator.laws import CHINCHILLA, POWER, Law, find_law
from curate.comparator.learning_rate import learning_rate_rows
from curate.comparator.points import (
    Points,
    cooled_down,
    headline_rows,
    make_points,
    refuse_confounds,
    split_learning_rates,
)
from curate.comparator.tables import complete, notes_of
from curate.comparator.uncertainty import Array, Draws, Posterior, decided_pairs, interval
from curate.comparator.verdict import (
    CellGap,
    Check,
    Comparison,
    Crossing,
    Estimate,
    MetricResult,
    MoreRuns,
    Noise,
    Pair,
    Ranked,
    Ranking,
    Span,
    Verdict,
)
from curate.errors import MeasurementError

MOST_EXTRA_RUNS = 32  # of one dataset at one rung: beyond that, another ladder is the better advice
PAIRS_WITH_ADVICE = 60  # pairs for which the advice on more runs is worked out
RULE = (
    "decided: zero lies outside the gap's interval at {confidence:.0%}, two-sided, for all pairs at that compute together "
    "(step-down maximum test over {bootstraps} bootstraps by run); P is one pair's own probability"
)


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


def compare(
    measurements: pa.Table,
    *,
    metric: str = "bits_per_byte",
    at: Sequence[float] = (),
    law: str = "power",
    seed: int = 0,
    bootstraps: int = 1000,
    confidence: float = 0.95,
) -> Verdict:
    """Compare the datasets of `measurements` (columns of SCHEMA, see `read_results`) on `metric` and each `metric/<heldout>`.

    `at`: compute in FLOPs at which to decide, by default the largest that all datasets reach. `law` draws the curves and multipliers; every
    registered law that the data permit is fitted beside it. The result depends on the table and `seed` only.
    Raises MeasurementError for a table that cannot be used and MismatchError for datasets that must not be compared.
    """
    if not 0.5 < confidence < 1:
        raise MeasurementError(f"confidence is {confidence}; it must lie between .5 and 1.")
    if bootstraps < 100:
        raise MeasurementError(f"bootstraps is {bootstraps}; fewer than 100 give no interval.")
    if any(not np.isfinite(c) or c <= 0 for c in at):
        raise MeasurementError(
            f"at holds {[c for c in at if not np.isfinite(c) or c <= 0]}: compute in FLOPs is positive."
        )
    chosen_law = find_law(law)
    table = complete(measurements)
    notes = list(notes_of(table))
    checks: list[Check] = []
    table = cooled_down(table, checks)
    table, other_rates = split_learning_rates(table)
    if not table.num_rows:
        raise MeasurementError("Every measurement has a learning_rate_factor other than 1; nothing is left to compare.")
    main = refuse_confounds(headline_rows(table, metric, notes), metric, checks)
    points = make_points(main)
    span = points.span(range(len(points.names)))
    settings = Settings(chosen_law, tuple(float(c) for c in at) or (span.high,), seed, bootstraps, confidence)
    headline, fitted = analyse(points, settings)
    others = []
    parts = sorted({name for name in table["metric"].to_pylist() if name.startswith(metric + "/")})
    if len(parts) > 1 or metric in table["metric"].to_pylist():  # a single one is the headline itself
        for name in parts:
            rows = refuse_confounds(table.filter(pc.equal(table["metric"], name)), name, checks)
            missing = sorted(set(points.names) - set(rows["dataset"].to_pylist()))
            if missing:
                notes.append(f"{name} was left out: not measured for {', '.join(missing)}")
            else:
                others.append(analyse(make_points(rows), settings)[0])
    rates = learning_rate_rows(main, other_rates, metric, noise_sd=headline.noise.run_sd.value)
    checks += run_checks(
        points, main, headline, others, rates, at=settings.at, law=chosen_law, fitted=fitted, confidence=confidence
    )
    order = {"severe": 0, "warning": 1, "note": 2}
    return Verdict(
        metric=metric,
        law=law,
        confidence=confidence,
        seed=seed,
        bootstraps=bootstraps,
        at=settings.at,
        headline=headline,
        others=tuple(others),
        checks=tuple(sorted(checks, key=lambda c: order[c.severity])),
        learning_rate=rates,
        notes=tuple(notes),
        rule=RULE.format(confidence=confidence, bootstraps=bootstraps),
    )


def analyse(points: Points, settings: Settings) -> tuple[MetricResult, list[FittedLaw]]:
    """Everything about one metric; also the fitted laws, for the checks."""
    gaps = pair_gaps(points, bootstraps=settings.bootstraps, seed=settings.seed)
    if gaps is not None:
        posterior, draws = gaps.posterior, gaps.draws
    else:
        unpaired = noise_without_pairs(points, bootstraps=settings.bootstraps, seed=settings.seed)
        if unpaired is None:
            raise MeasurementError(
                f"{points.metric}: {len(points)} points of {len(points.names)} datasets leave nothing to estimate the noise from; "
                "measure more scales, or more seeds of the smallest."
            )
        posterior, draws = unpaired
    laws = [settings.law, *(law for law in (POWER, CHINCHILLA) if law is not settings.law)]
    fitted = [f for law in laws for f in fit_laws(points, law, noise_sd=posterior.sigma, draws=draws)]
    chosen = {f.dataset: f for f in fitted if f.fit.law is settings.law}
    in_two_variables = {f.dataset: f for f in fitted if f.fit.law is CHINCHILLA}
    source = Advantage(gaps, chosen, in_two_variables if len(in_two_variables) == len(points.names) else chosen, points)
    count = len(points.names)
    at = np.array(settings.at)
    estimate, samples = advantages(source, at, count, len(draws.noise))
    grid = compute_grid(points, settings.at)
    pairs, rankings = compare_pairs(source, settings, estimate, samples, grid, draws)
    result = MetricResult(
        metric=points.metric,
        lower_is_better=points.lower_is_better,
        datasets=points.names,
        span=points.span(range(count)),
        noise=describe_noise(posterior, draws, points, settings.confidence),
        points=points.rows(),
        pairs=pairs,
        rankings=rankings,
        fits=tuple(describe(f, points, grid=grid, confidence=settings.confidence) for f in fitted),
    )
    return result, fitted


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
            f"{source.points.metric}: dataset {missing[0]!r} shares no (params, tokens) cell with the others and has too "
            "few points for a law of its own; measure it on the ladder of the others."
        )
    return estimate, samples


def paired_advantage(source: Advantage, flops: Array) -> tuple[Array, Array]:
    """The paired gaps at compute (m,). Outside what was measured, half of the draws go on as the gap model does and half as the laws do.

    Both start from the paired gap at the edge. Alone, the gap model's intervals cover .5 to .9 at a hundred times the compute when noise is
    small, and the laws' differences are twice as wide as need be; the pool covers .97 to 1 (simulated as in gaps.py).
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
        # positive: `first` is better
        gap = estimate[index, second] - estimate[index, first]
        drawn = samples[:, index, second] - samples[:, index, first]
        decided, critical = decided_pairs(gap, drawn, confidence=settings.confidence)
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
    rows = []
    for first, second in cell_differences(points, *pair):
        difference = float(points.value[first].mean() - points.value[second].mean())
        noise = draws.noise[:, first].mean(axis=1) - draws.noise[:, second].mean(axis=1)
        low, high = interval(difference + noise, confidence)
        rows.append(
            CellGap(
                scale=points.scale[int(first[0])],
                params=float(points.params[first[0]]),
                tokens=float(points.tokens[first[0]]),
                flops=float(points.flops[first[0]]),
                runs_first=len(first),
                runs_second=len(second),
                gap=Estimate(difference, float(low), float(high)),
            )
        )
    return tuple(rows)


def runs_to_decide(
    gaps: Gaps, pair: tuple[int, int], flops: float, size: float, error_now: float, critical: float
) -> MoreRuns | None:
    """The cheapest rung at which more seeds of both datasets would bring the error of a gap of this size below what decides it."""
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


def describe_noise(posterior: Posterior, draws: Draws, points: Points, confidence: float) -> Noise:
    low, high = interval(draws.sigma, confidence)
    cells: dict[tuple[int, int], set[int]] = {}
    for dataset, cell, run in zip(points.dataset, points.cell, points.run, strict=True):
        cells.setdefault((int(dataset), int(cell)), set()).add(int(run))
    replicated = len(set().union(*(runs for runs in cells.values() if len(runs) > 1), set()))
    return Noise(
        run_sd=Estimate(posterior.sigma, float(low), float(high)),
        branch_correlation=posterior.mean("rho"),
        misfit_sd=float(np.sqrt(posterior.mean("lam")) * posterior.sigma),
        degrees_of_freedom=posterior.dof,
        replicated_runs=replicated,
        source="restricted likelihood of run, branch and scale variances over all datasets and scales, replicated seeds and residuals pooled",
    )
