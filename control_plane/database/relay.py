"""Publishing what the outbox holds.

Delivery is at least once and in order of commit within one replica; subscribers are idempotent. A row is deleted only
after the bus took it, so a crash between commit and publication costs a repetition, never a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.backoff import Backoff
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.database.outbox import outbox
from control_plane.events import Event, EventBus

log = structlog.get_logger()

_BATCH = 100
# After a full batch, of a change to a whole fleet: each batch is a reading, a transaction and its fsync.
_LARGE_BATCH = 1_000
_GATHER_SECONDS = 0.05
_WAITING = select(outbox).order_by(outbox.c.id)


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message as the outbox holds it; `id` is the same however often it is published."""

    id: str
    topic: str
    payload: Mapping[str, Any]
    announced_at: datetime


# Takes what must not be missed, before the bus does: the outbox forgets a message only after its tap returned.
Tap = Callable[[Sequence[Announcement]], Awaitable[None]]


async def _no_tap(_announcements: Sequence[Announcement]) -> None: ...


def one_after_another(*taps: Tap) -> Tap:
    """All of them; a batch that one of them did not take comes again to all."""

    async def tap(announcements: Sequence[Announcement]) -> None:
        for each in taps:
            await each(announcements)

    return tap


async def relay_once(database: Database, bus: EventBus, tap: Tap = _no_tap, most: int = _BATCH) -> int:
    """Publish what is waiting, up to `most`; returns how many. Several replicas may run it: PostgreSQL rows are locked
    with SKIP LOCKED. Raises `Unavailable` when the bus or the database is away; what was not deleted is published
    again.
    """
    if database.is_sqlite:
        return await _relay_without_locks(database, bus, tap, most)
    async with database.transaction() as unit:
        rows = (await unit.connection.execute(_WAITING.limit(most).with_for_update(skip_locked=True))).all()
        await _publish(rows, bus, tap)
        await _forget(unit.connection, [row.id for row in rows])
    return len(rows)


async def _relay_without_locks(database: Database, bus: EventBus, tap: Tap, most: int) -> int:
    """SQLite has one relay, and one writer: it must not stand still while the bus is slow."""
    async with database.reading() as connection:
        rows = (await connection.execute(_WAITING.limit(most))).all()
    await _publish(rows, bus, tap)
    if rows:
        async with database.transaction() as unit:
            await _forget(unit.connection, [row.id for row in rows])
    return len(rows)


async def _publish(rows: Sequence[Row[Any]], bus: EventBus, tap: Tap) -> None:
    if rows:
        await tap([Announcement(row.message_id, row.topic, row.payload, row.announced_at) for row in rows])
    for row in rows:
        await bus.publish(Event(row.topic, row.payload))


async def _forget(connection: AsyncConnection, ids: Sequence[int]) -> None:
    if ids:
        await connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


async def relay_forever(
    database: Database,
    bus: EventBus,
    poll_seconds: float = 1.0,
    chance: Callable[[], float] = random.random,
    tap: Tap = _no_tap,
) -> None:
    """Wakes at once after a commit in this process, while many commit only every `_GATHER_SECONDS`; polls for those of
    others. An outage of the bus or the database is waited out.
    """
    backoff = Backoff(chance, initial_seconds=poll_seconds, cap_seconds=30)
    monotonic, last = asyncio.get_running_loop().time, -math.inf
    while True:
        # Each round is a transaction of its own, with its fsync: under load one for several pushes.
        await asyncio.sleep(max(0.0, last + _GATHER_SECONDS - monotonic()))
        database.committed.clear()
        try:
            most = _BATCH
            while await relay_once(database, bus, tap, most) == most:
                most = _LARGE_BATCH  # what comes after the last of them wakes us again
            last = monotonic()
        except Unavailable as error:
            log.warning("announcements delayed", error=str(error))
            await asyncio.sleep(backoff.next_delay())
            continue
        backoff.reset()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll_seconds):
                await database.committed.wait()
