"""`compare`: a measurements table in, a verdict out. Which dataset is better, at which compute, by how much, and how
sure.

Gaps come from paired cells (gaps.py), curves and multipliers from laws (curves.py), both from one set of bootstraps
by run (uncertainty.py). A pair is decided at a compute when zero lies outside its interval simultaneously with all
other pairs there (step-down maximum test): with equal datasets, any pair is called decided with probability 1 -
confidence at most. P(better) is one pair's own.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.comparator.advantage import Advantage, Settings, advantages
from curate.comparator.checks import run_checks
from curate.comparator.curves import FittedLaw, compute_grid, describe, fit_laws
from curate.comparator.gaps import noise_without_pairs, pair_gaps
from curate.comparator.laws import CHINCHILLA, POWER, find_law
from curate.comparator.learning_rate import learning_rate_rows
from curate.comparator.pairs import compare_pairs
from curate.comparator.points import (
    Points,
    cooled_down,
    headline_rows,
    make_points,
    refuse_confounds,
    split_learning_rates,
)
from curate.comparator.tables import complete, notes_of
from curate.comparator.uncertainty import Draws, Posterior, interval
from curate.comparator.verdict import Check, Estimate, MetricResult, Noise, Verdict
from curate.errors import MeasurementError

RULE = (
    "decided: zero lies outside the gap's interval at {confidence:.0%}, two-sided, for all pairs "
    "at that compute together (step-down maximum test over {bootstraps} bootstraps by run); "
    "P is one pair's own probability"
)


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
    """Compare the datasets of `measurements` (columns of SCHEMA, see `read_results`) on `metric` and each
    `metric/<heldout>`.

    `at`: compute in FLOPs at which to decide, by default the largest that all datasets reach. `law` draws the curves
    and multipliers; every registered law that the data permit is fitted beside it. The result depends on the table
    and `seed` only. Raises MeasurementError for a table that cannot be used and MismatchError for datasets that must
    not be compared.
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
            own: list[Check] = []
            rows = refuse_confounds(table.filter(pc.equal(table["metric"], name)), name, own)
            checks += [c for c in own if c.name not in {known.name for known in checks}]
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
                f"{points.metric}: {len(points)} points of {len(points.names)} datasets leave nothing to "
                "estimate the noise from; measure more scales, or more seeds of the smallest."
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
        source="restricted likelihood of run, branch and scale variances over all datasets and scales, "
        "replicated seeds and residuals pooled",
    )
