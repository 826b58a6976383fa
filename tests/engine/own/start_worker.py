"""Processes of the executors' tests: `jobs FOLDER COUNT PART/N [key=value]` runs own jobs as one worker of n."""

import sys
from pathlib import Path

from own_work import NoteJob, noted

from curate.commands.interrupts import sigterm_interrupts
from curate.engine.executors import claims
from curate.engine.executors import worker as worker_module
from curate.engine.executors.worker import WorkerExecutor


class Printed:
    """Says what it hears."""

    def emit(self, kind: str, /, **fields: object) -> None:
        print("event", kind, fields, flush=True)


def main(folder: str, count: str, share: str, *more: str) -> int:
    """Do `count` jobs that nobody has done; print a line for each result."""
    options = {key: float(value) for key, value in (item.split("=") for item in more)}
    claims.STALE_S = options.get("stale", claims.STALE_S)
    claims.REFRESH_S = claims.STALE_S / 4
    worker_module.LAST_POLL_S = 0.5
    part, of = map(int, share.split("/"))
    seconds = options.get("seconds", 0.0)
    jobs = [NoteJob(stage="s", folder=folder, part=part, seconds=seconds) for part in range(int(count))]
    Path(folder, f"started-{part}").touch()
    executor = WorkerExecutor(part, of, workers=int(options.get("workers", 1)), wait_s=options.get("wait", 3600.0))
    try:
        with sigterm_interrupts():
            for place, result in executor.run(noted, jobs, listener=Printed()):
                print("result", jobs[place].part, result["part"], flush=True)
    except KeyboardInterrupt:
        return 130
    finally:
        executor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
