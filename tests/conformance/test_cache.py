"""The cache contract on every implementation, and what only a server can do wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from common.clock import ManualClock, SystemClock
from common.errors import Unavailable
from control_plane.cache.memory import MemoryCache
from control_plane.cache.redis import RedisCache
from tests.conformance.cache import CacheContract, Elapse
from tests.engines.redis import RedisEngine
from tests.pace import BUSY_SECONDS


class TestMemoryCache(CacheContract):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def subject(self, clock: ManualClock) -> MemoryCache:
        return MemoryCache(clock)

    @pytest.fixture
    def elapse(self, clock: ManualClock) -> Elapse:
        return clock.advance

    async def test_the_oldest_entries_make_room(self, clock: ManualClock) -> None:
        cache = MemoryCache(clock, capacity=3)
        for number in range(5):
            await cache.set(f"key-{number}", b"value", 60)
        assert [await cache.get(f"key-{number}") is not None for number in range(5)] == [False, False, True, True, True]


@pytest.mark.engine("redis")
class TestRedisCache(CacheContract):
    @pytest.fixture
    async def subject(self, redis_server: RedisEngine) -> AsyncIterator[RedisCache]:
        cache = RedisCache(redis_server.url, SystemClock())
        yield cache
        await cache.close()

    @pytest.fixture
    def elapse(self) -> Elapse:
        return asyncio.sleep


@pytest.mark.engine("redis")
class TestRedisCacheUnderFailure:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def subject(self, own_redis: RedisEngine, clock: ManualClock) -> AsyncIterator[RedisCache]:
        cache = RedisCache(own_redis.url, clock)
        await cache.set("key", b"value", 60)
        yield cache
        await cache.close()

    async def test_a_redis_that_is_gone_is_unavailable_in_time(
        self, own_redis: RedisEngine, subject: RedisCache
    ) -> None:
        own_redis.stop()
        assert await self._refused_after(subject) < BUSY_SECONDS

    async def test_a_redis_that_hangs_is_unavailable_in_time(self, own_redis: RedisEngine, subject: RedisCache) -> None:
        own_redis.pause()
        assert await self._refused_after(subject) < BUSY_SECONDS

    async def test_after_a_failure_no_caller_waits_for_a_second(
        self, own_redis: RedisEngine, subject: RedisCache, clock: ManualClock
    ) -> None:
        own_redis.pause()
        await self._refused_after(subject)
        # Whoever asks a Redis that hangs waits 0.2 s for it: the quickest of many did not.
        assert min([await self._refused_after(subject) for _ in range(20)]) < 0.1
        own_redis.resume()
        clock.tick(1.1)
        assert await subject.get("key") == b"value"

    async def test_it_serves_again_after_a_restart(
        self, own_redis: RedisEngine, subject: RedisCache, clock: ManualClock
    ) -> None:
        own_redis.stop()
        own_redis.start()
        assert await subject.get("key") is None  # the first use of the old connection is repeated by itself
        await subject.set("key", b"again", 60)
        assert await subject.get("key") == b"again"

    async def _refused_after(self, cache: RedisCache) -> float:
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await cache.get("key")
        return time.monotonic() - started
