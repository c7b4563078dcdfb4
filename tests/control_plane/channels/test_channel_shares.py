"""Limits of channels count those of all replicas."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from common.clock import ManualClock
from control_plane.channels.model import TooManyChannels
from control_plane.channels.shares import Shares
from control_plane.channels.store import Whose
from control_plane.channels.tables import open_channels
from control_plane.database import Database
from control_plane.tenants.tables import tenants

ACME = Whose("h1", "t-acme", "u1")
OTHERS = Whose("h2", "t-globex", "u2")
ROOM = {"host": (1, 9), "tenant on this host": (1, 9), "tenant": (1, 9), "user": (1, 9)}


def counted(**here: tuple[int, int]) -> Any:
    return {**ROOM, **{name.replace("_", " "): pair for name, pair in here.items()}}


@pytest.fixture
async def replicas(database: Database, clock: ManualClock) -> tuple[Shares, Shares]:
    async with database.transaction() as unit:
        row = {"id": "t-acme", "name": "acme", "display_name": "", "created_at": clock.now()}
        await unit.connection.execute(insert(tenants).values(row))
    return Shares(database, clock, "one", alone=False), Shares(database, clock, "two", alone=False)


async def rows(database: Database) -> int:
    async with database.reading() as connection:
        return int(await connection.scalar(select(func.count()).select_from(open_channels)) or 0)


@pytest.mark.parametrize("kind", ["host", "tenant_on_this_host", "tenant", "user"])
async def test_what_another_replica_has_counts(replicas: tuple[Shares, Shares], database: Database, kind: str) -> None:
    one, two = replicas
    await one.take("c1", ACME, counted())
    await two.take("c2", ACME, counted(**{kind: (1, 2)}))
    with pytest.raises(TooManyChannels):
        await two.take("c3", ACME, counted(**{kind: (2, 2)}))
    assert await rows(database) == 2, "who is refused leaves nothing"
    await two.take("c3", OTHERS, counted(**{kind: (1, 1)}))


async def test_who_ended_counts_no_more(replicas: tuple[Shares, Shares], database: Database) -> None:
    one, two = replicas
    with one.held("c1"):
        await one.take("c1", ACME, counted())
    await one.flush()
    assert await rows(database) == 0
    await two.take("c2", ACME, counted(tenant=(1, 1)))


async def test_a_replica_that_died_counts_for_a_while_and_one_that_stopped_does_not(
    replicas: tuple[Shares, Shares], database: Database, clock: ManualClock
) -> None:
    one, two = replicas
    await one.take("c1", ACME, counted())
    await clock.advance(89)
    with pytest.raises(TooManyChannels):
        await two.take("c2", ACME, counted(tenant=(1, 1)))
    await clock.advance(2)
    await two.take("c2", ACME, counted(tenant=(1, 1)))
    await two._seen()
    assert await rows(database) == 1
    await two.close()
    assert await rows(database) == 0


async def test_a_replica_that_lives_is_seen(replicas: tuple[Shares, Shares], clock: ManualClock) -> None:
    one, two = replicas
    await one.take("c1", ACME, counted())
    for _ in range(4):
        await clock.advance(30)
        await one._seen()
    with pytest.raises(TooManyChannels):
        await two.take("c2", ACME, counted(tenant=(1, 1)))


async def test_two_replicas_never_both_take_the_last_one(replicas: tuple[Shares, Shares], database: Database) -> None:
    async def take(number: int) -> bool:
        try:
            await replicas[number % 2].take(f"c{number}", ACME, counted(tenant=(1, 1)))
        except TooManyChannels:
            return False
        return True

    # Each believes to have none yet: all of a replica's own would be counted by its exchange.
    taken = await asyncio.gather(take(0), take(1))
    assert sum(taken) == 1


async def test_alone_nothing_is_written(database: Database, clock: ManualClock) -> None:
    alone = Shares(database, clock, "one", alone=True)
    with alone.held("c1"):
        await alone.take("c1", ACME, counted(tenant=(1, 0)))
    assert await rows(database) == 0
    await alone.run()
