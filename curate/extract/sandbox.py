"""A child process that extracts pages one by one, and is started anew when a page hangs or crashes it.

The limit is CPU time, so that a busy machine does not change which pages fail; a wall-clock limit of `WALL_FACTOR`
times that stands behind it, for a child that sleeps or was stopped.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from curate.errors import StageError
from curate.extract.child import ANSWER, REQUEST

WALL_FACTOR = 12
MEMORY_BYTES = 4 << 30
"""Address space of a child: a page that asks for more fails."""
START_LIMIT_S = 120.0
TRIES = 3
"""Of a page whose child was killed from outside: that says nothing of the page."""
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class PageError(Exception):
    """A page that gave no text: the rule (`extract.error`, `extract.time`, `extract.crash`) and a sentence."""

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule


class _Killed(Exception):
    """Somebody else ended the child: the system that ran out of memory, a scheduler, a person."""


class Sandbox:
    """One child process with fixed settings; not shared between threads or inherited by forks."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings | {"memory_bytes": MEMORY_BYTES}
        self._time_limit_s = float(settings["time_limit_s"])
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(_close, weakref.ref(self))

    def text(self, content: bytes, charset: str) -> str:
        """The text of one page (may be empty). Raises PageError, or StageError if its child is killed each time."""
        for _ in range(TRIES):
            try:
                return self._text(content, charset)
            except _Killed as killed:
                how = str(killed)
        raise StageError(
            f"The extraction process was killed {TRIES} times on one page ({how}), from outside; perhaps memory ran "
            "out. Use fewer workers, or more memory, and run the same command again."
        )

    def _text(self, content: bytes, charset: str) -> str:
        child = self._running()
        label = charset.encode("ascii", "replace")[:64]
        deadline = time.monotonic() + self._time_limit_s * WALL_FACTOR
        try:
            self._write(child, REQUEST.pack(len(label), len(content)) + label, deadline)
            self._write(child, content, deadline)
            status, size = ANSWER.unpack(self._read(child, ANSWER.size, deadline))
            data = self._read(child, size, deadline)
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            raise self._verdict(child, error) from None
        if status == b"E":
            raise PageError("extract.error", f"extraction failed ({data.decode('utf-8', 'replace')})")
        return data.decode()

    def close(self) -> None:
        """End the child, if this process started it."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._owner == os.getpid() and self._child.poll() is None:
            return self._child
        self.close()
        script = str(Path(__file__).with_name("child.py"))
        child = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._child, self._owner = child, os.getpid()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        deadline = time.monotonic() + START_LIMIT_S
        try:
            self._write(child, json.dumps(self._settings).encode() + b"\n", deadline)
            self._read(child, ANSWER.size, deadline)
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            self.close()
            raise StageError(
                f"The extraction process ({self._settings['with']}) does not start; its message stands above. "
                f"Try `python -c 'import {self._settings['with']}'`."
            ) from error
        return child

    def _verdict(self, child: subprocess.Popen[bytes], error: Exception) -> PageError | _Killed:
        """What became of a child that did not answer."""
        if isinstance(error, TimeoutError):
            self.close()
            sentence = f"no text after {self._time_limit_s * WALL_FACTOR:g} s"
            return PageError("extract.time", sentence)
        code = child.wait()
        self.close()
        if code == -signal.SIGPROF:
            return PageError("extract.time", f"the time limit of {self._time_limit_s:g} s of CPU was reached")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if -code in _FROM_OUTSIDE:
            return _Killed(how)
        return PageError("extract.crash", f"the parser crashed on this page ({how})")

    @staticmethod
    def _write(child: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
        assert child.stdin is not None
        pipe, view = child.stdin.fileno(), memoryview(data)
        while view:
            _wait(pipe, deadline, write=True)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(pipe, view) :]

    @staticmethod
    def _read(child: subprocess.Popen[bytes], count: int, deadline: float) -> bytes:
        assert child.stdout is not None
        pipe, pieces, left = child.stdout.fileno(), [], count
        while left:
            _wait(pipe, deadline, write=False)
            piece = os.read(pipe, min(left, 1 << 20))
            if not piece:
                raise EOFError
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)


def _wait(pipe: int, deadline: float, *, write: bool) -> None:
    poll = select.poll()  # select() itself cannot take descriptors above 1023
    poll.register(pipe, select.POLLOUT if write else select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _close(reference: "weakref.ref[Sandbox]") -> None:
    if sandbox := reference():
        sandbox.close()
