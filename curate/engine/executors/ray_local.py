"""A Ray cluster on this machine that never outlives the process that started it.

Ray's servers end with their parent, but some of its helpers notice only after a minute when it was killed. A reaper, a
small process that holds the reading end of a pipe, sees the end at once and kills what is left of the session: every
process whose output goes into the session's folder (Linux; elsewhere Ray's own minute holds).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OBJECT_STORE_BYTES = 200 << 20
"""Only jobs and manifests pass through Ray's object store."""
LEFT_S = 10.0
"""How long a reaper looks for processes that are still coming up or going down."""


def start_cluster(ray: Any, workers: int) -> "subprocess.Popen[bytes] | None":
    """Start a cluster with `workers` CPUs in this process's name; the reaper, where there can be one."""
    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=OBJECT_STORE_BYTES,
    )
    if not Path("/proc/self/fd").exists():
        return None
    from ray._private.worker import _global_node  # Ray names its session nowhere else

    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, _global_node.get_session_dir_path()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop_reaper(reaper: "subprocess.Popen[bytes]") -> None:
    """Let the reaper look once more and end."""
    assert reaper.stdin is not None
    reaper.stdin.close()
    try:
        reaper.wait(timeout=LEFT_S + 2)
    except subprocess.TimeoutExpired:
        reaper.kill()
        reaper.wait()


def session_processes(session: str) -> list[int]:
    """Processes whose output or error output goes into the session's folder: Ray's servers, workers, their children."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        for number in (1, 2):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
                if os.readlink(f"/proc/{entry}/fd/{number}").startswith(session + "/"):
                    found.append(int(entry))
                    break
    return found


def reap(session: str) -> None:
    """Wait until the starter has closed the pipe or died, then kill what is left of the session."""
    sys.stdin.buffer.read()
    began = time.monotonic()
    quiet = 0
    while quiet < 3 and time.monotonic() - began < LEFT_S:
        left = session_processes(session)
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if left else quiet + 1
        time.sleep(0.1)


if __name__ == "__main__":
    reap(sys.argv[1])
