"""A verdict in words: a few lines that a person can act on, the severe checks first."""

import math

from curate.comparator.verdict import Check, Comparison, Estimate, Pair, Verdict

REACH = 1e4  # multipliers are searched up to here
MANY = 4  # datasets: beyond that only neighbours in the ranking get a line
PRINTED_CHECKS = ("held_out_disagrees", "learning_rate")


def verdict_lines(verdict: Verdict) -> tuple[str, ...]:
    """The lines of `str(verdict)`."""
    severe = [c for c in verdict.checks if c.severity == "severe"]
    lines = (
        [f"! severe: {severe[0].message}" + (f" (and {len(severe) - 1} more severe)" if len(severe) > 1 else "")]
        if severe
        else []
    )
    order = [r.dataset for r in verdict.ranking.order]
    pairs = sorted(verdict.pairs, key=lambda p: sorted((order.index(p.first), order.index(p.second))))
    if len(order) > MANY:
        pairs = [p for p in pairs if abs(order.index(p.first) - order.index(p.second)) == 1]
    width = max(len(f"{a} > {b}") for p in pairs for a, b in [(p.first, p.second)])
    lines += [pair_line(pair, width) for pair in pairs]
    lines += [f"! {c.message}" for c in printed(verdict)]
    rest = [c for c in verdict.checks if c.severity == "warning" and c not in printed(verdict)]
    lines += [f"! {c.message}" for c in rest[:4]]
    if len(rest) > 4:
        lines.append(f"! {len(rest) - 4} more warnings")
    return tuple(lines)


def printed(verdict: Verdict) -> list[Check]:
    return [c for c in verdict.checks if c.name in PRINTED_CHECKS and c.severity == "warning"]


def pair_line(pair: Pair, width: int) -> str:
    now = pair.comparisons[0]
    where = f"at {flops(now.at)} FLOPs" + extrapolated(now)
    if crosses(pair):
        at = pair.crossing.at
        assert at is not None
        text = f"{pair.crossing.below} leads below {flops(at.value)} [{flops(at.low)}, {flops(at.high)}]"
        text += f", then {pair.crossing.above} does"
        text += f"; {where} {now.better}, P {share(now.p_better)}" + ("" if now.decided else ", undecided")
    elif now.decided:
        text = f"{f'{now.better} > {now.worse}':<{width}}   {where}   P {share(now.p_better)}"
        if now.multiplier is not None and math.isfinite(now.multiplier.value):
            text += f"   worth {times(now.multiplier)} of its compute"
        elif now.multiplier is not None:
            text += f"   more than {REACH:.0e} times the compute would not make it up".replace("e+0", "e")
    else:
        text = f"{f'{now.better} ? {now.worse}':<{width}}   undecided {where}   P {share(now.p_better)}"
        if now.more_runs is not None:
            text += f"   {now.more_runs.message.partition(',')[0]}"
        else:
            text += "   no number of seeds on this ladder is likely to decide it"
    for later in pair.comparisons[1:]:
        sign = ">" if later.decided else "?"
        text += f"; at {flops(later.at)}{extrapolated(later)} {later.better} {sign} {later.worse}"
        text += f", P {share(later.p_better)}"
    return text


def crosses(pair: Pair) -> bool:
    return pair.crossing.at is not None and pair.crossing.p_none < 0.1


def extrapolated(comparison: Comparison) -> str:
    factor = comparison.extrapolation
    return f" (extrapolated x{factor:.2g})" if factor > 1.02 else ""


def flops(value: float) -> str:
    """1e14, 2.3e13."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def share(p: float) -> str:
    """.97, >.99"""
    return ">.99" if p > 0.995 else f"{p:.2f}".lstrip("0")


def times(multiplier: Estimate) -> str:
    def one(value: float) -> str:
        return "inf" if math.isinf(value) else f"{value:.0f}" if value >= 100 else f"{value:.2g}"

    return f"x{one(multiplier.value)} [{one(multiplier.low)}, {one(multiplier.high)}]"
