"""The result of a back-test as frozen values that print themselves; backtest.py makes it.

Errors are relative to the loss (to 1 - share for accuracies), compute is in FLOPs, predictions are in the metric's own
units. `covers()` is False where the hold-outs contradict a band, None where they are too few to say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.comparator.backtests.conformal import ConformalScale, Coverage
from curate.comparator.backtests.decisions import DecisionRow
from curate.comparator.verdict import to_plain


@dataclass(frozen=True)
class Score:
    """A law's hold-outs between two horizons: errors are relative to the loss (to 1 - share for accuracies)."""

    beyond: float
    """Horizons above this factor ..."""
    to: float
    """... and up to this one (infinite: any)."""
    n: int
    runs: int
    """Different runs among the n predictions: what an interval counts."""
    median_error: float
    rms_error: float
    bias: float
    """Mean of log(predicted / measured): positive = the law promised worse than what came."""
    half_width: float
    """Median relative half-width of the claimed band."""
    claimed: Coverage
    calibrated: Coverage
    """Of the band widened by what had been held out before; its n is smaller: early cuts have no such past."""


@dataclass(frozen=True)
class LawScore:
    """What a law's predictions were worth. `scale` is what to multiply its next band by (not below 1)."""

    law: str
    formula: str
    parameters: int
    cuts: int
    """Cuts at which it could be fitted to at least one dataset."""
    overall: Score
    horizons: tuple[Score, ...]
    scale: ConformalScale


@dataclass(frozen=True)
class Contrast:
    """A law against the best on the hold-outs that all compared laws predicted: mean |log error|, and by how much more
    than the best's, with the standard error of that over held-out cells.
    """

    law: str
    mean_error: float
    excess: float
    standard_error: float
    cells: int


@dataclass(frozen=True)
class Forecast:
    """One law carried to one place; in the metric's own units. `actual` is null where nothing was measured there."""

    dataset: str
    law: str
    flops: float
    params: float | None
    tokens: float | None
    horizon: float
    predicted: float
    low: float
    high: float
    calibrated_low: float | None
    calibrated_high: float | None
    run_id: str | None
    actual: float | None
    inside: bool | None
    calibrated_inside: bool | None


@dataclass(frozen=True)
class Envelope:
    """One place at the target under all laws that the hold-outs do not tell from the best: the bands' joint hull."""

    dataset: str
    flops: float
    laws: tuple[str, ...]
    low: float
    high: float
    run_id: str | None
    actual: float | None
    inside: bool | None


@dataclass(frozen=True)
class Sealed:
    """A law on the points at the target, which nothing before had seen."""

    law: str
    n: int
    median_error: float
    claimed: Coverage
    calibrated: Coverage
    """Of the band widened by the conformal scale; n = 0 where that was not available."""


@dataclass(frozen=True)
class Backtest:
    """What predicting beyond the fit was worth on this table, by law and horizon; prints itself."""

    metric: str
    lower_is_better: bool
    datasets: tuple[str, ...]
    points: int
    cuts: tuple[float, ...]
    confidence: float
    seed: int
    bootstraps: int
    estimator: str
    laws: tuple[LawScore, ...]
    contrasts: tuple[Contrast, ...]
    near: tuple[str, ...]
    """Laws within one standard error of the best: the hold-outs do not tell them apart."""
    chosen: str | None
    reason: str
    """Why that law, or why none."""
    rule: str
    target_flops: float | None
    forecasts: tuple[Forecast, ...]
    envelopes: tuple[Envelope, ...]
    sealed: tuple[Sealed, ...]
    sealed_envelope: Coverage
    decisions: tuple[DecisionRow, ...]
    notes: tuple[str, ...]
    """What was left out, counted."""

    def law(self, name: str | None = None) -> LawScore:
        """The scores of one law, by default the chosen one; KeyError where it was not tried."""
        for found in self.laws:
            if found.law == (name or self.chosen):
                return found
        raise KeyError(f"no back-test of {name or self.chosen!r}; tried: {', '.join(s.law for s in self.laws)}")

    def covers(self, law: str | None = None) -> bool | None:
        """Whether the claimed bands of `law` (default: the chosen one) covered what they claim; None: too few to
        say.
        """
        try:
            return self.law(law).overall.claimed.covers()
        except KeyError:
            return None

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a law and horizon, for tables."""
        return [
            {
                "law": found.law,
                "parameters": found.parameters,
                "horizon": horizon_name(score),
                "predictions": score.n,
                "runs": score.runs,
                "median relative error": score.median_error,
                "rms relative error": score.rms_error,
                "half-width": score.half_width,
                "covered": score.claimed.share,
                "band": score.claimed.verdict,
                "widen by": found.scale.scale,
                "covered when widened": score.calibrated.share,
                "widened band": score.calibrated.verdict,
            }
            for found in self.laws
            for score in (found.overall, *found.horizons)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and finite numbers, with the printed lines under `lines`."""
        plain: dict[str, Any] = to_plain(self)
        plain["lines"] = list(self.lines)
        return plain

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(print_lines(self))

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        from curate.report.notebook import rows_html  # pages and notebooks are the report's

        return str(rows_html(self))


def horizon_name(score: Score) -> str:
    if score.to == math.inf:
        return "all" if score.beyond <= 1.0 else f"> x{score.beyond:.0f}"
    return f"x{score.beyond:.0f}-{score.to:.0f}"


def print_lines(result: Backtest) -> list[str]:
    count = len(result.datasets)
    head = f"back-test of {result.metric}: {result.points} points of {count} dataset{'s' if count != 1 else ''}"
    if not result.laws and not result.sealed:
        return [f"{head}: {result.reason}", *(f"  {note}" for note in result.notes)]
    lines = (
        [head]
        if not result.cuts
        else [
            f"{head}, fitted up to {len(result.cuts)} cuts ({result.cuts[0]:.2g} to {result.cuts[-1]:.2g} FLOPs), "
            f"seed {result.seed}",
            f"{'law':<14}{'beyond':<9}{'n':>5}{'runs':>6}{'median':>9}{'rms':>9}"
            f"{f'{result.confidence:.0%} band':>12}{'held':>7}  verdict",
        ]
    )
    for found in result.laws:
        for score in (found.overall, *(found.horizons if found.law == result.chosen else ())):
            lines.append(
                f"{found.law if score is found.overall else '':<14}{horizon_name(score):<9}{score.n:>5}{score.runs:>6}"
                f"{score.median_error:>9.2%}{score.rms_error:>9.2%}{score.half_width:>11.1%}"
                f" {score.claimed.share:>7.2f}  {score.claimed.verdict}"
            )
        if found.law == result.chosen:
            line = f"{'':<14}conformal scale {found.scale}"
            if found.overall.calibrated.n:
                line += f"; widened by what came before, {found.overall.calibrated}"
            lines.append(line)
    if not result.laws:
        lines[1:] = []
    lines.append(f"form: {result.chosen or 'none chosen'} ({result.reason})")
    for at_target in result.sealed:
        if result.chosen in (None, at_target.law):
            lines.append(
                f"sealed at {result.target_flops:.2g} FLOPs and beyond: {at_target.law} missed by "
                f"{at_target.median_error:.2%} (median of {at_target.n}); {at_target.claimed}"
                + (f"; widened, {at_target.calibrated}" if at_target.calibrated.n else "")
            )
    if result.sealed_envelope.n and len(result.near) > 1:
        lines.append(f"  {', '.join(result.near)} together: {result.sealed_envelope}")
    lines += decision_lines(result.decisions)
    return lines + [f"  {note}" for note in result.notes]


def decision_lines(rows: Sequence[DecisionRow]) -> list[str]:
    """The cheapest single scale, and every method at the dearest compute below the target."""
    if not rows:
        return []
    dearest = max(r.up_to_flops for r in rows)
    best_law = [r for r in rows if r.method.startswith("law ") and r.up_to_flops >= dearest * (1 - 1e-9)]
    shown = [rows[0]] + [r for r in rows if r.up_to_flops >= dearest * (1 - 1e-9) and r is not rows[0]]
    shown = [r for r in shown if r not in best_law] + best_law
    lines = [f"order at {rows[0].target} ({rows[0].target_flops:.2g} FLOPs, {rows[0].target_seeds}), by:"]
    for r in shown:
        lines.append(
            f"  {r.method:<16}{r.scale:<22}{r.share_of_target:>7.1%} of its compute  "
            f"{r.accuracy.value:.3f} [{r.accuracy.low:.2f}, {r.accuracy.high:.2f}] of {r.accuracy.pairs} pairs"
            + (" (branches of the target's own runs)" if r.same_runs else "")
        )
    return lines
