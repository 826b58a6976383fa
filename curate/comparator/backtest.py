"""Back-tests: fit up to C_k, predict what lies beyond, and see what became of the prediction and of its band.

Every law that the table permits is fitted at each of a few cuts to each dataset's past (holdouts.py) and judged on
the points beyond: relative error and coverage of the claimed band by horizon, and the factor by which the band must be
widened (conformal.py), itself judged only on points that came later; no band is narrowed, for a target lies farther
than the hold-outs did. The form is chosen by the one-standard-error rule on those hold-outs (choice.py). Points at
`target_flops` and beyond are sealed: they enter no fit, no choice and no band, and are predicted once, at the end.
Rankings stand beside the fits (decisions.py).

Hold-outs of one ladder are not independent (datasets share cells, cuts share points): a point predicted from several
cuts counts once for an interval, and cells, not points, are what laws are compared on.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.comparator.backtests.backtested import Backtest, Envelope, Forecast, LawScore, Score, Sealed
from curate.comparator.backtests.choice import RULES, Rule, choose
from curate.comparator.backtests.conformal import ConformalScale, Coverage, conformal_scale, coverage, rolling_scales
from curate.comparator.backtests.decisions import SeedsOfRanker, SeedsOfTarget, decision_table
from curate.comparator.backtests.holdouts import (
    HeldOut,
    band_score,
    carry_on,
    choose_cuts,
    enough_points,
    hold_out,
    select,
    up_to,
    widen,
)
from curate.comparator.fit import Estimator, law_inputs
from curate.comparator.laws import CHINCHILLA, POWER, POWER2, Law, find_law
from curate.comparator.matching import Pool, guard
from curate.comparator.points import Points, as_points
from curate.comparator.rows import metric_rows
from curate.comparator.tables import complete, headline_metric, notes_of
from curate.comparator.verdict import Check
from curate.errors import MeasurementError

__all__ = ["Backtest", "backtest", "backtest_points"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HORIZONS = (1.0, 3.0, 10.0, 30.0, math.inf)  # factors beyond what the fit saw
CANDIDATES = (POWER2, POWER, CHINCHILLA)
SEALED = 0.99  # a point within 1% of the target is at the target


def backtest(
    measurements: pa.Table,
    *,
    metric: str | None = None,
    laws: Sequence[str | Law] | None = None,
    estimator: Estimator | None = None,
    target_flops: float | None = None,
    target_seeds: SeedsOfTarget = "mean of seeds",
    small_seeds: SeedsOfRanker = "mean of seeds",
    pool: Pool = "matched",
    rule: Rule = "one standard error",
    confidence: float = 0.95,
    bootstraps: int = 200,
    seed: int = 0,
) -> Backtest:
    """Back-test the laws on `metric` (by default the only one) of a measurements table (one dataset suffices): see
    `backtest_points`.

    Rows are chosen as `compare` chooses them (rows.py): cooled-down models, no copies, the procedure's own learning
    rate, settings that match (`pool="all"`: any); what is left out is counted in `notes`. Raises MeasurementError or
    MismatchError.
    """
    table = complete(measurements)
    metric = metric if metric is not None else headline_metric(table)
    notes = list(notes_of(table))
    checks: list[Check] = []
    rows = metric_rows(table, metric, checks, [], notes)
    if rows.other_rates.num_rows:
        notes.append(f"{rows.other_rates.num_rows} measurements at another learning rate were left out.")
    if rows.composite is not None:
        notes.append("the composite's weights come from all of its points, those held out and the target's among them.")
    guarded = guard(rows.every_run, metric, pool=pool)
    return backtest_points(
        as_points(guarded.table),
        laws=laws,
        estimator=estimator,
        target_flops=target_flops,
        target_seeds=target_seeds,
        small_seeds=small_seeds,
        rule=rule,
        confidence=confidence,
        bootstraps=bootstraps,
        seed=seed,
        notes=(*notes, *(c.message for c in (*checks, *guarded.checks))),
    )


def backtest_points(
    points: Points,
    *,
    laws: Sequence[str | Law] | None = None,
    estimator: Estimator | None = None,
    target_flops: float | None = None,
    target_seeds: SeedsOfTarget = "mean of seeds",
    small_seeds: SeedsOfRanker = "mean of seeds",
    rule: Rule = "one standard error",
    confidence: float = 0.95,
    bootstraps: int = 200,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> Backtest:
    """Fit up to each of at most ten cuts, predict beyond, judge errors, bands and rankings; choose a form.

    `laws` are names or laws, by default two- and three-parameter powers of compute and Chinchilla's form; those whose
    inputs or points are lacking are named in `notes`. `estimator` defaults to Huber's at 1.345 of the residuals' own
    spread. With `target_flops`, points at or beyond it are sealed and forecast at the end from everything below;
    where nothing was measured there, the forecasts stand alone. The result depends on the points and `seed` only.
    """
    if target_flops is not None and not (np.isfinite(target_flops) and target_flops > 0):
        raise MeasurementError(f"target_flops is {target_flops}: compute in FLOPs is positive.")
    candidates = [find_law(law) if isinstance(law, str) else law for law in (CANDIDATES if laws is None else laws)]
    said = list(notes)
    usable, why_not = usable_rows(points)
    said += why_not
    limit = math.inf if target_flops is None else target_flops * SEALED
    open_rows = usable & up_to(points, limit)
    sealed_rows = usable & (points.flops >= limit)
    held_back = int((usable & ~open_rows & ~sealed_rows).sum())
    if held_back:
        said.append(f"{held_back} points below the target belong to runs that reach it, and were left out with them.")
    ladder = select(points, open_rows)
    cuts = choose_cuts(ladder) if len(ladder) else ()
    never = [
        name
        for number, name in enumerate(points.names)
        if not any(enough_points(ladder, law, ladder.dataset == number) for law in candidates)
    ]
    if never:
        said.append(f"{len(never)} of {len(points.names)} datasets have too few points for any of the laws.")
    straddling = {int(r) for c in cuts for r in ladder.run[(ladder.flops <= c) & ~up_to(ladder, c)]}
    if straddling:
        said.append(f"{len(straddling)} runs have points on both sides of a cut: there they are held out as a whole.")
    found = [
        hold_out(ladder, law, cuts=cuts, estimator=estimator, bootstraps=bootstraps, confidence=confidence, seed=seed)
        for law in candidates
    ]
    untried = [h.law.name for h in found if not len(h)]
    if untried:
        said.append(
            f"{', '.join(untried)} could not be tested: no cut leaves a dataset with its inputs (varying apart "
            "where there are several), more cells than parameters, and points beyond."
        )
    tested = [h for h in found if len(h)]
    scores = tuple(score_law(ladder, h, confidence) for h in tested)
    contrasts, near, chosen, reason = choose(ladder, tested, rule)
    forecasts: tuple[Forecast, ...] = ()
    envelopes: tuple[Envelope, ...] = ()
    if target_flops is not None:
        forecasts = forecast_target(
            points,
            open_rows,
            sealed_rows,
            candidates,
            {s.law: s.scale for s in scores},
            target_flops=target_flops,
            estimator=estimator,
            bootstraps=bootstraps,
            confidence=confidence,
            seed=seed,
        )
        envelopes = join_bands(forecasts, near)
    return Backtest(
        metric=points.metric,
        lower_is_better=points.lower_is_better,
        datasets=points.names,
        points=int(usable.sum()),
        cuts=tuple(c for c in cuts if any((h.cut == c).any() for h in tested)),
        confidence=confidence,
        seed=seed,
        bootstraps=bootstraps,
        estimator=estimator.name if estimator else "Huber on log loss at 1.345 residual standard deviations",
        laws=scores,
        contrasts=contrasts,
        near=near,
        chosen=chosen,
        reason=reason,
        rule=RULES[rule],
        target_flops=target_flops,
        forecasts=forecasts,
        envelopes=envelopes,
        sealed=judge_sealed(forecasts, points, confidence),
        sealed_envelope=judge([e for e in envelopes if e.actual is not None], "inside", confidence),
        decisions=decision_table(
            points,
            laws=candidates,
            estimator=estimator,
            target_flops=target_flops,
            target_seeds=target_seeds,
            small_seeds=small_seeds,
            confidence=confidence,
            seed=seed,
        ),
        notes=tuple(said),
    )


def usable_rows(points: Points) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Rows that a law can be held to, and what is said of the others."""
    if not points.lower_is_better and not points.is_share:
        return np.zeros(len(points), dtype=bool), [
            f"{points.metric} is neither a loss nor a share between 0 and 1: no law applies to it."
        ]
    usable = (points.bad > 0) & np.isfinite(points.flops)
    if usable.all():
        return usable, []
    return usable, [f"{int((~usable).sum())} points of {points.metric} are at their best possible value: left out."]


def score_law(points: Points, held: HeldOut, confidence: float) -> LawScore:
    """Errors and coverage over all hold-outs and by horizon; `held` has at least one."""
    run, dataset = points.run[held.row], points.dataset[held.row]
    known = rolling_scales(held.score, run, known_at=held.flops, asked_at=held.cut, nominal=confidence)
    known = np.maximum(known, 1.0)  # NaN stays NaN

    def between(low: float, high: float) -> Score:
        rows = (held.horizon > low) & (held.horizon <= high)
        part, scale = held.take(rows), known[rows]
        ready = ~np.isnan(scale)
        error = np.abs(np.expm1(part.log_error))
        return Score(
            beyond=low,
            to=high,
            n=len(part),
            runs=len(np.unique(run[rows])),
            median_error=float(np.median(error)),
            rms_error=float(np.sqrt(np.mean(error**2))),
            bias=float(part.log_error.mean()),
            half_width=float(np.median(0.5 * (part.high - part.low) / part.predicted)),
            claimed=coverage(part.score <= 1.0, run[rows], nominal=confidence, groups=dataset[rows]),
            calibrated=coverage(
                part.score[ready] <= scale[ready], run[rows][ready], nominal=confidence, groups=dataset[rows][ready]
            ),
        )

    edges = [(low, high) for low, high in pairwise(HORIZONS) if ((held.horizon > low) & (held.horizon <= high)).any()]
    return LawScore(
        law=held.law.name,
        formula=held.law.formula,
        parameters=len(held.law.parameters),
        cuts=len(np.unique(held.cut)),
        overall=between(HORIZONS[0], HORIZONS[-1]),
        horizons=tuple(between(*edge) for edge in edges),
        scale=conformal_scale(held.score, run, nominal=confidence),
    )


def forecast_target(
    points: Points,
    open_rows: npt.NDArray[np.bool_],
    sealed_rows: npt.NDArray[np.bool_],
    laws: Sequence[Law],
    scales: dict[str, ConformalScale],
    *,
    target_flops: float,
    estimator: Estimator | None,
    bootstraps: int,
    confidence: float,
    seed: int,
) -> tuple[Forecast, ...]:
    """Every law of every dataset, fitted to the open points and carried to its sealed ones, or to the target on the
    ladder's trajectory where it has none there.
    """
    out: list[Forecast] = []
    for law in laws:
        for dataset in range(len(points.names)):
            mine = points.dataset == dataset
            past, beyond = mine & open_rows, mine & sealed_rows
            if not enough_points(points, law, past):
                continue
            rows: list[int | None] = [int(r) for r in np.flatnonzero(beyond)] or [None]
            columns = points.columns(beyond) if beyond.any() else points.on_trajectory(np.array([target_flops]))
            places = law_inputs(law, columns)
            if places is None:
                continue
            band = carry_on(
                points,
                law,
                past,
                places,
                estimator=estimator,
                bootstraps=bootstraps,
                confidence=confidence,
                rng=np.random.default_rng([seed, dataset]),
            )
            scale = scales[law.name].scale if law.name in scales else None
            scale = None if scale is None else max(scale, 1.0)
            wide = widen(band.predicted, band.low, band.high, scale) if scale is not None else None
            for place, row in enumerate(rows):
                edges = np.array([band.low[place], band.high[place]])
                wider = np.array([wide[0][place], wide[1][place]]) if wide else None
                actual = float(points.value[row]) if row is not None else None
                score = None
                if row is not None:
                    ends = (band.predicted[[place]], band.low[[place]], band.high[[place]])
                    score = float(band_score(*ends, points.bad[[row]])[0])
                low, high = np.sort(points.as_measured(edges))
                bottom, top = np.sort(points.as_measured(wider)) if wider is not None else (None, None)
                flops = float(columns["flops"][place])
                out.append(
                    Forecast(
                        dataset=points.names[dataset],
                        law=law.name,
                        flops=flops,
                        params=known(columns.get("params"), place),
                        tokens=known(columns.get("tokens"), place),
                        horizon=flops / band.seen,
                        predicted=float(points.as_measured(band.predicted[[place]])[0]),
                        low=float(low),
                        high=float(high),
                        calibrated_low=None if bottom is None else float(bottom),
                        calibrated_high=None if top is None else float(top),
                        run_id=points.run_id[row] if row is not None else None,
                        actual=actual,
                        inside=None if score is None else score <= 1.0,
                        calibrated_inside=None if score is None or scale is None else score <= scale,
                    )
                )
    return tuple(out)


def known(column: Array | None, place: int) -> float | None:
    return float(column[place]) if column is not None and np.isfinite(column[place]) else None


def join_bands(forecasts: Sequence[Forecast], near: Sequence[str]) -> tuple[Envelope, ...]:
    """At each place the hull of the bands of the laws that the hold-outs leave open."""
    places: dict[tuple[str, float, str | None], list[Forecast]] = {}
    for f in forecasts:
        if f.law in near:
            places.setdefault((f.dataset, f.flops, f.run_id), []).append(f)
    out = []
    for (dataset, flops, run_id), found in places.items():
        low, high = min(f.low for f in found), max(f.high for f in found)
        actual = found[0].actual
        inside = None if actual is None else low <= actual <= high
        out.append(Envelope(dataset, flops, tuple(f.law for f in found), low, high, run_id, actual, inside))
    return tuple(out)


def judge_sealed(forecasts: Sequence[Forecast], points: Points, confidence: float) -> tuple[Sealed, ...]:
    """Error and coverage of every law at the target; empty where nothing was measured there."""
    out = []
    for law in dict.fromkeys(f.law for f in forecasts):
        mine = [f for f in forecasts if f.law == law and f.actual is not None]
        if not mine:
            continue
        sides = (np.array([getattr(f, side) for f in mine], dtype=float) for side in ("predicted", "actual"))
        predicted, actual = (1.0 - side if points.is_share else side for side in sides)
        out.append(
            Sealed(
                law=law,
                n=len(mine),
                median_error=float(np.median(np.abs(predicted / actual - 1.0))),
                claimed=judge(mine, "inside", confidence),
                calibrated=judge([f for f in mine if f.calibrated_inside is not None], "calibrated_inside", confidence),
            )
        )
    return tuple(out)


def judge(places: Sequence[Forecast] | Sequence[Envelope], inside: str, confidence: float) -> Coverage:
    """Coverage over measured places, runs as clusters."""
    return coverage(
        [bool(getattr(f, inside)) for f in places],
        np.array([f"{f.dataset}\0{f.run_id}" for f in places]),
        nominal=confidence,
        groups=np.array([f.dataset for f in places]),
    )
