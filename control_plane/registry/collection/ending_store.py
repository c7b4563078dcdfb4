"""Queries for repositories that hold nothing, not even in their trash, and that nobody made known to others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.registry.collection.tables import deleted_manifests, deleted_tags
from control_plane.registry.tables import manifests, repositories, repository_blobs, repository_grants


def _holds_nothing() -> tuple[ColumnElement[bool], ...]:
    places = (manifests, repository_blobs, deleted_manifests, deleted_tags, repository_grants)
    nothing = [~exists().where(each.c.repository_id == repositories.c.id) for each in places]
    return (repositories.c.visibility == "private", *nothing)


async def empty_repositories(
    connection: AsyncConnection, made_before: datetime, after: str, limit: int
) -> Sequence[tuple[str, str]]:
    """(id, name) of those after the id `after`, in order of id."""
    query = select(repositories.c.id, repositories.c.name).where(
        repositories.c.id > after, repositories.c.created_at < made_before, *_holds_nothing()
    )
    rows = await connection.execute(query.order_by(repositories.c.id).limit(limit))
    return [(row.id, row.name) for row in rows]


async def is_empty(connection: AsyncConnection, repository_id: str) -> bool:
    """Of one that the caller holds alone."""
    query = select(repositories.c.id).where(repositories.c.id == repository_id, *_holds_nothing())
    return (await connection.execute(query)).first() is not None
