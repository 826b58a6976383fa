"""Train one recorded group: beats while it lasts, `done.json` at its end. Workers, Ray tasks and ranks all do it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.evaluation.evaluators import Evaluator
from curate.proxy_training.scheduling.beats import Beats
from curate.proxy_training.scheduling.grouping import Group, end_group
from curate.proxy_training.train import Watch, train_group
from curate.proxy_training.training.options import TrainingOptions
from curate.proxy_training.training.world import World


@dataclass(frozen=True)
class Work:
    """What all groups of a ladder share; can be sent to another process."""

    out: Path
    """The ladder's folder, seen by all."""
    heldout: Mapping[str, HeldOutSet]
    """Measured at every budget, and averaged."""
    evaluators: Sequence[Evaluator]
    """Measured besides them."""
    options: TrainingOptions
    """How, never what."""


def train_recorded(
    group: Group, work: Work, *, world: World, stop: Callable[[], bool], warn: Callable[[str], None]
) -> None:
    """Train to the end; of runs that diverge `warn` hears. Raises Stopped, or a CurateError for all."""
    folder = group.folder(work.out)
    beats = Beats(folder) if world.main else None
    watch = Watch(advanced=beats.advanced, stop=stop, warn=warn) if beats else Watch(stop=stop)
    try:
        result = train_group(
            group.runs,
            work.heldout,
            folders=group.run_folders(work.out),
            group_folder=folder,
            evaluators=work.evaluators,
            options=work.options,
            watch=watch,
            world=world,
        )
    finally:
        if beats:
            beats.write(ended=True)
    if world.main:
        end_group(folder, result.failures)
