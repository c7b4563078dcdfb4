"""Rows of preheats in, models out; never commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, false, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from common.limits import DailyWindow
from control_plane.database.upserts import insert_or_ignore
from control_plane.fleet.tables import hosts, idcs
from control_plane.instances.model import Phase
from control_plane.instances.places import architecture_of
from control_plane.instances.records import image_of, image_record
from control_plane.preheats.model import Candidate, Preheat, Targets, Window
from control_plane.preheats.tables import preheat_hosts, preheats
from control_plane.swarm.model import Effort
from control_plane.web.paging import Page, PageRequest


async def add(connection: AsyncConnection, preheat: Preheat) -> None:
    await connection.execute(insert(preheats).values(_row(preheat)))


async def find(connection: AsyncConnection, preheat_id: str, *, locked: bool = False) -> Preheat | None:
    question = select(preheats).where(preheats.c.id == preheat_id)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _preheat(row)


async def page(
    connection: AsyncConnection, tenants: Collection[str] | None, ended: bool, request: PageRequest
) -> Page[Preheat]:
    """Newest first. `tenants`: names of those that may be seen, None: all; `ended`: also those that are over."""
    wanted = and_(
        true() if tenants is None else preheats.c.tenant.in_(sorted(tenants)),
        true() if ended else preheats.c.ended_at.is_(None),
    )
    total = await connection.scalar(select(func.count()).select_from(preheats).where(wanted))
    rows = await connection.execute(
        select(preheats).where(wanted).order_by(preheats.c.id.desc()).limit(request.limit).offset(request.offset)
    )
    return Page([_preheat(row) for row in rows], int(total or 0), request)


async def living(connection: AsyncConnection) -> list[str]:
    return list(await connection.scalars(select(preheats.c.id).where(preheats.c.ended_at.is_(None))))


async def put_state(connection: AsyncConnection, preheat: Preheat) -> None:
    """What changes in a preheat's life."""
    await connection.execute(
        update(preheats)
        .where(preheats.c.id == preheat.id)
        .values(
            generation=preheat.generation,
            effort=preheat.effort.value,
            idc_ids=list(preheat.idc_ids),
            ended_at=preheat.ended_at,
            cancelled=preheat.cancelled,
        )
    )


async def forget_ended(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.scalars(delete(preheats).where(preheats.c.ended_at < before).returning(preheats.c.id))
    return len(list(gone))


async def candidates(connection: AsyncConnection, targets: Targets) -> list[Candidate]:
    """Hosts that are not revoked: those that are named, or those of the IDCs."""
    if targets.hosts:
        conditions = [_is(name) for name in targets.hosts]
        wanted: ColumnElement[bool] = or_(false(), *conditions)
    else:
        wanted = idcs.c.name.in_(targets.idcs) if targets.idcs else true()
    rows = await connection.execute(
        select(hosts.c.id, hosts.c.idc_id, hosts.c.facts, hosts.c.labels)
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(wanted, hosts.c.revoked_at.is_(None))
        .order_by(hosts.c.id)
    )
    return [Candidate(row.id, row.idc_id, architecture_of(row.facts), row.labels or {}) for row in rows]


async def missing_hosts(connection: AsyncConnection, names: Sequence[str]) -> list[str]:
    """Those of the names that are no host, or a revoked one."""
    rows = await connection.execute(
        select(hosts.c.id, hosts.c.name, idcs.c.name.label("idc"))
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(or_(false(), *(_is(name) for name in names)), hosts.c.revoked_at.is_(None))
    )
    known = {text for row in rows for text in (row.id, f"{row.idc}/{row.name}")}
    return [name for name in names if name not in known]


async def idc_ids(connection: AsyncConnection, names: Sequence[str]) -> dict[str, str]:
    """By name; of all IDCs if none is named."""
    wanted = idcs.c.name.in_(names) if names else true()
    rows = await connection.execute(select(idcs.c.name, idcs.c.id).where(wanted).order_by(idcs.c.id))
    return {row.name: row.id for row in rows}


async def chosen(connection: AsyncConnection, preheat_id: str) -> dict[str, str]:
    """IDC by host id."""
    rows = await connection.execute(
        select(preheat_hosts.c.host_id, preheat_hosts.c.idc_id).where(preheat_hosts.c.preheat_id == preheat_id)
    )
    return {row.host_id: row.idc_id for row in rows}


async def add_hosts(connection: AsyncConnection, preheat_id: str, added: Sequence[Candidate]) -> None:
    rows = [
        {
            "preheat_id": preheat_id,
            "host_id": one.host_id,
            "idc_id": one.idc_id,
            "architecture": one.architecture,
            "phase": Phase.PENDING.value,
            "detail": "",
        }
        for one in added
    ]
    await insert_or_ignore(connection, preheat_hosts, rows)


async def remove_hosts(connection: AsyncConnection, preheat_id: str, host_ids: Collection[str]) -> None:
    await connection.execute(
        delete(preheat_hosts).where(
            preheat_hosts.c.preheat_id == preheat_id, preheat_hosts.c.host_id.in_(sorted(host_ids))
        )
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A living preheat that chose a host. `architecture`: the host's as it was then; `idc`: the name of its IDC."""

    preheat: Preheat
    architecture: str
    idc: str


async def of_hosts(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, list[Chosen]]:
    rows = await connection.execute(
        select(preheats, preheat_hosts.c.architecture, preheat_hosts.c.host_id, idcs.c.name.label("idc_name"))
        .join(preheat_hosts, preheat_hosts.c.preheat_id == preheats.c.id)
        .join(hosts, hosts.c.id == preheat_hosts.c.host_id)
        .join(idcs, idcs.c.id == hosts.c.idc_id)
        .where(preheat_hosts.c.host_id.in_(host_ids), preheats.c.ended_at.is_(None))
        .order_by(preheats.c.id)
    )
    chosen: dict[str, list[Chosen]] = {}
    for row in rows:
        chosen.setdefault(row.host_id, []).append(Chosen(_preheat(row), row.architecture, row.idc_name))
    return chosen


async def phases_of(
    connection: AsyncConnection, host_ids: Collection[str], ids: Collection[str]
) -> dict[str, dict[str, tuple[str, str]]]:
    """By host and preheat."""
    rows = await connection.execute(
        select(
            preheat_hosts.c.host_id, preheat_hosts.c.preheat_id, preheat_hosts.c.phase, preheat_hosts.c.detail
        ).where(preheat_hosts.c.host_id.in_(host_ids), preheat_hosts.c.preheat_id.in_(ids))
    )
    found: dict[str, dict[str, tuple[str, str]]] = {host_id: {} for host_id in host_ids}
    for row in rows:
        found[row.host_id][row.preheat_id] = (row.phase, row.detail)
    return found


async def put_phases(connection: AsyncConnection, host_id: str, said: Mapping[str, tuple[str, str]]) -> None:
    for preheat_id, (phase, detail) in sorted(said.items()):
        await connection.execute(
            update(preheat_hosts)
            .where(preheat_hosts.c.host_id == host_id, preheat_hosts.c.preheat_id == preheat_id)
            .values(phase=phase, detail=detail)
        )


def _is(name: str) -> ColumnElement[bool]:
    idc, separator, host = name.partition("/")
    return and_(idcs.c.name == idc, hosts.c.name == host) if separator else hosts.c.id == name


def _row(preheat: Preheat) -> dict[str, Any]:
    targets, daily = preheat.targets, preheat.window.daily
    return {
        "id": preheat.id,
        "tenant_id": preheat.tenant_id,
        "tenant": preheat.tenant,
        "reference": preheat.reference,
        "images": {name: image_record(image) for name, image in preheat.images.items()},
        "targets": {
            "idcs": list(targets.idcs),
            "labels": dict(targets.labels),
            "percentage": targets.percentage,
            "hosts": list(targets.hosts),
            "regionals_only": targets.regionals_only,
            "architectures": list(targets.architectures),
        },
        "starts_at": preheat.window.starts_at,
        "ends_at": preheat.window.ends_at,
        "daily": None
        if daily is None
        else {"from": daily.from_minute, "until": daily.until_minute, "time_zone": daily.time_zone},
        "lower_effort": preheat.lower_effort,
        "keep_until": preheat.keep_until,
        "created_by": preheat.created_by,
        "created_at": preheat.created_at,
        "generation": preheat.generation,
        "effort": preheat.effort.value,
        "idc_ids": list(preheat.idc_ids),
        "ended_at": preheat.ended_at,
        "cancelled": preheat.cancelled,
    }


def _preheat(row: Row[Any]) -> Preheat:
    targets, daily = row.targets, row.daily
    return Preheat(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        reference=row.reference,
        images={name: image_of(record) for name, record in row.images.items()},
        targets=Targets(
            idcs=tuple(targets["idcs"]),
            labels=targets["labels"],
            percentage=targets["percentage"],
            hosts=tuple(targets["hosts"]),
            regionals_only=targets["regionals_only"],
            architectures=tuple(targets["architectures"]),
        ),
        window=Window(
            row.starts_at,
            row.ends_at,
            None if daily is None else DailyWindow(daily["from"], daily["until"], daily["time_zone"]),
        ),
        lower_effort=row.lower_effort,
        keep_until=row.keep_until,
        created_by=row.created_by,
        created_at=row.created_at,
        generation=row.generation,
        effort=Effort(row.effort),
        idc_ids=tuple(row.idc_ids),
        ended_at=row.ended_at,
        cancelled=row.cancelled,
    )
