"""The points of a group: measured where a branch ends, or later on kept weights when something else is asked.

`points/<tokens>.json` is written last: without it the branch is not done. Measuring again trains no step, reads one
model at a time, and goes on after a kill with the point that is missing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from curate.errors import TrainingError
from curate.fingerprints import write_json
from curate.proxy_training.evaluation.points import branch_facts, measure_point
from curate.proxy_training.training.faults import Stopped
from curate.proxy_training.training.options import KEPT_BYTES
from curate.proxy_training.training.run_folders import is_kept, weights_file
from curate.proxy_training.training.trainer import Trainer
from curate.proxy_training.training.training_group import TrainingGroup, diverged


def measure_branch(group: TrainingGroup, trainer: Trainer, *, phase: str, start: int) -> None:
    """Write the point of every living member that has none; its weights, if they are to be kept."""
    facts = {member: branch_facts(trainer, member, phase=phase, start=start) for member in trainer.living}
    stacked = group.world.whole_state(trainer.model)

    def measure(member: int) -> list[str]:
        """Metrics that are not finite; the point is written when there are none."""
        run, tokens = group.runs[member], facts[member]["tokens"]
        path, done = group.point(member, tokens), group.trained(member, tokens)
        if path.exists() and done.exists():
            return []
        weights = {name: _of_member(weight, trainer, member) for name, weight in stacked.items()}
        bad = measure_point(run, weights, facts[member], group.evaluators, device=group.world.device, path=path)
        if not bad:
            _keep(group, member, tokens, weights)
            write_json(done, facts[member])
        return bad

    for member, bad in group.world.on_main(lambda: [(some, measure(some)) for some in trainer.living]):
        if bad:
            trainer.take_out(member)
            if group.world.main:
                _not_finite(group, member, bad, facts[member])


def measured_again(group: TrainingGroup) -> bool:
    """Measure the members that are trained, but not on what is asked now; False if one needs training for it."""
    left = [member for member in range(len(group.runs)) if not group.has_ended(member)]
    if not all(is_kept(group.of(member), group.runs[member]) for member in left):
        return False
    for member in left:
        if measure_missing(group, member):
            group.finish(member)
    return True


def measure_missing(group: TrainingGroup, member: int) -> bool:
    """Write the points that a trained member lacks, of its kept weights; False if it diverged. Raises Stopped."""
    run, folder = group.runs[member], group.of(member)
    for tokens in run.budgets:
        path = group.point(member, tokens)
        if path.exists():
            continue
        if group.watch.stop():
            raise Stopped(f"Run {run.name} was stopped while it was measured; the same command goes on.")
        facts = json.loads(group.trained(member, tokens).read_text())
        weights = weights_file(folder, tokens, longest=tokens == run.budgets[-1])
        try:
            tensors = load_file(weights)
        except SafetensorError as error:
            weights.unlink()
            raise TrainingError(
                f"{weights}: damaged ({error}), and removed; the same command trains the run again."
            ) from error
        if bad := measure_point(run, tensors, facts, group.evaluators, device=group.world.device, path=path):
            _not_finite(group, member, bad, facts)
            return False
    return True


def _keep(group: TrainingGroup, member: int, tokens: int, weights: Mapping[str, Tensor]) -> None:
    """Write the weights of a branch, if they are to be kept."""
    folder, budgets, keep = group.of(member), group.runs[member].budgets, group.options.keep
    longest = tokens == budgets[-1]
    small = len(budgets) * sum(weight.nbytes for weight in weights.values()) <= KEPT_BYTES
    if longest:
        save_file(dict(weights), weights_file(folder, tokens, longest=True))
    if keep == "all" or (keep == "auto" and small and not longest):
        save_file(dict(weights), weights_file(folder, tokens, longest=False))


def _not_finite(group: TrainingGroup, member: int, metrics: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Say that a member's weights give no value: it has diverged."""
    diverged(
        group,
        member,
        f"{', '.join(metrics)} not finite",
        step=facts["steps"],
        spikes=facts["spikes"],
        learning_rate=group.runs[member].learning_rate,
        only_measured=True,
    )


def _of_member(weight: Tensor, trainer: Trainer, member: int) -> Tensor:
    return weight if trainer.model.members is None else weight[member].contiguous()
