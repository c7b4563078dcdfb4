"""Rows of deployments in, models out; never commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.locks import hold_rows
from control_plane.database.upserts import insert_or_replace, inserted
from control_plane.deployments.model import Deployment, Slot
from control_plane.deployments.records import (
    images_of,
    images_record,
    rollout_of,
    rollout_record,
    rules_of,
    rules_record,
    why_of,
    why_record,
)
from control_plane.deployments.tables import deployment_slots, deployments
from control_plane.fleet import store_members
from control_plane.fleet.placement.model import Standing
from control_plane.fleet.placement.tables import host_standings
from control_plane.fleet.tables import hosts
from control_plane.instances.model import DesiredState, Instance, Status
from control_plane.instances.records import spec_of, spec_record
from control_plane.instances.store import STATUS_COLUMNS, instance_of, status_of
from control_plane.instances.tables import instance_statuses, instances
from control_plane.web.paging import Page, PageRequest

_SOON = timedelta(seconds=1)
_MOST_HASTENED = 300  # ten a second, for as long as those that wait are left alone else


async def add(connection: AsyncConnection, deployment: Deployment) -> bool:
    """False if the tenant has one of that name."""
    return await inserted(connection, deployments, _row(deployment), unless=("tenant_id", "name"))


async def find(connection: AsyncConnection, deployment_id: str, *, locked: bool = False) -> Deployment | None:
    question = select(deployments).where(deployments.c.id == deployment_id)
    row = (await connection.execute(question.with_for_update() if locked else question)).one_or_none()
    return None if row is None else _deployment(row)


async def find_by_name(connection: AsyncConnection, tenant: str, name: str) -> Deployment | None:
    question = select(deployments).where(deployments.c.tenant == tenant, deployments.c.name == name)
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else _deployment(row)


async def page(connection: AsyncConnection, tenants: Collection[str] | None, request: PageRequest) -> Page[Deployment]:
    """By tenant and name. `tenants`: names of those that may be seen; None: every tenant."""
    wanted = true() if tenants is None else deployments.c.tenant.in_(sorted(tenants))
    total = await connection.scalar(select(func.count()).select_from(deployments).where(wanted))
    rows = await connection.execute(
        select(deployments)
        .where(wanted)
        .order_by(deployments.c.tenant, deployments.c.name)
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_deployment(row) for row in rows], int(total or 0), request)


async def put(connection: AsyncConnection, deployment: Deployment) -> None:
    """What changes in a deployment's life."""
    await connection.execute(
        update(deployments)
        .where(deployments.c.id == deployment.id)
        .values(
            reference=deployment.reference,
            images=images_record(deployment.images),
            spec=spec_record(deployment.spec),
            revision=deployment.revision,
            rollout=rollout_record(deployment.rollout),
            rules=rules_record(deployment.rules),
            updated_at=deployment.updated_at,
            removing=deployment.removing,
            look_at=deployment.look_at,
            unplaced=deployment.unplaced,
            why=why_record(deployment.why),
        )
    )


async def remove(connection: AsyncConnection, deployment_id: str) -> None:
    await connection.execute(delete(deployment_slots).where(deployment_slots.c.deployment_id == deployment_id))
    await connection.execute(delete(deployments).where(deployments.c.id == deployment_id))


async def due(connection: AsyncConnection, now: datetime, most: int) -> list[str]:
    """Those whose time has come, and those that rest while a host of theirs is drained or revoked, or an instance of
    theirs is gone.
    """
    rows = await connection.execute(
        select(deployments.c.id).where(deployments.c.look_at <= now).order_by(deployments.c.look_at).limit(most)
    )
    found = [row.id for row in rows]
    slots = deployment_slots
    disturbed = await connection.execute(
        select(slots.c.deployment_id)
        .join(deployments, deployments.c.id == slots.c.deployment_id)
        .outerjoin(hosts, hosts.c.id == slots.c.host_id)
        .outerjoin(instances, instances.c.id == slots.c.instance_id)
        .outerjoin(host_standings, host_standings.c.host_id == slots.c.host_id)
        .where(
            deployments.c.look_at.is_(None),
            or_(
                hosts.c.id.is_(None),
                hosts.c.revoked_at.is_not(None),
                instances.c.id.is_(None),
                host_standings.c.standing == Standing.DRAINING.value,
            ),
        )
        .distinct()
        .limit(most)
    )
    return list(dict.fromkeys([*found, *(row.deployment_id for row in disturbed)]))


async def hasten_waiting(connection: AsyncConnection, now: datetime) -> int:
    """Those that miss a place, and those that want an instance on every host, are due now: how many were not."""
    waits = or_(deployments.c.unplaced > 0, deployments.c.rules["count"].as_integer().is_(None))
    return await _hasten(connection, waits, now)


async def hasten_of_hosts(connection: AsyncConnection, host_ids: Collection[str], now: datetime) -> int:
    """Those that have something on the hosts are due now: how many were not. Who rests is found by `due`."""
    slots = deployment_slots
    return await _hasten(
        connection,
        deployments.c.id.in_(select(slots.c.deployment_id).where(slots.c.host_id.in_(sorted(host_ids)))),
        now,
    )


async def _hasten(connection: AsyncConnection, chosen: ColumnElement[bool], now: datetime) -> int:
    """The first so many. What moves is looked at each second anyway, and its row is often held. Held in order, as
    everywhere.
    """
    later = select(deployments.c.id).where(deployments.c.look_at > now + _SOON, chosen)
    rows = await connection.scalars(later.order_by(deployments.c.look_at).limit(_MOST_HASTENED))
    ids = [row.id for row in await hold_rows(connection, deployments, [(one,) for one in rows])]
    if ids:
        await connection.execute(update(deployments).where(deployments.c.id.in_(ids)).values(look_at=now))
    return len(ids)


async def slots_of(connection: AsyncConnection, deployment_ids: Collection[str]) -> dict[str, dict[int, Slot]]:
    rows = await connection.execute(
        select(deployment_slots)
        .where(deployment_slots.c.deployment_id.in_(deployment_ids))
        .order_by(deployment_slots.c.deployment_id, deployment_slots.c.number)
    )
    found: dict[str, dict[int, Slot]] = defaultdict(dict)
    for row in rows:
        found[row.deployment_id][row.number] = _slot(row)
    return found


async def put_slots(
    connection: AsyncConnection, deployment_id: str, before: Mapping[int, Slot], after: Mapping[int, Slot]
) -> None:
    gone = before.keys() - after.keys()
    if gone:
        await connection.execute(
            delete(deployment_slots).where(
                deployment_slots.c.deployment_id == deployment_id, deployment_slots.c.number.in_(gone)
            )
        )
    rows = [
        {
            "deployment_id": deployment_id,
            "number": number,
            "instance_id": slot.instance_id,
            "host_id": slot.host_id,
            "successor_id": slot.successor_id,
            "successor_host_id": slot.successor_host_id,
            "revision": slot.revision,
            "told_at": slot.told_at,
        }
        for number, slot in sorted(after.items())
        if before.get(number) != slot
    ]
    await insert_or_replace(connection, deployment_slots, rows)


async def instances_of(
    connection: AsyncConnection, slots: Collection[Slot], *, locked: bool = False
) -> dict[str, tuple[Instance, Status]]:
    """Those that the slots name and that still exist, by id, with what was said of them last."""
    ids = {one for slot in slots for one in (slot.instance_id, slot.successor_id) if one}
    if not ids:
        return {}
    question = (
        select(instances, *STATUS_COLUMNS)
        .outerjoin(instance_statuses, instance_statuses.c.instance_id == instances.c.id)
        .where(instances.c.id.in_(ids))
        .order_by(instances.c.id)
    )
    # PostgreSQL locks no rows on the outer side of a join.
    rows = await connection.execute(question.with_for_update(of=instances) if locked else question)
    return {row.id: (instance_of(row), status_of(row)) for row in rows}


async def names_by_host(connection: AsyncConnection, tenant_id: str) -> dict[str, set[str]]:
    """Names of the tenant's deployments that have an instance on each host."""
    rows = await connection.execute(
        select(deployment_slots.c.host_id, deployment_slots.c.successor_host_id, deployments.c.name)
        .join(deployments, deployments.c.id == deployment_slots.c.deployment_id)
        .where(deployments.c.tenant_id == tenant_id)
    )
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for host_id in filter(None, (row.host_id, row.successor_host_id)):
            found[host_id].add(row.name)
    return found


async def host_labels(connection: AsyncConnection, slots: Collection[Slot]) -> dict[str, str]:
    """`idc/name` by id, of the hosts that the slots name."""
    ids = {host_id for slot in slots for host_id in (slot.host_id, slot.successor_host_id) if host_id}
    return {host.id: f"{host.idc}/{host.name}" for host in await store_members.hosts_by_id(connection, ids)}


async def on_host(
    connection: AsyncConnection, host_id: str
) -> list[tuple[Instance, Status, Deployment | None, Slot | None]]:
    """Every instance there, with the deployment that it belongs to and the slot that it is the present one of."""
    rows = (
        await connection.execute(
            select(instances, *STATUS_COLUMNS)
            .outerjoin(instance_statuses, instance_statuses.c.instance_id == instances.c.id)
            .where(instances.c.host_id == host_id)
            .order_by(instances.c.tenant, instances.c.name, instances.c.id)
        )
    ).all()
    slots = await connection.execute(
        select(deployment_slots).where(
            or_(deployment_slots.c.host_id == host_id, deployment_slots.c.successor_host_id == host_id)
        )
    )
    mine = {one: row for row in slots for one in (row.instance_id, row.successor_id) if one}
    wanted = {row.deployment_id for row in mine.values()}
    found = await connection.execute(select(deployments).where(deployments.c.id.in_(wanted)))
    owners = {row.id: _deployment(row) for row in found}
    return [
        (
            instance_of(row),
            status_of(row),
            owners.get(mine[row.id].deployment_id) if row.id in mine else None,
            _slot(mine[row.id]) if row.id in mine else None,
        )
        for row in rows
    ]


def _row(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.id,
        "tenant_id": deployment.tenant_id,
        "tenant": deployment.tenant,
        "name": deployment.name,
        "reference": deployment.reference,
        "images": images_record(deployment.images),
        "spec": spec_record(deployment.spec),
        "rules": rules_record(deployment.rules),
        "desired_state": deployment.desired_state.value,
        "reschedule_after_seconds": deployment.reschedule_after_seconds,
        "state_may_be_lost": deployment.state_may_be_lost,
        "exclusive": deployment.exclusive,
        "created_by": deployment.created_by,
        "created_at": deployment.created_at,
        "updated_at": deployment.updated_at,
        "removing": deployment.removing,
        "look_at": deployment.look_at,
        "unplaced": deployment.unplaced,
        "why": why_record(deployment.why),
        "revision": deployment.revision,
        "rollout": rollout_record(deployment.rollout),
    }


def _deployment(row: Row[Any]) -> Deployment:
    return Deployment(
        id=row.id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        name=row.name,
        reference=row.reference,
        images=images_of(row.images),
        spec=spec_of(row.spec),
        rules=rules_of(row.rules),
        desired_state=DesiredState(row.desired_state),
        reschedule_after_seconds=row.reschedule_after_seconds,
        state_may_be_lost=row.state_may_be_lost,
        exclusive=row.exclusive,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        removing=row.removing,
        look_at=row.look_at,
        unplaced=row.unplaced,
        why=why_of(row.why),
        revision=row.revision,
        rollout=rollout_of(row.rollout),
    )


def _slot(row: Row[Any]) -> Slot:
    moving = row.successor_id, row.successor_host_id
    return Slot(row.number, row.instance_id, row.host_id, *moving, row.revision, row.told_at)
