"""Looking for due work again and again: at once after a wake-up, else every so often.

Invariant: a wake-up that comes while a round runs leads to another round, and an outage of the database is waited out.
What is due, and what is done of it, is the caller's; rows under leases are its truth, so a lost wake-up costs a poll.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from common.backoff import Backoff, jittered
from common.clock import Clock
from common.errors import Unavailable

log = structlog.get_logger()

# Begins what is due as tasks of the group; how much that was.
Start = Callable[[asyncio.TaskGroup], Awaitable[int]]


class Rounds:
    """`name` is for the log; `poll_seconds`: how long nothing is looked for while nobody wakes."""

    def __init__(self, name: str, start: Start, clock: Clock, chance: Callable[[], float], poll_seconds: float) -> None:
        self._name = name
        self._start = start
        self._clock = clock
        self._chance = chance
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Never returns."""
        backoff = Backoff(self._chance, initial_seconds=self._poll_seconds, cap_seconds=30)
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                try:
                    started = await self._start(group)
                    backoff.reset()
                except Unavailable as error:
                    log.warning("due work waits", work=self._name, error=str(error))
                    await self._clock.sleep(backoff.next_delay())
                    continue
                if not started:
                    await self._until_woken()

    async def once(self) -> int:
        """One round, to its end: for tests and tools. How much was begun."""
        async with asyncio.TaskGroup() as group:
            return await self._start(group)

    async def _until_woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(jittered(self._poll_seconds, 0.2, self._chance)):
                await self._woken.wait()
