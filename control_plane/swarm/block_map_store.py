"""Queries over block maps: what regionals and hosts compare with what they hold (common/bittorrent/reuse.py)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_ignore
from control_plane.swarm.tables import block_maps


async def find(connection: AsyncConnection, digest: Digest) -> bytes | None:
    encoded = await connection.scalar(select(block_maps.c.encoded).where(block_maps.c.digest == str(digest)))
    return None if encoded is None else bytes(encoded)


async def add(connection: AsyncConnection, digest: Digest, encoded: bytes) -> None:
    """Harmless to repeat: the same content always has the same map."""
    await insert_or_ignore(connection, block_maps, [{"digest": str(digest), "encoded": encoded}])
