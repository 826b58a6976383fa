"""What could make the verdict wrong: each check a function from the evidence to rows of (name, severity, message,
remedy).

Severe means that the comparison may not mean what it says; the verdict's first line names it. Thresholds are rows of
LIMITS with their source.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate.comparator.curves import FittedLaw
from curate.comparator.laws import Law
from curate.comparator.points import Points, hyperparameters
from curate.comparator.verdict import Check, LearningRate, MetricResult

LIMITS = {
    "span_decades": 1.5,  # a shorter ladder cannot tell a power law from a line
    "points": 5,  # fewer than the parameters of L(N, D)
    "scales": 3,
    "extrapolation": 10.0,  # beyond it published fits miss by several percent (Gadre et al. 2024: C4 at 6.9B, 4.3%)
    "epochs": 4.0,  # repeated tokens count as new up to about four epochs (Muennighoff et al. 2023)
    "unique_over_budget": 1.5,
    "condition": 1e4,
}
IGNORED_HYPERPARAMETERS = ("seed", "step", "token", "budget", "path", "run", "dataset", "time", "warmup", "decay_step")


@dataclass(frozen=True)
class Evidence:
    """What the checks look at."""

    points: Points
    table: pa.Table
    headline: MetricResult
    others: Sequence[MetricResult]
    rates: Sequence[LearningRate]
    at: tuple[float, ...]
    law: Law
    fitted: Sequence[FittedLaw]
    confidence: float


def run_checks(
    points: Points,
    table: pa.Table,
    headline: MetricResult,
    others: Sequence[MetricResult],
    rates: Sequence[LearningRate],
    *,
    at: tuple[float, ...],
    law: Law,
    fitted: Sequence[FittedLaw],
    confidence: float,
) -> list[Check]:
    """Every check that fired."""
    evidence = Evidence(points, table, headline, others, rates, at, law, fitted, confidence)
    return [row for check in CHECKS for row in check(evidence)]


def few_points(e: Evidence) -> Iterator[Check]:
    for d, name in enumerate(e.points.names):
        cells = len(np.unique(e.points.cell[e.points.dataset == d]))
        if cells < LIMITS["points"]:
            yield Check(
                "few_points",
                "severe",
                f"{name} was measured on {cells} budget{'s' * (cells != 1)}, fewer than {LIMITS['points']}.",
                "Add sizes or decay branches.",
            )


def few_scales(e: Evidence) -> Iterator[Check]:
    if e.points.trajectory is None:
        return
    for d, name in enumerate(e.points.names):
        scales = len(np.unique(e.points.block[e.points.dataset == d]))
        if scales < LIMITS["scales"]:
            yield Check(
                "few_scales",
                "severe",
                f"{name} was measured at {scales} model size{'s' * (scales != 1)}: "
                f"a trend over sizes needs {LIMITS['scales']} or more.",
                "Add a model size; a ranking at one or two sizes need not hold at the next.",
            )


def short_span(e: Evidence) -> Iterator[Check]:
    span = e.headline.span
    if span.low > span.high:
        yield Check(
            "no_common_span",
            "severe",
            "The datasets share no range of compute: every comparison is an extrapolation.",
            "Train them on the same ladder.",
        )
    elif span.decades < LIMITS["span_decades"]:
        yield Check(
            "short_span",
            "warning",
            f"The common span is {span.decades:.1f} decades of compute ({span.low:.2g} to {span.high:.2g} FLOPs), "
            f"less than {LIMITS['span_decades']}.",
            "Add a smaller or a larger size; do not extrapolate from this one.",
        )


def far_extrapolation(e: Evidence) -> Iterator[Check]:
    span = e.headline.span
    for flops in e.at:
        factor = span.extrapolation(flops)
        if factor > LIMITS["extrapolation"]:
            yield Check(
                "extrapolation",
                "warning",
                f"{flops:.2g} FLOPs lies a factor {factor:.0f} outside what was measured.",
                "Trust the order there only after a run nearer to it; laws of a wrong form fail first at the far end.",
            )


def gap_below_noise(e: Evidence) -> Iterator[Check]:
    noise = e.headline.noise.run_sd.value
    for pair in e.headline.pairs:
        small = pair.comparisons[0]
        if small.decided or small.gap.value >= noise:
            continue
        yield Check(
            "gap_below_noise",
            "note",
            f"{small.better} and {small.worse} differ by {small.gap.value:.2g} at {small.at:.2g} FLOPs, "
            f"less than one run's noise "
            f"({noise:.2g}).",
            small.more_runs.message
            if small.more_runs
            else "More seeds of this ladder would not tell them apart: use a longer one.",
        )


def fits(e: Evidence) -> Iterator[Check]:
    by_law: dict[str, list[FittedLaw]] = {}
    for found in e.fitted:
        by_law.setdefault(found.fit.law.name, []).append(found)
    names = e.points.names
    if e.law.name not in by_law:
        yield Check(
            "law_not_fitted",
            "warning",
            f"The law {e.law.name!r} could not be fitted to any dataset: it needs "
            f"{', '.join(e.law.inputs)} and more cells than its "
            f"{len(e.law.parameters)} parameters, and a positive loss.",
            "Read the paired gaps; multipliers and curves need a law.",
        )
    rules: tuple[tuple[str, Callable[[FittedLaw], bool], str, str], ...] = (
        ("not_converged", lambda f: not f.fit.certificate.converged, "did not converge", "Do not use its parameters."),
        (
            "never_moved",
            lambda f: f.fit.certificate.moved < 1e-9 and f.fit.certificate.gradient_norm > 1e-3,
            "never left its start",
            "Do not use its parameters: the optimiser failed.",
        ),
        (
            "at_bound",
            lambda f: bool(f.fit.certificate.at_bound),
            "ended at a bound",
            "Its parameters mean nothing by themselves; the curve inside the span still does.",
        ),
        (
            "not_identified",
            lambda f: f.fit.certificate.condition > LIMITS["condition"],
            "has parameters that these points cannot tell apart",
            "Read the curve, not the parameters; a longer span would separate them.",
        ),
        (
            "several_optima",
            lambda f: f.fit.certificate.distinct_optima > 3,
            "has several local optima",
            "The best of all starts was taken; look at the residuals.",
        ),
    )
    for law, fitted in by_law.items():
        for name, failed, what, remedy in rules:
            hit = [f for f in fitted if failed(f)]
            if hit:
                which = ", ".join(
                    names[f.dataset] + (f" ({', '.join(f.fit.certificate.at_bound)})" if name == "at_bound" else "")
                    for f in hit
                )
                yield Check(
                    name, "warning" if law == e.law.name else "note", f"The {law} law of {which} {what}.", remedy
                )


def repetition(e: Evidence) -> Iterator[Check]:
    for d, name in enumerate(e.points.names):
        mine = (e.points.dataset == d) & ~np.isnan(e.points.unique_tokens) & ~np.isnan(e.points.tokens)
        if not mine.any():
            continue
        epochs = float((e.points.tokens[mine] / e.points.unique_tokens[mine]).max())
        if epochs > LIMITS["epochs"]:
            yield Check(
                "epochs",
                "warning",
                f"{name} was seen {epochs:.1f} times in the longest run, more than {LIMITS['epochs']:.0f} epochs.",
                "Its last points measure repetition as much as quality; use a larger dataset or smaller budgets.",
            )
        elif epochs > 1.0 / LIMITS["unique_over_budget"]:
            held = 1.0 / epochs
            yield Check(
                "repetition",
                "warning" if epochs > 1 else "note",
                f"{name} holds {held:.2g} x the tokens of the largest budget"
                + (": some were seen twice." if epochs > 1 else "."),
                f"At least {LIMITS['unique_over_budget']} x is wanted, or a filter that "
                "keeps little looks better than it is.",
            )


def one_seed(e: Evidence) -> Iterator[Check]:
    if e.headline.noise.replicated_runs == 0:
        yield Check(
            "one_seed",
            "warning",
            "No cell was run with more than one seed: the noise is known only from how far "
            "the points lie off the fitted gaps.",
            "Run three seeds of the smallest size.",
        )


def held_out_disagree(e: Evidence) -> Iterator[Check]:
    for other in e.others:
        heldout = other.metric.partition("/")[2]
        for pair in e.headline.pairs:
            ours, theirs = pair.comparisons[0], other.pair(pair.first, pair.second).comparisons[0]
            if theirs.decided and theirs.better != ours.better:
                yield Check(
                    "held_out_disagrees",
                    "warning",
                    f"{heldout} held-out set orders differently: {theirs.better} > {theirs.worse}",
                    "Choose the held-out set that is like your use, or report both.",
                )


def learning_rate(e: Evidence) -> Iterator[Check]:
    for row in e.rates:
        if row.flips:
            pairs = "; ".join(f"{a} and {b}" for a, b in row.flips[:3])
            yield Check(
                "learning_rate",
                "note" if row.within_noise else "warning",
                f"learning rate x{row.factor:.3g} changes the order of {pairs} at the {row.scale} rung"
                + (" (within noise)" if row.within_noise else ""),
                "Tune the learning rate on a neutral mixture, or compare at each dataset's best.",
            )


def hyperparameters_differ(e: Evidence) -> Iterator[Check]:
    """A hyper-parameter that differs between datasets on the same cell is confounded with the dataset."""
    by_cell: dict[tuple[int, str], dict[str, set[str]]] = {}
    rows = hyperparameters(e.table)
    for cell, d, values in zip(e.points.cell, e.points.dataset, rows, strict=True):
        for key, value in values.items():
            if not any(word in key.lower() for word in IGNORED_HYPERPARAMETERS):
                by_cell.setdefault((int(cell), key), {}).setdefault(e.points.names[int(d)], set()).add(str(value))
    differing: dict[str, str] = {}
    for (_, key), by_dataset in by_cell.items():
        if len({frozenset(v) for v in by_dataset.values()}) > 1:
            differing.setdefault(
                key, "; ".join(f"{n} {', '.join(sorted(v))}" for n, v in sorted(by_dataset.items())[:4])
            )
    for key, shown in differing.items():
        yield Check(
            "hyperparameters",
            "severe",
            f"{key} differs between datasets on the same cell ({shown}): it is confounded with the dataset.",
            "Train all datasets with one procedure, or compare only runs that agree.",
        )


def without_pairs(e: Evidence) -> Iterator[Check]:
    pairs = [f"{p.first} and {p.second}" for p in e.headline.pairs if p.method == "laws"]
    if pairs:
        yield Check(
            "not_paired",
            "warning",
            f"{'; '.join(pairs[:3])} share no (params, tokens) cell: compared by the difference of their laws.",
            "Train both on the same sizes and budgets: paired gaps decide with about a third of the difference.",
        )


CHECKS: tuple[Callable[[Evidence], Iterator[Check]], ...] = (
    hyperparameters_differ,
    few_points,
    few_scales,
    short_span,
    without_pairs,
    far_extrapolation,
    one_seed,
    held_out_disagree,
    learning_rate,
    repetition,
    fits,
    gap_below_noise,
)
