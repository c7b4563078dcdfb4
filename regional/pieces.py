"""Between the socket and the disk: while one piece is hashed, written and offered, the next ones are read.

Invariant: pieces are kept in the order in which they came, at most `DEPTH` wait, and none that came whole is lost when
the stream breaks: `drain` keeps them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

from common.errors import Failure

# With pieces of up to 4 MiB this bounds a fetch to some 20 MiB of memory.
DEPTH = 4


class Spawn(Protocol):
    """`Lifecycle.spawn`."""

    def __call__(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class PieceLine:
    """Use as an async context manager. `keep(index, data)` tells whether the piece was true."""

    def __init__(self, spawn: Spawn, name: str, keep: Callable[[int, bytes], Awaitable[bool]]) -> None:
        self._spawn = spawn
        self._name = name
        self._keep = keep
        self._queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(DEPTH)
        self._failure: Failure | None = None
        self._false = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = self._spawn(self._name, self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def put(self, index: int, data: bytes) -> None:
        """Raises what keeping an earlier piece raised."""
        if self._failure is not None:
            raise self._failure
        await self._queue.put((index, data))

    async def drain(self) -> int:
        """Wait until everything that was put is kept; how many pieces were false. Raises as `put`. Call it once."""
        await self._queue.put(None)
        if self._task is not None:
            await asyncio.wait({self._task})
        if self._failure is not None:
            raise self._failure
        return self._false

    async def _work(self) -> None:
        while (item := await self._queue.get()) is not None:
            # After a failure the rest is taken and dropped, so that nobody waits for room in the queue.
            if self._failure is None:
                try:
                    self._false += not await self._keep(*item)
                except Failure as failure:
                    self._failure = failure
