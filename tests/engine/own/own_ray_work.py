"""Jobs that misbehave in ways that only a cluster's executor has to bear; attempts are noted by `own_work`."""

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from own_work import NoteJob, attempts, noted

from curate.engine.jobs import Failure


@dataclass(frozen=True, kw_only=True)
class RayJob(NoteJob):
    """A job that says on which node it ran."""


def served(job: RayJob) -> dict[str, Any] | Failure:
    """As `noted`, saying where, and: never return to Python, die after the last byte was written, run out of memory."""
    if job.how == "done, then killed":
        noted(job)
        os.kill(os.getpid(), signal.SIGKILL)
    here = ray.get_runtime_context().get_node_id()
    (Path(job.folder) / f"node-{job.part}").write_text(here)
    if job.how == "native" and attempts(job) < job.times:
        with (Path(job.folder) / f"attempts-{job.part}").open("ab") as file:
            file.write(b".")
        ctypes.PyDLL(None).sleep(int(job.seconds))  # holds the interpreter's lock, as careless native code does
    if job.how == "out of memory":
        noted(job)
        trace = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."
        return Failure(
            job.stage, job.part, "", "", "it does not fit", trace=trace, transient=attempts(job) <= job.times
        )
    if job.how == "prints":
        print("a worker's chatter", flush=True)
    result = noted(job)
    return result | {"node": here} if isinstance(result, dict) else result
