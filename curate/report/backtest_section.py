"""What the page shows of a back-test: whether the bands held what they claim, which law foretold the held-out scales
best, and how far cheaper rankings gave the order at the target, against the compute that each needed.
"""

from typing import TYPE_CHECKING

from curate.report.backtest_plots import decision_plot
from curate.report.elements import aside, cell, folded, note, number, row, rows_table, table
from curate.report.interactive import figure
from curate.report.looks import metric_label
from curate.report.markup import Html, join, legible, shortened, tag
from curate.report.numbers import digits, interval, power_of_ten

if TYPE_CHECKING:
    from curate.comparator.backtest import Backtest
    from curate.comparator.backtests.decisions import DecisionRow

MOST_DECISIONS = 40
_DECISIONS = (
    "The share of pairs that a ranking at less compute puts in the order of the target (ties count half), with its "
    "interval over datasets: at single scales, and by laws fitted up to a compute."
)


def backtest_section(backtest: "Backtest", *, used: str | None = None) -> Html:
    """Verdict on the bands, a row a law and horizon, decision accuracy, notes. `used`: the law of the page's curves,
    judged too where the back-test chose another.
    """
    cuts = f"{len(backtest.cuts)} cuts" + (
        f" from {power_of_ten(backtest.cuts[0])} to {power_of_ten(backtest.cuts[-1])} FLOPs" if backtest.cuts else ""
    )
    words = (
        f"Each law was fitted to the points up to a compute and asked for those beyond: {backtest.points} points of "
        f"{metric_label(backtest.metric)}, {cuts}, {backtest.bootstraps} bootstraps, seed {backtest.seed}. Errors are "
        f"relative. The form chosen: {backtest.rule}."
    )
    return join(
        [
            _held(backtest),
            _used(backtest, used),
            note(legible(words)),
            rows_table(backtest.rows()),
            _decisions(backtest),
            [note(legible(said)) for said in backtest.notes],
        ]
    )


def _held(backtest: "Backtest") -> Html:
    if backtest.chosen is None:
        return tag("p.undecided", f"No law was chosen: {legible(backtest.reason)}.")
    covered = backtest.law().overall.claimed
    holds = covered.covers()
    words = {
        True: "The bands cover what they claim",
        False: "The bands do NOT cover what they claim",
        None: "The hold-outs are too few to say whether the bands cover what they claim",
    }[holds]
    chosen = f"{words} ({backtest.chosen}): {covered}. Chosen because {backtest.reason}."
    return tag("p" if holds else "p.undecided", legible(chosen))


def _used(backtest: "Backtest", law: str | None) -> Html | None:
    found = next((each for each in backtest.laws if each.law == law), None)
    if found is None or law == backtest.chosen:
        return None
    words = f"The curves and multipliers of this page are those of the {law} law: {found.overall.claimed}."
    return tag("p" if found.overall.claimed.covers() else "p.undecided", legible(words))


def _decisions(backtest: "Backtest") -> Html | None:
    if not backtest.decisions:
        return None
    target = backtest.decisions[0]
    at = power_of_ten(target.target_flops)
    where = f" Target: {shortened(target.target, 60)}, C = {at} FLOPs, {target.target_seeds}."
    rows = [_decision(each) for each in backtest.decisions[:MOST_DECISIONS]]
    left = len(backtest.decisions) - len(rows)
    heads = ("method", "scale", "compute used", "of the target's", "runs", "seeds", "same order", "pairs", "ties", "")
    shown = table(heads, rows, numeric=(2, 3, 4, 6, 7, 8), sortable=True)
    more = note(f"{left} more rows stand in the verdict's JSON.") if left > 0 else None
    return join(
        [
            tag("h3", "Decision accuracy"),
            note(_DECISIONS, where),
            figure("decisions", decision_plot(backtest.decisions)),
            folded("As a table", shown, more),
        ]
    )


def _decision(found: "DecisionRow") -> Html:
    accuracy = found.accuracy
    bounds = interval(accuracy.low, accuracy.high, 2)
    return row(
        cell(shortened(found.method, 40)),
        cell(shortened(found.scale, 60)),
        number(power_of_ten(found.flops), sort=found.flops),
        number(f"{100 * found.share_of_target:.2g}%", sort=found.share_of_target),
        number(found.runs),
        cell(shortened(found.seeds, 40)),
        number(digits(accuracy.value, 3), " ", aside(bounds), sort=accuracy.value),
        number(accuracy.pairs),
        number(accuracy.ties),
        cell(aside("branches of the target's own runs") if found.same_runs else "–"),
    )
