"""Queries over wants and the orders they amount to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, ScalarSelect, and_, delete, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_ignore, insert_or_replace_each
from control_plane.fleet.tables import idcs
from control_plane.swarm.model import Effort, Order, WantedContent, list_id
from control_plane.swarm.tables import metainfo, wanted_contents, wants


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
            exists().where(wanted_contents.c.tenant_id == tenant_id),
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
    """Whether the IDC's orders changed: somebody may have wanted the same there already, with no more effort. An owner
    who wants the same contents there already takes the new effort.
    """
    if not contents or not owner_ids:
        return False
    await _lock(connection, [idc_id])
    each = {str(content.digest): content for content in contents}
    before = await _efforts(connection, idc_id, tenant_id, each)
    named = {"idc_id": idc_id, "list_id": list_id(tenant_id, list(each.values()))}
    owners = {"owner_id": owner_ids}
    await insert_or_replace_each(connection, wants, owners, named | {"effort": effort.value}, only=("effort",))
    rows = [
        named
        | {
            "digest": digest,
            "tenant_id": tenant_id,
            "size_bytes": content.size_bytes,
            "media_type": content.media_type,
        }
        for digest, content in each.items()
    ]
    await insert_or_ignore(connection, wanted_contents, rows)
    return before != await _efforts(connection, idc_id, tenant_id, each)


async def _efforts(
    connection: AsyncConnection, idc_id: str, tenant_id: str, digests: Collection[str]
) -> dict[str, int]:
    rows = await connection.execute(
        select(wanted_contents.c.digest, func.min(_least_effort()).label("effort"))
        .where(
            wanted_contents.c.idc_id == idc_id,
            wanted_contents.c.tenant_id == tenant_id,
            wanted_contents.c.digest.in_(digests),
        )
        .group_by(wanted_contents.c.digest)
    )
    return {row.digest: row.effort for row in rows}


def _least_effort() -> ScalarSelect[int]:
    """Of those who want the list that a row of `wanted_contents` is in."""
    return (
        select(func.min(wants.c.effort))
        .where(wants.c.idc_id == wanted_contents.c.idc_id, wants.c.list_id == wanted_contents.c.list_id)
        .correlate(wanted_contents)
        .scalar_subquery()
    )


async def remove_wants(connection: AsyncConnection, owner_id: str, idc_id: str | None = None) -> list[str]:
    """Everything that `owner_id` wants, in one IDC or in all; returns the ids of IDCs whose orders became fewer or are
    wanted with less effort now, sorted.
    """
    mine = (
        wants.c.owner_id == owner_id if idc_id is None else and_(wants.c.owner_id == owner_id, wants.c.idc_id == idc_id)
    )
    touched = await connection.scalars(select(wants.c.idc_id).where(mine).distinct())
    await _lock(connection, list(touched))
    lists = await _wanted_least(connection, mine)
    if not lists:
        # In a fleet somebody else nearly always wants the same.
        await connection.execute(delete(wants).where(mine))
        return []
    contents = await _contents(connection, lists)
    before = {key: await _efforts(connection, *key, digests) for key, digests in contents.items()}
    await connection.execute(delete(wants).where(mine))
    await _remove_unwanted(connection, lists)
    after = {key: await _efforts(connection, *key, digests) for key, digests in contents.items()}
    return sorted({key[0] for key in contents if before[key] != after[key]})


async def _wanted_least(connection: AsyncConnection, mine: ColumnElement[bool]) -> list[tuple[str, str]]:
    """(IDC id, list id) of those of `mine` that nobody else wants with as little effort there."""
    other = wants.alias()
    as_much = exists().where(
        other.c.idc_id == wants.c.idc_id,
        other.c.list_id == wants.c.list_id,
        other.c.owner_id != wants.c.owner_id,
        other.c.effort <= wants.c.effort,
    )
    rows = await connection.execute(select(wants.c.idc_id, wants.c.list_id).where(mine, ~as_much))
    return [(row.idc_id, row.list_id) for row in rows]


async def _contents(connection: AsyncConnection, lists: Sequence[tuple[str, str]]) -> dict[tuple[str, str], set[str]]:
    """Digests in these lists, by (IDC id, tenant id)."""
    found: dict[tuple[str, str], set[str]] = {}
    columns = wanted_contents.c.idc_id, wanted_contents.c.tenant_id, wanted_contents.c.digest
    for row in await connection.execute(select(*columns).where(_in_lists(lists))):
        found.setdefault((row.idc_id, row.tenant_id), set()).add(row.digest)
    return found


async def _remove_unwanted(connection: AsyncConnection, lists: Sequence[tuple[str, str]]) -> None:
    wanted = exists().where(wants.c.idc_id == wanted_contents.c.idc_id, wants.c.list_id == wanted_contents.c.list_id)
    await connection.execute(delete(wanted_contents).where(_in_lists(lists), ~wanted))


def _in_lists(lists: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    return tuple_(wanted_contents.c.idc_id, wanted_contents.c.list_id).in_(list(lists))


async def ordered_set(connection: AsyncConnection, idc_id: str) -> OrderedSet | None:
    """One statement, so generation and orders are one picture on both engines. None if there is no such IDC."""
    rows = (
        await connection.execute(
            select(
                idcs.c.name,
                idcs.c.orders_generation,
                wanted_contents.c.tenant_id,
                wanted_contents.c.digest,
                func.min(wanted_contents.c.size_bytes).label("size_bytes"),
                func.min(wanted_contents.c.media_type).label("media_type"),
                func.min(_least_effort()).label("effort"),
            )
            .select_from(idcs.outerjoin(wanted_contents, wanted_contents.c.idc_id == idcs.c.id))
            .where(idcs.c.id == idc_id)
            .group_by(idcs.c.name, idcs.c.orders_generation, wanted_contents.c.tenant_id, wanted_contents.c.digest)
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
    rows = await connection.execute(
        select(wanted_contents.c.tenant_id, wanted_contents.c.digest).where(_any_of(keys)).distinct()
    )
    return {(row.tenant_id, row.digest) for row in rows}


async def wanted_digests(connection: AsyncConnection, digests: Sequence[Digest]) -> set[Digest]:
    """Which of the digests are wanted in some IDC, by any tenant."""
    query = (
        select(wanted_contents.c.digest)
        .where(wanted_contents.c.digest.in_([str(digest) for digest in digests]))
        .distinct()
    )
    return {Digest.parse(text) for text in (await connection.execute(query)).scalars()}


async def _lock(connection: AsyncConnection, idc_ids: Sequence[str]) -> None:
    """Changes of one IDC's orders queue here (SQLite has one writer anyway). Without it, one transaction that takes the
    last want away and one that adds another could each believe that nothing changes, and no generation would tell.
    """
    await connection.execute(select(idcs.c.id).where(idcs.c.id.in_(idc_ids)).order_by(idcs.c.id).with_for_update())


def _any_of(keys: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    return tuple_(wanted_contents.c.tenant_id, wanted_contents.c.digest).in_(list(keys))
