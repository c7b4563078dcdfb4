"""One piece of work for everybody who wants the same thing at the same time. It goes on when those who wait leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from common.lifecycle import Lifecycle

K = TypeVar("K")
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """`seconds` bounds each piece of work; then it fails with `TimeoutError`."""

    def __init__(self, lifecycle: Lifecycle, seconds: float) -> None:
        self._lifecycle = lifecycle
        self._seconds = seconds
        self._running: dict[K, asyncio.Future[T]] = {}

    async def run(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """Raises what the work raises."""
        future = self._running.get(key)
        if future is None:
            future = self._running[key] = asyncio.get_running_loop().create_future()
            self._lifecycle.spawn("mirror", self._fly(key, future, work))
        return await asyncio.shield(future)

    async def _fly(self, key: K, future: asyncio.Future[T], work: Callable[[], Awaitable[T]]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                result = await work()
        except Exception as error:
            self._running.pop(key)
            if not future.cancelled():
                future.set_exception(error)
                future.exception()  # seen, also if everybody has left
        except BaseException:
            self._running.pop(key)
            future.cancel()
            raise
        else:
            self._running.pop(key)
            if not future.cancelled():
                future.set_result(result)
