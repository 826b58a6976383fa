"""One rung at one budget as an exporter of launch configurations sees it, and commands as text. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curate.proxy_training.planning.ladder_file import Ladder, Scale
from curate.proxy_training.run import Run

COLUMNS = 100
"""Width of a command's lines, about."""


@dataclass(frozen=True)
class Job:
    """What an exporter needs to know."""

    ladder: Ladder
    """Where the rung is from."""
    scale: Scale
    """The rung."""
    run: Run
    """Settled, without data."""
    budget_tokens: int
    """As the ladder says."""
    seed: int
    """Of the training."""
    runs: int
    """Of this rung in the study, for a job array."""
    study: str
    """Path of the study's file."""
    work: str
    """Its folder."""
    ladder_given: str | None = None
    """What the ladder was named by, for a command of ours: a shipped name, or a file."""

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """Of matrix products on a GPU, whatever this machine has: there `auto` is bf16."""
        return "fp32" if self.ladder.precision == "fp32" else "bf16"

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.run.steps(self.budget_tokens)

    @property
    def decay_steps(self) -> int:
        """Of its cool-down."""
        return self.steps - self.run.procedure.decay_start(self.steps)

    @property
    def nodes(self) -> int:
        """Machines of one run."""
        return math.ceil(self.scale.launch.gpus / self.scale.launch.gpus_per_node)

    @property
    def gpus_per_node(self) -> int:
        """Devices that are used of a machine."""
        return min(self.scale.launch.gpus, self.scale.launch.gpus_per_node)

    @property
    def accumulation(self) -> int:
        """Micro batches of one device in a step."""
        return max(1, self.run.batch_sequences // (self.scale.launch.gpus * self.micro_batch))

    @property
    def micro_batch(self) -> int:
        """Sequences on one device at a time."""
        each = max(1, self.run.batch_sequences // self.scale.launch.gpus)
        return min(each, self.scale.launch.micro_batch_sequences or each)

    @property
    def ladder_name(self) -> str:
        """The ladder's name, free of what a shell or a file system would read."""
        return re.sub(r"[^\w.-]+", "-", self.ladder.name).lstrip(".-") or "ladder"

    @property
    def name(self) -> str:
        """For files and jobs."""
        return f"{self.ladder_name}-{self.scale.name}"


def torchrun(job: Job) -> list[str]:
    """The words that start a rank a GPU; on several nodes, HEAD names one of them."""
    meeting = ["--standalone"]
    if job.nodes > 1:
        meeting = [f"--nnodes={job.nodes}", "--rdzv-backend=c10d", '--rdzv-endpoint="$HEAD:29500"']
        meeting.append(f"--rdzv-id={job.name}")
    return ["torchrun", *meeting, f"--nproc-per-node={job.gpus_per_node}"]


def script(title: str, words: Sequence[str]) -> str:
    """A shell script of one command."""
    return f"#!/bin/bash\n# {title}\nset -euo pipefail\n{lines(words)}\n"


def lines(words: Sequence[str], *, indent: int = 2) -> str:
    """Words as one command over several lines of about COLUMNS."""
    found = [words[0]]
    for word in words[1:]:
        if len(found[-1]) + len(word) < COLUMNS:
            found[-1] += f" {word}"
        else:
            found.append(" " * indent + word)
    return " \\\n".join(found)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
