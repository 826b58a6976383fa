"""`curate train --plan` on the terminal: the models of a ladder, their trainings, what they cost, and where a table, a
rule and a source differ.

Times and FLOPs are those of one training; its budgets stand in lines of their own, its time beside the first. Below
WIDE columns numbers are shortened, and exact FLOPs (with attention and the head), memory, decay and runs are left out.
Names go in as text, never as markup.
"""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from curate.proxy_training.planning.plan import Device, LadderPlan, Rung, sources
from curate.report.markup import visible
from curate.report.numbers import amount, compact, count, digits, duration, power_of_ten, size
from curate.report.terminal import one_line, plain_table

WIDE = 140
"""Columns from which all figures are shown in full."""
MOST_NOTES = 40
"""Lines of notes; --json has all."""


def ladder_view(plan: LadderPlan, *, width: int = WIDE) -> Group:
    """The plan, for a console of that width; 80 columns or more."""
    wide = width >= WIDE
    ladder = plan.ladder
    head = Text.assemble((visible(ladder.name), "bold"), f"  {one_line(ladder.description)}")
    shown: list[RenderableType] = [head]
    shown += [Text(f"source: {one_line(source)}", style="dim") for source in sources(ladder)]
    shown += [_models(plan, wide), _trainings(plan, wide), *_costs(plan)]
    shown += [Text(line) for line in _agreement(plan)]
    notes = list(_notes(plan))
    shown += [Text(f"! {note}", style="yellow") for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        shown.append(Text(f"! {len(notes) - MOST_NOTES} more notes: --json", style="yellow"))
    return Group(*shown)


def _models(plan: LadderPlan, wide: bool) -> Table:
    columns = ["scale", "L x d x heads" if wide else "LxdxH", "blocks", "V d", "N", "stored", "6N"]
    table = _table("models", *columns, *(["exact", "FFN", "memory of one device"] if wide else []))
    for rung in plan.rungs:
        shape = rung.shape
        cells = [
            (" x " if wide else "x").join(map(str, (shape.layers, shape.width, shape.heads))),
            amount(shape.params_non_embedding),
            amount(shape.parameters_embedding),
            count(shape.params),
            count(shape.params_stored),
            power_of_ten(shape.flops_per_token, 3),
        ]
        if wide:
            memory = f"{size(rung.memory_bytes)} at {count(rung.micro_batch_sequences)} sequences"
            cells += [power_of_ten(shape.flops_per_token_exact, 3), count(shape.ffn), memory]
        table.add_row(Text(rung.scale.name), *cells)
    return table


def _trainings(plan: LadderPlan, wide: bool) -> Table:
    columns = ["scale", "batch", "rate", "warm-up", "tokens", "steps", "6ND"]
    if wide:
        columns[4:4] = ["decay", "z-loss", "runs"]
        columns += ["exact", "D/N"]
    table = _table("trainings", *columns, *(_unit(device) for device in plan.devices))
    for rung in plan.rungs:
        of_scale, times = _of_scale(rung, wide), [_time(rung, device) for device in plan.devices]
        for budget in rung.budgets:
            tokens = count(budget.tokens) if wide else amount(budget.tokens, 4)
            cells = [tokens, count(budget.steps), power_of_ten(budget.flops, 3)]
            if wide:
                cells += [power_of_ten(budget.flops_exact, 3), compact(budget.tokens / rung.shape.params)]
            table.add_row(Text(of_scale[0]), *of_scale[1:], *cells, *times)
            of_scale, times = [""] * len(of_scale), [""] * len(times)  # said once
    return table


def _of_scale(rung: Rung, wide: bool) -> list[str]:
    batch = f"{count(rung.batch_sequences)} ({amount(rung.batch_tokens)})" if wide else amount(rung.batch_tokens)
    rate = power_of_ten(rung.learning_rate, 2)
    cells = [rung.scale.name, batch, rate, count(rung.warmup_steps)]
    if wide:
        z_loss = power_of_ten(rung.procedure.z_loss, 2) if rung.procedure.z_loss else "0"
        cells += [digits(rung.procedure.weight_decay, 2), z_loss, str(rung.runs)]
    return cells


def _table(title: str, *columns: str) -> Table:
    """Columns of numbers behind the scale's name, none of them folded."""
    table = plain_table(Text(title), *columns)
    for column in table.columns:
        column.no_wrap = True
    return table


def _unit(device: Device) -> str:
    return "core time" if device.name == "cpu" else f"{device.name} h"


def _time(rung: Rung, device: Device) -> str:
    seconds = rung.device_seconds[device.name]
    return duration(seconds) if device.name == "cpu" else _hours(seconds)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else digits(hours, 2)


def _costs(plan: LadderPlan) -> list[Text]:
    names = ", ".join(visible(name) for name in plan.datasets)
    lines = [f"{count(plan.runs)} trainings ({names}): 6ND {power_of_ten(plan.flops, 3)} with all branches."]
    for device in plan.devices:
        seconds = plan.device_seconds(device)
        if device.name == "cpu":
            wall = duration(plan.wall_seconds(device))
            lines.append(f"{duration(seconds)} of core time; with {plan.workers} processes about {wall}.")
        else:
            dollars = seconds / 3600 * device.dollars_per_hour
            lines.append(
                f"{_hours(seconds)} {device.name} hours, {_money(dollars)} at ${device.dollars_per_hour:g} an hour "
                f"({device.source})."
            )
    scale = max(plan.rungs, key=lambda rung: rung.budgets[-1].tokens).scale.name
    for name, epochs in plan.repeated.items():
        counted = "; an estimate, by the tokens that were packed here last" if plan.is_estimate(name) else ""
        times = f"{'about ' if counted else ''}{compact(epochs)} epochs"
        if plan.simulated is not None and plan.simulates(name):
            lines.append(
                f"{visible(name)}: {times} at the longest budget of every rung, as all of it would have at "
                f"{compact(plan.simulated.target_tokens)} tokens (simulated{counted})."
            )
        else:
            lines.append(f"{visible(name)} holds fewer tokens than {scale} wants: {times} there{counted}.")
    if plan.unknown:
        names = ", ".join(visible(name) for name in plan.unknown)
        lines.append(f"{names}: the epochs are known once the tokens are packed (no full_tokens).")
    return [Text(line) for line in lines]


def _money(dollars: float) -> str:
    return f"${dollars:,.0f}" if dollars >= 10 else f"${dollars:.2f}"


def _agreement(plan: LadderPlan) -> list[str]:
    """A line a field that is as the source prints it."""
    found: dict[str, list[str]] = {}
    for rung in plan.rungs:
        for what, printed in rung.agrees:
            found.setdefault(what, []).append(f"{rung.scale.name}: {printed}")
    return [f"{what} as printed by the source: {', '.join(values)}." for what, values in found.items()]


def _notes(plan: LadderPlan) -> Iterable[str]:
    """What differs, a line a sentence or field, the scales that share it together."""
    by_note: dict[str, list[str]] = {}
    for rung in plan.rungs:
        for note in rung.notes:
            by_note.setdefault(note, []).append(rung.scale.name)
    yield from (f"{', '.join(scales)}: {note}" for note, scales in by_note.items())
    rule = plan.ladder.procedure.rule
    for field in dict.fromkeys(field for rung in plan.rungs for field in rung.rule_differs):
        yield f"{field} is the ladder's where rule {rule!r} differs: {_listed(plan.rungs, field)}"


def _listed(rungs: Iterable[Rung], field: str) -> str:
    by_value: dict[str, list[str]] = {}
    for rung in rungs:
        if field in rung.rule_differs:
            by_value.setdefault(rung.rule_differs[field], []).append(rung.scale.name)
    return "; ".join(f"{', '.join(names)} {value}" for value, names in by_value.items())
