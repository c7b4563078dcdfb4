"""Queries over offences: what hosts said of those who sent false bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, delete, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import inserted
from control_plane.fleet.tables import hosts, idcs, regionals
from control_plane.swarm.model import Offence
from control_plane.swarm.tables import host_contents, swarm_offences, wanted_contents

Key = tuple[str, str]  # (tenant id, digest)


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Where a host stands: the names of its IDC and of itself."""

    idc_id: str
    idc: str
    host: str


@dataclass(frozen=True, slots=True)
class OffenceFilter:
    """`idc`: name, of the host that says so; `accused`: `host/<id>` or `regional/<id>`; `digest`: in its wire form."""

    idc: str | None = None
    accused: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class OffenceRow:
    """`accused_name`: `idc/name` of whom the tracker knew, empty if nobody did."""

    id: str
    kind: str
    idc: str
    accuser_id: str
    accuser: str
    tenant_id: str
    digest: str
    source: str
    accused: str
    accused_name: str
    occurred_at: datetime
    reported_at: datetime


async def place_of(connection: AsyncConnection, host_id: str) -> HostPlace | None:
    return (await places_of(connection, [host_id])).get(host_id)


async def places_of(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, HostPlace]:
    """By host id."""
    rows = await connection.execute(
        select(hosts.c.id, hosts.c.idc_id, idcs.c.name.label("idc"), hosts.c.name.label("host"))
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(hosts.c.id.in_(host_ids))
    )
    return {row.id: HostPlace(row.idc_id, row.idc, row.host) for row in rows}


async def name_of(connection: AsyncConnection, accused: str) -> str:
    """`idc/name` of `host/<id>` or `regional/<id>`; empty if there is no such member."""
    kind, _, member_id = accused.partition("/")
    table = regionals if kind == "regional" else hosts
    row = (
        await connection.execute(
            select(idcs.c.name.label("idc"), table.c.name)
            .join(idcs, idcs.c.id == table.c.idc_id)
            .where(table.c.id == member_id)
        )
    ).one_or_none()
    return "" if row is None else f"{row.idc}/{row.name}"


async def concerned(connection: AsyncConnection, host_id: str, idc_id: str, keys: Sequence[Key]) -> set[Key]:
    """Which of these contents that host may know something of: wanted in its IDC, or held by it."""
    wanted = await connection.execute(
        select(wanted_contents.c.tenant_id, wanted_contents.c.digest)
        .where(
            wanted_contents.c.idc_id == idc_id,
            tuple_(wanted_contents.c.tenant_id, wanted_contents.c.digest).in_(list(keys)),
        )
        .distinct()
    )
    held = await connection.execute(
        select(host_contents.c.tenant_id, host_contents.c.digest).where(
            host_contents.c.host_id == host_id,
            tuple_(host_contents.c.tenant_id, host_contents.c.digest).in_(list(keys)),
        )
    )
    return {(row.tenant_id, row.digest) for row in (*wanted, *held)}


async def said_since(connection: AsyncConnection, accuser_id: str, since: datetime) -> int:
    """How many offences that host reported since then."""
    count = await connection.scalar(
        select(func.count())
        .select_from(swarm_offences)
        .where(swarm_offences.c.accuser_id == accuser_id, swarm_offences.c.reported_at >= since)
    )
    return int(count or 0)


async def add(connection: AsyncConnection, offence: Offence, now: datetime) -> bool:
    """False if it is written down already."""
    row = asdict(offence) | {"digest": str(offence.digest), "kind": offence.kind.value, "reported_at": now}
    return await inserted(connection, swarm_offences, row)


async def forget(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.execute(delete(swarm_offences).where(swarm_offences.c.reported_at < before))
    return gone.rowcount


async def rows(
    connection: AsyncConnection,
    tenant_ids: Collection[str] | None,
    wanted: OffenceFilter,
    limit: int,
    offset: int,
) -> tuple[list[OffenceRow], int]:
    """Newest first, and how many there are. `tenant_ids` None: of every tenant."""
    conditions = _conditions(tenant_ids, wanted)
    accused_host, accused_regional = hosts.alias(), regionals.alias()
    host_idc, regional_idc = idcs.alias(), idcs.alias()
    name = case(
        (accused_host.c.id.is_not(None), host_idc.c.name + "/" + accused_host.c.name),
        (accused_regional.c.id.is_not(None), regional_idc.c.name + "/" + accused_regional.c.name),
        else_="",
    )
    statement = (
        select(swarm_offences, idcs.c.name.label("idc"), hosts.c.name.label("accuser"), name.label("accused_name"))
        .join(hosts, hosts.c.id == swarm_offences.c.accuser_id)
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .outerjoin(accused_host, literal("host/") + accused_host.c.id == swarm_offences.c.accused)
        .outerjoin(host_idc, host_idc.c.id == accused_host.c.idc_id)
        .outerjoin(accused_regional, literal("regional/") + accused_regional.c.id == swarm_offences.c.accused)
        .outerjoin(regional_idc, regional_idc.c.id == accused_regional.c.idc_id)
        .where(*conditions)
    )
    total = await connection.scalar(select(func.count()).select_from(statement.subquery()))
    newest = statement.order_by(swarm_offences.c.occurred_at.desc(), swarm_offences.c.id).limit(limit).offset(offset)
    found = await connection.execute(newest)
    return [OffenceRow(**row._mapping) for row in found], int(total or 0)


def _conditions(tenant_ids: Collection[str] | None, wanted: OffenceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if tenant_ids is not None:
        conditions.append(swarm_offences.c.tenant_id.in_(sorted(tenant_ids)))
    if wanted.idc is not None:
        conditions.append(idcs.c.name == wanted.idc)
    if wanted.accused is not None:
        conditions.append(or_(swarm_offences.c.accused == wanted.accused, swarm_offences.c.source == wanted.accused))
    if wanted.digest is not None:
        conditions.append(swarm_offences.c.digest == wanted.digest)
    return conditions
