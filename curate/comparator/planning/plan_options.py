"""What the command line says of a plan, turned into a call of `plan`, `next_batch` or `smallest_ladder`.

Which of the three follows from what is given: beliefs (noise and gap) or measurements; a gap to decide, or a budget;
looks or an earlier plan make it one batch of several.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curate.comparator.plan import next_batch, plan, smallest_ladder
from curate.comparator.planning.planned import CandidateScale, Goal, Pilot, Plan
from curate.errors import MeasurementError


def planned(
    measured: tuple[pa.Table, str] | None,
    *,
    budget_flops: float | None,
    target_flops: float | None,
    scales: Sequence[str],
    max_seeds: int,
    goal: Goal | None,
    looks: int | None,
    previous: Path | None,
    noise_sd: float | None,
    gap_sd: float | None,
    datasets: int,
    decide_gap: float | None,
    power: float,
    seed: int,
) -> Plan:
    """The plan for measurements (table, metric), or for beliefs where there are none.

    Raises MeasurementError for options that do not go together.
    """
    candidates = [parse_scale(text) for text in scales]
    if measured is None:
        if noise_sd is None or gap_sd is None:
            raise MeasurementError("A plan before anything was measured needs --noise and --gap-sd.")
        pilot = Pilot(noise_sd=noise_sd, gap_sd=gap_sd)
        if decide_gap is not None:
            return smallest_ladder(
                candidates,
                pilot=pilot,
                gap=decide_gap,
                power=power,
                target_flops=target_flops,
                datasets=datasets,
                max_seeds=max_seeds,
            )
        return plan(
            pilot,
            budget_flops=needed(budget_flops),
            scales=candidates,
            target_flops=target_flops,
            datasets=datasets,
            max_seeds=max_seeds,
            goal=goal or "order",
            seed=seed,
        )
    if decide_gap is not None or gap_sd is not None:
        raise MeasurementError("--gap-sd and --decide are for planning from beliefs: give --noise too, and no results.")
    table, metric = measured
    if looks is not None or previous is not None:
        return next_batch(
            table,
            budget_flops=needed(budget_flops),
            previous=read_plan(previous) if previous is not None else None,
            looks=looks if looks is not None else 4,
            scales=candidates or None,
            target_flops=target_flops,
            metric=metric,
            max_seeds=max_seeds,
            goal=goal or "best",
            seed=seed,
        )
    return plan(
        table,
        budget_flops=needed(budget_flops),
        scales=candidates or None,
        target_flops=target_flops,
        metric=metric,
        max_seeds=max_seeds,
        goal=goal or "order",
        seed=seed,
    )


def needed(budget_flops: float | None) -> float:
    if budget_flops is None:
        raise MeasurementError("Say what may be spent: --budget FLOPS.")
    return budget_flops


def parse_scale(text: str) -> CandidateScale:
    """`NAME:PARAMS:TOKENS`, with budgets of cooled-down branches before the last: `150M:1.5e8:1e9,3e9`."""
    name, _, rest = text.rpartition(":")[0].partition(":")
    budgets = text.rpartition(":")[2].split(",")
    try:
        tokens = sorted(float(b) for b in budgets)
        return CandidateScale(name, float(rest), tokens[-1], tuple(tokens[:-1]))
    except ValueError as error:
        raise MeasurementError(
            f"--scale {text!r} is not of the form NAME:PARAMS:TOKENS, such as 150M:1.5e8:3e9."
        ) from error


def read_plan(path: Path) -> dict[str, object]:
    """An earlier plan, as `--json` wrote it."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasurementError(f"{path}: cannot be read as a plan that --json wrote: {error}.") from error
    if not isinstance(read, dict):
        raise MeasurementError(f"{path}: holds no plan; give the file that --json wrote.")
    return read
