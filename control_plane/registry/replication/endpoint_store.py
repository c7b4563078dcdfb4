"""Queries over endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.registry.replication.model import OtherRegistry
from control_plane.registry.replication.tables import replication_endpoints as endpoints
from control_plane.registry.replication.tables import replication_rules as rules


async def add(connection: AsyncConnection, endpoint: OtherRegistry) -> bool:
    """False if the owner has one of this name."""
    row = {
        "id": endpoint.endpoint_id,
        "tenant_id": endpoint.tenant_id,
        "tenant": endpoint.tenant,
        "name": endpoint.name,
        "url": endpoint.url,
        "username": endpoint.username,
        "sealed": endpoint.sealed,
        "ca_pem": endpoint.ca_pem,
        "auth_hosts": " ".join(endpoint.auth_hosts),
        "created_at": endpoint.created_at,
    }
    return await inserted(connection, endpoints, row, unless=("tenant_id", "name"))


async def set_credentials(connection: AsyncConnection, endpoint_id: str, username: str, sealed: bytes | None) -> None:
    changed = update(endpoints).where(endpoints.c.id == endpoint_id)
    await connection.execute(changed.values(username=username, sealed=sealed, revision=endpoints.c.revision + 1))


async def note_check(connection: AsyncConnection, endpoint_id: str, now: datetime, trouble: str) -> None:
    await connection.execute(
        update(endpoints).where(endpoints.c.id == endpoint_id).values(checked_at=now, trouble=trouble)
    )


async def remove(connection: AsyncConnection, endpoint_id: str) -> None:
    await connection.execute(delete(endpoints).where(endpoints.c.id == endpoint_id))


async def remove_of_tenant(connection: AsyncConnection, tenant_id: str) -> None:
    """With every rule of the tenant, and every execution of those."""
    await connection.execute(delete(rules).where(rules.c.tenant_id == tenant_id))
    await connection.execute(delete(endpoints).where(endpoints.c.tenant_id == tenant_id))


async def find(connection: AsyncConnection, endpoint_id: str, *, hold: bool = False) -> OtherRegistry | None:
    query = select(endpoints).where(endpoints.c.id == endpoint_id)
    row = (await connection.execute(query.with_for_update() if hold else query)).one_or_none()
    return None if row is None else endpoint_of(row)


async def count(connection: AsyncConnection, tenant_id: str) -> int:
    query = select(func.count()).select_from(endpoints).where(endpoints.c.tenant_id == tenant_id)
    return (await connection.execute(query)).scalar_one()


async def page(
    connection: AsyncConnection, tenants: Sequence[str] | None, offset: int, limit: int
) -> tuple[list[OtherRegistry], int]:
    """Those of tenants of these names (of all for None), in order of owner and name; and how many in all."""
    query = select(endpoints)
    if tenants is not None:
        query = query.where(endpoints.c.tenant.in_(tenants))
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    rows = await connection.execute(query.order_by(endpoints.c.tenant, endpoints.c.name).offset(offset).limit(limit))
    return [endpoint_of(row) for row in rows], total


def endpoint_of(row: Row[Any]) -> OtherRegistry:
    return OtherRegistry(
        endpoint_id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        name=row.name,
        url=row.url,
        username=row.username,
        ca_pem=row.ca_pem,
        auth_hosts=tuple(row.auth_hosts.split()),
        created_at=row.created_at,
        revision=row.revision,
        sealed=None if row.sealed is None else bytes(row.sealed),
        checked_at=row.checked_at,
        trouble=row.trouble,
    )
