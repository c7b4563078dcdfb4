"""Queries over content keys and the swarm secret. Adding what is already there does nothing: the first replica wins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore
from control_plane.swarm.tables import content_keys, swarm_secrets


@dataclass(frozen=True, slots=True)
class StoredKey:
    sequence: int
    key_id: str
    sealed_private_pem: bytes
    public_pem: bytes
    created_at: datetime
    signs_from: datetime


async def keys(connection: AsyncConnection) -> tuple[StoredKey, ...]:
    """Oldest first."""
    rows = await connection.execute(select(content_keys).order_by(content_keys.c.sequence))
    return tuple(StoredKey(**row._mapping) for row in rows)


async def add_key(connection: AsyncConnection, key: StoredKey) -> None:
    await insert_or_ignore(
        connection,
        content_keys,
        [
            {
                "sequence": key.sequence,
                "key_id": key.key_id,
                "sealed_private_pem": key.sealed_private_pem,
                "public_pem": key.public_pem,
                "created_at": key.created_at,
                "signs_from": key.signs_from,
            }
        ],
    )


async def remove_key(connection: AsyncConnection, key_id: str) -> None:
    await connection.execute(delete(content_keys).where(content_keys.c.key_id == key_id))


async def secret(connection: AsyncConnection, name: str) -> bytes | None:
    found: bytes | None = await connection.scalar(select(swarm_secrets.c.sealed).where(swarm_secrets.c.name == name))
    return found


async def add_secret(connection: AsyncConnection, name: str, sealed: bytes) -> None:
    await insert_or_ignore(connection, swarm_secrets, [{"name": name, "sealed": sealed}])
