"""The two places where a fetch does not wait: before the disk (`read_ahead`) and behind it (`OfferLine`).

Reading never waits for the disk, because aiohttp drops what was not read yet when a connection breaks, and those bytes
would cross the WAN twice. Keeping never waits for the torrents. Both are bounded, so memory is: some 30 MiB a fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol, Self

from common.digest import Hasher
from common.errors import Failure

# Chunks of up to 1 MiB, and pieces of up to 4 MiB.
_CHUNKS_AHEAD = 8
_PIECES_BEHIND = 4
_BATCH = 1 << 20


class Spawn(Protocol):
    """`Lifecycle.spawn`."""

    def __call__(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


async def read_ahead(spawn: Spawn, name: str, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same chunks, read as they come. What came before a failure is given before the failure is raised."""
    queue: asyncio.Queue[bytes | Failure | None] = asyncio.Queue(_CHUNKS_AHEAD)

    async def pump() -> None:
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    await queue.put(chunk)
            await queue.put(None)
        except Failure as failure:
            await queue.put(failure)

    task = spawn(name, pump())
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Failure):
                raise item
            yield item
    finally:
        task.cancel()
        await asyncio.wait({task})


class OfferLine:
    """Pieces that are on disk, on their way to the torrents. Use as an async context manager; leaving it waits until
    everything was offered, unless it is cancelled.

    `offer(index, data)` must not raise and must end by itself.
    """

    def __init__(self, spawn: Spawn, name: str, offer: Callable[[int, bytes], Awaitable[None]]) -> None:
        self._spawn = spawn
        self._name = name
        self._offer = offer
        self._queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(_PIECES_BEHIND)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = self._spawn(self._name, self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is None:
            return
        if isinstance(error, asyncio.CancelledError):
            self._task.cancel()
        else:
            await self._queue.put(None)
        await asyncio.wait({self._task})

    async def put(self, index: int, data: bytes) -> None:
        await self._queue.put((index, data))

    async def _work(self) -> None:
        while (item := await self._queue.get()) is not None:
            await self._offer(*item)


async def append_all(write: Callable[[int, bytes], None], hasher: Hasher, chunks: AsyncGenerator[bytes, None]) -> None:
    """Hash a whole content and write it from its beginning on. `write(offset, data)` blocks."""

    def append(data: bytes) -> None:
        write(hasher.size, data)
        hasher.update(data)

    batch = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            batch += chunk
            if len(batch) >= _BATCH:
                await asyncio.to_thread(append, bytes(batch))
                batch.clear()
    await asyncio.to_thread(append, bytes(batch))


async def assembled(
    sizes: Iterable[tuple[int, int]], chunks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[tuple[int, bytes], None]:
    """A stream cut into (index, so many bytes), one after the other; what is left over or cut off is dropped."""
    buffer = bytearray()
    waiting = iter(sizes)
    index, size = next(waiting, (None, 0))
    async with aclosing(chunks):
        async for chunk in chunks:
            buffer += chunk
            while index is not None and len(buffer) >= size:
                piece = bytes(memoryview(buffer)[:size])
                del buffer[:size]
                yield index, piece
                index, size = next(waiting, (None, 0))
