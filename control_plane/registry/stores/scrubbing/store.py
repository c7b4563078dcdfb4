"""What is due, what is lost, who needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import inserted
from control_plane.registry.stores.copies.model import BlobCopy, CopyState
from control_plane.registry.stores.copies.store import as_copy
from control_plane.registry.stores.copies.tables import blob_copies, lost_blobs
from control_plane.registry.tables import blobs, repositories, repository_blobs


@dataclass(frozen=True, slots=True)
class LostBlob:
    digest: Digest
    size: int
    found_at: datetime
    reason: str
    repositories: tuple[str, ...]


async def due(connection: AsyncConnection, stores: Sequence[str], before: datetime, limit: int) -> list[BlobCopy]:
    """Present copies that nobody read since `before`, those first that nobody ever read."""
    query = (
        select(blob_copies)
        .where(
            blob_copies.c.state == CopyState.PRESENT,
            blob_copies.c.store.in_(stores),
            # What has no row is on its way in, or collected.
            exists().where(blobs.c.digest == blob_copies.c.digest),
            or_(blob_copies.c.verified_at.is_(None), blob_copies.c.verified_at < before),
        )
        .order_by(blob_copies.c.verified_at.asc().nulls_first(), blob_copies.c.digest, blob_copies.c.store)
        .limit(limit)
    )
    return [as_copy(row) for row in await connection.execute(query)]


async def unhealed(
    connection: AsyncConnection, stores: Sequence[str], after: tuple[str, str], limit: int
) -> list[BlobCopy]:
    """Damaged and missing copies, in the order of digest and store, after one of them."""
    digest, store = after
    later = or_(blob_copies.c.digest > digest, (blob_copies.c.digest == digest) & (blob_copies.c.store > store))
    query = (
        select(blob_copies)
        .where(blob_copies.c.state != CopyState.PRESENT, blob_copies.c.store.in_(stores), later)
        .order_by(blob_copies.c.digest, blob_copies.c.store)
        .limit(limit)
    )
    return [as_copy(row) for row in await connection.execute(query)]


async def copies_in(connection: AsyncConnection, repository: str) -> list[BlobCopy]:
    """Of all blobs that a repository links."""
    query = (
        select(blob_copies)
        .join(repository_blobs, repository_blobs.c.digest == blob_copies.c.digest)
        .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
        .where(repositories.c.name == repository)
        .order_by(blob_copies.c.digest, blob_copies.c.store)
    )
    return [as_copy(row) for row in await connection.execute(query)]


async def needing(connection: AsyncConnection, digest: Digest, limit: int = 20) -> tuple[str, ...]:
    """Names of repositories that link the blob."""
    query = (
        select(repositories.c.name)
        .join(repository_blobs, repository_blobs.c.repository_id == repositories.c.id)
        .where(repository_blobs.c.digest == str(digest))
        .order_by(repositories.c.name)
        .limit(limit)
    )
    return tuple((await connection.execute(query)).scalars())


async def note_lost(connection: AsyncConnection, digest: Digest, size: int, reason: str, now: datetime) -> bool:
    """Whether that was not known."""
    row = {"digest": str(digest), "size": size, "found_at": now, "reason": reason}
    return await inserted(connection, lost_blobs, row)


async def not_lost(connection: AsyncConnection, digest: Digest) -> None:
    await connection.execute(delete(lost_blobs).where(lost_blobs.c.digest == str(digest)))


async def lost(connection: AsyncConnection, offset: int, limit: int) -> tuple[list[LostBlob], int]:
    total = (await connection.execute(select(func.count()).select_from(lost_blobs))).scalar_one()
    rows = await connection.execute(select(lost_blobs).order_by(lost_blobs.c.digest).offset(offset).limit(limit))
    found = []
    for row in rows.all():
        digest = Digest.parse(row.digest)
        found.append(LostBlob(digest, row.size, row.found_at, row.reason, await needing(connection, digest)))
    return found, int(total)


async def progress(connection: AsyncConnection, before: datetime) -> tuple[int, int, datetime | None]:
    """Present copies, those of them that are due, and when the one was read that waits longest."""
    present = blob_copies.c.state == CopyState.PRESENT
    total, oldest = (
        await connection.execute(select(func.count(), func.min(blob_copies.c.verified_at)).where(present))
    ).one()
    waiting = or_(blob_copies.c.verified_at.is_(None), blob_copies.c.verified_at < before)
    due_now = (await connection.execute(select(func.count()).where(present, waiting))).scalar_one()
    return int(total), int(due_now), oldest
