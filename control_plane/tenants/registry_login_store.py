"""Queries over registry logins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.tenants.model import RegistryLogin
from control_plane.tenants.tables import registry_logins as logins
from control_plane.web.paging import Page, PageRequest


async def add(connection: AsyncConnection, login: RegistryLogin) -> None:
    await connection.execute(
        insert(logins).values(
            id=login.id,
            user_id=login.user_id,
            key_id=login.key_id,
            robot=login.robot,
            generation=login.generation,
            secret_hash=login.secret_hash,
            client=login.client,
            created_at=login.created_at,
            expires_at=login.expires_at,
        )
    )


async def keep_newest(connection: AsyncConnection, user_id: str, most: int) -> None:
    """Those beyond `most` of one owner end."""
    kept = select(logins.c.id).where(logins.c.user_id == user_id).order_by(logins.c.id.desc()).limit(most)
    await connection.execute(delete(logins).where(logins.c.user_id == user_id, logins.c.id.not_in(kept)))


async def find(connection: AsyncConnection, login_id: str) -> RegistryLogin | None:
    row = (await connection.execute(select(logins).where(logins.c.id == login_id))).one_or_none()
    return None if row is None else _login(row)


async def page_of(connection: AsyncConnection, user_id: str, now: datetime, page: PageRequest) -> Page[RegistryLogin]:
    """One owner's that have not expired, newest first."""
    mine = (logins.c.user_id == user_id) & (logins.c.expires_at > now)
    total = int(await connection.scalar(select(func.count()).select_from(logins).where(mine)) or 0)
    query = select(logins).where(mine).order_by(logins.c.id.desc()).offset(page.offset).limit(page.limit)
    return Page([_login(row) for row in await connection.execute(query)], total, page)


async def remove(connection: AsyncConnection, login_id: str) -> None:
    await connection.execute(delete(logins).where(logins.c.id == login_id))


async def touch(connection: AsyncConnection, login_id: str, now: datetime, not_after: datetime) -> None:
    """Record a use, unless one after `not_after` is recorded already (by another replica)."""
    idle = or_(logins.c.last_used_at.is_(None), logins.c.last_used_at <= not_after)
    await connection.execute(update(logins).where(logins.c.id == login_id, idle).values(last_used_at=now))


async def forget_expired(connection: AsyncConnection, now: datetime) -> int:
    return (await connection.execute(delete(logins).where(logins.c.expires_at <= now))).rowcount


def _login(row: Row[Any]) -> RegistryLogin:
    return RegistryLogin(**row._mapping)
