"""Messages that commit with the change they announce, and the relay that publishes them afterwards.

Delivery is at least once and in order of commit within one replica; subscribers are idempotent. A row is deleted only
after the bus took it, so a crash between commit and publication costs a repetition, never a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Column, String, Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.messages import Message
from control_plane.database.schema import BigId, Json, UtcDateTime, metadata
from control_plane.events import Event, EventBus

if TYPE_CHECKING:
    from control_plane.database import Database

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("topic", String(128), nullable=False),
    Column("payload", Json, nullable=False),
    Column("announced_at", UtcDateTime, nullable=False),
)

_BATCH = 100


async def append(connection: AsyncConnection, message: Message, now: datetime) -> None:
    await connection.execute(insert(outbox).values(topic=message.topic, payload=message.payload(), announced_at=now))


async def relay_once(database: Database, bus: EventBus) -> int:
    """Publish what is waiting; returns how many. Several replicas may run it: PostgreSQL rows are locked with SKIP
    LOCKED.
    """
    async with database.transaction() as unit:
        rows = (
            await unit.connection.execute(
                select(outbox).order_by(outbox.c.id).limit(_BATCH).with_for_update(skip_locked=True)
            )
        ).all()
        for row in rows:
            await bus.publish(Event(row.topic, row.payload))
        if rows:
            await unit.connection.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
    return len(rows)


async def relay_forever(database: Database, bus: EventBus, poll_seconds: float = 1.0) -> None:
    """Wakes at once after a commit in this process; polls for those of others."""
    while True:
        database.committed.clear()
        while await relay_once(database, bus):
            pass
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_seconds):
                await database.committed.wait()
