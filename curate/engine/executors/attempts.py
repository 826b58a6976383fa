"""What executors do alike when a job is tried again, takes too long or is given up: waits, limits, sentences."""

import random

from curate.engine.jobs import Failure, Job

RETRY_WAIT_S = 1.0
"""Before the second try of a job; doubled each time, give or take half (`retry_wait`)."""
STRAGGLER_S, STRAGGLER_FACTOR = 60.0, 4.0
"""A part is a straggler when it takes longer than both: seconds, and times the median of its stage."""


def retry_wait(attempt: int) -> float:
    """Seconds before another try after `attempt` failed ones; scattered, so that workers do not come back as one."""
    return RETRY_WAIT_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)


def given_up(job: Job, error: str, *, transient: bool = False) -> Failure:
    """The Failure of a job that no worker could finish."""
    return Failure(stage=job.stage, part=job.part, file=job.file, record="", error=error, transient=transient)


def past_limit(job: Job, limit_s: float) -> Failure:
    """The Failure of a job that passed its time limit."""
    return given_up(job, f"took longer than its time limit of {shown_seconds(limit_s)} and was stopped")


def shown_seconds(seconds: float) -> str:
    """A duration for people, in the largest unit that divides it: `90 s`, `30 min`, `2 h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
