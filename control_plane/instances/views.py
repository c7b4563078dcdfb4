"""Queries for people: instances with their hosts' names, what the hosts said, and what they hold of the image."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from common.digest import Digest
from control_plane.fleet.tables import hosts, idcs
from control_plane.instances.model import Instance, Phase, Status
from control_plane.instances.store import STATUS_COLUMNS, instance_of, status_of
from control_plane.instances.tables import instance_statuses, instances
from control_plane.web.paging import Page, PageRequest


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    """`tenant`, `idc`: names; `host`: id or `idc/name`. None: any."""

    tenant: str | None = None
    host: str | None = None
    idc: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """An instance without its holdings, which the swarm knows."""

    instance: Instance
    status: Status
    host: str
    idc: str


async def page(
    connection: AsyncConnection, wanted: InstanceFilter, tenants: Collection[str] | None, request: PageRequest
) -> Page[Listed]:
    """`tenants`: names of those that may be seen; None: every tenant."""
    statement = _listed().where(_of_tenants(tenants), *_conditions(wanted))
    total = await connection.scalar(select(func.count()).select_from(statement.subquery()))
    rows = await connection.execute(
        statement.order_by(instances.c.tenant, instances.c.name, idcs.c.name, hosts.c.name, instances.c.id)
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_of(row) for row in rows], int(total or 0), request)


async def by_ids(connection: AsyncConnection, instance_ids: Collection[str]) -> list[Listed]:
    rows = await connection.execute(
        _listed().where(instances.c.id.in_(instance_ids)).order_by(idcs.c.name, hosts.c.name, instances.c.id)
    )
    return [_of(row) for row in rows]


async def counts(connection: AsyncConnection, tenants: Collection[str] | None) -> list[tuple[str, str, int]]:
    """(name of IDC, phase, how many); an IDC that is gone is called ""."""
    rows = await connection.execute(
        select(idcs.c.name, instance_statuses.c.phase, func.count())
        .select_from(_joined())
        .where(_of_tenants(tenants))
        .group_by(idcs.c.name, instance_statuses.c.phase)
    )
    return [(row[0] or "", row[1] or Phase.PENDING.value, int(row[2])) for row in rows]


def _listed() -> Select[Any]:
    return select(
        instances, *STATUS_COLUMNS, hosts.c.name.label("host_name"), idcs.c.name.label("idc_name")
    ).select_from(_joined())


def _joined() -> Any:
    # Outer joins: an instance is shown until it is forgotten, also when its host or IDC is gone already.
    return (
        instances.outerjoin(instance_statuses, instance_statuses.c.instance_id == instances.c.id)
        .outerjoin(hosts, hosts.c.id == instances.c.host_id)
        .outerjoin(idcs, idcs.c.id == instances.c.idc_id)
    )


def _conditions(wanted: InstanceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.tenant is not None:
        conditions.append(instances.c.tenant == wanted.tenant)
    if wanted.host is not None:
        idc, separator, name = wanted.host.partition("/")
        conditions.append(
            and_(idcs.c.name == idc, hosts.c.name == name) if separator else instances.c.host_id == wanted.host
        )
    if wanted.idc is not None:
        conditions.append(idcs.c.name == wanted.idc)
    if wanted.name is not None:
        conditions.append(instances.c.name == wanted.name)
    return conditions


def _of_tenants(tenants: Collection[str] | None) -> ColumnElement[bool]:
    return true() if tenants is None else instances.c.tenant.in_(sorted(tenants))


def _of(row: Any) -> Listed:
    return Listed(instance_of(row), status_of(row), row.host_name or "", row.idc_name or "")


async def manifests_in_use(connection: AsyncConnection, repository: str) -> set[Digest]:
    """Of that repository, by instances that are wanted or not gone from their hosts yet."""
    image = instances.c.image
    query = select(image["manifest"]["digest"].as_string()).where(image["repository"].as_string() == repository)
    return {Digest.parse(text) for text in (await connection.execute(query.distinct())).scalars()}
