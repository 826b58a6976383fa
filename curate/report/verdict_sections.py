"""What the page says of a verdict: its lines, the ranking, the pairs, the warnings, held-out sets, learning rates."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from curate.report.axes import Axis, axis_over
from curate.report.elements import aside, cell, head, name_of, note, number, row, table
from curate.report.figures import Style, metric_label
from curate.report.markup import Html, join, legible, shortened, tag
from curate.report.numbers import digits, interval, power_of_ten, probability, signed
from curate.report.svg import interval_of

if TYPE_CHECKING:
    from curate.comparator.verdict import (
        Check,
        Comparison,
        Estimate,
        LearningRate,
        MetricResult,
        Pair,
        Ranked,
        Ranking,
        Verdict,
    )

SEVERITY = {"severe": "✖ severe", "warning": "! warning", "note": "· note"}


def verdict_box(verdict: "Verdict") -> Html:
    """The verdict's lines, as printed on the terminal; a failed severe check stands in the first."""
    severe = any(check.severity == "severe" for check in verdict.checks)
    lines = [tag("p.line.warns" if line.startswith("!") else "p.line", legible(line)) for line in verdict.lines]
    return tag("div.verdict.severe" if severe else "div.verdict", lines)


def ranking_section(verdict: "Verdict", looks: dict[str, Style]) -> Html:
    """Ranking at each compute, pairs, warnings, held-out sets, learning rate."""
    return join(
        [
            note(legible(verdict.rule)),
            [_ranking_table(ranking, verdict, looks) for ranking in verdict.headline.rankings],
            tag("h3", "Pair by pair"),
            _pair_table(verdict, looks),
            tag("h3", "Warnings"),
            _checks(verdict.checks),
            _heldout_rankings(verdict, looks),
            _learning_rates(verdict.learning_rate),
            _notes(verdict.notes),
        ]
    )


def level(verdict: "Verdict") -> str:
    """`95% interval`."""
    return f"{100 * verdict.confidence:g}% interval"


def _ranking_table(ranking: "Ranking", verdict: "Verdict", looks: dict[str, Style]) -> Html:
    axis = _axis_of(ranked.advantage for ranked in ranking.order)
    unit = metric_label(verdict.metric)
    heads = (
        "rank",
        "dataset",
        "P(best)",
        f"advantage over the mean ({unit}), {level(verdict)}",
        "",
        "not told apart from",
    )
    far = ranking.extrapolation
    where = f"extrapolated ×{digits(far, 2)}" if far > 1.02 else "within the measured span"
    return table(
        heads,
        [_ranked_row(ranked, axis, looks) for ranked in ranking.order],
        caption=[f"At C = {power_of_ten(ranking.at)} FLOPs ", aside(where)],
        numeric=(0, 2, 3),
    )


def _ranked_row(ranked: "Ranked", axis: Axis, looks: dict[str, Style]) -> Html:
    gained = ranked.advantage
    return row(
        number(ranked.rank),
        cell(name_of(ranked.dataset, looks)),
        number(probability(ranked.p_best)),
        number(signed(gained.value), " ", aside(interval(gained.low, gained.high))),
        cell(_drawn(gained, axis, looks[ranked.dataset].colour)),
        cell(_names(ranked.tied_with, ", ") if ranked.tied_with else "–"),
    )


def _names(names: Iterable[str], separator: str) -> Html:
    return join([shortened(name, 40) for name in names], separator)


def _axis_of(estimates: "Iterable[Estimate]") -> Axis:
    return axis_over([0.0, *(value for each in estimates for value in (each.low, each.value, each.high))], "")


def _drawn(value: "Estimate", axis: Axis, fill: str) -> Html:
    return interval_of(value.low, value.value, value.high, axis, fill, width=150)


def _pair_table(verdict: "Verdict", looks: dict[str, Style]) -> Html:
    shown = [(pair, comparison) for pair in verdict.pairs for comparison in pair.comparisons]
    axis = _axis_of(comparison.gap for _, comparison in shown)
    gap = f"gap ({metric_label(verdict.metric)}), {level(verdict)}"
    heads = ("better", "worse", "C (FLOPs)", "P", "", gap, "", "compute worth", "remarks")
    rows = [_pair_row(pair, comparison, axis, looks) for pair, comparison in shown]
    words = (
        "P: probability that the first is better. Gap: how much better, in the metric's units. Compute worth: the "
        "better dataset's compute is worth so many times the worse one's."
    )
    return join([note(words), table(heads, rows, numeric=(2, 3, 5, 7), sortable=True)])


def _pair_row(pair: "Pair", found: "Comparison", axis: Axis, looks: dict[str, Style]) -> Html:
    worth = found.multiplier
    beyond = [tag("br"), aside(f"×{digits(found.extrapolation, 2)} beyond")] if found.extrapolation > 1.02 else None
    times = [f"×{digits(worth.value, 2)}", tag("br"), aside(interval(worth.low, worth.high, 2))] if worth else "–"
    return row(
        cell(name_of(found.better, looks)),
        cell(name_of(found.worse, looks)),
        number(power_of_ten(found.at), beyond, sort=found.at),
        number(probability(found.p_better), sort=found.p_better),
        tag("td.decided", "✓ decided") if found.decided else tag("td.undecided", "? undecided"),
        number(
            digits(found.gap.value, 3), tag("br"), aside(interval(found.gap.low, found.gap.high)), sort=found.gap.value
        ),
        cell(_drawn(found.gap, axis, looks[found.better].colour)),
        number(times, sort=worth.value if worth else -1),
        tag("td.remarks", aside(legible(_remarks(pair, found)))),
    )


def _remarks(pair: "Pair", found: "Comparison") -> str:
    how = (
        f"from {len(pair.cells)} cells of equal N and D"
        if pair.method == "paired"
        else "from the difference of the laws"
    )
    words = [how]
    changes = pair.crossing
    if changes.at is not None and changes.p_none < 0.5:
        at, low, high = (power_of_ten(value) for value in (changes.at.value, changes.at.low, changes.at.high))
        leaders = f"{shortened(changes.below, 30)} to {shortened(changes.above, 30)}"
        words.append(f"lead changes from {leaders} at {at} [{low}, {high}] FLOPs")
    if found.more_runs is not None:
        words.append(found.more_runs.message)
    return "; ".join(words)


def _checks(checks: "Sequence[Check]") -> Html:
    if not checks:
        return tag("p", "All checks passed.")
    rows = [
        tag(
            f"tr.{check.severity}",
            tag("td.severity", SEVERITY.get(check.severity, check.severity)),
            cell(check.name.replace("_", " ")),
            cell(legible(check.message)),
            cell(legible(check.remedy)),
        )
        for check in checks
    ]
    return table(("severity", "check", "what was found", "what would mend it"), rows)


def _heldout_rankings(verdict: "Verdict", looks: dict[str, Style]) -> Html | None:
    if not verdict.others:
        return None
    rows = [_heldout_row(result, verdict, looks) for result in (verdict.headline, *verdict.others)]
    at = power_of_ten(verdict.ranking.at)
    words = f"Best first at C = {at} FLOPs, with the advantage over the mean of all datasets in the metric's units."
    title = tag("h3", "Held-out set by held-out set")
    return join([title, note(words), table(("metric", "order", "against the headline"), rows)])


def _heldout_row(result: "MetricResult", verdict: "Verdict", looks: dict[str, Style]) -> Html:
    order = result.rankings[0].order if result.rankings else ()
    names, headline = [ranked.dataset for ranked in order], [ranked.dataset for ranked in verdict.ranking.order]
    places = [
        tag(
            "span.place",
            name_of(ranked.dataset, looks),
            aside(f" {signed(ranked.advantage.value)}, P(best) {probability(ranked.p_best)}"),
        )
        for ranked in order
    ]
    same = cell("same order") if names == headline else tag("td.undecided", "another order")
    return row(head(metric_label(result.metric)), cell(places), cell("") if result is verdict.headline else same)


def _learning_rates(trials: "Sequence[LearningRate]") -> Html | None:
    if not trials:
        return None
    rows = [
        row(
            number(f"×{digits(trial.factor, 2)}"),
            cell(shortened(trial.scale, 40)),
            cell(_names(trial.order, " > ")),
            cell(_names(trial.reference_order, " > ")),
            _flips(trial),
        )
        for trial in trials
    ]
    heads = ("learning rate", "scale", "order, best first", "order at ×1", "changed pairs")
    return join([tag("h3", "Sensitivity to the learning rate"), table(heads, rows, numeric=(0,))])


def _flips(trial: "LearningRate") -> Html:
    if not trial.changed:
        return cell("none")
    pairs = join([_names(pair, ", ") for pair in trial.flips], "; ")
    return tag("td.undecided", pairs, " (within the noise)" if trial.within_noise else None)


def _notes(notes: Sequence[str]) -> Html | None:
    return join([tag("h3", "Notes"), tag("ul", [tag("li", legible(words)) for words in notes])]) if notes else None
