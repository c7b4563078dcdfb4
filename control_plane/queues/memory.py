"""The queue of one process. Its loss at a restart loses nothing: the rows are swept."""

from __future__ import annotations

import asyncio
import contextlib

from common.errors import Unavailable


class MemoryQueue:
    """Implements the port `control_plane.queues.Queue`. Bounded: past `capacity`, `push` raises `Unavailable`."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._waiting: dict[str, None] = {}  # an ordered set
        self._filled = asyncio.Condition()

    async def push(self, job_id: str) -> None:
        async with self._filled:
            if len(self._waiting) >= self._capacity and job_id not in self._waiting:
                raise Unavailable(f"{self._capacity} jobs wait already", action="leave it to the sweep")
            self._waiting.setdefault(job_id)
            # All, not one: a single waiter that is being cancelled just now would swallow the news.
            self._filled.notify_all()

    async def pop(self, timeout_seconds: float) -> str | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds), self._filled:
                await self._filled.wait_for(lambda: bool(self._waiting))
        # Without an await between look and removal no other caller can take the same id.
        job_id = next(iter(self._waiting), None)
        if job_id is not None:
            del self._waiting[job_id]
        return job_id

    async def close(self) -> None:
        self._waiting.clear()
