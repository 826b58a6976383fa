"""How the words of an attempt reach the driver: as a stream, or over a board where the driver is a `ray://` client.

A stream is Ray's own: each word comes as it is said, and nothing else is needed. Clients have no streams, so workers
note on a board, a small actor, that they began, and the last word is the result; a lost board costs only the clocks'
start.
"""

import asyncio
import contextlib
from typing import Any, Protocol

from curate.engine.executors.ray_worker import Ours, serve, serve_noting


class Wire(Protocol):
    """Sends jobs to workers and hears their words."""

    def function(self, **options: Any) -> Any:
        """The remote function that tasks call."""

    def send(self, function_or_actor: Any, packed: bytes) -> Any:
        """Start an attempt; what to wait on."""

    def word(self, handle: Any) -> tuple[Any, ...]:
        """The next word of an attempt, whose handle is ready."""

    def handles(self) -> list[Any]:
        """What else to wait on."""

    def began(self, handle: Any) -> list[tuple[Any, str]]:
        """One of `handles` is ready: attempts that began, and where."""

    def end(self) -> None:
        """Nothing is in flight any more."""


class Stream:
    """Words as a stream."""

    def __init__(self, ray: Any, ours: Ours, threads: int) -> None:
        self._ray, self._cargo = ray, (ours, threads)

    def function(self, **options: Any) -> Any:
        """Retries are ours alone, so that their number is exact and each is told."""
        return self._ray.remote(num_returns="streaming", max_retries=0, **options)(serve)

    def send(self, function_or_actor: Any, packed: bytes) -> Any:
        """Call the function, or the actor's."""
        if hasattr(function_or_actor, "serve"):
            return function_or_actor.serve.options(num_returns="streaming").remote(packed, *self._cargo)
        return function_or_actor.remote(packed, *self._cargo)

    def word(self, handle: Any) -> tuple[Any, ...]:
        """The next in the stream."""
        return tuple(self._ray.get(next(handle)))

    def handles(self) -> list[Any]:
        """None."""
        return []

    def began(self, handle: Any) -> list[tuple[Any, str]]:
        """Never called."""
        return []

    def end(self) -> None:
        """Nothing to end."""


class Board:
    """Where workers note that they began; an actor."""

    def __init__(self) -> None:
        self._notes: list[tuple[int, str]] = []
        self._noted = asyncio.Event()

    async def note(self, number: int, where: str) -> None:
        """A worker began an attempt."""
        self._notes.append((number, where))
        self._noted.set()

    async def taken(self) -> list[tuple[int, str]]:
        """What was noted since the last time, once there is something."""
        await self._noted.wait()
        notes, self._notes = self._notes, []
        self._noted.clear()
        return notes


class Noted:
    """Words over a board."""

    def __init__(self, ray: Any, ours: Ours, threads: int) -> None:
        self._ray, self._cargo = ray, (ours, threads)
        self._sent: dict[int, Any] = {}
        self._number = 0
        self._board: Any = None
        self._notes: Any = None

    def function(self, **options: Any) -> Any:
        """Retries are ours alone, so that their number is exact and each is told."""
        return self._ray.remote(max_retries=0, **options)(serve_noting)

    def send(self, function_or_actor: Any, packed: bytes) -> Any:
        """Call the function, or the actor's."""
        if self._board is None:
            self._board = self._ray.remote(num_cpus=0, max_restarts=0)(Board).remote()
            self._notes = self._board.taken.remote()
        self._number += 1
        arguments = (packed, *self._cargo, self._board, self._number)
        if hasattr(function_or_actor, "serve_noting"):
            handle = function_or_actor.serve_noting.remote(*arguments)
        else:
            handle = function_or_actor.remote(*arguments)
        self._sent[self._number] = handle
        return handle

    def word(self, handle: Any) -> tuple[Any, ...]:
        """The result."""
        self._sent = {number: sent for number, sent in self._sent.items() if sent != handle}
        return tuple(self._ray.get(handle))

    def handles(self) -> list[Any]:
        """Notes to come."""
        return [self._notes] if self._notes is not None else []

    def began(self, handle: Any) -> list[tuple[Any, str]]:
        """Attempts that noted their start; if the board was lost, all that are out, as if they began now."""
        try:
            notes = self._ray.get(handle)
        except self._ray.exceptions.RayError:
            self._board = self._notes = None
            return [(sent, "") for sent in self._sent.values()]
        self._notes = self._board.taken.remote()
        return [(self._sent[number], where) for number, where in notes if number in self._sent]

    def end(self) -> None:
        """Take the board down."""
        if self._board is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(self._board)
        self._board = self._notes = None
        self._sent.clear()
