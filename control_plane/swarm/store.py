"""Queries over wants and the orders they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_ignore
from control_plane.fleet.tables import idcs
from control_plane.swarm.model import Order, WantedContent
from control_plane.swarm.tables import wants


@dataclass(frozen=True, slots=True)
class OrderedSet:
    """What one IDC shall hold at one generation. `idc`: its name."""

    generation: int
    idc: str
    orders: tuple[Order, ...]


async def add_wants(
    connection: AsyncConnection, owner_id: str, idc_id: str, tenant_id: str, contents: Sequence[WantedContent]
) -> bool:
    """Whether the IDC's orders changed: somebody may have wanted the same there already."""
    await _lock(connection, [idc_id])
    digests = {str(content.digest) for content in contents}
    ordered = await connection.scalars(
        select(wants.c.digest)
        .where(wants.c.idc_id == idc_id, wants.c.tenant_id == tenant_id, wants.c.digest.in_(digests))
        .distinct()
    )
    rows = [
        {
            "owner_id": owner_id,
            "idc_id": idc_id,
            "digest": str(content.digest),
            "tenant_id": tenant_id,
            "size_bytes": content.size_bytes,
            "media_type": content.media_type,
        }
        for content in contents
    ]
    changed = bool(digests - set(ordered))
    await insert_or_ignore(connection, wants, rows)
    return changed


async def remove_wants(connection: AsyncConnection, owner_id: str) -> list[str]:
    """Everything that `owner_id` wants; returns the ids of IDCs whose orders became fewer, sorted."""
    touched = await connection.scalars(select(wants.c.idc_id).where(wants.c.owner_id == owner_id).distinct())
    await _lock(connection, list(touched))
    other = wants.alias()
    shared = exists().where(
        other.c.idc_id == wants.c.idc_id,
        other.c.tenant_id == wants.c.tenant_id,
        other.c.digest == wants.c.digest,
        other.c.owner_id != owner_id,
    )
    changed = await connection.scalars(
        select(wants.c.idc_id).where(wants.c.owner_id == owner_id, ~shared).distinct().order_by(wants.c.idc_id)
    )
    idc_ids = list(changed)
    await connection.execute(delete(wants).where(wants.c.owner_id == owner_id))
    return idc_ids


async def ordered_set(connection: AsyncConnection, idc_id: str) -> OrderedSet | None:
    """One statement, so generation and orders are one picture on both engines. None if there is no such IDC."""
    rows = (
        await connection.execute(
            select(
                idcs.c.name,
                idcs.c.orders_generation,
                wants.c.tenant_id,
                wants.c.digest,
                func.min(wants.c.size_bytes).label("size_bytes"),
                func.min(wants.c.media_type).label("media_type"),
            )
            .select_from(idcs.outerjoin(wants, wants.c.idc_id == idcs.c.id))
            .where(idcs.c.id == idc_id)
            .group_by(idcs.c.name, idcs.c.orders_generation, wants.c.tenant_id, wants.c.digest)
        )
    ).all()
    if not rows:
        return None
    orders = tuple(
        Order(row.tenant_id, WantedContent(Digest.parse(row.digest), row.size_bytes, row.media_type))
        for row in rows
        if row.digest is not None
    )
    return OrderedSet(rows[0].orders_generation, rows[0].name, orders)


async def wanted_anywhere(connection: AsyncConnection, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of the (tenant id, digest) are wanted in some IDC."""
    rows = await connection.execute(select(wants.c.tenant_id, wants.c.digest).where(_any_of(keys)).distinct())
    return {(row.tenant_id, row.digest) for row in rows}


async def wanted_digests(connection: AsyncConnection, digests: Sequence[Digest]) -> set[Digest]:
    """Which of the digests are wanted in some IDC, by any tenant."""
    query = select(wants.c.digest).where(wants.c.digest.in_([str(digest) for digest in digests])).distinct()
    return {Digest.parse(text) for text in (await connection.execute(query)).scalars()}


async def _lock(connection: AsyncConnection, idc_ids: Sequence[str]) -> None:
    """Changes of one IDC's orders queue here (SQLite has one writer anyway). Without it, one transaction that takes the
    last want away and one that adds another could each believe that nothing changes, and no generation would tell.
    """
    await connection.execute(select(idcs.c.id).where(idcs.c.id.in_(idc_ids)).order_by(idcs.c.id).with_for_update())


def _any_of(keys: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    return tuple_(wants.c.tenant_id, wants.c.digest).in_(list(keys))
