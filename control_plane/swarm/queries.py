"""What the API shows of the swarm: joins with the fleet's names, filtered to what the asker may see, one page at a
time.

Invariant: `tenant_ids` None means every tenant; an empty collection means none, and shows nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.fleet.tables import hosts, idcs, regionals
from control_plane.swarm.tables import egress, host_contents, regional_contents, wanted_contents
from control_plane.web.paging import Page, PageRequest

TenantIds = Collection[str] | None


@dataclass(frozen=True, slots=True)
class EgressRow:
    idc: str
    digest: str
    size_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ContentFilter:
    """`host`: id or `idc/name`; `idc`: name; `digest`: in its wire form. None: any."""

    host: str | None = None
    idc: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ContentRow:
    host_id: str
    host: str
    idc: str
    tenant_id: str
    digest: str
    size_bytes: int
    held_bytes: int
    verified: bool
    from_centre_bytes: int
    from_regional_bytes: int
    from_peers_bytes: int
    reused_bytes: int
    detail: str
    reported_at: datetime


@dataclass(frozen=True, slots=True)
class RegionalShare:
    """How far one regional is with one order."""

    regional_id: str
    regional: str
    phase: str
    held_bytes: int
    from_centre_bytes: int
    detail: str


@dataclass(frozen=True, slots=True)
class OrderRow:
    idc: str
    tenant_id: str
    digest: str
    size_bytes: int
    media_type: str
    regionals: tuple[RegionalShare, ...]


async def egress_rows(connection: AsyncConnection, tenant_ids: TenantIds, request: PageRequest) -> Page[EgressRow]:
    statement = (
        select(
            idcs.c.name.label("idc"),
            egress.c.digest,
            func.max(egress.c.size_bytes).label("size_bytes"),
            func.sum(egress.c.bytes).label("bytes"),
        )
        .join(idcs, idcs.c.id == egress.c.idc_id)
        .where(_visible(egress.c.tenant_id, tenant_ids))
        .group_by(idcs.c.name, egress.c.digest)
        .order_by(idcs.c.name, egress.c.digest)
    )
    rows, total = await _page(connection, statement, request)
    # PostgreSQL sums BIGINT to NUMERIC.
    return Page([EgressRow(row.idc, row.digest, int(row.size_bytes), int(row.bytes)) for row in rows], total, request)


async def egress_totals(connection: AsyncConnection, tenant_ids: TenantIds) -> dict[str, int]:
    """Bytes by name of IDC."""
    rows = await connection.execute(
        select(idcs.c.name, func.sum(egress.c.bytes).label("bytes"))
        .join(idcs, idcs.c.id == egress.c.idc_id)
        .where(_visible(egress.c.tenant_id, tenant_ids))
        .group_by(idcs.c.name)
    )
    return {row.name: int(row.bytes) for row in rows}


async def content_rows(
    connection: AsyncConnection, tenant_ids: TenantIds, wanted: ContentFilter, request: PageRequest
) -> Page[ContentRow]:
    conditions = [_visible(host_contents.c.tenant_id, tenant_ids), *_host_conditions(wanted.host)]
    if wanted.idc is not None:
        conditions.append(idcs.c.name == wanted.idc)
    if wanted.digest is not None:
        conditions.append(host_contents.c.digest == wanted.digest)
    statement = (
        select(host_contents, hosts.c.name.label("host"), idcs.c.name.label("idc"))
        .join(hosts, hosts.c.id == host_contents.c.host_id)
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(*conditions)
        .order_by(idcs.c.name, hosts.c.name, host_contents.c.digest, host_contents.c.tenant_id)
    )
    rows, total = await _page(connection, statement, request)
    return Page([ContentRow(**row._mapping) for row in rows], total, request)


async def order_rows(
    connection: AsyncConnection, tenant_ids: TenantIds, idc: str | None, request: PageRequest
) -> Page[OrderRow]:
    statement = (
        select(
            idcs.c.id.label("idc_id"),
            idcs.c.name.label("idc"),
            wanted_contents.c.tenant_id,
            wanted_contents.c.digest,
            func.min(wanted_contents.c.size_bytes).label("size_bytes"),
            func.min(wanted_contents.c.media_type).label("media_type"),
        )
        .join(idcs, idcs.c.id == wanted_contents.c.idc_id)
        .where(_visible(wanted_contents.c.tenant_id, tenant_ids), true() if idc is None else idcs.c.name == idc)
        .group_by(idcs.c.id, idcs.c.name, wanted_contents.c.tenant_id, wanted_contents.c.digest)
        .order_by(idcs.c.name, wanted_contents.c.digest, wanted_contents.c.tenant_id)
    )
    rows, total = await _page(connection, statement, request)
    shares = await _shares(connection, rows)
    return Page([_order_row(row, shares) for row in rows], total, request)


def _order_row(row: Row[Any], shares: dict[tuple[str, str, str], list[RegionalShare]]) -> OrderRow:
    mine = shares.get((row.idc_id, row.tenant_id, row.digest), [])
    return OrderRow(row.idc, row.tenant_id, row.digest, row.size_bytes, row.media_type, tuple(mine))


async def _shares(
    connection: AsyncConnection, orders: Sequence[Row[Any]]
) -> dict[tuple[str, str, str], list[RegionalShare]]:
    keys = {(row.tenant_id, row.digest) for row in orders}
    if not keys:
        return {}
    rows = await connection.execute(
        select(regional_contents, regionals.c.name.label("regional"), regionals.c.idc_id)
        .join(regionals, regionals.c.id == regional_contents.c.regional_id)
        .where(tuple_(regional_contents.c.tenant_id, regional_contents.c.digest).in_(sorted(keys)))
        .order_by(regionals.c.name)
    )
    shares: dict[tuple[str, str, str], list[RegionalShare]] = {}
    for row in rows:
        share = RegionalShare(
            row.regional_id, row.regional, row.phase, row.held_bytes, row.from_centre_bytes, row.detail
        )
        shares.setdefault((row.idc_id, row.tenant_id, row.digest), []).append(share)
    return shares


async def _page(
    connection: AsyncConnection, statement: Select[Any], request: PageRequest
) -> tuple[Sequence[Row[Any]], int]:
    total = await connection.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    rows = await connection.execute(statement.limit(request.limit).offset(request.offset))
    return rows.all(), int(total or 0)


def _visible(column: ColumnElement[str], tenant_ids: TenantIds) -> ColumnElement[bool]:
    return true() if tenant_ids is None else column.in_(sorted(tenant_ids))


def _host_conditions(host: str | None) -> list[ColumnElement[bool]]:
    if host is None:
        return []
    idc, separator, name = host.partition("/")
    return [idcs.c.name == idc, hosts.c.name == name] if separator else [hosts.c.id == host]
