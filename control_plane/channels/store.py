"""Rows of open channels; never commits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.channels.tables import open_channels
from control_plane.database.locks import hold_row
from control_plane.database.upserts import insert_or_ignore
from control_plane.tenants.tables import tenants

_c = open_channels.c


@dataclass(frozen=True, slots=True)
class Whose:
    """`user_id` is empty for who is no user; those count together."""

    host_id: str
    tenant_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """How many other replicas have."""

    of_host: int = 0
    of_tenant_on_host: int = 0
    of_tenant: int = 0
    of_user: int = 0


async def add(connection: AsyncConnection, channel_id: str, replica: str, whose: Whose, now: datetime) -> None:
    """Holds the tenant until the transaction ends: who asks for it elsewhere sees this one."""
    await hold_row(connection, tenants, whose.tenant_id)
    row = {"host_id": whose.host_id, "tenant_id": whose.tenant_id, "user_id": whose.user_id, "seen_at": now}
    await insert_or_ignore(connection, open_channels, [{"id": channel_id, "replica": replica, **row}])


async def elsewhere(connection: AsyncConnection, replica: str, whose: Whose, since: datetime) -> Elsewhere:
    """Of those that were seen `since`."""
    of_host, of_tenant = _c.host_id == whose.host_id, _c.tenant_id == whose.tenant_id
    of_user = _c.user_id == whose.user_id
    counted = (of_host, and_(of_host, of_tenant), of_tenant, of_user)
    question = select(*(_count(one) for one in counted)).where(
        _c.replica != replica, _c.seen_at > since, or_(of_host, of_tenant, of_user)
    )
    return Elsewhere(*(int(count or 0) for count in (await connection.execute(question)).one()))


async def seen(connection: AsyncConnection, replica: str, now: datetime) -> None:
    await connection.execute(update(open_channels).where(_c.replica == replica).values(seen_at=now))


async def remove(connection: AsyncConnection, ids: Collection[str]) -> None:
    await connection.execute(delete(open_channels).where(_c.id.in_(ids)))


async def remove_of(connection: AsyncConnection, replica: str) -> None:
    await connection.execute(delete(open_channels).where(_c.replica == replica))


async def remove_lapsed(connection: AsyncConnection, before: datetime) -> None:
    await connection.execute(delete(open_channels).where(_c.seen_at <= before))


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
