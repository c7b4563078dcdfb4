"""Queries over tenants' swarm authorities. Adding a second one does nothing: the first replica wins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore
from control_plane.swarm.tables import swarm_authorities


@dataclass(frozen=True, slots=True)
class StoredTenantAuthority:
    certificate_pem: bytes
    sealed_key_pem: bytes


async def find(connection: AsyncConnection, tenant_id: str) -> StoredTenantAuthority | None:
    row = (
        await connection.execute(select(swarm_authorities).where(swarm_authorities.c.tenant_id == tenant_id))
    ).one_or_none()
    return None if row is None else StoredTenantAuthority(bytes(row.certificate_pem), bytes(row.sealed_key_pem))


async def add(connection: AsyncConnection, tenant_id: str, made: StoredTenantAuthority, now: datetime) -> None:
    row = {
        "tenant_id": tenant_id,
        "certificate_pem": made.certificate_pem,
        "sealed_key_pem": made.sealed_key_pem,
        "created_at": now,
    }
    await insert_or_ignore(connection, swarm_authorities, [row])
