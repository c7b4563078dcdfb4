"""Use cases of power: say where a machine's BMC is, order, hold back an order, and look what came of it.

Invariant: where passwords go is the platform's to say; who has the machine orders what is done with its power. A login
is shown to nobody, and does not go to an address for which it was not given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from common.clock import Clock
from common.identifiers import is_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.machines import sight
from control_plane.machines import store as machine_store
from control_plane.machines.model import Machine
from control_plane.machines.power import rules, store
from control_plane.machines.power.model import (
    Bmc,
    BmcInvalid,
    BmcProtocol,
    BmcUnknown,
    Login,
    OrderState,
    PowerBusy,
    PowerDeed,
    PowerOrder,
    PowerOrderOver,
    PowerOrderUnknown,
)
from control_plane.machines.power.orders import PowerOrders
from control_plane.machines.service import unknown as machine_unknown
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of
from control_plane.web.paging import Page, PageRequest

log = structlog.get_logger()

WITHIN = timedelta(minutes=10)
_SHORTEST, _LONGEST = timedelta(seconds=10), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class NewBmc:
    """`password` None: the one that is known, for the same address."""

    protocol: BmcProtocol
    address: str
    port: int | None = None
    username: str = ""
    password: str | None = field(default=None, repr=False)
    fingerprint: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True)
class Power:
    """`bmc` and its `login`'s user: for who may say where it is; `known`: there is one. `order`: it is not over."""

    known: bool
    bmc: Bmc | None
    username: str
    state: Bmc | None
    order: PowerOrder | None


class PowerService:
    def __init__(self, database: Database, clock: Clock, orders: PowerOrders, trail: AuditTrail) -> None:
        self._database = database
        self._clock = clock
        self._orders = orders
        self._trail = trail

    async def describe(self, principal: Principal, machine_id: str, wish: NewBmc) -> Power:
        """Raises `BmcInvalid`, `PowerBusy`, `MachineUnknown`, `Denied`."""
        principal.require(Permission.PLATFORM_MANAGE)
        address = rules.check_address(wish.address)
        port = rules.check_port(wish.protocol, wish.port)
        fingerprint = rules.check_fingerprint(wish.protocol, wish.fingerprint)
        system = rules.check_system(wish.protocol, wish.system)
        async with self._database.transaction() as unit:
            machine = await self._locked(unit, principal, machine_id)
            await self._require_idle(unit, machine)
            known = await store.find_bmc(unit.connection, machine.id)
            login = rules.check_login(wish.protocol, self._login(wish, known, address, port))
            bmc = Bmc(
                machine_id=machine.id,
                protocol=wish.protocol,
                address=address,
                port=port,
                fingerprint=fingerprint,
                system=system,
                updated_at=self._clock.now(),
                sealed=self._orders.seal(machine.id, login),
            )
            await store.put_bmc(unit.connection, bmc)
            self._record(unit, principal, machine, "bmc_described", protocol=wish.protocol.value, address=address)
        return Power(True, bmc, login.username, bmc, None)

    async def forget(self, principal: Principal, machine_id: str) -> None:
        """Harmless to repeat. Raises `PowerBusy`, `MachineUnknown`, `Denied`."""
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            machine = await self._locked(unit, principal, machine_id)
            await self._require_idle(unit, machine)
            if await store.find_bmc(unit.connection, machine.id) is not None:
                await store.remove_bmc(unit.connection, machine.id)
                self._record(unit, principal, machine, "bmc_forgotten")

    async def order(
        self, principal: Principal, machine_id: str, deed: PowerDeed, within: timedelta = WITHIN
    ) -> PowerOrder:
        """Raises `BmcUnknown`, `PowerBusy`, `BmcInvalid`, `MachineUnknown`, `Denied`."""
        if not _SHORTEST <= within <= _LONGEST:
            raise BmcInvalid("that is no time to begin within", action="give 10 seconds to a day")
        async with self._database.transaction() as unit:
            machine = await self._locked(unit, principal, machine_id)
            if await store.find_bmc(unit.connection, machine.id) is None:
                raise BmcUnknown(
                    f"{machine.name} has no BMC that is known here", action="`longshore machine power bmc`"
                )
            await self._require_idle(unit, machine)
            begin_by = unit.clock.now() + within
            order = await self._orders.place(unit, machine, deed, principal.name, begin_by)
            self._record(unit, principal, machine, "power_ordered", deed=deed.value, order_id=order.id)
        return order

    async def cancel(self, principal: Principal, machine_id: str, order_id: str) -> PowerOrder:
        """Before it is begun. Raises `PowerOrderUnknown`, `PowerOrderOver`, `MachineUnknown`, `Denied`."""
        async with self._database.transaction() as unit:
            machine = await self._locked(unit, principal, machine_id)
            order = await store.find_order(unit.connection, order_id, locked=True) if is_id(order_id) else None
            if order is None or not _shown(principal, machine, order):
                raise order_unknown(order_id)
            if order.state not in (OrderState.WAITING, OrderState.TAKEN):
                raise PowerOrderOver(
                    f"it is {order.state.value}", action="order the opposite, if that is what you want"
                )
            after = await self._orders.end(unit, order, OrderState.CANCELLED, f"by {principal.name}")
            self._record(unit, principal, machine, "power_cancelled", deed=order.deed.value, order_id=order.id)
        return after

    async def look(self, principal: Principal, machine_id: str) -> Power:
        """Raises `MachineUnknown`."""
        async with self._database.reading() as connection:
            found = await machine_store.find(connection, machine_id) if is_id(machine_id) else None
            machine = _visible(principal, machine_id, found)
            bmc = await store.find_bmc(connection, machine.id)
            order = await store.open_of(connection, machine.id)
        if order is not None and not _shown(principal, machine, order):
            order = None
        if bmc is None or not principal.may(Permission.PLATFORM_MANAGE):
            return Power(bmc is not None, None, "", bmc, order)
        return Power(True, bmc, self._orders.login(bmc).username, bmc, order)

    async def history(self, principal: Principal, machine_id: str, page: PageRequest) -> Page[PowerOrder]:
        """Newest first. Raises `MachineUnknown`."""
        async with self._database.reading() as connection:
            found = await machine_store.find(connection, machine_id) if is_id(machine_id) else None
            machine = _visible(principal, machine_id, found)
            tenant_id = None if principal.may(Permission.PLATFORM_MANAGE) else machine.tenant_id
            return await store.orders(connection, machine.id, tenant_id, page)

    async def one(self, principal: Principal, machine_id: str, order_id: str) -> PowerOrder:
        """Raises `PowerOrderUnknown`, `MachineUnknown`."""
        async with self._database.reading() as connection:
            found = await machine_store.find(connection, machine_id) if is_id(machine_id) else None
            machine = _visible(principal, machine_id, found)
            order = await store.find_order(connection, order_id) if is_id(order_id) else None
        if order is None or not _shown(principal, machine, order):
            raise order_unknown(order_id)
        return order

    def _login(self, wish: NewBmc, known: Bmc | None, address: str, port: int) -> Login:
        if wish.password is not None:
            return Login(wish.username, wish.password)
        if known is None or (known.protocol, known.address, known.port) != (wish.protocol, address, port):
            raise BmcInvalid("a password is needed", action="it is kept only for the address that it was given for")
        before = self._orders.login(known)
        return Login(wish.username or before.username, before.password)

    async def _locked(self, unit: UnitOfWork, principal: Principal, machine_id: str) -> Machine:
        found = await machine_store.find(unit.connection, machine_id, locked=True) if is_id(machine_id) else None
        if found is None:
            principal.require(Permission.PLATFORM_READ)
            raise machine_unknown(machine_id)
        sight.require(principal, Permission.MACHINE_WRITE, found.tenant, machine_unknown(machine_id))
        return found

    async def _require_idle(self, unit: UnitOfWork, machine: Machine) -> None:
        if await store.open_of(unit.connection, machine.id) is not None:
            raise PowerBusy(
                f"another order for the power of {machine.name} is not over",
                action="wait for it, or `longshore machine power cancel`",
            )

    def _record(self, unit: UnitOfWork, principal: Principal, machine: Machine, verb: str, **told: Any) -> None:
        details = {"idc": machine.idc, "machine_id": machine.id, **told}
        act = act_of(principal, f"machine.{verb}", tenant=machine.tenant, subject=machine.name, details=details)
        self._trail.record(unit, act)
        log.info(f"machine {verb}", machine=machine.id, name=machine.name, by=principal.name, **told)


def order_unknown(order_id: str) -> PowerOrderUnknown:
    return PowerOrderUnknown(f"there is no order {order_id[:80]!r}", action="see `longshore machine power history`")


def _visible(principal: Principal, machine_id: str, found: Machine | None) -> Machine:
    if found is None:
        principal.require(Permission.PLATFORM_READ)
        raise machine_unknown(machine_id)
    sight.require(principal, Permission.MACHINE_READ, found.tenant, machine_unknown(machine_id))
    return found


def _shown(principal: Principal, machine: Machine, order: PowerOrder) -> bool:
    """What an earlier tenant ordered is that tenant's."""
    mine = order.tenant_id == machine.tenant_id or principal.may(Permission.PLATFORM_MANAGE)
    return order.machine_id == machine.id and mine
