"""The event bus contract on every implementation, and what only a server can do wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from common.clock import SystemClock
from common.errors import Unavailable
from control_plane.events import Event, Overrun
from control_plane.events.memory import MemoryEventBus
from control_plane.events.redis import RedisEventBus
from tests.conformance.event_bus import EventBusContract, take
from tests.engines.redis import RedisEngine
from tests.pace import BUSY_SECONDS


class TestMemoryEventBus(EventBusContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[MemoryEventBus]:
        bus = MemoryEventBus()
        yield bus
        await bus.close()

    @pytest.fixture
    def other(self, subject: MemoryEventBus) -> MemoryEventBus:
        return subject


@pytest.mark.engine("redis")
class TestRedisEventBus(EventBusContract):
    @pytest.fixture
    async def subject(self, redis_server: RedisEngine) -> AsyncIterator[RedisEventBus]:
        bus = RedisEventBus(redis_server.url, SystemClock())
        yield bus
        await bus.close()

    @pytest.fixture
    async def other(self, redis_server: RedisEngine) -> AsyncIterator[RedisEventBus]:
        bus = RedisEventBus(redis_server.url, SystemClock())
        yield bus
        await bus.close()

    async def test_two_installations_on_one_redis_do_not_hear_each_other(
        self, redis_server: RedisEngine, subject: RedisEventBus
    ) -> None:
        stranger = RedisEventBus(redis_server.url, SystemClock(), prefix="stranger:")
        async with subject.subscribe("t") as events:
            await stranger.publish(Event("t", {"from": "stranger"}))
            await subject.publish(Event("t", {"from": "us"}))
            assert (await take(events, 1))[0].payload == {"from": "us"}
        await stranger.close()

    async def test_a_message_that_is_not_json_costs_only_itself(
        self, redis_server: RedisEngine, subject: RedisEventBus
    ) -> None:
        async with subject.subscribe("t") as events:
            redis_server.command("PUBLISH", "longshore:events:t", "{not json")
            await subject.publish(Event("t", {"after": True}))
            assert (await take(events, 1))[0].payload == {"after": True}


@pytest.mark.engine("redis")
class TestRedisEventBusUnderFailure:
    @pytest.fixture
    async def subject(self, own_redis: RedisEngine) -> AsyncIterator[RedisEventBus]:
        bus = RedisEventBus(own_redis.url, SystemClock(), heartbeat_seconds=0.3)
        yield bus
        await bus.close()

    @pytest.mark.parametrize("failure", ["stop", "pause"])
    async def test_publishing_to_a_redis_that_is_gone_or_hangs_is_unavailable_in_time(
        self, own_redis: RedisEngine, subject: RedisEventBus, failure: str
    ) -> None:
        await subject.publish(Event("t", {}))
        getattr(own_redis, failure)()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await subject.publish(Event("t", {}))
        assert time.monotonic() - started < 2 + BUSY_SECONDS

    @pytest.mark.parametrize("failure", ["stop", "pause"])
    async def test_subscribing_to_a_redis_that_is_gone_or_hangs_is_unavailable_in_time(
        self, own_redis: RedisEngine, subject: RedisEventBus, failure: str
    ) -> None:
        getattr(own_redis, failure)()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            async with subject.subscribe("t"):
                pass
        assert time.monotonic() - started < 2 + BUSY_SECONDS

    @pytest.mark.parametrize("failure", ["stop", "pause"])
    async def test_a_reader_learns_that_it_may_have_missed_something(
        self, own_redis: RedisEngine, subject: RedisEventBus, failure: str
    ) -> None:
        async with subject.subscribe("t") as events:
            getattr(own_redis, failure)()
            with pytest.raises(Overrun):
                await take(events, 1)

    @pytest.mark.parametrize(("failure", "cure"), [("stop", "start"), ("pause", "resume")])
    async def test_a_new_subscription_works_once_redis_is_back(
        self, own_redis: RedisEngine, subject: RedisEventBus, failure: str, cure: str
    ) -> None:
        async with subject.subscribe("t") as events:
            getattr(own_redis, failure)()
            with pytest.raises(Overrun):
                await take(events, 1)
        getattr(own_redis, cure)()
        async with asyncio.timeout(BUSY_SECONDS):
            while True:
                try:
                    async with subject.subscribe("t") as events:
                        await subject.publish(Event("t", {"back": True}))
                        assert (await take(events, 1))[0].payload == {"back": True}
                        return
                except Unavailable:
                    continue

    async def test_a_quiet_connection_is_not_taken_for_a_lost_one(self, subject: RedisEventBus) -> None:
        async with subject.subscribe("t") as events:
            await asyncio.sleep(1.5)  # five heartbeats
            await subject.publish(Event("t", {"still": "here"}))
            assert (await take(events, 1))[0].payload == {"still": "here"}
