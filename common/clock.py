"""Time as a port: rules and services take a `Clock`, so that tests move time instead of waiting for it.

Invariant: only this module reads the machine's clocks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for deadlines, and waiting."""

    def now(self) -> datetime:
        """Aware UTC wall time."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  the one place

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until `advance` is called; sleepers wake in order of their deadline."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    def tick(self, seconds: float) -> None:
        """Move time without waking anybody: enough for rules that only read the clock."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    @property
    def sleeping(self) -> bool:
        """Whether somebody waits for a later moment: what works in threads has come to its rest."""
        return any(not future.done() for _, _, future in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move time and let every sleeper whose deadline passed run, in order."""
        target = self._monotonic + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, future = heapq.heappop(self._sleepers)
            self.tick(deadline - self._monotonic)
            if not future.done():
                future.set_result(None)
            await _settle()
        self.tick(target - self._monotonic)


async def _settle() -> None:
    # Woken tasks need a few turns of the loop to reach their next sleep; ten covers our deepest await chain.
    for _ in range(10):
        await asyncio.sleep(0)
