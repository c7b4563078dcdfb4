"""The life of an order of power, in its caller's transaction: placed, taken by one regional, carried out, over.

Invariants: a machine has one order at most that is not over; of the regionals of an IDC one has it, and another gets it
only when that one said that it does not reach the BMC and did nothing. What a regional is told changes with a new
generation for the IDC, in the same transaction. Its machine is locked before the order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.identifiers import is_id, new_id
from control_plane.database import Database, UnitOfWork
from control_plane.fleet import store_members
from control_plane.fleet.model import Member
from control_plane.machines import store as machine_store
from control_plane.machines import store_events
from control_plane.machines.messages import MachineBooted
from control_plane.machines.model import Machine, TimelineEvent
from control_plane.machines.power import rules, store, wire
from control_plane.machines.power.model import (
    Bmc,
    Login,
    OrderState,
    PowerDeed,
    PowerOrder,
    PowerReportRefused,
    PowerState,
)
from control_plane.machines.service import targets_changed
from control_plane.sealing import SealBroken, SealedBox
from proto.regional.v1 import machines_pb2

log = structlog.get_logger()

# Longer than a regional may take for one, and its report some more.
_SILENCE = timedelta(minutes=15)
_GRACE = timedelta(minutes=1)
_MOST_EVENTS = 500
_KEPT = timedelta(days=365)


class PowerOrders:
    def __init__(self, database: Database, clock: Clock, box: SealedBox) -> None:
        self._database = database
        self._clock = clock
        self._box = box

    # ---- what people order ----

    def seal(self, machine_id: str, login: Login) -> bytes:
        body = json.dumps({"username": login.username, "password": login.password})
        return self._box.seal(body.encode(), _place(machine_id))

    def login(self, bmc: Bmc) -> Login:
        """Raises `SealBroken`."""
        said = json.loads(self._box.open(bmc.sealed, _place(bmc.machine_id)))
        return Login(said["username"], said["password"])

    async def place(
        self, unit: UnitOfWork, machine: Machine, deed: PowerDeed, by: str, begin_by: datetime, task_id: str = ""
    ) -> PowerOrder:
        """`machine` is locked and has a BMC. Raises `PowerBusy`."""
        order = PowerOrder(
            id=new_id(self._clock),
            machine_id=machine.id,
            idc_id=machine.idc_id,
            tenant_id=machine.tenant_id,
            deed=deed,
            asked_by=by,
            asked_at=unit.clock.now(),
            begin_by=begin_by,
            task_id=task_id,
        )
        await store.add_order(unit.connection, order)
        await targets_changed(unit, machine.idc_id)
        return order

    async def for_installation(
        self, unit: UnitOfWork, machine: Machine, by: str, begin_by: datetime, task_id: str
    ) -> PowerOrder | None:
        """Restart it into the network, if that can be; if not, its timeline says why. `machine` is locked."""
        why = "it has no BMC that is known here: turn it on, or restart it, by hand"
        if await store.find_bmc(unit.connection, machine.id) is not None:
            if await store.open_of(unit.connection, machine.id) is None:
                return await self.place(unit, machine, PowerDeed.NETWORK, by, begin_by, task_id)
            why = "it is not restarted: another order for its power is not over"
        await self._tell(unit, machine, why, trouble=True)
        return None

    async def withdraw_for(self, unit: UnitOfWork, task_id: str, why: str) -> None:
        """The installation is over, or has begun by itself: what was not begun is not begun any more."""
        order = await store.open_for_task(unit.connection, task_id)
        if order is not None and order.state is not OrderState.RUNNING:
            await self.end(unit, order, OrderState.CANCELLED, why)

    async def end(
        self, unit: UnitOfWork, order: PowerOrder, state: OrderState, detail: str, power: PowerState | None = None
    ) -> PowerOrder:
        after = replace(order, state=state, detail=detail, power=power or PowerState.UNKNOWN, ended_at=unit.clock.now())
        await store.put_order(unit.connection, after)
        if order.state.open:
            await targets_changed(unit, order.idc_id)
        machine = await machine_store.find(unit.connection, order.machine_id)
        if machine is not None:
            trouble = state in (OrderState.FAILED, OrderState.UNCERTAIN)
            await self._tell(unit, machine, f"{order.deed.value}: {state.value}, {detail}", trouble=trouble)
        log.info("power order over", order=order.id, machine=order.machine_id, state=state.value, detail=detail)
        return after

    # ---- what regionals are told, and say ----

    async def held(self, member: Member, machines: Mapping[str, Machine]) -> dict[str, machines_pb2.PowerOrder]:
        """By machine: what that regional shall do. It takes what nobody has."""
        async with self._database.reading() as connection:
            waiting = await store.waiting_in(connection, member.idc_id)
        mine = [order for order in waiting if member.id not in order.declined]
        if mine:
            async with self._database.transaction() as unit:
                for order in mine:
                    await store.claim(unit.connection, order.id, member.id)
        async with self._database.reading() as connection:
            found = await store.held_by(connection, member.idc_id, member.id)
        told: dict[str, machines_pb2.PowerOrder] = {}
        for order, bmc in found:
            machine = machines.get(order.machine_id)
            if machine is None:
                continue
            try:
                login = self.login(bmc)
            except SealBroken as failure:
                log.error("login of a BMC not readable", machine=order.machine_id, error=str(failure))
                continue
            uefi, http = rules.boots_by_uefi(machine), rules.boots_by_http(machine)
            told[order.machine_id] = wire.order(order, bmc, login, uefi=uefi, http=http)
        return told

    async def reported(
        self, unit: UnitOfWork, machine: Machine, regional_id: str, said: machines_pb2.PowerReport, at: datetime
    ) -> None:
        """`machine` is locked. Raises `PowerReportRefused`. What is known to be over is not changed, unless nobody knew
        how it ended.
        """
        order = await store.find_order(unit.connection, said.order_id, locked=True) if is_id(said.order_id) else None
        if order is None:
            return  # Forgotten, with its machine perhaps.
        if order.machine_id != machine.id or order.regional_id not in ("", regional_id):
            raise PowerReportRefused("the order is another machine's, or another regional's", order=said.order_id)
        if regional_id in order.declined or not (order.state.open or order.state is OrderState.UNCERTAIN):
            return
        power, detail = wire.state(said.state), wire.detail(said.detail)
        if power is not PowerState.UNKNOWN:
            await store.said_state(unit.connection, machine.id, power, at)
        state = wire.PHASES.get(said.phase)
        if said.phase == machines_pb2.POWER_PHASE_STARTED:
            if order.state.open:
                await store.put_order(unit.connection, replace(order, state=OrderState.RUNNING))
        elif said.phase == machines_pb2.POWER_PHASE_DECLINED:
            await self._declined(unit, order, regional_id, detail)
        elif state is not None:
            await self.end(unit, order, state, detail, power)

    async def _declined(self, unit: UnitOfWork, order: PowerOrder, regional_id: str, detail: str) -> None:
        declined = (*order.declined, regional_id)
        others = [one for one in await store_members.endpoints(unit.connection, order.idc_id) if one.id not in declined]
        if not others:
            await self.end(unit, replace(order, declined=declined), OrderState.FAILED, detail)
            return
        free = replace(order, declined=declined, state=OrderState.WAITING, regional_id="", detail=detail)
        await store.put_order(unit.connection, free)
        await targets_changed(unit, order.idc_id)

    # ---- time ----

    async def sweep(self) -> int:
        """End what nobody took in time, and what nothing is heard of; returns how many. For a periodic job."""
        now = self._clock.now()
        async with self._database.reading() as connection:
            ids = await store.overdue(connection, now - _GRACE, now - _SILENCE)
        ended = 0
        for order_id in ids:
            async with self._database.transaction() as unit:
                found = await store.find_order(unit.connection, order_id)
                if found is None:
                    continue
                await machine_store.find(unit.connection, found.machine_id, locked=True)
                order = await store.find_order(unit.connection, order_id, locked=True)
                if order is None or not order.state.open:
                    continue
                if order.state is OrderState.WAITING:
                    why = order.detail or "no regional of its data centre took it in time"
                    await self.end(unit, order, OrderState.FAILED, why)
                else:
                    why = "nothing more was heard of it; look what the machine does before you order again"
                    await self.end(unit, order, OrderState.UNCERTAIN, why)
                ended += 1
        return ended

    async def forget(self) -> int:
        async with self._database.transaction() as unit:
            return await store.forget_orders(unit.connection, unit.clock.now() - _KEPT)

    async def _tell(self, unit: UnitOfWork, machine: Machine, detail: str, *, trouble: bool) -> None:
        event = TimelineEvent(new_id(self._clock), unit.clock.now(), "power", detail[:1000], trouble)
        await store_events.add_event(unit.connection, machine.id, event, _MOST_EVENTS)
        await unit.announce(
            MachineBooted(
                machine.id, machine.idc, machine.tenant, machine.name, event.stage, event.detail, event.trouble
            )
        )


def _place(machine_id: str) -> str:
    return f"machine_bmcs/{machine_id}"
