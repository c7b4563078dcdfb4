"""Queries over finished descriptions and over those that failed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_ignore, insert_or_replace
from control_plane.swarm.model import DescriptionFailure, StoredMetainfo
from control_plane.swarm.tables import metainfo, metainfo_failures


async def find(connection: AsyncConnection, tenant_id: str, digest: Digest) -> StoredMetainfo | None:
    row = (
        await connection.execute(
            select(metainfo).where(metainfo.c.tenant_id == tenant_id, metainfo.c.digest == str(digest))
        )
    ).one_or_none()
    if row is None:
        return None
    return StoredMetainfo(
        row.tenant_id,
        digest,
        bytes(row.info_hash),
        row.piece_length,
        bytes(row.encoded),
        row.length,
        bytes(row.pieces_root),
    )


async def described(connection: AsyncConnection, tenant_id: str, digests: Iterable[Digest]) -> set[Digest]:
    """Which of the contents have a description."""
    rows = await connection.scalars(
        select(metainfo.c.digest).where(
            metainfo.c.tenant_id == tenant_id, metainfo.c.digest.in_([str(digest) for digest in digests])
        )
    )
    return {Digest.parse(text) for text in rows}


async def add(connection: AsyncConnection, description: StoredMetainfo, now: datetime) -> None:
    """Harmless to repeat: the same content and tenant always have the same description."""
    row = {
        "tenant_id": description.tenant_id,
        "digest": str(description.digest),
        "info_hash": description.info_hash,
        "piece_length": description.piece_length,
        "encoded": description.encoded,
        "length": description.length,
        "pieces_root": description.pieces_root,
        "described_at": now,
    }
    await insert_or_ignore(connection, metainfo, [row])
    await connection.execute(
        delete(metainfo_failures).where(
            metainfo_failures.c.tenant_id == description.tenant_id,
            metainfo_failures.c.digest == str(description.digest),
        )
    )


async def find_failure(connection: AsyncConnection, tenant_id: str, digest: Digest) -> DescriptionFailure | None:
    row = (
        await connection.execute(
            select(metainfo_failures.c.detail, metainfo_failures.c.failed_at).where(
                metainfo_failures.c.tenant_id == tenant_id, metainfo_failures.c.digest == str(digest)
            )
        )
    ).one_or_none()
    return None if row is None else DescriptionFailure(row.detail, row.failed_at)


async def add_failure(connection: AsyncConnection, tenant_id: str, digest: Digest, detail: str, now: datetime) -> None:
    row = {"tenant_id": tenant_id, "digest": str(digest), "detail": detail, "failed_at": now}
    await insert_or_replace(connection, metainfo_failures, [row])
