"""How many fetches run at once. What nobody waits for has turns of its own, so it never stands in the way of what
somebody waits for; and whoever comes to be waited for leaves that queue within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_LOOK_SECONDS = 1.0


class Turns:
    """`large`, `small`: at once, of contents of each size; half as many besides of lower effort."""

    def __init__(self, large: int, small: int) -> None:
        # By (lower effort, large).
        self._free = {
            (False, True): asyncio.Semaphore(large),
            (False, False): asyncio.Semaphore(small),
            (True, True): asyncio.Semaphore(max(1, large // 2)),
            (True, False): asyncio.Semaphore(max(1, small // 2)),
        }

    @asynccontextmanager
    async def turn(self, lower: Callable[[], bool], *, large: bool) -> AsyncIterator[None]:
        taken = await self._take(lower, large)
        try:
            yield
        finally:
            taken.release()

    async def _take(self, lower: Callable[[], bool], large: bool) -> asyncio.Semaphore:
        while lower():
            waited_for = self._free[True, large]
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await waited_for.acquire()
                return waited_for
            except TimeoutError:
                continue
        ordinary = self._free[False, large]
        await ordinary.acquire()
        return ordinary
