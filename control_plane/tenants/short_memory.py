"""Look-ups that may be a little old: kept in the cache for a bounded time, forgotten at once when this process changes
what they say.

Invariant: a value that was read before a change is not kept after it (in one process; other replicas share the cache or
see the change when the time is over). The cache being away costs a query each time, never an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from common.errors import Unavailable
from control_plane.cache import Cache

log = structlog.get_logger()


class ShortMemory:
    """Answers by key, each made by `read` when the cache has none."""

    def __init__(self, cache: Cache, lifetime: timedelta) -> None:
        self._cache = cache
        self._lifetime = lifetime.total_seconds()
        # Counts changes. One number for all keys: a change elsewhere costs at most one look-up that is not kept.
        self._changes = 0

    async def get(self, key: str, read: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        """None, which `read` may answer, is not kept."""
        try:
            kept = await self._cache.get(key)
        except Unavailable:
            return await read()
        if kept is not None:
            return kept
        before = self._changes
        value = await read()
        if value is not None and before == self._changes:
            await self._keep(key, value, before)
        return value

    async def forget(self, *keys: str) -> None:
        """Call it after the change is committed."""
        self._changes += 1
        try:
            for key in keys:
                await self._cache.delete(key)
        except Unavailable:
            log.warning("cache away, old answers may last", seconds=self._lifetime)

    async def _keep(self, key: str, value: bytes, before: int) -> None:
        try:
            await self._cache.set(key, value, self._lifetime)
            if before != self._changes:  # changed while it was being written
                await self._cache.delete(key)
        except Unavailable:
            return
