"""Where the numbers of a rung differ from what its source prints or its rule gives, and what of them looks wrong.

Sentences for the plan, and the values that agree. Pure.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from curate.errors import RecipeError
from curate.proxy_training.planning.budgets import POWERS
from curate.proxy_training.planning.rules import RULES
from curate.proxy_training.run import Run

if TYPE_CHECKING:
    from curate.proxy_training.planning.plan import PlannedBudget

FEW_STEPS = 20
"""Below these a plan warns."""
FAR_ABOVE_THE_RULE = 30
"""Times the learning rate of the rule: above it a plan warns, as above a rate of 1."""
COUNTED = {
    "N": "parameters",
    "stored": "parameters (all that are stored)",
    "stored_without_qk_norm": "parameters (all that are stored but the QK-norm's scales)",
}


def warnings(run: Run, budgets: "Sequence[PlannedBudget]") -> Iterator[str]:
    """Sentences on what will hardly train well."""
    if budgets[0].steps < FEW_STEPS:
        yield f"its smallest budget is {budgets[0].steps} steps: a warm-up and hardly more; give more tokens"
    if not run.scale.learning_rate and (outside := RULES[run.procedure.rule].outside(run.size)):
        yield outside
    rule = run.procedure.learning_rate(run.size, batch_tokens=run.batch_tokens)
    of_rule = run.learning_rate / rule
    if run.learning_rate > 1 or of_rule > FAR_ABOVE_THE_RULE:
        times = f", {of_rule:,.3g} times that of rule {run.procedure.rule!r} ({rule:.2g})" if of_rule > 1 else ""
        yield f"its learning rate is {run.learning_rate:.2g}{times}: expect its runs to diverge"


def against_the_source(
    run: Run, budgets: "Sequence[PlannedBudget]"
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Sentences on what differs from what the source prints, and what does not with its printed value."""
    published = run.scale.published
    if published is None:
        return (), ()
    shape = run.shape
    pairs: list[tuple[str, str, float]] = []
    if published.params:
        pairs.append((COUNTED[published.params_counted], published.params, counted_params(run)))
    if published.flops_per_token:
        pairs.append(("FLOPs a token", published.flops_per_token, shape.flops_per_token))
    if published.batch_tokens:
        pairs.append(("tokens a batch", published.batch_tokens, run.batch_tokens))
    # the budget as the ladder file has it: whole batches are ours
    pairs += [
        ("tokens", text, tokens) for text, tokens in zip(published.tokens, run.scale.budgets_tokens, strict=False)
    ]
    pairs += [
        ("FLOPs (6 x parameters x tokens)", text, 6.0 * counted_params(run) * tokens)
        for text, tokens in zip(published.flops, run.scale.budgets_tokens, strict=False)
    ]
    pairs += [
        ("cool-down steps", f"{steps:,}", budget.decay_steps)
        for steps, budget in zip(published.decay_steps, budgets, strict=False)
    ]
    notes = [f"{what}: {text} printed, {_shown(value)} here" for what, text, value in pairs if not agrees(text, value)]
    return tuple(notes), tuple((what, text) for what, text, value in pairs if agrees(text, value))


def counted_params(run: Run) -> int:
    """Parameters as the source of the run's scale counts them."""
    shape = run.shape
    kind = run.scale.published.params_counted if run.scale.published else "N"
    if kind == "stored_without_qk_norm":
        return replace(shape, qk_norm="none").params_stored
    return shape.params_stored if kind == "stored" else shape.params


def against_the_rule(run: Run, budgets: "Sequence[PlannedBudget]") -> dict[str, str]:
    """What the scale sets itself and the rule would set otherwise: `32 (rule 17)` by field."""
    scale, procedure, found = run.scale, run.procedure, {}
    if scale.batch_sequences and scale.batch_sequences != (by_rule := procedure.batch_sequences(run.size)):
        found["batch"] = f"{scale.batch_sequences:,} (rule {by_rule:,})"
    if scale.learning_rate:
        by_law = procedure.learning_rate(run.size, batch_tokens=run.batch_tokens)
        if f"{by_law:.1e}" != f"{scale.learning_rate:.1e}":
            found["learning rate"] = f"{scale.learning_rate:.1e} (rule {by_law:.1e})"
    if scale.warmup_steps and scale.warmup_steps != (
        steps := procedure.warmup_steps(run.size, batch_tokens=run.batch_tokens)
    ):
        found["warm-up"] = f"{scale.warmup_steps:,} (rule {steps:,})"
    if scale.published and scale.published.tokens_per_parameter:
        steps = round(scale.published.tokens_per_parameter * counted_params(run) / run.batch_tokens)
        if steps != budgets[-1].steps:
            found["steps"] = f"{budgets[-1].steps:,} (rule {steps:,})"
    return found


def agrees(printed: str, value: float) -> bool:
    """Whether `value` is `printed` to the precision it was printed with: `3.7M` is 3.65 to 3.75 million."""
    found = re.fullmatch(r"([\d,]*\.?\d*)(?:e([+-]?\d+))?([kMBT]?)", printed)
    if not found or not found[1]:
        raise RecipeError(f"{printed!r} is no number as people print it: write 3.7M, 7.8e8 or 411,616,256.")
    digits, exponent, unit = found[1].replace(",", ""), int(found[2] or 0), found[3]
    scale = 10.0 ** (exponent + POWERS[unit.lower()])
    places = len(digits.partition(".")[2])
    return abs(value - float(digits) * scale) <= (0.5 * 10.0**-places * scale if unit or exponent or places else 0.5)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value < 1e7 else f"{value:.4g}"
