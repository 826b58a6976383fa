"""What the page shows of the laws: curves with bands, gaps of pairs, fits with their certificates, the noise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.report.elements import aside, cell, folded, name_of, note, number, row, table
from curate.report.figures import Style, gap_figure, law_figure, metric_label
from curate.report.markup import Html, join, legible, tag
from curate.report.numbers import compact, count, digits, estimate, interval, power_of_ten

if TYPE_CHECKING:
    from curate.comparator.verdict import Estimate, LawFit, MetricResult, Verdict

MOST_GAP_FIGURES = 15
"""Pairs drawn, in the order of the verdict; all pairs stand in the table."""


def laws_section(verdict: "Verdict", looks: dict[str, Style]) -> Html:
    """The headline metric in full, the held-out sets folded away."""
    words = (
        f"Bands are {100 * verdict.confidence:g}% intervals ({count(verdict.bootstraps)} bootstraps by run, "
        f"seed {verdict.seed}). Lines are dashed where a law goes beyond the dataset's own points; the shaded range of "
        "compute is common to all. Point at a marker for its run."
    )
    return join(
        [
            note(words),
            _law(verdict.headline, verdict, looks),
            tag("h3", "Gaps"),
            _gaps(verdict, looks),
            tag("h3", "Fits"),
            _fits(verdict.headline, looks),
            [
                folded(f"The same for {metric_label(each.metric)}", _law(each, verdict, looks), _fits(each, looks))
                for each in verdict.others
            ],
        ]
    )


def _law(result: "MetricResult", verdict: "Verdict", looks: dict[str, Style]) -> Html:
    if not result.points:
        return tag("p", f"There are no points of {metric_label(result.metric)}.")
    return tag("figure", law_figure(result, law=verdict.law, at=verdict.at, looks=looks))


def _gaps(verdict: "Verdict", looks: dict[str, Style]) -> Html:
    words = (
        f"How much better the first dataset is, above zero: curve with its {100 * verdict.confidence:g}% band; points "
        "are cells of equal N and D that both have. Dotted: the compute asked for."
    )
    drawn = verdict.pairs[:MOST_GAP_FIGURES]
    figures = [gap_figure(pair, verdict.headline, at=verdict.at, looks=looks) for pair in drawn]
    left = len(verdict.pairs) - len(drawn)
    more = note(f"{left} more pairs stand in the table above.") if left else None
    return join([note(words), tag("div.grid", figures), more])


def _fits(result: "MetricResult", looks: dict[str, Style]) -> Html:
    """One table a law: parameters differ from law to law."""
    laws = dict.fromkeys(fit.law for fit in result.fits)
    if not laws:
        return join([tag("p", "No law could be fitted: see the warnings."), _noise(result)])
    tables = [_fit_table([fit for fit in result.fits if fit.law == law], looks) for law in laws]
    return join([*tables, _noise(result)])


def _fit_table(fits: "Sequence[LawFit]", looks: dict[str, Style]) -> Html:
    names = list(dict.fromkeys(name for fit in fits for name in fit.parameters))
    rows = [
        row(
            cell(name_of(fit.dataset, looks)),
            [_parameter(fit.parameters.get(name)) for name in names],
            number(digits(fit.residual_sd, 3)),
            cell(_certificate(fit)),
        )
        for fit in fits
    ]
    origin = aside(legible(f" {fits[0].estimator}; {fits[0].source}", 200))
    caption = [fits[0].law, " ", tag("code", legible(fits[0].formula, 120)), origin]
    heads = ("dataset", *names, "residual sd", "certificate")
    return table(heads, rows, caption=caption, numeric=range(1, len(names) + 2))


def _parameter(value: "Estimate | None") -> Html:
    if value is None:
        return number("–")
    return number(digits(value.value, 4), tag("br"), aside(interval(value.low, value.high)))


def _certificate(fit: "LawFit") -> Html:
    shown = fit.certificate
    words = [
        "converged" if shown.converged else "NOT converged",
        f"gradient {power_of_ten(shown.gradient_norm)}",
        f"moved {digits(shown.moved, 2)}",
        f"{shown.distinct_optima} {'optimum' if shown.distinct_optima == 1 else 'optima'} from {shown.starts} starts",
        f"condition {compact(shown.condition)}",
    ]
    words += [f"at its bound: {', '.join(shown.at_bound)}"] if shown.at_bound else []
    return tag("span.aside" if shown.converged and not shown.at_bound else "span.undecided", ", ".join(words))


def _noise(result: "MetricResult") -> Html:
    noise = result.noise
    return note(
        f"Noise: run-to-run standard deviation {estimate(noise.run_sd)} ({noise.replicated_runs} replicated runs, "
        f"{noise.degrees_of_freedom} degrees of freedom), correlation of a run's branches "
        f"{digits(noise.branch_correlation, 2)}, misfit {digits(noise.misfit_sd, 3)}. "
        f"Source: {legible(noise.source, 300)}."
    )
