"""A plan in words: the runs and their cost, what they decide, what was dropped, what to beware of."""

from curate.comparator.planning.planned import PAIRS_SHOWN, Plan, PlannedRuns
from curate.comparator.wording import flops, listed, share, short_names

NAMES = ("scale", "pair", "datasets")
"""Columns of words."""


def plan_lines(plan: Plan) -> tuple[str, ...]:
    """The lines of `str(plan)`."""
    lines = [f"! {gone.dataset} dropped at look {gone.look}: {gone.reason}" for gone in plan.dropped]
    if plan.runs:
        count = sum(run.runs for run in plan.runs)
        of = f" of {flops(plan.budget_flops)}" if plan.budget_flops > plan.flops * 1.001 else ""
        lines += [f"{count} runs for {flops(plan.flops)} FLOPs{of}, to compare at {flops(plan.target_flops)}"]
        lines += table(
            ["scale", "tokens", "seeds", "runs", "FLOPs", "datasets"],
            [
                [run.scale, tokens(run), str(run.seeds), str(run.runs), flops(run.flops), named(run.datasets, plan)]
                for run in plan.runs
            ],
        )
    else:
        lines += [f"no runs, to compare at {flops(plan.target_flops)}"]
    what = "pairs in the right order" if plan.goal == "order" else "the best told from the others"
    lines += [f"P(decided), mean over pairs ({what}): {share(plan.p_before)} now, {share(plan.p_after)} after"]
    lines += [f"  same budget, {other.name}: {share(other.p_after)}" for other in plan.alternatives]
    if plan.by_budget:
        lines += ["  by budget: " + ", ".join(f"{flops(c)} {share(p)}" for c, p in plan.by_budget)]
    short = short_names(plan.datasets)
    shown = sorted(plan.pairs, key=lambda pair: pair.p_before - pair.p_after)[:PAIRS_SHOWN]
    lines += table(
        ["pair", "gap now", "P now", "P after", "error after"],
        [
            [
                f"{short[pair.first]} / {short[pair.second]}",
                "unknown" if pair.gap is None else f"{pair.gap.value:+.3g} [{pair.gap.low:.2g}, {pair.gap.high:.2g}]",
                share(pair.p_before),
                share(pair.p_after),
                f"{pair.error_after:.2g}",
            ]
            for pair in shown
        ],
    )
    if len(plan.pairs) > len(shown):
        lines += [f"  and {len(plan.pairs) - len(shown)} pairs that the runs help less"]
    lines += [f"! {note}" for note in plan.notes]
    return tuple(lines)


def tokens(run: PlannedRuns) -> str:
    return ", ".join(f"{t:.3g}" for t in (*sorted(run.branch_tokens), run.tokens))


def named(datasets: tuple[str, ...], plan: Plan) -> str:
    if datasets == plan.datasets:
        return f"all {len(datasets)}"
    short = short_names(plan.datasets)
    return listed([short[name] for name in datasets], 6)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Columns padded to their widest entry, names to the left, numbers to the right."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if name in NAMES else cell.rjust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in [head, *rows]
    ]
