"""Locks on files between processes: they fall with the process that holds them, however it ends.

`flock` on a file that nobody writes to; on NFS the server's locks. A file system that has none is an error that says
so: without locks two processes would train one run.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.errors import TrainingError


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
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, kind)
        except OSError as error:
            raise TrainingError(
                f"{path} cannot be locked ({error.strerror}): this file system has no locks; take a work folder on "
                "another one, or have it mounted with them."
            ) from error
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the file `path`, shared or not."""

    class Busy(Exception):
        """Somebody holds it."""

    def busy() -> None:
        raise Busy

    try:
        with locked(path, busy=busy):
            return False
    except Busy:
        return True
