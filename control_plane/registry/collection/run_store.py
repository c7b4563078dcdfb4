"""Queries over what the collection did, and what the sweep found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_replace
from control_plane.registry.collection.model import Missing, Removal, Run, RunKind, Tally
from control_plane.registry.collection.tables import (
    blob_removals,
    blob_reviews,
    collection_runs,
    deleted_manifests,
    deleted_tags,
    link_reviews,
    missing_blobs,
)
from control_plane.registry.tables import blobs, repository_blobs

_COUNTS = ("examined", "purged", "unlinked", "deleted", "deleted_bytes", "adopted", "failures")


async def begin(connection: AsyncConnection, run_id: str, kind: RunKind, now: datetime) -> None:
    counts = dict.fromkeys(_COUNTS, 0)
    await connection.execute(
        insert(collection_runs).values(id=run_id, kind=kind.value, started_at=now, cursor="", **counts)
    )


async def add(connection: AsyncConnection, run_id: str, tally: Tally, cursor: str | None = None) -> None:
    """In the transaction of the batch, so that what is counted is what happened."""
    values: dict[str, Any] = {name: collection_runs.c[name] + getattr(tally, name) for name in _COUNTS}
    if cursor is not None:
        values["cursor"] = cursor
    await connection.execute(update(collection_runs).where(collection_runs.c.id == run_id).values(**values))


async def finish(connection: AsyncConnection, run_id: str, now: datetime) -> None:
    await connection.execute(update(collection_runs).where(collection_runs.c.id == run_id).values(finished_at=now))


async def unfinished(connection: AsyncConnection, kind: RunKind) -> Run | None:
    """The newest that did not come to its end."""
    query = select(collection_runs).where(collection_runs.c.kind == kind.value, collection_runs.c.finished_at.is_(None))
    row = (await connection.execute(query.order_by(collection_runs.c.id.desc()).limit(1))).one_or_none()
    return None if row is None else _run(row)


async def find(connection: AsyncConnection, run_id: str) -> Run | None:
    row = (await connection.execute(select(collection_runs).where(collection_runs.c.id == run_id))).one_or_none()
    return None if row is None else _run(row)


async def page(connection: AsyncConnection, offset: int, limit: int) -> tuple[list[Run], int]:
    """The newest first."""
    total = (await connection.execute(select(func.count()).select_from(collection_runs))).scalar_one()
    query = select(collection_runs).order_by(collection_runs.c.id.desc())
    return [_run(row) for row in await connection.execute(query.offset(offset).limit(limit))], total


def _run(row: Row[Any]) -> Run:
    counts = {name: getattr(row, name) for name in _COUNTS}
    return Run(row.id, RunKind(row.kind), row.started_at, row.finished_at, Tally(**counts), row.cursor)


async def record_removals(connection: AsyncConnection, removals: Sequence[tuple[str, Removal]]) -> None:
    """Each with its own id."""
    if removals:
        await connection.execute(
            insert(blob_removals),
            [
                {
                    "id": removal_id,
                    "digest": str(each.digest),
                    "size": each.size,
                    "reason": each.reason,
                    "removed_at": each.removed_at,
                    "run_id": each.run_id,
                }
                for removal_id, each in removals
            ],
        )


async def removals(
    connection: AsyncConnection, digest: Digest | None, offset: int, limit: int
) -> tuple[list[Removal], int]:
    """The newest first; of one digest if it is given."""
    query = select(blob_removals)
    if digest is not None:
        query = query.where(blob_removals.c.digest == str(digest))
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    rows = await connection.execute(query.order_by(blob_removals.c.id.desc()).offset(offset).limit(limit))
    return [Removal(Digest.parse(row.digest), row.size, row.reason, row.removed_at, row.run_id) for row in rows], total


async def forget_before(connection: AsyncConnection, moment: datetime) -> int:
    """Runs and removals older than that; returns how many."""
    runs = await connection.execute(delete(collection_runs).where(collection_runs.c.started_at < moment))
    gone = await connection.execute(delete(blob_removals).where(blob_removals.c.removed_at < moment))
    return runs.rowcount + gone.rowcount


async def recorded_sizes(
    connection: AsyncConnection, digests: Sequence[Digest], after: str, last: str
) -> tuple[dict[Digest, int], list[tuple[Digest, int]]]:
    """Sizes of those of `digests` that have a row; and linked rows between `after` and `last` that are not in
    `digests`.
    """
    texts = [str(digest) for digest in digests]
    rows = await connection.execute(select(blobs.c.digest, blobs.c.size).where(blobs.c.digest.in_(texts)))
    known = {Digest.parse(row.digest): row.size for row in rows}
    between = select(blobs.c.digest, blobs.c.size).where(
        blobs.c.digest > after,
        blobs.c.digest <= last,
        select(repository_blobs.c.digest).where(repository_blobs.c.digest == blobs.c.digest).exists(),
    )
    named = set(texts)
    rows = await connection.execute(between)
    return known, [(Digest.parse(row.digest), row.size) for row in rows if row.digest not in named]


async def replace_missing(
    connection: AsyncConnection, after: str, last: str, found: Sequence[tuple[Digest, int, int | None]], now: datetime
) -> None:
    """What the sweep says of the digests between `after` and `last`: (digest, recorded size, stored size)."""
    await connection.execute(
        delete(missing_blobs).where(missing_blobs.c.digest > after, missing_blobs.c.digest <= last)
    )
    rows = []
    for digest, size, stored in found:
        query = select(func.count()).where(repository_blobs.c.digest == str(digest))
        users = (await connection.execute(query)).scalar_one()
        row = {"digest": str(digest), "size": size, "stored_size": stored, "repositories": users, "found_at": now}
        rows.append(row)
    await insert_or_replace(connection, missing_blobs, rows)


async def missing(connection: AsyncConnection, offset: int, limit: int) -> tuple[list[Missing], int]:
    total = (await connection.execute(select(func.count()).select_from(missing_blobs))).scalar_one()
    rows = await connection.execute(select(missing_blobs).order_by(missing_blobs.c.digest).offset(offset).limit(limit))
    return [
        Missing(Digest.parse(row.digest), row.size, row.stored_size, row.repositories, row.found_at) for row in rows
    ], total


async def anything_due(connection: AsyncConnection, now: datetime) -> bool:
    """Whether a pass would find something to do."""
    for column in (
        link_reviews.c.review_after,
        blob_reviews.c.review_after,
        deleted_manifests.c.purge_after,
        deleted_tags.c.purge_after,
    ):
        if (await connection.execute(select(column).where(column <= now).limit(1))).first() is not None:
            return True
    return False
