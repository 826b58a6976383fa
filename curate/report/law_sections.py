"""What the page shows of the laws: curves with bands, gaps of pairs, fits with their certificates, the noise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.report.elements import aside, cell, folded, name_of, note, number, row, scrolling, table
from curate.report.interactive import choice, figure
from curate.report.looks import Style, metric_label
from curate.report.markup import Html, join, legible, tag
from curate.report.numbers import compact, count, digits, estimate, interval, power_of_ten
from curate.report.plots import gap_plot, gaps_in_order, law_plot
from curate.report.ranking_plots import pair_plot

if TYPE_CHECKING:
    from curate.comparator.verdict import Estimate, LawFit, MetricResult, Verdict

MOST_GAPS_AT_ONCE = 6
"""Pairs whose figures stand side by side; of more, one is chosen from a list or from the table of all pairs."""
MOST_GAPS = 400
"""Pairs with a figure, neighbours in the ranking first; all pairs stand in the table and in the download."""


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
            _law(verdict.headline, verdict, looks, "law"),
            tag("h3", "Gaps"),
            _gaps(verdict, looks),
            tag("h3", "Fits"),
            _fits(verdict.headline, looks),
            [
                folded(
                    f"The same for {metric_label(each.metric)}",
                    _law(each, verdict, looks, f"law-{place}"),
                    _fits(each, looks),
                )
                for place, each in enumerate(verdict.others)
            ],
        ]
    )


def _law(result: "MetricResult", verdict: "Verdict", looks: dict[str, Style], name: str) -> Html:
    if not result.points:
        return tag("p", f"There are no points of {metric_label(result.metric)}.")
    chance = None
    if result.chance is not None:
        chance = f"Guessing gives {digits(result.chance, 3)}: a dotted line where the figure reaches it."
    return figure(name, law_plot(result, law=verdict.law, at=verdict.at, looks=looks), caption=chance)


def _gaps(verdict: "Verdict", looks: dict[str, Style]) -> Html:
    words = (
        f"How much better the first dataset is, above zero: curve with its {100 * verdict.confidence:g}% band, dashed "
        "beyond the cells; points are cells of equal N and D that both have. Dotted: the compute asked for."
    )
    order = [ranked.dataset for ranked in verdict.ranking.order]
    pairs = gaps_in_order(verdict.headline, order)[:MOST_GAPS]
    plots = [(pair, gap_plot(pair, verdict.headline, at=verdict.at, looks=looks)) for pair in pairs]
    if len(plots) <= MOST_GAPS_AT_ONCE:
        return join(
            [note(words), tag("div.grid", [figure(f"gap-{place}", plot) for place, (_, plot) in enumerate(plots)])]
        )
    titles = [(f"{looks[pair.first].shown} over {looks[pair.second].shown}", plot) for pair, plot in plots]
    return join([_all_pairs(verdict, order, looks), note(words), choice("gap", titles, words="Gap of")])


def _all_pairs(verdict: "Verdict", order: Sequence[str], looks: dict[str, Style]) -> Html:
    shown = [
        (f"C = {power_of_ten(flops)} FLOPs", pair_plot(verdict.headline, place=place, order=order, looks=looks))
        for place, flops in enumerate(verdict.at)
    ]
    words = (
        "P(the row's dataset is better than the column's): blue where it is, orange where it is not; a dot marks "
        "decided pairs. Best on top."
    )
    drawn = figure("pairs", shown[0][1]) if len(shown) == 1 else choice("pairs", shown, words="At")
    return join([note(words), drawn])


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
    drawn = table(heads, rows, caption=caption, numeric=range(1, len(names) + 2))
    return scrolling(drawn, rows)


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
    words += [f"not identified: {', '.join(shown.unidentified)}"] if shown.unidentified else []
    fine = shown.converged and not shown.at_bound and not shown.unidentified
    return tag("span.aside" if fine else "span.undecided", ", ".join(words))


def _noise(result: "MetricResult") -> Html:
    noise = result.noise
    return note(
        f"Noise: run-to-run standard deviation {estimate(noise.run_sd)} ({noise.replicated_runs} replicated runs, "
        f"{noise.degrees_of_freedom} degrees of freedom), correlation of a run's branches "
        f"{digits(noise.branch_correlation, 2)}, misfit {digits(noise.misfit_sd, 3)}. "
        f"Source: {legible(noise.source, 300)}."
    )
