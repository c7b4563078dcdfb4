"""Queries over finished descriptions and over those that failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, exists, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_ignore, insert_or_replace
from control_plane.swarm.model import DescriptionFailure, StoredMetainfo
from control_plane.swarm.tables import metainfo, metainfo_failures, wanted_contents

Key = tuple[str, str]  # (tenant id, digest)


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


async def older(
    connection: AsyncConnection, before: datetime, after: Key | None, limit: int, *, failed: bool
) -> list[Key]:
    """In order of tenant and digest, from behind `after` on. `failed`: of those that could not be described."""
    table = metainfo_failures if failed else metainfo
    key, made_at = (table.c.tenant_id, table.c.digest), table.c.failed_at if failed else table.c.described_at
    behind = true() if after is None else tuple_(*key) > tuple_(*after)
    rows = await connection.execute(select(*key).where(behind, made_at < before).order_by(*key).limit(limit))
    return [(row.tenant_id, row.digest) for row in rows]


async def remove_unwanted(connection: AsyncConnection, keys: Sequence[Key], *, failed: bool) -> list[Key]:
    """Those of `keys` that went because nobody wants them anywhere."""
    table = metainfo_failures if failed else metainfo
    key = table.c.tenant_id, table.c.digest
    wanted = exists().where(
        wanted_contents.c.tenant_id == table.c.tenant_id, wanted_contents.c.digest == table.c.digest
    )
    rows = await connection.execute(delete(table).where(tuple_(*key).in_(list(keys)), ~wanted).returning(*key))
    return [(row.tenant_id, row.digest) for row in rows]
