"""The queue contract on every implementation, and what only a server can do wrong."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from common.clock import SystemClock
from common.errors import Unavailable
from control_plane.queues.memory import MemoryQueue
from control_plane.queues.redis import RedisQueue
from tests.conformance.queue import QueueContract
from tests.engines.redis import RedisEngine
from tests.pace import BUSY_SECONDS


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def subject(self) -> MemoryQueue:
        return MemoryQueue()

    @pytest.fixture
    def other(self, subject: MemoryQueue) -> MemoryQueue:
        return subject

    async def test_a_full_queue_refuses_and_keeps_what_it_has(self) -> None:
        queue = MemoryQueue(capacity=2)
        await queue.push("one")
        await queue.push("two")
        await queue.push("one")
        with pytest.raises(Unavailable):
            await queue.push("three")
        assert [await queue.pop(0) for _ in range(3)] == ["one", "two", None]


@pytest.mark.engine("redis")
class TestRedisQueue(QueueContract):
    @pytest.fixture
    async def subject(self, redis_server: RedisEngine) -> AsyncIterator[RedisQueue]:
        queue = RedisQueue(redis_server.url, SystemClock())
        yield queue
        await queue.close()

    @pytest.fixture
    async def other(self, redis_server: RedisEngine) -> AsyncIterator[RedisQueue]:
        queue = RedisQueue(redis_server.url, SystemClock())
        yield queue
        await queue.close()


@pytest.mark.engine("redis")
class TestRedisQueueUnderFailure:
    @pytest.fixture
    async def subject(self, own_redis: RedisEngine) -> AsyncIterator[RedisQueue]:
        queue = RedisQueue(own_redis.url, SystemClock())
        await queue.push("warm")
        assert await queue.pop(1) == "warm"
        yield queue
        await queue.close()

    @pytest.mark.parametrize("failure", ["stop", "pause"])
    async def test_a_redis_that_is_gone_or_hangs_is_unavailable_in_time(
        self, own_redis: RedisEngine, subject: RedisQueue, failure: str
    ) -> None:
        getattr(own_redis, failure)()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await subject.push("job")
        assert time.monotonic() - started < 1 + BUSY_SECONDS
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await subject.pop(0.5)
        assert time.monotonic() - started < 1.5 + BUSY_SECONDS

    async def test_it_serves_again_after_a_restart(self, own_redis: RedisEngine, subject: RedisQueue) -> None:
        own_redis.stop()
        own_redis.start()
        await subject.push("job")
        assert await subject.pop(1) == "job"
