"""The queue shared by the replicas and workers: a sorted set in Redis, scored by the time of the first push.

A sorted set rather than a list, because it holds an id once however often it is pushed, and BZPOPMIN takes the oldest
id and removes it in one step.
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

_DEADLINE_SECONDS = 1.0


class RedisQueue:
    """Implements the port `control_plane.queues.Queue`. Workers of one kind of work share a `name`."""

    def __init__(self, url: str, clock: Clock, name: str = "longshore:jobs") -> None:
        self._clock = clock
        self._name = name
        # One immediate retry: the first use of a pooled connection after Redis restarted always fails. No socket
        # timeout: a blocking pop is silent for longer, and every operation has its own deadline below.
        self._redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 1), socket_connect_timeout=_DEADLINE_SECONDS, socket_timeout=None
        )

    async def push(self, job_id: str) -> None:
        async with _answering(_DEADLINE_SECONDS):
            await self._redis.zadd(self._name, {job_id: self._clock.now().timestamp()}, nx=True)

    async def pop(self, timeout_seconds: float) -> str | None:
        async with _answering(timeout_seconds + _DEADLINE_SECONDS):
            if timeout_seconds <= 0:  # to Redis, zero means for ever
                found = await self._redis.zpopmin(self._name)
                return _text(found[0][0]) if found else None
            taken = await self._redis.bzpopmin(self._name, timeout=timeout_seconds)
            return _text(taken[1]) if taken else None

    async def close(self) -> None:
        await self._redis.aclose()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.asynccontextmanager
async def _answering(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable("the job queue does not answer", action="try again; jobs are kept in the database") from error
