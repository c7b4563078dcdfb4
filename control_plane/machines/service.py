"""Use cases of machines: write one down before it was seen, accept, describe, assign and remove it.

Invariant: what a regional is told of a machine changes in the transaction that changes the machine, with a new
generation for the IDC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from common.clock import Clock
from common.errors import NotFound
from common.identifiers import is_id, new_id
from control_plane.audit.service import AuditTrail
from control_plane.database import Database, UnitOfWork
from control_plane.fleet import store as fleet_store
from control_plane.fleet import store_idcs
from control_plane.fleet.messages import OrdersChanged
from control_plane.fleet.model import IdcUnknown
from control_plane.machines import rules, sight, store, store_tasks
from control_plane.machines.answers.model import Network
from control_plane.machines.messages import MachineChanged
from control_plane.machines.model import (
    BootSettings,
    Machine,
    MachineBusy,
    MachineInvalid,
    MachineState,
    MachineUnknown,
)
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal
from control_plane.tenants.acting import act_of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NewMachine:
    idc: str
    macs: Sequence[str]
    name: str = ""
    serial: str = ""
    tenant: str = ""
    tags: Sequence[str] = ()
    notes: str = ""
    boot: BootSettings = field(default_factory=BootSettings)
    network: Network | None = None
    variables: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What shall be different; None leaves it. `network`: one without interfaces takes it away."""

    name: str | None = None
    serial: str | None = None
    macs: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    notes: str | None = None
    boot: BootSettings | None = None
    network: Network | None = None
    variables: Mapping[str, str] | None = None


class MachineService:
    def __init__(self, database: Database, clock: Clock, tenants: TenantDirectory, trail: AuditTrail) -> None:
        self._database = database
        self._clock = clock
        self._tenants = tenants
        self._trail = trail

    async def create(self, principal: Principal, wish: NewMachine) -> Machine:
        """Write down a machine that nobody saw yet; it is accepted. Raises `MachineInvalid`, `MachineExists`,
        `IdcUnknown`, `NotFound` for the tenant, `Denied`.
        """
        principal.require(Permission.PLATFORM_MANAGE)
        macs = rules.macs_of(wish.macs)
        tenant_id = await self._tenant_id(wish.tenant)
        async with self._database.transaction() as unit:
            idc = await store_idcs.find_idc(unit.connection, wish.idc)
            if idc is None:
                raise IdcUnknown(f"there is no IDC {wish.idc[:80]!r}", action="see `longshore idc list`")
            machine = Machine(
                id=new_id(self._clock),
                idc_id=idc.id,
                idc=idc.name,
                name=rules.check_name(wish.name or rules.name_for(macs[0])),
                state=MachineState.READY,
                macs=macs,
                created_at=self._clock.now(),
                tenant_id=tenant_id,
                tenant=wish.tenant,
                serial=rules.given_serial(wish.serial),
                tags=rules.tags_of(wish.tags),
                notes=rules.check_notes(wish.notes),
                boot=rules.check_boot(wish.boot),
                network=rules.check_network(wish.network),
                variables=rules.check_variables(wish.variables or {}),
            )
            await store.add(unit.connection, machine)
            await self._changed(unit, principal, machine, "created")
        return machine

    async def accept(self, principal: Principal, machine_id: str) -> Machine:
        """It is ours: something may be installed on it. Harmless to repeat. Raises `MachineUnknown`, `Denied`."""
        return await self._stand(principal, machine_id, MachineState.READY, "accepted")

    async def ignore(self, principal: Principal, machine_id: str) -> Machine:
        """It is none of ours: it boots as a stranger from now on. Raises `MachineUnknown`, `MachineBusy`, `Denied`."""
        return await self._stand(principal, machine_id, MachineState.IGNORED, "ignored")

    async def describe(self, principal: Principal, machine_id: str, wish: Description) -> Machine:
        """Raises `MachineUnknown`, `MachineInvalid`, `MachineExists`, `MachineBusy` for what an installation that goes
        on stands on, `Denied`.
        """
        async with self._database.transaction() as unit:
            known = await self._locked(unit, principal, machine_id, Permission.MACHINE_WRITE)
            if (wish.serial, wish.macs) != (None, None):
                principal.require(Permission.PLATFORM_MANAGE)
                await self._require_idle(unit, known)
            after = _described(known, wish)
            if after != known:
                await store.put(unit.connection, after)
                await self._changed(unit, principal, after, "described")
        return after

    async def assign(self, principal: Principal, machine_id: str, tenant: str) -> Machine:
        """`tenant` "": back to the platform. Raises `MachineUnknown`, `MachineBusy`, `NotFound`, `Denied`."""
        principal.require(Permission.PLATFORM_MANAGE)
        tenant_id = await self._tenant_id(tenant)
        async with self._database.transaction() as unit:
            known = await self._locked(unit, principal, machine_id, Permission.MACHINE_WRITE)
            await self._require_idle(unit, known)
            after = replace(known, tenant_id=tenant_id, tenant=tenant)
            if after != known:
                await store.put(unit.connection, after)
                await self._changed(unit, principal, after, "assigned", before=known.tenant)
        return after

    async def remove(self, principal: Principal, machine_id: str) -> None:
        """With its history; when it is seen again it is a new one. Raises `MachineUnknown`, `MachineBusy`, `Denied`."""
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            known = await self._locked(unit, principal, machine_id, Permission.MACHINE_WRITE)
            await self._require_idle(unit, known)
            await store.remove(unit.connection, known.id)
            await self._changed(unit, principal, known, "removed")

    async def _stand(self, principal: Principal, machine_id: str, state: MachineState, verb: str) -> Machine:
        principal.require(Permission.PLATFORM_MANAGE)
        async with self._database.transaction() as unit:
            known = await self._locked(unit, principal, machine_id, Permission.MACHINE_WRITE)
            if state is MachineState.IGNORED:
                await self._require_idle(unit, known)
            after = replace(known, state=state)
            if after != known:
                await store.put(unit.connection, after)
                await self._changed(unit, principal, after, verb)
        return after

    async def _locked(self, unit: UnitOfWork, principal: Principal, machine_id: str, permission: Permission) -> Machine:
        found = await store.find(unit.connection, machine_id, locked=True) if is_id(machine_id) else None
        if found is None:
            principal.require(Permission.PLATFORM_READ)
            raise unknown(machine_id)
        sight.require(principal, permission, found.tenant, unknown(machine_id))
        return found

    async def _require_idle(self, unit: UnitOfWork, machine: Machine) -> None:
        if await store_tasks.open_of(unit.connection, machine.id) or await store_tasks.machine_is_armed(
            unit.connection, machine.id
        ):
            raise MachineBusy(
                f"an install task of {machine.name} is not over", action="wait for it, or `longshore install cancel`"
            )

    async def _tenant_id(self, tenant: str) -> str:
        if not tenant:
            return ""
        found = (await self._tenants.ids_of([tenant])).get(tenant)
        if found is None:
            raise NotFound(f"there is no tenant {tenant[:80]!r}", action="check `longshore tenant list`")
        return found

    async def _changed(self, unit: UnitOfWork, principal: Principal, machine: Machine, verb: str, **told: Any) -> None:
        await targets_changed(unit, machine.idc_id)
        await unit.announce(announced(machine, verb))
        details = {"idc": machine.idc, "machine_id": machine.id, **told}
        self._trail.record(
            unit,
            act_of(principal, f"machine.{verb}", tenant=machine.tenant, subject=machine.name, details=details),
        )
        log.info(f"machine {verb}", machine=machine.id, name=machine.name, idc=machine.idc, by=principal.name)


def _described(known: Machine, wish: Description) -> Machine:
    changes: dict[str, Any] = {}
    if wish.name is not None:
        changes["name"] = rules.check_name(wish.name)
    if wish.serial is not None:
        changes["serial"] = rules.given_serial(wish.serial)
    if wish.macs is not None:
        changes["macs"] = tuple(sorted(rules.macs_of(wish.macs)))
    if wish.tags is not None:
        changes["tags"] = rules.tags_of(wish.tags)
    if wish.notes is not None:
        changes["notes"] = rules.check_notes(wish.notes)
    if wish.boot is not None:
        changes["boot"] = rules.check_boot(wish.boot)
    if wish.network is not None:
        changes["network"] = rules.check_network(wish.network) if wish.network.interfaces else None
    if wish.variables is not None:
        changes["variables"] = dict(rules.check_variables(wish.variables))
    if not changes:
        raise MachineInvalid("nothing was said of the machine", action="give what shall be different")
    return replace(known, **changes)


async def targets_changed(unit: UnitOfWork, idc_id: str) -> None:
    """Regionals of the IDC are told what machines boot, in one generation with their orders."""
    await fleet_store.bump_orders(unit.connection, idc_id)
    await unit.announce(OrdersChanged(idc_id))


def announced(machine: Machine, what: str) -> MachineChanged:
    return MachineChanged(machine.id, machine.idc, machine.tenant, machine.name, machine.state.value, what)


def unknown(machine_id: str) -> MachineUnknown:
    return MachineUnknown(f"there is no machine {machine_id[:80]!r}", action="see `longshore machine list`")
