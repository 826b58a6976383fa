"""Locks on files between processes: they fall with the process that holds them, however it ends.

`flock` on a file that nobody writes to; on NFS the server's locks. A file system that has none is an error that says
so: without locks two processes would train one run. Who asks whether a lock is held holds it for an instant: whoever
wants it looks twice.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from curate.errors import TrainingError

GLANCE_SECONDS = 0.05
"""After which nobody who only asked holds a lock any more."""


def _wait_silently() -> None:
    pass


@contextmanager
def locked(path: Path, *, busy: Callable[[], None] = _wait_silently, shared: bool = False) -> Iterator[None]:
    """Hold the file `path`, whose folder is there; `shared`: with others that say so, too.

    Where another process holds it, `busy` is called, which may raise; then it waits. Raises TrainingError on a file
    system without locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as file:
        if not _got(file, kind):
            time.sleep(GLANCE_SECONDS)
            if not _got(file, kind):
                busy()
                fcntl.flock(file, kind)
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the file `path`, shared or not."""
    with path.open("a") as file:
        return not _got(file, fcntl.LOCK_EX)


def is_free(path: Path) -> bool:
    """Whether surely no living process on this machine holds `path` for itself alone; needs no right to write. Where
    nobody can tell, it is not."""
    try:
        with path.open("rb") as file:
            return _got(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return True
    except (OSError, TrainingError):
        return False


def _got(file: IO[Any], kind: int) -> bool:
    """Lock it, until it is closed, if that is possible at once; whether it was."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise TrainingError(
            f"{file.name} cannot be locked ({error.strerror}): this file system has no locks; take a work folder on "
            "another one, or have it mounted with them."
        ) from error
    return True
