"""Rows of BMCs and orders in, models out; never commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.database.upserts import insert_into
from control_plane.machines.power.model import (
    Bmc,
    BmcProtocol,
    OrderState,
    PowerBusy,
    PowerDeed,
    PowerOrder,
    PowerState,
)
from control_plane.machines.power.tables import machine_bmcs, power_orders
from control_plane.web.paging import Page, PageRequest


async def put_bmc(connection: AsyncConnection, bmc: Bmc) -> None:
    values = {
        "protocol": bmc.protocol.value,
        "address": bmc.address,
        "port": bmc.port,
        "fingerprint": bmc.fingerprint,
        "system": bmc.system,
        "sealed_login": bmc.sealed,
        "updated_at": bmc.updated_at,
        "state": bmc.state.value,
        "state_at": bmc.state_at,
    }
    statement = insert_into(connection, machine_bmcs).values(machine_id=bmc.machine_id, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["machine_id"], set_=values))


async def find_bmc(connection: AsyncConnection, machine_id: str) -> Bmc | None:
    rows = await connection.execute(select(machine_bmcs).where(machine_bmcs.c.machine_id == machine_id))
    row = rows.one_or_none()
    return None if row is None else _bmc(row)


async def remove_bmc(connection: AsyncConnection, machine_id: str) -> None:
    await connection.execute(delete(machine_bmcs).where(machine_bmcs.c.machine_id == machine_id))


async def said_state(connection: AsyncConnection, machine_id: str, state: PowerState, at: datetime) -> None:
    await connection.execute(
        update(machine_bmcs).where(machine_bmcs.c.machine_id == machine_id).values(state=state.value, state_at=at)
    )


async def add_order(connection: AsyncConnection, order: PowerOrder) -> None:
    """Raises `PowerBusy`."""
    try:
        await connection.execute(insert(power_orders).values(id=order.id, **_row(order)))
    except IntegrityError:
        raise PowerBusy(
            "another order for this machine's power is not over",
            action="wait for it, or `longshore machine power cancel`",
        ) from None


async def put_order(connection: AsyncConnection, order: PowerOrder) -> None:
    await connection.execute(update(power_orders).where(power_orders.c.id == order.id).values(_row(order)))


async def find_order(connection: AsyncConnection, order_id: str, *, locked: bool = False) -> PowerOrder | None:
    return await _one(connection, power_orders.c.id == order_id, locked=locked)


async def open_of(connection: AsyncConnection, machine_id: str, *, locked: bool = False) -> PowerOrder | None:
    return await _one(
        connection, and_(power_orders.c.machine_id == machine_id, power_orders.c.open == 1), locked=locked
    )


async def open_for_task(connection: AsyncConnection, task_id: str) -> PowerOrder | None:
    return await _one(connection, and_(power_orders.c.task_id == task_id, power_orders.c.open == 1), locked=True)


async def waiting_in(connection: AsyncConnection, idc_id: str) -> list[PowerOrder]:
    waiting = power_orders.c.state == OrderState.WAITING.value
    return await _all(connection, and_(power_orders.c.idc_id == idc_id, power_orders.c.open == 1, waiting))


async def claim(connection: AsyncConnection, order_id: str, regional_id: str) -> None:
    """Nothing if another has it by now."""
    waiting = and_(power_orders.c.id == order_id, power_orders.c.state == OrderState.WAITING.value)
    values = {"state": OrderState.TAKEN.value, "regional_id": regional_id}
    await connection.execute(update(power_orders).where(waiting).values(values))


async def held_by(connection: AsyncConnection, idc_id: str, regional_id: str) -> list[tuple[PowerOrder, Bmc]]:
    """Open orders of that regional, with where they go."""
    found = await _all(
        connection,
        and_(power_orders.c.idc_id == idc_id, power_orders.c.open == 1, power_orders.c.regional_id == regional_id),
    )
    if not found:
        return []
    rows = await connection.execute(
        select(machine_bmcs).where(machine_bmcs.c.machine_id.in_([order.machine_id for order in found]))
    )
    bmcs = {row.machine_id: _bmc(row) for row in rows}
    return [(order, bmcs[order.machine_id]) for order in found if order.machine_id in bmcs]


async def overdue(connection: AsyncConnection, waiting: datetime, taken: datetime) -> list[str]:
    """Ids of those that wait since before `waiting`, or were taken and should have begun before `taken`."""
    is_waiting = power_orders.c.state == OrderState.WAITING.value
    late = or_(and_(is_waiting, power_orders.c.begin_by < waiting), power_orders.c.begin_by < taken)
    return list(await connection.scalars(select(power_orders.c.id).where(power_orders.c.open == 1, late)))


async def forget_orders(connection: AsyncConnection, before: datetime) -> int:
    gone = await connection.scalars(
        delete(power_orders).where(power_orders.c.ended_at < before).returning(power_orders.c.id)
    )
    return len(list(gone))


async def orders(
    connection: AsyncConnection, machine_id: str, tenant_id: str | None, request: PageRequest
) -> Page[PowerOrder]:
    """Newest first. `tenant_id`: only what was ordered while the machine was that tenant's."""
    of_tenant = true() if tenant_id is None else power_orders.c.tenant_id == tenant_id
    wanted = and_(power_orders.c.machine_id == machine_id, of_tenant)
    total = await connection.scalar(select(func.count()).select_from(power_orders).where(wanted))
    rows = await connection.execute(
        select(power_orders)
        .where(wanted)
        .order_by(power_orders.c.asked_at.desc(), power_orders.c.id.desc())
        .limit(request.limit)
        .offset(request.offset)
    )
    return Page([_order(row) for row in rows], int(total or 0), request)


async def _one(connection: AsyncConnection, wanted: ColumnElement[bool], *, locked: bool) -> PowerOrder | None:
    question = select(power_orders).where(wanted)
    rows = await connection.execute(question.with_for_update() if locked else question)
    row = rows.one_or_none()
    return None if row is None else _order(row)


async def _all(connection: AsyncConnection, wanted: ColumnElement[bool]) -> list[PowerOrder]:
    rows: Sequence[Row[Any]] = (await connection.execute(select(power_orders).where(wanted))).all()
    return [_order(row) for row in rows]


def _row(order: PowerOrder) -> dict[str, Any]:
    return {
        "machine_id": order.machine_id,
        "idc_id": order.idc_id,
        "tenant_id": order.tenant_id,
        "deed": order.deed.value,
        "state": order.state.value,
        "open": 1 if order.state.open else None,
        "asked_by": order.asked_by,
        "asked_at": order.asked_at,
        "begin_by": order.begin_by,
        "regional_id": order.regional_id,
        "declined": list(order.declined),
        "power": order.power.value,
        "detail": order.detail,
        "task_id": order.task_id,
        "ended_at": order.ended_at,
    }


def _order(row: Row[Any]) -> PowerOrder:
    return PowerOrder(
        id=row.id,
        machine_id=row.machine_id,
        idc_id=row.idc_id,
        tenant_id=row.tenant_id,
        deed=PowerDeed(row.deed),
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        begin_by=row.begin_by,
        state=OrderState(row.state),
        regional_id=row.regional_id,
        declined=tuple(row.declined),
        power=PowerState(row.power),
        detail=row.detail,
        task_id=row.task_id,
        ended_at=row.ended_at,
    )


def _bmc(row: Row[Any]) -> Bmc:
    return Bmc(
        machine_id=row.machine_id,
        protocol=BmcProtocol(row.protocol),
        address=row.address,
        port=row.port,
        fingerprint=row.fingerprint,
        system=row.system,
        updated_at=row.updated_at,
        sealed=row.sealed_login,
        state=PowerState(row.state),
        state_at=row.state_at,
    )
