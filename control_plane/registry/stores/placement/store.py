"""Which blobs are due for a review, and what it decided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.registry.stores.copies.tables import blob_placements


async def due(connection: AsyncConnection, now: datetime, limit: int) -> Mapping[Digest, datetime]:
    """The longest overdue first, each with when it was last read."""
    query = (
        select(blob_placements.c.digest, blob_placements.c.last_read_at)
        .where(blob_placements.c.review_after <= now)
        .order_by(blob_placements.c.review_after, blob_placements.c.digest)
        .limit(limit)
    )
    return {Digest.parse(row.digest): row.last_read_at for row in await connection.execute(query)}


async def decided(connection: AsyncConnection, digest: Digest, review_after: datetime, short: int) -> None:
    await connection.execute(
        update(blob_placements)
        .where(blob_placements.c.digest == str(digest))
        .values(review_after=review_after, short=short)
    )


async def short_of_copies(connection: AsyncConnection) -> int:
    """How many blobs have fewer good copies than their class asks for."""
    query = select(func.count()).select_from(blob_placements).where(blob_placements.c.short > 0)
    return int((await connection.execute(query)).scalar_one())
