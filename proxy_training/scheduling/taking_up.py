"""What a start takes up of those before it, in one line: the runs that have ended, and how far begun groups are.

From the names of files alone; whether a checkpoint is sound is seen when its group loads it. No torch.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from curate.proxy_training.run import Run
from curate.proxy_training.scheduling.grouping import Group
from curate.proxy_training.training.run_folders import is_finished, run_folder, trained_file

SHOWN = 3
"""Groups that are named."""
CHECKPOINT = re.compile(r"(trunk|branch-(\d+))-(\d{9})\.json")


def taken_up(wanted: Sequence[Run], groups: Sequence[Group], out: Path) -> str | None:
    """A sentence on what of `wanted` is done and where `groups`, which are to train, go on; None for a first start."""
    ended = sum(is_finished(out, run) for run in wanted)
    begun = [f"{group.name} from {place}" for group in groups if (place := _place(group, out))]
    if not ended and not begun:
        return None
    more = f" and {len(begun) - SHOWN} more groups from theirs" if len(begun) > SHOWN else ""
    going = f"; it goes on with {', '.join(begun[:SHOWN])}{more}" if begun else ""
    return f"Taken up: {ended} of {len(wanted)} runs are done{going}."


def _place(group: Group, out: Path) -> str | None:
    """The step of the newest checkpoint that a group goes on from."""
    found = []
    for path in (group.folder(out) / "checkpoints").glob("*.json"):
        if match := CHECKPOINT.fullmatch(path.name):
            phase, tokens, step = match.groups()
            if tokens is None or not _is_trained(group, int(tokens), out):
                found.append((int(step), phase))
    if not found:
        return None
    step, phase = max(found)
    return f"step {step:,} of its {'trunk' if phase == 'trunk' else phase}"


def _is_trained(group: Group, tokens: int, out: Path) -> bool:
    return all(trained_file(run_folder(out, run.fingerprint), tokens).exists() for run in group.runs)
