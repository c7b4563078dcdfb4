"""Boot timelines, and which reports were counted; never commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.machines.model import TimelineEvent
from control_plane.machines.tables import machine_events, machine_reports
from control_plane.web.paging import Page, PageRequest


async def counted_first(connection: AsyncConnection, regional_id: str, report_id: str, now: datetime) -> bool:
    """Whether this report is counted now, for the first time."""
    return await inserted(
        connection, machine_reports, {"regional_id": regional_id, "id": report_id, "received_at": now}
    )


async def known_reports(connection: AsyncConnection, regional_id: str, ids: Collection[str]) -> set[str]:
    if not ids:
        return set()
    found = await connection.scalars(
        select(machine_reports.c.id).where(
            machine_reports.c.regional_id == regional_id, machine_reports.c.id.in_(list(ids))
        )
    )
    return set(found)


async def forget_reports(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.scalars(
        delete(machine_reports).where(machine_reports.c.received_at < before).returning(machine_reports.c.id)
    )
    return len(list(gone))


async def add_event(connection: AsyncConnection, machine_id: str, event: TimelineEvent, most: int) -> None:
    """The oldest beyond `most` go."""
    await connection.execute(
        insert(machine_events).values(
            id=event.id,
            machine_id=machine_id,
            at=event.at,
            stage=event.stage,
            detail=event.detail,
            trouble=event.trouble,
        )
    )
    of_machine = machine_events.c.machine_id == machine_id
    beyond = (
        select(machine_events.c.id)
        .where(of_machine)
        .order_by(machine_events.c.at.desc(), machine_events.c.id.desc())
        .offset(most)
        .limit(most)
    )
    await connection.execute(delete(machine_events).where(machine_events.c.id.in_(beyond)))


async def events(connection: AsyncConnection, machine_id: str, request: PageRequest) -> Page[TimelineEvent]:
    """Newest first."""
    of_machine = machine_events.c.machine_id == machine_id
    total = await connection.scalar(select(func.count()).select_from(machine_events).where(of_machine))
    rows = await connection.execute(
        select(machine_events)
        .where(of_machine)
        .order_by(machine_events.c.at.desc(), machine_events.c.id.desc())
        .limit(request.limit)
        .offset(request.offset)
    )
    found: Sequence[TimelineEvent] = [TimelineEvent(row.id, row.at, row.stage, row.detail, row.trouble) for row in rows]
    return Page(found, int(total or 0), request)
