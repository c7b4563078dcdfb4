"""What the planner needs to know of a repository, and when its manifests were pulled last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_replace
from control_plane.registry.retention.model import Stored
from control_plane.registry.retention.tables import manifest_pulls
from control_plane.registry.tables import manifest_references, manifests, repositories, tags

_PAGE = 500
PullKey = tuple[str, Digest]


async def stored_images(connection: AsyncConnection, repository_id: str) -> tuple[Stored, ...]:
    """Every manifest of the repository, without its payload, in order of digest."""
    names = await _tags(connection, repository_id)
    children = await _children(connection, repository_id)
    query = (
        select(
            manifests.c.digest,
            manifests.c.pushed_at,
            manifests.c.subject,
            manifests.c.total_size,
            manifest_pulls.c.pulled_at,
        )
        .outerjoin(
            manifest_pulls,
            (manifest_pulls.c.repository_id == manifests.c.repository_id)
            & (manifest_pulls.c.digest == manifests.c.digest),
        )
        .where(manifests.c.repository_id == repository_id)
        .order_by(manifests.c.digest)
    )
    return tuple(
        Stored(
            digest=Digest.parse(row.digest),
            pushed_at=row.pushed_at,
            tags=tuple(names.get(row.digest, ())),
            pulled_at=row.pulled_at,
            children=tuple(children.get(row.digest, ())),
            subject=None if row.subject is None else Digest.parse(row.subject),
            size_bytes=row.total_size,
        )
        for row in await connection.execute(query)
    )


async def stamp(connection: AsyncConnection, repository_id: str) -> str:
    """Changes with every push, deletion and move of a tag: how many manifests and tags there are, and the newest."""
    parts: list[object] = []
    for table, moment in ((manifests, manifests.c.pushed_at), (tags, tags.c.updated_at)):
        query = select(func.count(), func.max(moment)).where(table.c.repository_id == repository_id)
        parts += (await connection.execute(query)).one()
    return "/".join(map(str, parts))


async def tags_and_pulls(
    connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]
) -> dict[Digest, tuple[tuple[str, ...], datetime | None]]:
    """Those of `digests` that are still there, each with its tags in order and its last pull."""
    found: dict[Digest, tuple[tuple[str, ...], datetime | None]] = {}
    for page in _pages(digests):
        texts = [str(digest) for digest in page]
        named: dict[str, list[str]] = defaultdict(list)
        query = select(tags.c.digest, tags.c.name).where(
            tags.c.repository_id == repository_id, tags.c.digest.in_(texts)
        )
        for row in await connection.execute(query.order_by(tags.c.name)):
            named[row.digest].append(row.name)
        held = (
            select(manifests.c.digest, manifest_pulls.c.pulled_at)
            .outerjoin(
                manifest_pulls,
                (manifest_pulls.c.repository_id == manifests.c.repository_id)
                & (manifest_pulls.c.digest == manifests.c.digest),
            )
            .where(manifests.c.repository_id == repository_id, manifests.c.digest.in_(texts))
        )
        for row in await connection.execute(held):
            found[Digest.parse(row.digest)] = (tuple(named[row.digest]), row.pulled_at)
    return found


async def referring(connection: AsyncConnection, repository_id: str, digests: Sequence[Digest]) -> set[Digest]:
    """Indexes that list any of `digests`, and manifests whose subject is one of them."""
    found: set[Digest] = set()
    for page in _pages(digests):
        texts = [str(digest) for digest in page]
        above = select(manifest_references.c.manifest).where(
            manifest_references.c.repository_id == repository_id,
            manifest_references.c.kind == "manifest",
            manifest_references.c.digest.in_(texts),
        )
        attached = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id, manifests.c.subject.in_(texts)
        )
        for query in (above, attached):
            found |= {Digest.parse(text) for text in (await connection.execute(query)).scalars()}
    return found


async def note_pulls(connection: AsyncConnection, pulls: Mapping[PullKey, datetime]) -> None:
    """By name of the repository; what is gone meanwhile is left out."""
    ordered = sorted(pulls, key=lambda key: (key[0], str(key[1])))
    for page in _pages(ordered):
        wanted = [(name, str(digest)) for name, digest in page]
        query = (
            select(repositories.c.name, manifests.c.repository_id, manifests.c.digest)
            .join(repositories, repositories.c.id == manifests.c.repository_id)
            .where(tuple_(repositories.c.name, manifests.c.digest).in_(wanted))
            .order_by(manifests.c.repository_id, manifests.c.digest)
        )
        rows = [
            {
                "repository_id": row.repository_id,
                "digest": row.digest,
                "pulled_at": pulls[(row.name, Digest.parse(row.digest))],
            }
            for row in await connection.execute(query)
        ]
        await insert_or_replace(connection, manifest_pulls, rows, unless_older="pulled_at")


async def forget_pulls_of_the_gone(connection: AsyncConnection) -> int:
    """Rows whose manifest was deleted; returns how many."""
    there = (
        select(manifests.c.digest)
        .where(
            manifests.c.repository_id == manifest_pulls.c.repository_id, manifests.c.digest == manifest_pulls.c.digest
        )
        .exists()
    )
    return (await connection.execute(delete(manifest_pulls).where(~there))).rowcount


async def _tags(connection: AsyncConnection, repository_id: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    query = select(tags.c.digest, tags.c.name).where(tags.c.repository_id == repository_id).order_by(tags.c.name)
    for row in await connection.execute(query):
        found[row.digest].append(row.name)
    return found


async def _children(connection: AsyncConnection, repository_id: str) -> dict[str, list[Digest]]:
    found: dict[str, list[Digest]] = defaultdict(list)
    query = select(manifest_references.c.manifest, manifest_references.c.digest).where(
        manifest_references.c.repository_id == repository_id, manifest_references.c.kind == "manifest"
    )
    for row in await connection.execute(query.order_by(manifest_references.c.manifest, manifest_references.c.position)):
        found[row.manifest].append(Digest.parse(row.digest))
    return found


def _pages(values: Sequence[Digest] | Sequence[PullKey]) -> Iterator[Sequence]:  # type: ignore[type-arg]
    for start in range(0, len(values), _PAGE):
        yield values[start : start + _PAGE]
