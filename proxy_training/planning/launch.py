"""Launch configurations for one rung of a ladder: ours under torchrun or Slurm, and those of other trainers.

`export` gives the text of the files and, in sentences, what the target cannot express or does otherwise: nothing is
dropped silently. The others' arguments stand in launch_peers.py. Pure; writes nothing.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from curate.errors import RecipeError
from curate.proxy_training.planning.budgets import find_budget
from curate.proxy_training.planning.ladder_file import Ladder
from curate.proxy_training.planning.launch_job import Job, counted, lines, script, torchrun
from curate.proxy_training.planning.launch_peers import dclm, megatron, open_lm
from curate.proxy_training.planning.plan import planned_run
from curate.proxy_training.run import Run
from curate.proxy_training.training.faults import EXIT_REQUEUE

SECONDS_BEFORE_LIMIT = 180
"""How long before its time limit Slurm tells a job to save."""


@dataclass(frozen=True)
class Export:
    """What to run, and what it will not do."""

    files: Mapping[str, str]
    """Text by file name."""
    differences: tuple[str, ...]
    """What the target cannot express, or does otherwise than our trainer."""


def export(
    ladder: Ladder,
    scale: str,
    target: str,
    *,
    budget_tokens: int | str | None = None,
    seed: int = 0,
    runs: int = 1,
    study: str = "study.yaml",
    work: str = "work",
    ladder_given: str | None = None,
) -> Export:
    """How `target` trains the scale of that name at one budget (the longest if not given; "300B" finds it, too).

    `runs` are the runs of this rung in the study (datasets x seeds), for a job array; `study`, `work` and
    `ladder_given` (None: the study's own ladder) are what the command line of ours names. Raises RecipeError for a
    target, scale or budget that is not there.
    """
    if target not in TARGETS:
        raise RecipeError(f"No launch target is called {target!r}: take {', '.join(TARGETS)}.")
    found = ladder.scale(scale)
    run = planned_run(ladder, found)
    budget = found.budgets_tokens[-1] if budget_tokens is None else _budget(run, budget_tokens, ladder.name)
    job = Job(ladder, found, run, budget, seed, runs, study, work, ladder_given)
    files, differences = TARGETS[target](job)
    return Export(files, (*_of_all(job, target), *differences))


def _budget(run: Run, asked: int | str, ladder: str) -> int:
    """The budget as the ladder has it, named as the ladder does or in whole batches."""
    there = run.scale.budgets_tokens
    found = find_budget(asked, {run.tokens(tokens): tokens for tokens in there} | {tokens: tokens for tokens in there})
    if found is None:
        shown = asked if isinstance(asked, str) else f"{asked:,}"
        raise RecipeError(
            f"Scale {run.scale.name!r} of ladder {ladder!r} has no budget of {shown} tokens: take "
            f"{', '.join(f'{tokens:,}' for tokens in there)}."
        )
    return found


def _of_all(job: Job, target: str) -> list[str]:
    """Differences that do not depend on the target's arguments."""
    launch, found = job.scale.launch, []
    if job.run.batch_sequences != launch.gpus * job.micro_batch * job.accumulation:
        found.append(
            f"a batch of {job.run.batch_sequences:,} sequences is no multiple of {launch.gpus} devices x "
            f"{job.micro_batch} sequences: change gpus or micro_batch_sequences of {job.scale.name}"
        )
    if target in ("torchrun", "slurm"):
        return found
    if len(job.scale.budgets_tokens) > 1 and job.run.procedure.schedule == "wsd":
        found.append(
            f"one training of {job.steps:,} steps: branches at other budgets would start from its checkpoints at the "
            "first step of their cool-down"
        )
    if job.run.procedure.parametrisation != "standard":
        found.append(f"parametrisation {job.run.procedure.parametrisation}: rates by weight have no argument there")
    found.append("initialisation, data order and packing are the target's own: losses compare only within it")
    return found


def _torchrun(job: Job) -> tuple[dict[str, str], list[str]]:
    where = f" on each of {job.nodes} nodes" if job.nodes > 1 else ""
    title = f"{job.scale.name} of ladder {job.ladder_name}: start this{where}."
    return {f"{job.name}.sh": script(title, [*torchrun(job), "--no-python", *_ours(job)])}, _uneven(job)


def _slurm(job: Job) -> tuple[dict[str, str], list[str]]:
    gpus = counted(job.scale.launch.gpus, "GPU")
    part = ['--part="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'] if job.runs > 1 else []
    text = f"""#!/bin/bash
# {job.scale.name} of ladder {job.ladder_name}: {counted(job.runs, "run")} on {gpus} each.
# Submit it again to go on after whatever happened: finished runs are not done again.

#SBATCH --job-name={job.name}
#SBATCH --array=1-{job.runs}
#SBATCH --nodes={job.nodes}
#SBATCH --ntasks-per-node={job.gpus_per_node}
#SBATCH --gpus-per-node={job.gpus_per_node}
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue                       # a node that fails or is preempted: Slurm starts the task again
#SBATCH --signal=USR2@{SECONDS_BEFORE_LIMIT}               # before the time limit: every rank saves and ends
#SBATCH --open-mode=append
#SBATCH --output={job.name}-%A_%a.log

set -uo pipefail
source "${{CURATE_ENV:-$HOME/curate-env}}/bin/activate"
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1

# One task a GPU: the ranks find each other by Slurm's variables.
srun --kill-on-bad-exit=0 {lines([*_ours(job), *part], indent=4)}
code=$?
if [ "$code" -eq {EXIT_REQUEUE} ]; then           # saved, not finished
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
    return {f"{job.name}.sbatch": text}, _uneven(job)


def _ours(job: Job) -> list[str]:
    ladder = [f"--ladder={shlex.quote(job.ladder_given)}"] if job.ladder_given is not None else []
    return [
        *("curate", "train", shlex.quote(job.study), *ladder),
        *(f"--work={shlex.quote(job.work)}", f"--scale={job.scale.name}"),
    ]


def _uneven(job: Job) -> list[str]:
    launch = job.scale.launch
    if job.nodes == 1 or launch.gpus % launch.gpus_per_node == 0:
        return []
    return [
        f"{launch.gpus} GPUs do not fill nodes of {launch.gpus_per_node}: the last node is started with all of its own"
    ]


TARGETS: Mapping[str, Callable[[Job], tuple[dict[str, str], list[str]]]] = {
    "torchrun": _torchrun,
    "slurm": _slurm,
    "megatron": megatron,
    "open_lm": open_lm,
    "dclm": dclm,
}
"""Exporters by name."""
