"""Queries over API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.tenants.access import Role
from control_plane.tenants.model import ApiKey
from control_plane.tenants.tables import api_keys, tenants
from control_plane.web.paging import Page, PageRequest

_KEYS = select(api_keys, tenants.c.name.label("tenant")).outerjoin(tenants, tenants.c.id == api_keys.c.tenant_id)


async def add_api_key(connection: AsyncConnection, key: ApiKey, tenant_id: str | None) -> None:
    await connection.execute(
        insert(api_keys).values(
            id=key.id,
            user_id=key.user_id,
            name=key.name,
            secret_hash=key.secret_hash,
            tenant_id=tenant_id,
            role=key.role.value if key.role is not None else None,
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=None,
            revoked_at=None,
        )
    )


async def find_api_key(connection: AsyncConnection, key_id: str) -> ApiKey | None:
    row = (await connection.execute(_KEYS.where(api_keys.c.id == key_id))).first()
    return _api_key(row) if row is not None else None


async def list_api_keys(connection: AsyncConnection, user_id: str, page: PageRequest) -> Page[ApiKey]:
    """One user's keys that were not revoked, newest first."""
    mine = (api_keys.c.user_id == user_id) & api_keys.c.revoked_at.is_(None)
    total = int(await connection.scalar(select(func.count()).select_from(api_keys).where(mine)) or 0)
    rows = await connection.execute(
        _KEYS.where(mine).order_by(api_keys.c.id.desc()).offset(page.offset).limit(page.limit)
    )
    return Page([_api_key(row) for row in rows], total, page)


async def revoke_api_key(connection: AsyncConnection, key_id: str, now: datetime) -> None:
    await connection.execute(
        update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)).values(revoked_at=now)
    )


async def touch_api_key(connection: AsyncConnection, key_id: str, now: datetime, not_after: datetime) -> None:
    """Record a use, unless one after `not_after` is recorded already (by another replica)."""
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at <= not_after))
        .values(last_used_at=now)
    )


def _api_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        secret_hash=row.secret_hash,
        tenant=row.tenant,
        role=Role(row.role) if row.role is not None else None,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
