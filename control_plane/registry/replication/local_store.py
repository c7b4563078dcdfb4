"""Queries over what is here, for rules of one tenant or of the platform."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.registry.replication.model import PLATFORM
from control_plane.registry.tables import repositories


async def repository_names(connection: AsyncConnection, tenant_id: str, after: str, limit: int) -> list[str]:
    """Of the tenant, of all for the platform; in order, from the one after `after`."""
    query = select(repositories.c.name).where(repositories.c.name > after)
    if tenant_id != PLATFORM:
        query = query.where(repositories.c.tenant_id == tenant_id)
    return list((await connection.execute(query.order_by(repositories.c.name).limit(limit))).scalars())
