"""Queries over what rules have copied."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_replace
from control_plane.registry.replication.model import Copied, Work
from control_plane.registry.replication.tables import replication_copies as copies
from control_plane.registry.replication.tables import replication_tasks as tasks
from control_plane.registry.tables import manifests, repositories, tags

_ORDER = (copies.c.destination, copies.c.repository, copies.c.reference)


async def find(
    connection: AsyncConnection, rule_id: str, destination: str, repository: str, reference: str
) -> Copied | None:
    query = select(copies).where(
        copies.c.rule_id == rule_id,
        copies.c.destination == destination,
        copies.c.repository == repository,
        copies.c.reference == reference,
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _copied(row)


async def note(connection: AsyncConnection, copied: Copied) -> None:
    await insert_or_replace(connection, copies, [asdict(copied)])


async def forget(connection: AsyncConnection, copied: Copied) -> None:
    await connection.execute(delete(copies).where(_is(copied)))


async def hand_over(connection: AsyncConnection, copied: Copied) -> bool:
    """Whether another rule, or another repository of this one, has it there too: then it is theirs from now on."""
    others = and_(
        copies.c.place == copied.place,
        copies.c.destination == copied.destination,
        copies.c.digest == copied.digest,
        or_(copies.c.rule_id != copied.rule_id, copies.c.repository != copied.repository),
    )
    if ":" not in copied.reference:  # a manifest is wanted under any name, a tag under its own
        others &= copies.c.reference == copied.reference
    taken = update(copies).where(others).values(made=True).returning(copies.c.rule_id)
    return (await connection.execute(taken)).first() is not None


async def references_at(connection: AsyncConnection, place: str, destination: str) -> set[str]:
    """What rules have put or found there."""
    query = select(copies.c.reference).where(copies.c.place == place, copies.c.destination == destination)
    return set((await connection.execute(query)).scalars())


async def gone_here(connection: AsyncConnection, rule_id: str, after: Copied | None, limit: int) -> list[Copied]:
    """Copies, in order, of what this registry has no more."""
    named = repositories.c.name == copies.c.repository
    tagged = select(tags.c.name).join(repositories, repositories.c.id == tags.c.repository_id)
    held = select(manifests.c.digest).join(repositories, repositories.c.id == manifests.c.repository_id)
    query = select(copies).where(
        copies.c.rule_id == rule_id,
        ~tagged.where(named, tags.c.name == copies.c.reference).exists(),
        ~held.where(named, manifests.c.digest == copies.c.reference).exists(),
    )
    return await _page(connection, query, after, limit)


async def not_listed(
    connection: AsyncConnection, rule_id: str, execution_id: str, after: Copied | None, limit: int
) -> list[Copied]:
    """Copies, in order, of what the execution does not copy again."""
    listed = select(tasks.c.id).where(
        tasks.c.execution_id == execution_id,
        tasks.c.work == Work.COPY,
        tasks.c.repository == copies.c.repository,
        tasks.c.reference == copies.c.reference,
    )
    return await _page(connection, select(copies).where(copies.c.rule_id == rule_id, ~listed.exists()), after, limit)


async def _page(connection: AsyncConnection, query: Select[Any], after: Copied | None, limit: int) -> list[Copied]:
    if after is not None:
        query = query.where(tuple_(*_ORDER) > (after.destination, after.repository, after.reference))
    return [_copied(row) for row in await connection.execute(query.order_by(*_ORDER).limit(limit))]


def _is(copied: Copied) -> ColumnElement[bool]:
    return and_(
        copies.c.rule_id == copied.rule_id,
        copies.c.destination == copied.destination,
        copies.c.repository == copied.repository,
        copies.c.reference == copied.reference,
    )


def _copied(row: Row[Any]) -> Copied:
    return Copied(row.rule_id, row.destination, row.repository, row.reference, row.place, row.digest, row.made)
