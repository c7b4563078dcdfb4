"""Rows of machines in, models out; never commits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, and_, delete, exists, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_or_ignore
from control_plane.fleet.tables import idcs
from control_plane.machines.model import Machine, MachineExists, MachineState
from control_plane.machines.records import (
    boot_of,
    boot_record,
    inventory_of,
    inventory_record,
    network_of,
    network_record,
)
from control_plane.machines.tables import machine_macs, machines
from control_plane.web.paging import Page, PageRequest


@dataclass(frozen=True, slots=True)
class Filter:
    """`tenants`: names of those whose machines may be seen ("" is the platform's), None: all. `text`: part of a name,
    serial number or MAC address.
    """

    tenants: frozenset[str] | None = None
    idc: str | None = None
    state: MachineState | None = None
    tag: str | None = None
    text: str | None = None


async def add(connection: AsyncConnection, machine: Machine) -> None:
    """Raises `MachineExists`."""
    try:
        await connection.execute(insert(machines).values(id=machine.id, created_at=machine.created_at, **_row(machine)))
        await _put_macs(connection, machine)
    except IntegrityError:
        raise _exists(machine) from None


async def put(connection: AsyncConnection, machine: Machine) -> None:
    """Raises `MachineExists`."""
    try:
        await connection.execute(update(machines).where(machines.c.id == machine.id).values(_row(machine)))
        await connection.execute(
            delete(machine_macs).where(machine_macs.c.machine_id == machine.id, machine_macs.c.mac.not_in(machine.macs))
        )
        await _put_macs(connection, machine)
    except IntegrityError:
        raise _exists(machine) from None


async def _put_macs(connection: AsyncConnection, machine: Machine) -> None:
    rows = [{"idc_id": machine.idc_id, "mac": mac, "machine_id": machine.id} for mac in machine.macs]
    await insert_or_ignore(connection, machine_macs, rows)
    mine = await connection.scalar(
        select(func.count()).select_from(machine_macs).where(machine_macs.c.machine_id == machine.id)
    )
    if mine != len(machine.macs):
        raise _exists(machine)


async def saw(connection: AsyncConnection, machine_id: str, at: datetime, address: str, architecture: str) -> None:
    """What changes with every sighting; empty texts leave what was known."""
    values: dict[str, Any] = {"seen_at": at}
    if address:
        values["address"] = address
    if architecture:
        values["architecture"] = architecture
    await connection.execute(update(machines).where(machines.c.id == machine_id).values(values))


async def remove(connection: AsyncConnection, machine_id: str) -> None:
    await connection.execute(delete(machines).where(machines.c.id == machine_id))


async def find(connection: AsyncConnection, machine_id: str, *, locked: bool = False) -> Machine | None:
    return await _one(connection, machines.c.id == machine_id, locked=locked)


async def find_by_name(connection: AsyncConnection, idc: str, name: str) -> Machine | None:
    return await _one(connection, and_(idcs.c.name == idc, machines.c.name == name))


async def find_by_mac(
    connection: AsyncConnection, idc_id: str, macs: Sequence[str], *, locked: bool = False
) -> Machine | None:
    """The one that has any of them; if several have, that of the first."""
    rows = await connection.execute(
        select(machine_macs.c.mac, machine_macs.c.machine_id).where(
            machine_macs.c.idc_id == idc_id, machine_macs.c.mac.in_(macs)
        )
    )
    owners = {row.mac: row.machine_id for row in rows}
    for mac in macs:
        if mac in owners:
            return await find(connection, owners[mac], locked=locked)
    return None


async def find_by_serial(
    connection: AsyncConnection, idc_id: str, serial: str, *, locked: bool = False
) -> Machine | None:
    return await _one(connection, and_(machines.c.idc_id == idc_id, machines.c.serial == serial), locked=locked)


async def count_pending(connection: AsyncConnection, idc_id: str) -> int:
    question = (
        select(func.count())
        .select_from(machines)
        .where(machines.c.idc_id == idc_id, machines.c.state == MachineState.PENDING.value)
    )
    return int(await connection.scalar(question) or 0)


async def forget_pending(connection: AsyncConnection, before: datetime) -> int:
    """Those that nobody accepted and that were not seen since."""
    gone = await connection.scalars(
        delete(machines)
        .where(machines.c.state == MachineState.PENDING.value, machines.c.seen_at < before)
        .returning(machines.c.id)
    )
    return len(list(gone))


async def of_idc(connection: AsyncConnection, idc_id: str) -> list[Machine]:
    """All but those that are ignored."""
    return await _many(
        connection, and_(machines.c.idc_id == idc_id, machines.c.state != MachineState.IGNORED.value), None
    )


async def page(connection: AsyncConnection, chosen: Filter, request: PageRequest) -> Page[Machine]:
    """By IDC and name."""
    wanted = _wanted(chosen)
    total = await connection.scalar(
        select(func.count()).select_from(machines.join(idcs, idcs.c.id == machines.c.idc_id)).where(wanted)
    )
    return Page(await _many(connection, wanted, request), int(total or 0), request)


async def of_tenant(connection: AsyncConnection, tenant_id: str) -> int:
    """How many are assigned to it."""
    question = select(func.count()).select_from(machines).where(machines.c.tenant_id == tenant_id)
    return int(await connection.scalar(question) or 0)


async def counts(connection: AsyncConnection, tenants: frozenset[str] | None) -> dict[tuple[str, str], int]:
    """How many machines by (IDC, state)."""
    rows = await connection.execute(
        select(idcs.c.name, machines.c.state, func.count().label("machines"))
        .join(idcs, idcs.c.id == machines.c.idc_id)
        .where(_seen_by(tenants))
        .group_by(idcs.c.name, machines.c.state)
    )
    return {(row.name, row.state): row.machines for row in rows}


def _seen_by(tenants: Collection[str] | None) -> ColumnElement[bool]:
    return true() if tenants is None else machines.c.tenant.in_(sorted(tenants))


def _wanted(chosen: Filter) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [_seen_by(chosen.tenants)]
    if chosen.idc is not None:
        conditions.append(idcs.c.name == chosen.idc)
    if chosen.state is not None:
        conditions.append(machines.c.state == chosen.state.value)
    if chosen.tag is not None:
        # Tags hold no quotes (`rules`), so one that is quoted is found whole, in both engines' spelling of the list.
        conditions.append(machines.c.tags.cast(Text).contains(f'"{chosen.tag}"', autoescape=True))
    if chosen.text:
        of_mac = exists().where(
            machine_macs.c.machine_id == machines.c.id,
            machine_macs.c.mac.contains(chosen.text.lower(), autoescape=True),
        )
        conditions.append(
            or_(
                machines.c.name.contains(chosen.text, autoescape=True),
                machines.c.serial.contains(chosen.text, autoescape=True),
                of_mac,
            )
        )
    return and_(*conditions)


async def _one(connection: AsyncConnection, wanted: ColumnElement[bool], *, locked: bool = False) -> Machine | None:
    question = select(machines, idcs.c.name.label("idc")).join(idcs, idcs.c.id == machines.c.idc_id).where(wanted)
    if locked:
        question = question.with_for_update(of=machines)
    row = (await connection.execute(question)).one_or_none()
    return None if row is None else (await _with_macs(connection, [row]))[0]


async def _many(connection: AsyncConnection, wanted: ColumnElement[bool], request: PageRequest | None) -> list[Machine]:
    question = (
        select(machines, idcs.c.name.label("idc"))
        .join(idcs, idcs.c.id == machines.c.idc_id)
        .where(wanted)
        .order_by(idcs.c.name, machines.c.name)
    )
    if request is not None:
        question = question.limit(request.limit).offset(request.offset)
    return await _with_macs(connection, list(await connection.execute(question)), wanted if request is None else None)


async def _with_macs(
    connection: AsyncConnection, rows: Sequence[Row[Any]], wanted: ColumnElement[bool] | None = None
) -> list[Machine]:
    """`wanted` chooses the same machines, where they may be more than a statement can name."""
    if not rows:
        return []
    question = select(machine_macs.c.machine_id, machine_macs.c.mac).order_by(machine_macs.c.mac)
    if wanted is None:
        question = question.where(machine_macs.c.machine_id.in_([row.id for row in rows]))
    else:
        question = question.join(machines, machines.c.id == machine_macs.c.machine_id).where(wanted)
    macs: dict[str, list[str]] = {}
    for found in await connection.execute(question):
        macs.setdefault(found.machine_id, []).append(found.mac)
    return [_machine(row, tuple(macs.get(row.id, ()))) for row in rows]


def _row(machine: Machine) -> Mapping[str, Any]:
    return {
        "idc_id": machine.idc_id,
        "name": machine.name,
        "state": machine.state.value,
        "tenant_id": machine.tenant_id,
        "tenant": machine.tenant,
        "serial": machine.serial or None,
        "uuid": machine.uuid,
        "tags": list(machine.tags),
        "notes": machine.notes,
        "boot": boot_record(machine.boot),
        "network": network_record(machine.network),
        "variables": dict(machine.variables),
        "address": machine.address,
        "architecture": machine.architecture,
        "inventory": inventory_record(machine.inventory),
        "inventory_at": machine.inventory_at,
        "seen_at": machine.seen_at,
        "installed": machine.installed,
        "installed_at": machine.installed_at,
    }


def _machine(row: Row[Any], macs: tuple[str, ...]) -> Machine:
    return Machine(
        id=row.id,
        idc_id=row.idc_id,
        idc=row.idc,
        name=row.name,
        state=MachineState(row.state),
        macs=macs,
        created_at=row.created_at,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        serial=row.serial or "",
        uuid=row.uuid,
        tags=tuple(row.tags),
        notes=row.notes,
        boot=boot_of(row.boot),
        network=network_of(row.network),
        variables=row.variables,
        address=row.address,
        architecture=row.architecture,
        inventory=inventory_of(row.inventory),
        inventory_at=row.inventory_at,
        seen_at=row.seen_at,
        installed=row.installed,
        installed_at=row.installed_at,
    )


def _exists(machine: Machine) -> MachineExists:
    return MachineExists(
        f"the name {machine.name}, the serial number or a MAC address belongs to another machine of {machine.idc}",
        action="see `longshore machine list --find MAC`; remove the other one first, or change this one",
    )
