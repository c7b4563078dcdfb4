"""What every `control_plane.events.EventBus` must do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.events import Event, EventBus, Overrun
from tests.pace import BUSY_SECONDS


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    async with asyncio.timeout(BUSY_SECONDS):
        return [await anext(events) for _ in range(count)]


class EventBusContract:
    """Subclasses give the fixtures `subject` and `other`: another process's end of the same bus."""

    async def test_a_subscriber_gets_what_is_published_afterwards_in_order(self, subject: EventBus) -> None:
        await subject.publish(Event("fleet.changed", {"number": -1}))
        async with subject.subscribe("fleet.changed") as events:
            for number in range(20):
                await subject.publish(Event("fleet.changed", {"number": number}))
            assert [event.payload["number"] for event in await take(events, 20)] == list(range(20))

    async def test_only_the_topics_that_were_asked_for_arrive(self, subject: EventBus) -> None:
        async with subject.subscribe("a.one", "a.two") as events:
            for topic in ("a.one", "a.on", "a.one.more", "a.two", "a.*"):
                await subject.publish(Event(topic, {}))
            await subject.publish(Event("a.one", {"last": True}))
            assert [event.topic for event in await take(events, 3)] == ["a.one", "a.two", "a.one"]

    async def test_every_subscription_gets_every_event(self, subject: EventBus, other: EventBus) -> None:
        async with subject.subscribe("t") as first, subject.subscribe("t") as second, other.subscribe("t") as third:
            await other.publish(Event("t", {"text": "grüße \U0001f6a2", "list": [1, None, True], "nested": {"a": 1.5}}))
            received = [*(await take(first, 1)), *(await take(second, 1)), *(await take(third, 1))]
        assert received[0].payload == {"text": "grüße \U0001f6a2", "list": [1, None, True], "nested": {"a": 1.5}}
        assert received[1:] == received[:1] * 2

    async def test_publishing_to_nobody_is_harmless(self, subject: EventBus) -> None:
        await subject.publish(Event("nobody.listens", {}))

    async def test_a_reader_that_falls_behind_is_told_so_and_others_are_not_disturbed(self, subject: EventBus) -> None:
        async with subject.subscribe("t", capacity=5) as slow, subject.subscribe("t", capacity=100) as quick:
            for number in range(10):
                await subject.publish(Event("t", {"number": number}))
            assert len(await take(quick, 10)) == 10
            with pytest.raises(Overrun):
                await take(slow, 1)
            with pytest.raises(Overrun):
                await take(slow, 1)

    async def test_a_reader_that_keeps_up_reads_more_than_the_capacity(self, subject: EventBus) -> None:
        async with subject.subscribe("t", capacity=2) as events:
            for number in range(20):
                await subject.publish(Event("t", {"number": number}))
                assert (await take(events, 1))[0].payload == {"number": number}

    async def test_what_is_not_json_is_refused(self, subject: EventBus) -> None:
        with pytest.raises(TypeError):
            await subject.publish(Event("t", {"value": object()}))

    async def test_closing_ends_a_waiting_reader(self, subject: EventBus) -> None:
        async with subject.subscribe("t") as events, asyncio.TaskGroup() as group:
            waiting = group.create_task(take_all(events))
            await asyncio.sleep(0)
            await subject.close()
        assert waiting.result() == []


async def take_all(events: AsyncIterator[Event]) -> list[Event]:
    async with asyncio.timeout(BUSY_SECONDS):
        return [event async for event in events]
