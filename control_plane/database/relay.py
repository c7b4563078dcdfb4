"""Publishing what the outbox holds.

Delivery is at least once and in order of commit within one replica; subscribers are idempotent. A row is deleted only
after the bus took it, so a crash between commit and publication costs a repetition, never a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.backoff import Backoff
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.database.outbox import outbox
from control_plane.events import Event, EventBus

log = structlog.get_logger()

_BATCH = 100
_WAITING = select(outbox).order_by(outbox.c.id).limit(_BATCH)


async def relay_once(database: Database, bus: EventBus) -> int:
    """Publish what is waiting; returns how many. Several replicas may run it: PostgreSQL rows are locked with SKIP
    LOCKED. Raises `Unavailable` when the bus or the database is away; what was not deleted is published again.
    """
    if database.is_sqlite:
        return await _relay_without_locks(database, bus)
    async with database.transaction() as unit:
        rows = (await unit.connection.execute(_WAITING.with_for_update(skip_locked=True))).all()
        for row in rows:
            await bus.publish(Event(row.topic, row.payload))
        await _forget(unit.connection, [row.id for row in rows])
    return len(rows)


async def _relay_without_locks(database: Database, bus: EventBus) -> int:
    """SQLite has one relay, and one writer: it must not stand still while the bus is slow."""
    async with database.reading() as connection:
        rows = (await connection.execute(_WAITING)).all()
    for row in rows:
        await bus.publish(Event(row.topic, row.payload))
    if rows:
        async with database.transaction() as unit:
            await _forget(unit.connection, [row.id for row in rows])
    return len(rows)


async def _forget(connection: AsyncConnection, ids: Sequence[int]) -> None:
    if ids:
        await connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


async def relay_forever(
    database: Database,
    bus: EventBus,
    poll_seconds: float = 1.0,
    chance: Callable[[], float] = random.random,
) -> None:
    """Wakes at once after a commit in this process; polls for those of others. An outage of the bus or the database is
    waited out.
    """
    backoff = Backoff(chance, initial_seconds=poll_seconds, cap_seconds=30)
    while True:
        database.committed.clear()
        try:
            while await relay_once(database, bus):
                pass
        except Unavailable as error:
            log.warning("announcements delayed", error=str(error))
            await asyncio.sleep(backoff.next_delay())
            continue
        backoff.reset()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_seconds):
                await database.committed.wait()
