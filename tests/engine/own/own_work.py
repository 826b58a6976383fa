"""Jobs and work functions that the executors' tests run in other processes; notes go to files."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.engine.jobs import Failure, Job
from curate.engine.manifest import file_entry, write_manifest


@dataclass(frozen=True, kw_only=True)
class NoteJob(Job):
    """A job that notes each attempt, and misbehaves as told on the first `times` of them."""

    how: str = ""
    times: int = 0
    seconds: float = 0.0


def attempts(job: Job) -> int:
    """How often the job was begun."""
    path = Path(job.folder) / f"attempts-{job.part}"
    return path.stat().st_size if path.exists() else 0


def noted(job: NoteJob) -> dict[str, Any] | Failure:
    """Note the attempt, misbehave, then write a data file and its manifest."""
    folder = Path(job.folder)
    with (folder / f"attempts-{job.part}").open("ab") as file:
        file.write(b".")
    with (folder / f"span-{job.part}-{os.getpid()}-{time.monotonic_ns()}").open("w") as file:
        file.write(f"{time.monotonic()} ")
        if attempts(job) <= job.times and (failure := _misbehave(job)):
            return failure
        time.sleep(job.seconds if job.how in ("", "sleep") else 0)
        file.write(f"{time.monotonic()}")
    data = folder / f"data-{job.part:05d}.bin"
    fresh = data.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}.tmp")
    fresh.write_bytes(b"%d" % job.part * 1000)
    os.replace(fresh, data)
    manifest = {"part": job.part, "files": {"data": file_entry(data, 1)}, "pid": os.getpid()}
    manifest["gpus"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    manifest["threads"] = os.environ.get("OMP_NUM_THREADS")
    write_manifest(Path(job.manifest), manifest)
    return manifest


def _misbehave(job: NoteJob) -> Failure | None:
    if job.how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.how == "exit":
        os._exit(7)
    if job.how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.how == "hang":
        time.sleep(job.seconds)
    if job.how == "deaf":  # as native code that never comes back
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(job.seconds)
    if job.how == "raise":
        raise ZeroDivisionError("this job is cursed")
    if job.how == "transient":
        return Failure(job.stage, job.part, "", "", "storage did not answer", transient=True)
    if job.how == "wrong":
        return Failure(job.stage, job.part, "", "", "this input is wrong")
    return None


def unsendable(job: NoteJob) -> Any:
    """A result that cannot travel."""
    return {"part": job.part, "function": lambda: None}
