"""Queries over the two review queues, and the facts that decide a review."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, case, delete, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import Insert, insert_by, insert_into
from control_plane.registry import repository_store
from control_plane.registry.collection.model import BlobFacts, BlobReview, LinkFacts, LinkReview
from control_plane.registry.collection.tables import (
    blob_reviews,
    deleted_manifests,
    deleted_references,
    link_reviews,
)
from control_plane.registry.model import Repository
from control_plane.registry.tables import blobs, manifest_references, repositories, repository_blobs

# Far below `deadlock_timeout` (1 s): in a circle of locks the collection lets go first, so that no push is the victim.
LOCK_WAIT_MILLISECONDS = 500
_LOOK_AHEAD = 2000
GONE = BlobFacts(None)


async def wait_briefly(connection: AsyncConnection) -> None:
    """The rest of the transaction waits for no lock for long; SQLite's one writer holds them all already."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_MILLISECONDS}ms'"))


async def expect_links(
    connection: AsyncConnection,
    repository_id: str,
    digests: Sequence[Digest],
    review_after: datetime,
    reason: str,
    promised_until: datetime | None = None,
) -> None:
    """Queue reviews of the repository's links; one that is queued already moves to the later of both moments."""
    same = {"repository_id": repository_id, "review_after": review_after, "promised_until": promised_until}
    rows = [{**same, "digest": str(digest), "reason": reason} for digest in sorted(set(digests))]
    if not rows:
        return
    await connection.execute(_expecting_links(connection.dialect.name), rows)


# Made once: a part of every push, and building it costs more than executing it.
@cache
def _expecting_links(dialect: str) -> Insert:
    statement = insert_by(dialect, link_reviews)
    new = statement.excluded
    values = {
        "review_after": _later(link_reviews.c.review_after, new.review_after),
        "promised_until": func.coalesce(new.promised_until, link_reviews.c.promised_until),
        "reason": new.reason,
    }
    return statement.on_conflict_do_update(index_elements=["repository_id", "digest"], set_=values)


async def expect_blobs(
    connection: AsyncConnection, digests: Sequence[Digest], review_after: datetime, reason: str
) -> None:
    """Queue reviews of blobs; one that is queued already moves to the later of both moments."""
    rows = [
        {"digest": str(digest), "review_after": review_after, "reason": reason, "attempts": 0, "error": ""}
        for digest in sorted(set(digests))
    ]
    if not rows:
        return
    statement = insert_into(connection, blob_reviews)
    new = statement.excluded
    values = {
        "review_after": _later(blob_reviews.c.review_after, new.review_after),
        "reason": new.reason,
        "attempts": new.attempts,
        "error": new.error,
    }
    await connection.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=values), rows)


def _later(old: ColumnElement[datetime], new: ColumnElement[datetime]) -> ColumnElement[datetime]:
    # Neither "greatest" nor a scalar "max" is known to both engines.
    return case((old > new, old), else_=new)


async def review_of_link(connection: AsyncConnection, repository: str, digest: Digest) -> datetime | None:
    """When the link of the repository of this name is reviewed; None if it is not."""
    query = (
        select(link_reviews.c.review_after)
        .join(repositories, repositories.c.id == link_reviews.c.repository_id)
        .where(repositories.c.name == repository, link_reviews.c.digest == str(digest))
    )
    found: datetime | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def repositories_due(connection: AsyncConnection, now: datetime, without: Sequence[str] = ()) -> list[str]:
    """Ids of repositories with links to review, the longest due first; not all of them if there are very many."""
    query = (
        select(link_reviews.c.repository_id)
        .where(link_reviews.c.review_after <= now, link_reviews.c.repository_id.not_in(without))
        .order_by(link_reviews.c.review_after)
        .limit(_LOOK_AHEAD)
    )
    return list(dict.fromkeys((await connection.execute(query)).scalars()))


async def hold_repository(connection: AsyncConnection, repository_id: str) -> Repository | None:
    """Alone, until the transaction ends: nobody links, unlinks or refers to a blob in it meanwhile."""
    query = select(repositories.c.id, repositories.c.name, repositories.c.tenant_id).where(
        repositories.c.id == repository_id
    )
    row = (await connection.execute(query.with_for_update())).one_or_none()
    return None if row is None else Repository(row.id, row.name, row.tenant_id)


async def due_links(
    connection: AsyncConnection, repository_id: str, now: datetime, limit: int, after: LinkReview | None = None
) -> list[LinkReview]:
    """Of one repository, in order of their moment, from the one after `after`."""
    query = select(link_reviews).where(
        link_reviews.c.repository_id == repository_id, link_reviews.c.review_after <= now
    )
    if after is not None:
        same = (link_reviews.c.review_after == after.review_after) & (link_reviews.c.digest > str(after.digest))
        query = query.where((link_reviews.c.review_after > after.review_after) | same)
    rows = await connection.execute(query.order_by(link_reviews.c.review_after, link_reviews.c.digest).limit(limit))
    return [LinkReview(row.repository_id, Digest.parse(row.digest), row.review_after, row.reason) for row in rows]


async def link_facts(
    connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]
) -> dict[Digest, LinkFacts]:
    sizes = await repository_store.linked_sizes(connection, repository_id, digests)
    texts = [str(digest) for digest in digests]
    # Any reference but "foreign": an entry of an index may be kept as a blob and is recorded as a manifest.
    query = select(manifest_references.c.digest).where(
        manifest_references.c.repository_id == repository_id,
        manifest_references.c.digest.in_(texts),
        manifest_references.c.kind != "foreign",
    )
    referenced = set((await connection.execute(query.distinct())).scalars())
    trashed = await _trashed(connection, texts, deleted_references.c.repository_id == repository_id)
    return {
        digest: LinkFacts(sizes.get(digest), str(digest) in referenced, trashed.get(str(digest))) for digest in digests
    }


async def _trashed(
    connection: AsyncConnection, digests: Sequence[str], *more: ColumnElement[bool]
) -> dict[str, datetime]:
    """Until when each of the digests is referred to from the trash."""
    query = (
        select(deleted_references.c.digest, func.max(deleted_manifests.c.purge_after).label("until"))
        .join(
            deleted_manifests,
            (deleted_manifests.c.repository_id == deleted_references.c.repository_id)
            & (deleted_manifests.c.digest == deleted_references.c.manifest),
        )
        .where(deleted_references.c.digest.in_(digests), *more)
        .group_by(deleted_references.c.digest)
    )
    return {row.digest: row.until for row in await connection.execute(query)}


async def drop_link_reviews(connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]) -> None:
    if digests:
        await connection.execute(delete(link_reviews).where(_links(repository_id, digests)))


async def postpone_links(
    connection: AsyncConnection, repository_id: str, digests: Sequence[Digest], until: datetime
) -> None:
    if digests:
        statement = update(link_reviews).where(_links(repository_id, digests))
        await connection.execute(statement.values(review_after=until))


async def hasten_links(
    connection: AsyncConnection, repository_id: str, digests: Sequence[Digest], earliest: datetime
) -> None:
    """Review them at `earliest`, or once what was promised of them is over."""
    if digests:
        promised = func.coalesce(link_reviews.c.promised_until, literal(earliest, link_reviews.c.review_after.type))
        wanted = _later(promised, literal(earliest, link_reviews.c.review_after.type))
        sooner = case((wanted < link_reviews.c.review_after, wanted), else_=link_reviews.c.review_after)
        await connection.execute(update(link_reviews).where(_links(repository_id, digests)).values(review_after=sooner))


def _links(repository_id: str, digests: Sequence[Digest]) -> ColumnElement[bool]:
    return (link_reviews.c.repository_id == repository_id) & link_reviews.c.digest.in_([str(each) for each in digests])


async def unlink(connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]) -> None:
    await connection.execute(
        delete(repository_blobs).where(
            repository_blobs.c.repository_id == repository_id,
            repository_blobs.c.digest.in_([str(digest) for digest in digests]),
        )
    )


async def due_blobs(
    connection: AsyncConnection, now: datetime, limit: int, after: BlobReview | None = None
) -> list[BlobReview]:
    """In order of their moment, as they are now, from the one after `after`; nothing is held."""
    query = select(blob_reviews).where(blob_reviews.c.review_after <= now)
    order = (blob_reviews.c.review_after, blob_reviews.c.digest)
    if after is not None:
        same = (blob_reviews.c.review_after == after.review_after) & (blob_reviews.c.digest > str(after.digest))
        query = query.where((blob_reviews.c.review_after > after.review_after) | same)
    rows = await connection.execute(query.order_by(*order).limit(limit))
    return [_blob_review(row) for row in rows]


async def hold_blobs(
    connection: AsyncConnection, digests: Sequence[Digest], now: datetime
) -> tuple[list[BlobReview], dict[Digest, BlobFacts]]:
    """The reviews of these that are still due, with the facts, as far as nobody else holds them. The rows in `blobs`
    are held first (`blob_lives`: they are the lock), the reviews second; neither is waited for.
    """
    texts = sorted(str(digest) for digest in digests)
    rows = select(blobs.c.digest).where(blobs.c.digest.in_(texts)).order_by(blobs.c.digest)
    held = set((await connection.execute(rows.with_for_update(skip_locked=True))).scalars())
    query = select(blob_reviews).where(blob_reviews.c.digest.in_(texts), blob_reviews.c.review_after <= now)
    found = await connection.execute(query.order_by(blob_reviews.c.digest).with_for_update(skip_locked=True))
    reviews = [_blob_review(row) for row in found]
    facts = await blob_facts(connection, [review.digest for review in reviews])
    # A row that somebody else holds (a push, perhaps), or that came only now, is not judged.
    judged = [each for each in reviews if str(each.digest) in held or each.digest not in facts]
    return judged, {each.digest: facts.get(each.digest, GONE) for each in judged}


async def blob_facts(connection: AsyncConnection, digests: Sequence[Digest]) -> dict[Digest, BlobFacts]:
    """Without what hosts want. A statement after the rows were held sees the links of whoever held them before."""
    texts = [str(digest) for digest in digests]
    rows = await connection.execute(select(blobs).where(blobs.c.digest.in_(texts)))
    query = select(repository_blobs.c.digest).where(repository_blobs.c.digest.in_(texts)).distinct()
    linked = set((await connection.execute(query)).scalars())
    trashed = await _trashed(connection, texts)
    return {
        Digest.parse(row.digest): BlobFacts(
            row.size,
            linked=row.digest in linked,
            trashed_until=trashed.get(row.digest),
            condemned_at=row.condemned_at,
        )
        for row in rows
    }


def _blob_review(row: Row[Any]) -> BlobReview:
    return BlobReview(Digest.parse(row.digest), row.review_after, row.reason, row.attempts)


async def condemn(connection: AsyncConnection, digests: Sequence[Digest], now: datetime) -> None:
    """The caller holds the rows and has seen that nobody links them (`blob_lives.condemn`, for many)."""
    if digests:
        await connection.execute(
            update(blobs)
            .where(_named(blobs, digests), blobs.c.condemned_at.is_(None))
            .values(condemned_at=literal(now, blobs.c.condemned_at.type))
        )


async def bury(connection: AsyncConnection, digests: Sequence[Digest]) -> None:
    """The bytes were deleted, by whom holds the rows: these go, and their reviews."""
    if digests:
        await connection.execute(delete(blobs).where(_named(blobs, digests)))
        await drop_blob_reviews(connection, digests)


async def drop_blob_reviews(connection: AsyncConnection, digests: Sequence[Digest]) -> None:
    if digests:
        await connection.execute(delete(blob_reviews).where(_named(blob_reviews, digests)))


async def postpone_blobs(
    connection: AsyncConnection, digests: Sequence[Digest], until: datetime, error: str | None = None
) -> None:
    """`error`: it was tried, and failed."""
    if digests:
        failed = {} if error is None else {"error": error, "attempts": blob_reviews.c.attempts + 1}
        statement = update(blob_reviews).where(_named(blob_reviews, digests))
        await connection.execute(statement.values(review_after=until, **failed))


def _named(table: Table, digests: Sequence[Digest]) -> ColumnElement[bool]:
    return table.c.digest.in_([str(digest) for digest in digests])
