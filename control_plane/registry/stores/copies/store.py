"""Queries over copies, and what the registry says of their blobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, case, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.locks import hold_row
from control_plane.database.upserts import insert_into, insert_or_ignore, insert_or_replace
from control_plane.registry.stores.copies.model import BlobCopy, BlobNeeds, CopyState
from control_plane.registry.stores.copies.tables import blob_copies, blob_placements, lost_blobs
from control_plane.registry.tables import blobs, repositories, repository_blobs

# A push is noted before or after its row is written; until then nothing of it is swept.
_YOUNG = timedelta(hours=1)
_PARAMETERS = 500


async def put_good(connection: AsyncConnection, copies: Sequence[tuple[Digest, str, int]], now: datetime) -> None:
    """Verified just now, new or again: (digest, store, size)."""
    rows = [_row(digest, store, size, now, now) for digest, store, size in copies]
    await insert_or_replace(connection, blob_copies, rows)
    digests = sorted({str(digest) for digest, _, _ in copies})
    await connection.execute(delete(lost_blobs).where(lost_blobs.c.digest.in_(digests)))


async def found_good(connection: AsyncConnection, copy: BlobCopy, now: datetime) -> None:
    """Read and right; when it came stays as it was."""
    await insert_or_replace(
        connection,
        blob_copies,
        [_row(copy.digest, copy.store, copy.size, now, now)],
        only=["size", "state", "verified_at"],
    )
    await connection.execute(delete(lost_blobs).where(lost_blobs.c.digest == str(copy.digest)))


async def review_soon(connection: AsyncConnection, digests: Iterable[Digest], now: datetime) -> None:
    """Placement looks at them next; those that it does not know count as read now."""
    rows = [
        {"digest": str(each), "last_read_at": now, "review_after": now, "short": 0} for each in sorted(set(digests))
    ]
    await insert_or_replace(connection, blob_placements, rows, only=["review_after"])


async def note_reads(connection: AsyncConnection, digests: Collection[Digest], now: datetime, stale: timedelta) -> None:
    """They were read; whoever was not for `stale` before may belong elsewhere now and is reviewed at once."""
    rows = _placements(digests, now)
    if not rows:
        return
    statement = insert_into(connection, blob_placements)
    changed = {
        "last_read_at": statement.excluded.last_read_at,
        "review_after": case(
            (blob_placements.c.last_read_at < now - stale, statement.excluded.review_after),
            else_=blob_placements.c.review_after,
        ),
    }
    await connection.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=changed), rows)


async def mark(connection: AsyncConnection, digest: Digest, store: str, state: CopyState) -> bool:
    """Whether there was such a copy, present until now."""
    copy = and_(blob_copies.c.digest == str(digest), blob_copies.c.store == store)
    marked = await connection.execute(
        update(blob_copies)
        .where(copy, blob_copies.c.state == CopyState.PRESENT)
        .values(state=state)
        .returning(blob_copies.c.digest)
    )
    return marked.first() is not None


async def doubt(connection: AsyncConnection, digest: Digest, store: str) -> None:
    """The scrub reads this copy next; until then it does not count as good."""
    copy = and_(blob_copies.c.digest == str(digest), blob_copies.c.store == store)
    await connection.execute(update(blob_copies).where(copy).values(verified_at=None))


async def forget(connection: AsyncConnection, digest: Digest, store: str) -> None:
    copy = and_(blob_copies.c.digest == str(digest), blob_copies.c.store == store)
    await connection.execute(delete(blob_copies).where(copy))


async def forget_blob(connection: AsyncConnection, digest: Digest) -> None:
    for table in (blob_copies, blob_placements, lost_blobs):
        await connection.execute(delete(table).where(table.c.digest == str(digest)))


async def hold_blob(connection: AsyncConnection, digest: Digest) -> bool:
    """The lock under which copies go (`blob_lives`: it is the blob's row); false if there is no such blob."""
    return await hold_row(connection, blobs, str(digest)) is not None


async def copies_of(connection: AsyncConnection, digests: Sequence[Digest]) -> Mapping[Digest, Sequence[BlobCopy]]:
    found: dict[Digest, list[BlobCopy]] = {digest: [] for digest in digests}
    query = select(blob_copies).where(blob_copies.c.digest.in_([str(each) for each in digests]))
    for row in await connection.execute(query.order_by(blob_copies.c.digest, blob_copies.c.store)):
        copy = as_copy(row)
        found[copy.digest].append(copy)
    return found


async def needs_of(connection: AsyncConnection, digests: Sequence[Digest]) -> Mapping[Digest, BlobNeeds]:
    """Of those that have a row."""
    links = repository_blobs.join(repositories, repositories.c.id == repository_blobs.c.repository_id)
    of_blob = repository_blobs.c.digest == blobs.c.digest
    public = exists().select_from(links).where(of_blob, repositories.c.visibility == "public").correlate(blobs)
    linked = exists().select_from(repository_blobs).where(of_blob).correlate(blobs)
    query = select(
        blobs.c.digest, blobs.c.size, blobs.c.created_at, linked.label("linked"), public.label("public")
    ).where(blobs.c.digest.in_([str(each) for each in digests]))
    found = {}
    for row in await connection.execute(query):
        digest = Digest.parse(row.digest)
        found[digest] = BlobNeeds(digest, row.size, bool(row.linked), bool(row.public), row.created_at)
    return found


async def sweep_gone(connection: AsyncConnection, now: datetime) -> None:
    """Rows of blobs that were collected."""
    there = exists().where(blobs.c.digest == blob_copies.c.digest)
    await connection.execute(delete(blob_copies).where(blob_copies.c.copied_at < now - _YOUNG, ~there))
    there = exists().where(blobs.c.digest == blob_placements.c.digest)
    await connection.execute(delete(blob_placements).where(blob_placements.c.last_read_at < now - _YOUNG, ~there))
    there = exists().where(blobs.c.digest == lost_blobs.c.digest)
    await connection.execute(delete(lost_blobs).where(~there))


async def take_census(
    connection: AsyncConnection, store: str, listed: Mapping[Digest, int], after: str, last: str, now: datetime
) -> list[Digest]:
    """Record what the store listed between the two digests; returns present copies there that it did not list."""
    between = and_(blob_copies.c.store == store, blob_copies.c.digest > after, blob_copies.c.digest <= last)
    rows = await connection.execute(select(blob_copies.c.digest, blob_copies.c.state).where(between))
    known = {Digest.parse(row.digest): row.state for row in rows}
    fresh = [each for each in sorted(listed) if each not in known]
    await insert_or_ignore(connection, blob_copies, [_row(each, store, listed[each], now, None) for each in fresh])
    await insert_or_ignore(connection, blob_placements, _placements(fresh, now))
    return [each for each, state in known.items() if state == CopyState.PRESENT and each not in listed]


async def blobs_without_copies(connection: AsyncConnection, now: datetime, limit: int) -> list[tuple[Digest, int]]:
    """Linked blobs that no store is known to have: as of a whole census, they are gone."""
    known = exists().where(blob_copies.c.digest == blobs.c.digest)
    linked = exists().where(repository_blobs.c.digest == blobs.c.digest)
    query = select(blobs.c.digest, blobs.c.size).where(~known, linked, blobs.c.created_at < now - _YOUNG).limit(limit)
    return [(Digest.parse(row.digest), row.size) for row in await connection.execute(query)]


async def put_missing(connection: AsyncConnection, digest: Digest, store: str, size: int, now: datetime) -> None:
    row = {**_row(digest, store, size, now, None), "state": CopyState.MISSING}
    await insert_or_ignore(connection, blob_copies, [row])


async def counts(connection: AsyncConnection) -> Mapping[tuple[str, str], tuple[int, int]]:
    """Copies and bytes by store and state."""
    query = select(
        blob_copies.c.store, blob_copies.c.state, func.count(), func.coalesce(func.sum(blob_copies.c.size), 0)
    ).group_by(blob_copies.c.store, blob_copies.c.state)
    return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in await connection.execute(query)}


def as_copy(row: Row[Any]) -> BlobCopy:
    return BlobCopy(Digest.parse(row.digest), row.store, row.size, CopyState(row.state), row.copied_at, row.verified_at)


def _row(digest: Digest, store: str, size: int, copied_at: datetime, verified_at: datetime | None) -> dict[str, Any]:
    return {
        "digest": str(digest),
        "store": store,
        "size": size,
        "state": CopyState.PRESENT,
        "copied_at": copied_at,
        "verified_at": verified_at,
    }


def _placements(digests: Iterable[Digest], now: datetime) -> list[dict[str, Any]]:
    return [
        {"digest": str(each), "last_read_at": now, "review_after": now, "short": 0} for each in sorted(set(digests))
    ]
