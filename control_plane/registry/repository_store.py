"""Queries over repositories, blobs and the links between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import inserted
from control_plane.registry.grant_store import filtered, ordered, pullable
from control_plane.registry.grants import Filter, Visible
from control_plane.registry.model import ListedRepository, Repository
from control_plane.registry.tables import blobs, manifests, repositories, repository_blobs, tags

_repositories = select(repositories.c.id, repositories.c.name, repositories.c.tenant_id)
# Statements of a push are made once: building one costs more than executing it on SQLite (60 against 45 us of CPU).
_NAMED = _repositories.where(repositories.c.name == bindparam("name"))
_HELD = {alone: _NAMED.with_for_update(read=not alone) for alone in (False, True)}
_LINKED_SIZE = (
    select(blobs.c.size)
    .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
    .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
    .where(repositories.c.name == bindparam("name"), blobs.c.digest == bindparam("digest"))
)
_LINKED_SIZES = (
    select(blobs.c.digest, blobs.c.size)
    .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
    .where(
        repository_blobs.c.repository_id == bindparam("repository_id"),
        blobs.c.digest.in_(bindparam("digests", expanding=True)),
    )
)
# SQLite takes 32,766 parameters a statement, PostgreSQL 65,535; pages of this size stay far below.
_PAGE = 1000


async def find_repository(connection: AsyncConnection, name: str) -> Repository | None:
    return await _one(connection, _NAMED, name)


async def hold_repository(connection: AsyncConnection, name: str, *, alone: bool) -> Repository | None:
    """Found, and held until the transaction ends: what adds a manifest holds it together with others, what takes
    something away holds it `alone`, so that nothing vanishes between being checked and being referred to.
    """
    return await _one(connection, _HELD[alone], name)


async def _one(connection: AsyncConnection, query: Select[Any], name: str) -> Repository | None:
    row = (await connection.execute(query, {"name": name})).one_or_none()
    return None if row is None else Repository(row.id, row.name, row.tenant_id)


async def make_repository(
    connection: AsyncConnection, new_id: str, name: str, tenant_id: str, user_id: str, now: datetime
) -> Repository | None:
    """None if there is one of that name: another push made it in between."""
    row = {
        "id": new_id,
        "name": name,
        "tenant": name.partition("/")[0],
        "tenant_id": tenant_id,
        "created_by": user_id,
        "created_at": now,
    }
    return Repository(new_id, name, tenant_id) if await inserted(connection, repositories, row) else None


async def delete_repository(connection: AsyncConnection, repository_id: str) -> None:
    """With its links, manifests and tags."""
    await connection.execute(delete(tags).where(tags.c.repository_id == repository_id))
    await connection.execute(delete(repositories).where(repositories.c.id == repository_id))


async def repository_names(
    connection: AsyncConnection, visible: Visible, now: datetime, *, after: str = "", limit: int
) -> list[str]:
    """Names of what is visible, in order, from the one after `after`."""
    query = select(repositories.c.name).where(repositories.c.name > after, *pullable(visible, now))
    return list((await connection.execute(query.order_by(repositories.c.name).limit(limit))).scalars())


async def page_of_repositories(
    connection: AsyncConnection, visible: Visible, now: datetime, wanted: Filter, offset: int, limit: int
) -> tuple[list[ListedRepository], int]:
    """One page of what is visible and wanted, and how many there are in all."""
    query = select(repositories).where(*pullable(visible, now), *filtered(wanted))
    total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    rows = await connection.execute(query.order_by(*ordered(wanted.order)).offset(offset).limit(limit))
    return [
        ListedRepository(Repository(row.id, row.name, row.tenant_id), row.visibility, row.created_at) for row in rows
    ], total


async def count_with_images(connection: AsyncConnection, tenant_id: str) -> int:
    """How many repositories of the tenant hold a manifest."""
    holds = select(manifests.c.digest).where(manifests.c.repository_id == repositories.c.id).exists()
    query = select(func.count()).select_from(repositories).where(repositories.c.tenant_id == tenant_id, holds)
    return (await connection.execute(query)).scalar_one()


async def repositories_of(connection: AsyncConnection, tenant_id: str) -> list[Repository]:
    """All of the tenant's, in order of name."""
    rows = await connection.execute(
        _repositories.where(repositories.c.tenant_id == tenant_id).order_by(repositories.c.name)
    )
    return [Repository(row.id, row.name, row.tenant_id) for row in rows]


async def linked_bytes(connection: AsyncConnection, repository_ids: Sequence[str]) -> dict[str, int]:
    """How many bytes of blobs each repository links; a blob counts once in each."""
    query = (
        select(repository_blobs.c.repository_id, func.sum(blobs.c.size).label("total"))
        .join(blobs, blobs.c.digest == repository_blobs.c.digest)
        .where(repository_blobs.c.repository_id.in_(repository_ids))
        .group_by(repository_blobs.c.repository_id)
    )
    return {row.repository_id: int(row.total) for row in await connection.execute(query)}


async def blob_size(connection: AsyncConnection, digest: Digest) -> int | None:
    return (await connection.execute(select(blobs.c.size).where(blobs.c.digest == str(digest)))).scalar_one_or_none()


async def link_blob(connection: AsyncConnection, repository_id: str, digest: Digest, now: datetime) -> bool:
    """Whether the repository did not see the blob before."""
    row = {"repository_id": repository_id, "digest": str(digest), "linked_at": now}
    return await inserted(connection, repository_blobs, row)


async def unlink_blob(connection: AsyncConnection, repository_id: str, digest: Digest) -> bool:
    """Whether there was a link."""
    done = await connection.execute(
        delete(repository_blobs).where(
            repository_blobs.c.repository_id == repository_id, repository_blobs.c.digest == str(digest)
        )
    )
    return done.rowcount > 0


async def linked_blobs(connection: AsyncConnection, repository_id: str) -> list[tuple[Digest, int]]:
    """Every blob that the repository sees, with its size."""
    query = (
        select(blobs.c.digest, blobs.c.size)
        .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
        .where(repository_blobs.c.repository_id == repository_id)
        .order_by(blobs.c.digest)
    )
    return [(Digest.parse(row.digest), row.size) for row in await connection.execute(query)]


async def linked_blob_size(connection: AsyncConnection, repository: str, digest: Digest) -> int | None:
    """The size of a blob that the repository of this name sees, or None."""
    found = await connection.execute(_LINKED_SIZE, {"name": repository, "digest": str(digest)})
    return found.scalar_one_or_none()


async def linked_sizes(connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]) -> dict[Digest, int]:
    """The sizes of those of `digests` that the repository links."""
    found: dict[Digest, int] = {}
    for page in _pages(sorted({str(digest) for digest in digests})):
        rows = await connection.execute(_LINKED_SIZES, {"repository_id": repository_id, "digests": page})
        found |= {Digest.parse(row.digest): row.size for row in rows}
    return found


async def owners_of(connection: AsyncConnection, digests: Sequence[Digest]) -> set[tuple[str, Digest]]:
    """(tenant id, digest) of those of `digests` that a repository of the tenant holds, as a blob or as a manifest."""
    found: set[tuple[str, Digest]] = set()
    for page in _pages(sorted({str(digest) for digest in digests})):
        for table in (repository_blobs, manifests):
            query = (
                select(repositories.c.tenant_id, table.c.digest)
                .join(repositories, repositories.c.id == table.c.repository_id)
                .where(table.c.digest.in_(page))
                .distinct()
            )
            found |= {(row.tenant_id, Digest.parse(row.digest)) for row in await connection.execute(query)}
    return found


async def repositories_with_blob(
    connection: AsyncConnection, digest: Digest, visible: Visible, now: datetime, limit: int
) -> list[str]:
    """Names of visible repositories that link the blob."""
    query = (
        select(repositories.c.name)
        .join(repository_blobs, repository_blobs.c.repository_id == repositories.c.id)
        .where(repository_blobs.c.digest == str(digest), *pullable(visible, now))
        .order_by(repositories.c.name)
        .limit(limit)
    )
    return list((await connection.execute(query)).scalars())


def _pages(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _PAGE):
        yield values[start : start + _PAGE]
