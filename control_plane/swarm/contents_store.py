"""Queries over what hosts and regionals hold, and over what left the centre."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, exists, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.database.upserts import insert_or_add, insert_or_replace
from control_plane.fleet.tables import idcs
from control_plane.swarm.model import EgressKey, HostContent, RegionalContent
from control_plane.swarm.tables import egress, host_contents, regional_contents, wanted_contents

Key = tuple[str, str]  # (tenant id, digest)
_HELD_COLUMNS = [host_contents.c[field.name] for field in fields(HostContent)]


async def of_hosts(
    connection: AsyncConnection, host_ids: Collection[str], keys: Collection[Key]
) -> dict[str, dict[Key, HostContent]]:
    """What is known of these contents on those hosts, by host."""
    known: dict[str, dict[Key, HostContent]] = {host_id: {} for host_id in host_ids}
    found = await _rows(connection, host_contents, host_contents.c.host_id.in_(host_ids), list(keys))
    for row in found:
        known[row["host_id"]][row["tenant_id"], row["digest"]] = HostContent(**_parsed(row))
    return known


async def of_regional(connection: AsyncConnection, regional_id: str, keys: Sequence[Key]) -> dict[Key, RegionalContent]:
    found = await _rows(connection, regional_contents, regional_contents.c.regional_id == regional_id, keys)
    return {(row["tenant_id"], row["digest"]): RegionalContent(**_parsed(row)) for row in found}


async def unwanted_at_regional(connection: AsyncConnection, regional_id: str) -> int:
    """How many contents are known of it that nobody wants anywhere."""
    wanted = exists().where(
        wanted_contents.c.tenant_id == regional_contents.c.tenant_id,
        wanted_contents.c.digest == regional_contents.c.digest,
    )
    query = select(func.count()).where(regional_contents.c.regional_id == regional_id, ~wanted)
    return int(await connection.scalar(query.select_from(regional_contents)) or 0)


async def held_by_hosts(
    connection: AsyncConnection, host_ids: Sequence[str], digests: Sequence[Digest]
) -> list[HostContent]:
    """Everything that these hosts hold of these digests, for any tenant."""
    by_text = {str(digest): digest for digest in digests}
    rows = await connection.execute(
        select(*_HELD_COLUMNS).where(host_contents.c.host_id.in_(host_ids), host_contents.c.digest.in_(list(by_text)))
    )
    return [HostContent(host_id, tenant_id, by_text[digest], *said) for host_id, tenant_id, digest, *said in rows]


async def put_host_contents(connection: AsyncConnection, contents: Sequence[HostContent], now: datetime) -> None:
    await insert_or_replace(connection, host_contents, [_row(content, now) for content in contents])


async def put_regional_contents(
    connection: AsyncConnection, contents: Sequence[RegionalContent], now: datetime
) -> None:
    await insert_or_replace(connection, regional_contents, [_row(content, now) for content in contents])


async def remove_host_contents(connection: AsyncConnection, host_id: str, keys: Sequence[Key]) -> None:
    await _remove(connection, host_contents, host_contents.c.host_id == host_id, keys)


async def remove_regional_contents(connection: AsyncConnection, regional_id: str, keys: Sequence[Key]) -> None:
    await _remove(connection, regional_contents, regional_contents.c.regional_id == regional_id, keys)


async def add_egress(connection: AsyncConnection, counted: Mapping[EgressKey, int]) -> None:
    """Counts of an IDC that no longer exists are dropped."""
    names = {key.idc for key in counted}
    found = await connection.execute(select(idcs.c.name, idcs.c.id).where(idcs.c.name.in_(names)))
    ids = {row.name: row.id for row in found}
    # Sorted, so that two replicas lock rows in the same order.
    rows = [
        {
            "idc_id": ids[key.idc],
            "tenant_id": key.tenant_id,
            "digest": str(key.digest),
            "size_bytes": key.size_bytes,
            "bytes": payload_bytes,
        }
        for key, payload_bytes in sorted(
            counted.items(), key=lambda item: (item[0].idc, item[0].tenant_id, item[0].digest)
        )
        if key.idc in ids
    ]
    await insert_or_add(connection, egress, rows, added=("bytes",))


async def _rows(connection: AsyncConnection, table: Table, owner: Any, keys: Sequence[Key]) -> list[dict[str, Any]]:
    if not keys:
        return []
    rows = await connection.execute(
        select(table).where(owner, tuple_(table.c.tenant_id, table.c.digest).in_(list(keys)))
    )
    return [dict(row._mapping) for row in rows]


async def _remove(connection: AsyncConnection, table: Table, owner: Any, keys: Sequence[Key]) -> None:
    if keys:
        await connection.execute(delete(table).where(owner, tuple_(table.c.tenant_id, table.c.digest).in_(list(keys))))


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in row.items() if name != "reported_at"}
    return values | {"digest": Digest.parse(row["digest"])}


def _row(content: HostContent | RegionalContent, now: datetime) -> dict[str, Any]:
    return asdict(content) | {"digest": str(content.digest), "reported_at": now}
