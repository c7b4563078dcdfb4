"""Queries over wants and the orders they amount to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_replace_each
from control_plane.fleet.tables import idcs
from control_plane.swarm.model import Effort, Order, WantedContent
from control_plane.swarm.tables import metainfo, wants


@dataclass(frozen=True, slots=True)
class OrderedSet:
    """What one IDC shall hold at one generation. `idc`: its name."""

    generation: int
    idc: str
    orders: tuple[Order, ...]


async def spreads(connection: AsyncConnection, tenant_id: str) -> bool:
    """Whether anything of the tenant is wanted anywhere, or was spread within a day (`forgetting`)."""
    query = select(
        or_(
            exists().where(wants.c.tenant_id == tenant_id),
            exists().where(metainfo.c.tenant_id == tenant_id),
        )
    )
    return bool((await connection.execute(query)).scalar_one())


async def add_wants(
    connection: AsyncConnection,
    owner_ids: Sequence[str],
    idc_id: str,
    tenant_id: str,
    contents: Sequence[WantedContent],
    effort: Effort = Effort.ORDINARY,
) -> bool:
    """Whether the IDC's orders changed: somebody may have wanted the same there already, with no more effort. What an
    owner wants there already takes the new effort.
    """
    await _lock(connection, [idc_id])
    digests = {str(content.digest) for content in contents}
    before = await _efforts(connection, idc_id, tenant_id, digests)
    for content in contents:
        row = {
            "idc_id": idc_id,
            "digest": str(content.digest),
            "tenant_id": tenant_id,
            "size_bytes": content.size_bytes,
            "media_type": content.media_type,
            "effort": effort.value,
        }
        await insert_or_replace_each(connection, wants, {"owner_id": owner_ids}, row, only=("effort",))
    return before != await _efforts(connection, idc_id, tenant_id, digests)


async def _efforts(
    connection: AsyncConnection, idc_id: str, tenant_id: str, digests: Collection[str]
) -> dict[str, int]:
    rows = await connection.execute(
        select(wants.c.digest, func.min(wants.c.effort).label("effort"))
        .where(wants.c.idc_id == idc_id, wants.c.tenant_id == tenant_id, wants.c.digest.in_(digests))
        .group_by(wants.c.digest)
    )
    return {row.digest: row.effort for row in rows}


async def remove_wants(connection: AsyncConnection, owner_id: str, idc_id: str | None = None) -> list[str]:
    """Everything that `owner_id` wants, in one IDC or in all; returns the ids of IDCs whose orders became fewer or are
    wanted with less effort now, sorted.
    """
    mine = (
        wants.c.owner_id == owner_id if idc_id is None else and_(wants.c.owner_id == owner_id, wants.c.idc_id == idc_id)
    )
    touched = await connection.scalars(select(wants.c.idc_id).where(mine).distinct())
    await _lock(connection, list(touched))
    other = wants.alias()
    as_much = exists().where(
        other.c.idc_id == wants.c.idc_id,
        other.c.tenant_id == wants.c.tenant_id,
        other.c.digest == wants.c.digest,
        other.c.owner_id != owner_id,
        other.c.effort <= wants.c.effort,
    )
    changed = await connection.scalars(select(wants.c.idc_id).where(mine, ~as_much).distinct().order_by(wants.c.idc_id))
    idc_ids = list(changed)
    await connection.execute(delete(wants).where(mine))
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
                func.min(wants.c.effort).label("effort"),
            )
            .select_from(idcs.outerjoin(wants, wants.c.idc_id == idcs.c.id))
            .where(idcs.c.id == idc_id)
            .group_by(idcs.c.name, idcs.c.orders_generation, wants.c.tenant_id, wants.c.digest)
        )
    ).all()
    if not rows:
        return None
    orders = tuple(
        Order(
            row.tenant_id,
            WantedContent(Digest.parse(row.digest), row.size_bytes, row.media_type),
            Effort(row.effort),
        )
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
