"""Rows held until a transaction ends, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import delete, insert

from control_plane.database import Database
from control_plane.database.locks import hold_row, hold_rows
from control_plane.database.outbox import outbox

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


async def add(database: Database, *topics: str) -> None:
    async with database.transaction() as unit:
        for topic in topics:
            await unit.connection.execute(insert(outbox).values(topic=topic, payload={}, announced_at=MOMENT))


async def test_the_rows_that_exist_come_in_the_order_of_their_key(database: Database) -> None:
    await add(database, "a", "b", "c")
    async with database.transaction() as unit:
        held = await hold_rows(unit.connection, outbox, [(3,), (9,), (1,)])
        assert [each.topic for each in held] == ["a", "c"]
        assert await hold_row(unit.connection, outbox, 9) is None
        assert await hold_rows(unit.connection, outbox, []) == ()


async def test_another_replica_waits_for_a_held_row_and_sees_what_became_of_it(
    database: Database, open_replica: Callable[[], Database]
) -> None:
    await add(database, "a")
    holding = asyncio.Event()

    async def take_away() -> None:
        async with database.transaction() as unit:
            assert await hold_row(unit.connection, outbox, 1) is not None
            holding.set()
            await asyncio.sleep(0.05)
            await unit.connection.execute(delete(outbox))

    async def look() -> bool:
        await holding.wait()
        async with open_replica().transaction() as unit:
            return await hold_row(unit.connection, outbox, 1) is not None

    _, found = await asyncio.gather(take_away(), look())
    assert not found
