"""Keeping the total size of indexes true while their images come and go.

An index may be pushed before its images (a sparse index), and an image may be deleted under one. What a pull of the
index moves is what is here; listings read it from the index's own row, so it is set anew when a child's row comes or
goes. Set-based: a child of a thousand indexes costs a handful of statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.registry.tables import manifest_references, manifests

_PAGE = 1000
_refers = manifest_references.c
# Made once: a part of every push of a manifest.
_PARENTS = select(_refers.manifest).where(
    _refers.repository_id == bindparam("repository_id"),
    _refers.digest.in_(bindparam("children", expanding=True)),
    _refers.kind == "manifest",
)


async def resize_indexes(connection: AsyncConnection, repository_id: str, child: Digest) -> None:
    """Call after the child's row came or went. Digests cannot form a cycle, so the way up to the roots ends."""
    level = await _parents(connection, repository_id, [str(child)])
    while level:
        for page in _pages(level):
            await _resize(connection, repository_id, page)
        level = await _parents(connection, repository_id, level)


async def _parents(connection: AsyncConnection, repository_id: str, children: Sequence[str]) -> list[str]:
    found: set[str] = set()
    for page in _pages(children):
        rows = await connection.execute(_PARENTS, {"repository_id": repository_id, "children": page})
        found.update(rows.scalars())
    return sorted(found)


async def _resize(connection: AsyncConnection, repository_id: str, indexes: Sequence[str]) -> None:
    totals = dict.fromkeys(indexes, 0)
    for query in (_own_bytes(repository_id, indexes), _children_bytes(repository_id, indexes)):
        for row in await connection.execute(query):
            totals[row.manifest] += int(row.total)
    statement = (
        update(manifests)
        .where(manifests.c.repository_id == repository_id, manifests.c.digest == bindparam("index_digest"))
        .values(total_size=bindparam("total"))
    )
    await connection.execute(statement, [{"index_digest": each, "total": total} for each, total in totals.items()])


def _own_bytes(repository_id: str, indexes: Sequence[str]) -> Select[tuple[str, int]]:
    """What an index lists that is no manifest; a content listed twice counts once."""
    listed = (
        select(_refers.manifest, _refers.digest, func.max(_refers.size).label("size"))
        .where(_refers.repository_id == repository_id, _refers.manifest.in_(indexes), _refers.kind != "manifest")
        .group_by(_refers.manifest, _refers.digest)
        .subquery()
    )
    return select(listed.c.manifest, func.sum(listed.c.size).label("total")).group_by(listed.c.manifest)


def _children_bytes(repository_id: str, indexes: Sequence[str]) -> Select[tuple[str, int]]:
    listed = (
        select(_refers.manifest, _refers.digest)
        .where(_refers.repository_id == repository_id, _refers.manifest.in_(indexes), _refers.kind == "manifest")
        .distinct()
        .subquery()
    )
    return (
        select(listed.c.manifest, func.sum(manifests.c.total_size).label("total"))
        .join(manifests, (manifests.c.repository_id == repository_id) & (manifests.c.digest == listed.c.digest))
        .group_by(listed.c.manifest)
    )


def _pages(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _PAGE):
        yield values[start : start + _PAGE]
