"""Queries for the referrers API: which manifests of a repository name another one as their subject.

Two indexes carry it (`tables.manifests`): a page is one range of one of them, however many manifests and referrers
there are, and nothing is parsed. What a page may weigh is bounded before the annotations are read: one manifest brings
up to 4 MiB of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.registry.tables import manifests, repositories


@dataclass(frozen=True, slots=True)
class Referrer:
    """`annotations` is JSON, as stored; `size` is the manifest's own length in bytes."""

    digest: Digest
    media_type: str
    artifact_type: str | None
    size: int
    annotations: str | None


async def page_of_referrers(
    connection: AsyncConnection,
    repository: str,
    subject: Digest,
    *,
    artifact_type: str | None,
    after: str,
    limit: int,
    max_bytes: int,
) -> tuple[list[Referrer], bool]:
    """Those after the digest `after`, in order of digest, and whether there are more. At least one, if there is one;
    then as many as `limit` and `max_bytes` of annotations allow.
    """
    rows = (await connection.execute(_listing(repository, subject, artifact_type, after, limit + 1))).all()
    taken = _within([row.weight or 0 for row in rows[:limit]], max_bytes)
    annotations = await _annotations(
        connection, [(row.repository_id, row.digest) for row in rows[:taken] if row.weight]
    )
    found = [
        Referrer(Digest.parse(row.digest), row.media_type, row.artifact_type, row.size, annotations.get(row.digest))
        for row in rows[:taken]
    ]
    return found, taken < len(rows)


def _listing(
    repository: str, subject: Digest, artifact_type: str | None, after: str, limit: int
) -> Select[tuple[Any, ...]]:
    # Not a join: PostgreSQL does not see that it has one row only, and would sort all referrers for each page.
    held = select(repositories.c.id).where(repositories.c.name == repository).scalar_subquery()
    query = (
        select(
            manifests.c.repository_id,
            manifests.c.digest,
            manifests.c.media_type,
            manifests.c.artifact_type,
            func.length(manifests.c.payload).label("size"),
            func.length(manifests.c.annotations).label("weight"),
        )
        .where(manifests.c.repository_id == held, manifests.c.subject == str(subject), manifests.c.digest > after)
        .order_by(manifests.c.digest)
        .limit(limit)
    )
    return query if artifact_type is None else query.where(manifests.c.artifact_type == artifact_type)


def _within(weights: Sequence[int], max_bytes: int) -> int:
    """How many from the first on stay within the bytes, but one at least."""
    total = 0
    for count, weight in enumerate(weights):
        total += weight
        if total > max_bytes and count > 0:
            return count
    return len(weights)


async def _annotations(connection: AsyncConnection, keys: Sequence[tuple[str, str]]) -> dict[str, str]:
    if not keys:
        return {}
    query = select(manifests.c.digest, manifests.c.annotations).where(
        manifests.c.repository_id == keys[0][0], manifests.c.digest.in_([digest for _, digest in keys])
    )
    return {row.digest: row.annotations for row in await connection.execute(query)}
