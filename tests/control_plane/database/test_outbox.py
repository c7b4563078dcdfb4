"""A message is published if and only if its change was committed, at least once, by whichever replica comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pytest
from sqlalchemy import func, select

from common.errors import Unavailable
from control_plane.database import Database
from control_plane.database.messages import Message
from control_plane.database.outbox import outbox
from control_plane.database.relay import Announcement, relay_forever, relay_once
from control_plane.events import Event
from control_plane.events.memory import MemoryEventBus
from tests.pace import BUSY_SECONDS


@dataclass(frozen=True, slots=True)
class ThingMoved(Message):
    topic: ClassVar[str] = "things.moved"
    number: int


class RecordingBus(MemoryEventBus):
    """Keeps what it was given; `failing` makes it an outage, `crash_after` a process that dies while it relays."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[int] = []
        self.failing = False
        self.crash_after: int | None = None
        self.slow = False

    async def publish(self, event: Event) -> None:
        if self.failing:
            raise Unavailable("the bus is away")
        if self.slow:
            await asyncio.sleep(0.005)
        if self.crash_after is not None and len(self.published) >= self.crash_after:
            raise asyncio.CancelledError
        self.published.append(event.payload["number"])
        await super().publish(event)


async def announce(database: Database, *numbers: int) -> None:
    async with database.transaction() as unit:
        for number in numbers:
            await unit.announce(ThingMoved(number))


async def waiting(database: Database) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(outbox))).scalar_one())


async def test_what_was_committed_is_published_in_order(database: Database) -> None:
    bus = RecordingBus()
    await announce(database, 1, 2)
    await announce(database, 3)
    assert await relay_once(database, bus) == 3
    assert bus.published == [1, 2, 3]
    assert await waiting(database) == 0
    assert await relay_once(database, bus) == 0


async def test_a_subscriber_gets_the_message_with_its_topic(database: Database) -> None:
    bus = RecordingBus()
    async with bus.subscribe("things.moved") as events:
        await announce(database, 7)
        await relay_once(database, bus)
        assert await anext(events) == Event("things.moved", {"number": 7})


async def test_a_rollback_announces_nothing(database: Database) -> None:
    bus = RecordingBus()

    async def change_ones_mind() -> None:
        async with database.transaction() as unit:
            await unit.announce(ThingMoved(1))
            raise KeyError("no")

    with pytest.raises(KeyError):
        await change_ones_mind()
    assert await relay_once(database, bus) == 0
    assert not database.committed.is_set()


async def test_a_crash_between_publication_and_deletion_repeats_and_loses_nothing(database: Database) -> None:
    bus = RecordingBus()
    await announce(database, 1, 2, 3)
    bus.crash_after = 2
    with pytest.raises(asyncio.CancelledError):
        await relay_once(database, bus)
    bus.crash_after = None
    assert await relay_once(database, bus) == 3
    assert bus.published == [1, 2, 1, 2, 3]


async def test_a_bus_that_is_away_keeps_everything_waiting(database: Database) -> None:
    bus = RecordingBus()
    await announce(database, 1)
    bus.failing = True
    with pytest.raises(Unavailable):
        await relay_once(database, bus)
    assert await waiting(database) == 1


async def test_more_than_one_batch_comes_out_whole(database: Database) -> None:
    bus = RecordingBus()
    await announce(database, *range(250))
    while await relay_once(database, bus):
        pass
    assert bus.published == list(range(250))


async def test_after_a_full_batch_the_rest_comes_in_large_ones(database: Database) -> None:
    bus = RecordingBus()
    batches: list[int] = []

    async def tap(announcements: Sequence[Announcement]) -> None:
        batches.append(len(announcements))

    await announce(database, *range(1_300))
    async with bus.subscribe("things.moved", capacity=2_000) as events, asyncio.TaskGroup() as group:
        relay = group.create_task(relay_forever(database, bus, tap=tap))
        async with asyncio.timeout(BUSY_SECONDS):
            for _ in range(1_300):
                await anext(events)
        relay.cancel()
    assert bus.published == list(range(1_300))
    assert batches == [100, 1_000, 200]


async def test_two_relays_at_once_do_not_publish_twice(
    database: Database, open_replica: Callable[[], Database]
) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite is for one replica, which has one relay")
    replica = open_replica()
    bus = RecordingBus()
    bus.slow = True
    await announce(database, *range(300))

    async def drain(of: Database) -> int:
        total = 0
        while published := await relay_once(of, bus):
            total += published
        return total

    totals = await asyncio.gather(drain(database), drain(replica))
    assert sum(totals) == 300
    assert sorted(bus.published) == list(range(300))


async def test_the_relay_wakes_at_once_after_a_commit(database: Database) -> None:
    bus = RecordingBus()
    async with bus.subscribe("things.moved") as events, asyncio.TaskGroup() as group:
        relay = group.create_task(relay_forever(database, bus, poll_seconds=60))
        await asyncio.sleep(0.05)
        await announce(database, 1)
        async with asyncio.timeout(BUSY_SECONDS):
            assert (await anext(events)).payload == {"number": 1}
        relay.cancel()


async def test_while_many_commit_the_relay_takes_its_time_between_rounds(database: Database) -> None:
    bus, now = RecordingBus(), asyncio.get_running_loop().time
    rounds: list[float] = []

    async def tap(_announcements: Sequence[Announcement]) -> None:
        rounds.append(now())

    async with bus.subscribe("things.moved") as events, asyncio.TaskGroup() as group:
        relay = group.create_task(relay_forever(database, bus, poll_seconds=60, tap=tap))
        for number in range(8):
            await announce(database, number)
        async with asyncio.timeout(BUSY_SECONDS):
            assert [(await anext(events)).payload["number"] for _ in range(8)] == list(range(8))
        relay.cancel()
    assert all(later - earlier > 0.04 for earlier, later in pairwise(rounds))


async def test_the_relay_of_one_replica_finds_what_another_committed(
    database: Database, open_replica: Callable[[], Database]
) -> None:
    bus = RecordingBus()
    async with bus.subscribe("things.moved") as events, asyncio.TaskGroup() as group:
        relay = group.create_task(relay_forever(database, bus, poll_seconds=0.05))
        await announce(open_replica(), 1)
        async with asyncio.timeout(BUSY_SECONDS):
            assert (await anext(events)).payload == {"number": 1}
        relay.cancel()


async def test_the_relay_outlives_an_outage_of_the_bus(database: Database) -> None:
    bus = RecordingBus()
    bus.failing = True
    await announce(database, 1)
    async with bus.subscribe("things.moved") as events, asyncio.TaskGroup() as group:
        relay = group.create_task(relay_forever(database, bus, poll_seconds=0.02))
        await asyncio.sleep(0.1)
        bus.failing = False
        async with asyncio.timeout(BUSY_SECONDS):
            assert (await anext(events)).payload == {"number": 1}
        relay.cancel()
