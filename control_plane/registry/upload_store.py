"""Queries over push sessions that ended well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_replace
from control_plane.registry.model import Upload
from control_plane.registry.tables import uploads


async def add_finished(connection: AsyncConnection, upload: Upload, now: datetime) -> None:
    row = {
        "id": upload.upload_id,
        "repository": upload.repository,
        "tenant_id": upload.tenant_id,
        "user_id": upload.user_id,
        "started_at": now,
        "digest": str(upload.digest),
        "size": upload.size,
    }
    await insert_or_replace(connection, uploads, [row])


async def find_upload(connection: AsyncConnection, upload_id: str) -> Upload | None:
    row = (await connection.execute(select(uploads).where(uploads.c.id == upload_id))).one_or_none()
    if row is None:
        return None
    digest = None if row.digest is None else Digest.parse(row.digest)
    return Upload(row.id, row.repository, row.tenant_id, row.user_id, digest, row.size or 0)


async def delete_uploads(connection: AsyncConnection, upload_ids: Sequence[str]) -> None:
    await connection.execute(delete(uploads).where(uploads.c.id.in_(upload_ids)))


async def uploads_before(connection: AsyncConnection, moment: datetime, after: str, limit: int) -> list[str]:
    """Ids, in order from the one after `after`, of sessions that ended before the moment."""
    query = (
        select(uploads.c.id)
        .where(uploads.c.started_at < moment, uploads.c.id > after)
        .order_by(uploads.c.id)
        .limit(limit)
    )
    return list((await connection.execute(query)).scalars())
