"""Shares of spreads in and out of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_replace
from control_plane.fleet.tables import hosts, idcs, regionals
from control_plane.swarm.model import HostContent
from control_plane.swarm.spreads.model import Share
from control_plane.swarm.spreads.tables import spread_shares
from control_plane.web.paging import PageRequest

Group = tuple[str, str, str]  # IDC, tenant, digest


async def begin(connection: AsyncConnection, host_id: str, begun: Sequence[HostContent], now: datetime) -> None:
    idc_id = await connection.scalar(select(hosts.c.idc_id).where(hosts.c.id == host_id))
    if idc_id is None:
        return
    rows = [
        {
            "host_id": host_id,
            "tenant_id": one.tenant_id,
            "digest": str(one.digest),
            "idc_id": idc_id,
            "size_bytes": one.size_bytes,
            "began_at": now,
            "ended_at": now if one.verified else None,
            **_sources(one),
        }
        for one in begun
    ]
    await insert_or_replace(connection, spread_shares, rows)


async def end(connection: AsyncConnection, host_id: str, done: Sequence[HostContent], now: datetime) -> None:
    for one in done:
        await connection.execute(
            update(spread_shares)
            .where(
                spread_shares.c.host_id == host_id,
                spread_shares.c.tenant_id == one.tenant_id,
                spread_shares.c.digest == str(one.digest),
            )
            .values(ended_at=now, **_sources(one))
        )


async def groups(
    connection: AsyncConnection, tenants: Collection[str] | None, idc: str | None, digest: str | None, page: PageRequest
) -> tuple[list[Group], int]:
    """The newest first. `tenants`: ids, None: all; `idc`: a name."""
    wanted = [
        true() if tenants is None else spread_shares.c.tenant_id.in_(sorted(tenants)),
        true() if idc is None else spread_shares.c.idc_id.in_(select(idcs.c.id).where(idcs.c.name == idc)),
        true() if digest is None else spread_shares.c.digest == digest,
    ]
    key = spread_shares.c.idc_id, spread_shares.c.tenant_id, spread_shares.c.digest
    statement = select(*key, func.max(spread_shares.c.began_at).label("newest")).where(*wanted).group_by(*key)
    total = await connection.scalar(select(func.count()).select_from(statement.subquery()))
    rows = await connection.execute(
        statement.order_by(func.max(spread_shares.c.began_at).desc(), spread_shares.c.digest)
        .limit(page.limit)
        .offset(page.offset)
    )
    return [(row.idc_id, row.tenant_id, row.digest) for row in rows], int(total or 0)


async def shares(connection: AsyncConnection, wanted: Collection[Group]) -> list[Share]:
    if not wanted:
        return []
    key = tuple_(spread_shares.c.idc_id, spread_shares.c.tenant_id, spread_shares.c.digest)
    rows = await connection.execute(select(spread_shares).where(key.in_(sorted(wanted))))
    return [Share(**row._mapping) for row in rows]


async def idcs_by_id(connection: AsyncConnection) -> dict[str, str]:
    rows = await connection.execute(select(idcs.c.id, idcs.c.name).order_by(idcs.c.name))
    return {row.id: row.name for row in rows}


async def host_counts(connection: AsyncConnection) -> Mapping[str, int]:
    """Hosts that are not revoked, by id of their IDC."""
    rows = await connection.execute(
        select(hosts.c.idc_id, func.count().label("hosts")).where(hosts.c.revoked_at.is_(None)).group_by(hosts.c.idc_id)
    )
    return {row.idc_id: row.hosts for row in rows}


async def idcs_with_regional(connection: AsyncConnection) -> set[str]:
    return set(await connection.scalars(select(regionals.c.idc_id).where(regionals.c.revoked_at.is_(None)).distinct()))


async def forget(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.scalars(
        delete(spread_shares).where(spread_shares.c.began_at < before).returning(spread_shares.c.host_id)
    )
    return len(list(gone))


def _sources(one: HostContent) -> dict[str, int]:
    return {
        "from_centre_bytes": one.from_centre_bytes,
        "from_regional_bytes": one.from_regional_bytes,
        "from_peers_bytes": one.from_peers_bytes,
    }
