"""The log of a run: `<work>/runs/<run-id>/events.jsonl`, a JSON line an event, and how it is read back.

Locally each event is one appended write, so whatever a kill leaves is whole lines and perhaps a torn last one, which
readers skip. Objects cannot grow: on a URL the log is put anew every PUT_SECONDS, in files of SEGMENT bytes of which
only the last is ever written again. A process writes its own folder, so any number may share a work folder.
"""

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

from curate import __version__
from curate.engine.events import Event
from curate.storage import Location, at, is_remote

RUNS = "runs"
"""Folder of the logs below the work folder."""
BEAT_SECONDS = 30.0
"""Without an event for so long, the log says `alive`."""
PUT_SECONDS = 10.0
"""How often a remote log is put."""
SEGMENT = 256 * 1024
"""Bytes after which a remote log goes on in another object."""
MOST_UNSENT = 4 * 1024 * 1024
"""Bytes kept for a store that does not answer; beyond them the oldest events are given up and counted."""
LAST_KINDS = ("run_done", "run_failed", "run_interrupted")


def run_folder(work: str | os.PathLike[str], run: str) -> Location:
    """Where the log of `run` is."""
    return at(work) / RUNS / run


class EventLog:
    """Writes the events that it hears into `folder`, and a heartbeat; `hear` raises OSError where it could not."""

    title = "The log of events"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        beat_seconds: float = BEAT_SECONDS,
        put_seconds: float = PUT_SECONDS,
    ) -> None:
        self.folder = at(folder)
        self._lines: _Appended | _Segments = _Segments(self.folder) if is_remote(folder) else _Appended(self.folder)
        self._beat, self._put = beat_seconds, put_seconds
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._last = time.monotonic()
        self._lost = 0
        self._trouble: OSError | None = None
        who = {"run": self.folder.name, "host": socket.gethostname(), "pid": os.getpid(), "version": __version__}
        self._write(Event.of("log_opened", who, now=time.time()))
        self._thread = threading.Thread(target=self._tick, name="event log", daemon=True)
        self._thread.start()

    def hear(self, event: Event) -> None:
        """Append the event. Raises OSError if it, or one before it, could not be written; goes on with the next."""
        with self._lock:
            if not self._closed:
                self._write(event)
        if event.kind in LAST_KINDS:
            self._flush()
        with self._lock:
            trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def close(self) -> None:
        """Write what is left; the heartbeat stops."""
        with self._lock:
            self._closed = True
        self._wake.set()
        self._thread.join(timeout=2 * self._put)
        self._flush()
        with self._lock:
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _write(self, event: Event) -> None:
        self._last = time.monotonic()
        try:
            if self._lost:
                gap = Event.of("log_gap", {"lost": self._lost}, now=event.time)
                self._lost = self._lines.write(f"{gap.line}\n".encode())
            self._lost += self._lines.write(f"{event.line}\n".encode())
        except OSError as error:
            self._lost += 1
            self._trouble = error

    def _flush(self) -> None:
        try:
            self._lines.flush()
        except OSError as error:
            with self._lock:
                self._trouble = error

    def _tick(self) -> None:
        put = time.monotonic()
        while not self._wake.wait(min(self._beat, self._put) / 2):
            with self._lock:
                if self._closed:
                    return
                if time.monotonic() - self._last >= self._beat:
                    self._write(Event.of("alive", {}, now=time.time()))
            if time.monotonic() - put >= self._put:
                self._flush()
                put = time.monotonic()


class RunLogs:
    """A log in `work` for each run that starts, closed when it ends: what a command gives to Listeners."""

    title = EventLog.title

    def __init__(self, work: str | os.PathLike[str]) -> None:
        self.work = work
        self.log: EventLog | None = None

    def hear(self, event: Event) -> None:
        """Write the event into the log of its run. Raises OSError as EventLog does."""
        if event.kind == "run_started":
            self.close()
            self.log = EventLog(run_folder(self.work, str(event.fields["run"])))
        if self.log is None:
            return
        try:
            self.log.hear(event)
        finally:
            if event.kind in LAST_KINDS:
                self.close()

    def close(self) -> None:
        """Close the log that is open."""
        if self.log is not None:
            self.log.close()
            self.log = None


class _Appended:
    """Lines at the end of a local file, each by one write."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.jsonl"
        self._file: int | None = None
        self._torn = False

    def write(self, line: bytes) -> int:
        """Append; 0 lines were given up for it. A line that the disk had room for in part is ended by the next one."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        data = b"\n" + line if self._torn else line
        try:
            written = os.write(self._file, data)
        except OSError:
            self.close()  # a store that came back may want the file opened again
            raise
        self._torn = 0 < written < len(data) or (self._torn and not written)
        if written < len(data):
            raise OSError(f"{self._path}: the disk took {written} of {len(data)} bytes")
        return 0

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class _Segments:
    """Lines in objects `events-00000.jsonl`, ...; only the last is put again."""

    def __init__(self, folder: Location) -> None:
        self._folder = folder
        self._segments: list[bytearray] = [bytearray()]
        self._first = 0
        """Number of the first segment that is not put for good."""
        self._put = 0
        """Bytes of that segment that were put."""
        self._lock = threading.Lock()
        self._putting = threading.Lock()

    def write(self, line: bytes) -> int:
        """Hold the line until the next put; how many lines had to be given up because nothing could be put."""
        lost = 0
        with self._lock:
            if len(self._segments[-1]) + len(line) > SEGMENT and self._segments[-1]:
                self._segments.append(bytearray())
            self._segments[-1] += line
            while len(self._segments) > 1 and sum(map(len, self._segments)) > MOST_UNSENT:
                lost += _told_of(bytes(self._segments.pop(0)[self._put :]))
                self._first, self._put = self._first + 1, 0
        return lost

    def flush(self) -> None:
        """Put what changed. Raises OSError; what was not put stays for the next time."""
        with self._putting:
            while True:
                with self._lock:
                    number, data, sealed = self._first, bytes(self._segments[0]), len(self._segments) > 1
                    fresh = len(data) > self._put
                if fresh:
                    _put(self._folder / f"events-{number:05d}.jsonl", data)
                with self._lock:
                    if self._first != number:  # given up meanwhile
                        continue
                    self._put = len(data)
                    if not sealed:
                        return
                    self._segments.pop(0)
                    self._first, self._put = self._first + 1, 0

    def close(self) -> None:
        """Nothing stays open."""


def _told_of(lines: bytes) -> int:
    """How many events these lines tell of; a gap's line tells of those that it counted."""
    events = [Event.read(line) for line in lines.split(b"\n")[:-1]]
    return sum(event.fields["lost"] if event.kind == "log_gap" else 1 for event in events if event is not None)


def _put(path: Location, data: bytes) -> None:
    """Put an object; whatever a store's client raises is an OSError here."""
    from curate.storage import put

    try:
        put(path, data)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class Tail:
    """The events of a run's folder, read as they come: `more` reads only what is new."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.broken = 0
        """Lines that were no events; a torn one, where a process was killed."""
        self._read: dict[str, int] = {}
        self._rest: dict[str, bytes] = {}

    def more(self) -> bool:
        """Read on; True if anything came."""
        before = len(self.events)
        for path in log_files(self.folder):
            data = _from(path, self._read.get(path.name, 0))
            self._read[path.name] = self._read.get(path.name, 0) + len(data)
            *lines, self._rest[path.name] = (self._rest.get(path.name, b"") + data).split(b"\n")
            for line in filter(None, lines):
                event = Event.read(line)
                if event is None:
                    self.broken += 1
                else:
                    self.events.append(event)
        return len(self.events) > before


def read_events(folder: str | os.PathLike[str]) -> list[Event]:
    """All events of a run's folder, in the order in which they were written."""
    tail = Tail(at(folder))
    tail.more()
    return tail.events


def log_files(folder: Location) -> list[Location]:
    """The files of a log, first to last."""
    return sorted(folder.glob("events*.jsonl"), key=lambda path: path.name)


def _from(path: Location, offset: int) -> bytes:
    if isinstance(path, Path) and not is_remote(str(path)):
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    return bytes(path.read_bytes()[offset:])
