"""The cache shared by the replicas, in Redis.

A Redis that is gone or hangs must not slow every request down: an operation that fails or takes longer than 200 ms
raises `Unavailable`, and for one second after it every other operation does so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from common.clock import Clock
from common.errors import Unavailable

_DEADLINE_SECONDS = 0.2
_REST_SECONDS = 1.0


class RedisCache:
    """Implements the port `control_plane.cache.Cache`. `prefix` keeps two installations on one Redis apart."""

    def __init__(self, url: str, clock: Clock, prefix: str = "longshore:cache:") -> None:
        self._clock = clock
        self._prefix = prefix
        self._away_until = float("-inf")
        # One immediate retry: the first use of a pooled connection after Redis restarted always fails.
        self._redis = Redis.from_url(url, retry=Retry(NoBackoff(), 1), socket_connect_timeout=_DEADLINE_SECONDS)

    async def get(self, key: str) -> bytes | None:
        async with self._answering():
            value: Any = await self._redis.get(self._prefix + key)  # bytes: the client does not decode
            return None if value is None else bytes(value)

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        async with self._answering():
            await self._redis.set(self._prefix + key, value, px=_milliseconds(ttl_seconds))

    async def delete(self, key: str) -> None:
        async with self._answering():
            await self._redis.delete(self._prefix + key)

    async def increment(self, key: str, ttl_seconds: float) -> int:
        async with self._answering(), self._redis.pipeline(transaction=True) as steps:
            # SET NX gives a new window its end; INCR keeps the end that is there.
            steps.set(self._prefix + key, 0, px=_milliseconds(ttl_seconds), nx=True)
            steps.incr(self._prefix + key)
            answers = await steps.execute()
            return int(answers[1])

    async def close(self) -> None:
        await self._redis.aclose()

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        if self._clock.monotonic() < self._away_until:
            raise _away()
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = self._clock.monotonic() + _REST_SECONDS
            raise _away() from error


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _away() -> Unavailable:
    return Unavailable("the cache does not answer", action="carry on without it", retry_after_seconds=_REST_SECONDS)
