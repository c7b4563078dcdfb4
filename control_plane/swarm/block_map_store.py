"""Queries over block maps: what regionals and hosts compare with what they hold (common/bittorrent/reuse.py)."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_ignore
from control_plane.swarm.tables import block_maps, metainfo


async def find(connection: AsyncConnection, digest: Digest) -> bytes | None:
    encoded = await connection.scalar(select(block_maps.c.encoded).where(block_maps.c.digest == str(digest)))
    return None if encoded is None else bytes(encoded)


async def add(connection: AsyncConnection, digest: Digest, encoded: bytes) -> None:
    """Harmless to repeat: the same content always has the same map."""
    await insert_or_ignore(connection, block_maps, [{"digest": str(digest), "encoded": encoded}])


async def remove_undescribed(connection: AsyncConnection, digests: Collection[str]) -> None:
    """Those of `digests` that no tenant has a description of."""
    described = exists().where(metainfo.c.digest == block_maps.c.digest)
    await connection.execute(delete(block_maps).where(block_maps.c.digest.in_(sorted(set(digests))), ~described))
