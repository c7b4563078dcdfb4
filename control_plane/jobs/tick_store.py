"""Queries over the periodic ticks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.jobs.tables import ticks


async def find_tick(connection: AsyncConnection, name: str) -> datetime | None:
    """When the schedule is due; None if it was never seen."""
    query = select(ticks.c.next_at).where(ticks.c.name == name)
    found: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def first_tick(connection: AsyncConnection, name: str, next_at: datetime) -> bool:
    """False if another replica was quicker."""
    return await inserted(connection, ticks, {"name": name, "next_at": next_at})


async def claim_tick(connection: AsyncConnection, name: str, expected: datetime, next_at: datetime) -> bool:
    """False if another replica was quicker: compare and set."""
    changed = await connection.execute(
        update(ticks).where(ticks.c.name == name, ticks.c.next_at == expected).values(next_at=next_at)
    )
    return bool(changed.rowcount)
