"""Who is this machine? By its MAC address, else by its serial number, else it is new.

Invariants: strangers become machines that wait for somebody to accept them, of a bounded number in each IDC, so that
who floods a network with addresses fills no database; what a machine says of itself never takes an address or a serial
number from another one, and never changes what an operator said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from common.clock import Clock
from common.errors import Failure
from common.identifiers import is_id, new_id
from control_plane.database import UnitOfWork
from control_plane.machines import rules, store, wire
from control_plane.machines.model import Inventory, Machine, MachineState
from control_plane.machines.service import announced, targets_changed
from proto.regional.v1 import machines_pb2

log = structlog.get_logger()

MOST_PENDING = 2000


class Enlisting:
    def __init__(self, clock: Clock, most_pending: int = MOST_PENDING) -> None:
        self._clock = clock
        self._most_pending = most_pending

    def new_id(self) -> str:
        return new_id(self._clock)

    async def sighted(
        self, unit: UnitOfWork, idc_id: str, idc: str, said: machines_pb2.Sighting, at: datetime
    ) -> Machine | None:
        """None: there are too many strangers already. Raises `MachineInvalid` for what is no address."""
        mac = rules.mac_of(said.mac)
        serial, uuid = rules.serial_of(wire.text(said.serial)), rules.uuid_of(said.uuid[:64])
        address, architecture = wire.text(said.address, 64), wire.text(said.architecture, 32)
        known = await self._known(unit, idc_id, [mac], serial)
        if known is None:
            return await self._enlist(unit, idc_id, idc, [mac], serial, uuid, at, address, architecture)
        await store.saw(unit.connection, known.id, max(at, known.seen_at or at), address, architecture)
        after = await self._learned(unit, known, [mac], serial, uuid)
        if architecture and known.architecture and architecture != known.architecture:
            log.info("machine boots differently", machine=known.id, before=known.architecture, now=architecture)
        return after

    async def introduced(
        self, unit: UnitOfWork, idc_id: str, idc: str, found: Inventory, at: datetime
    ) -> Machine | None:
        """A stranger said what it is made of."""
        macs = [nic.mac for nic in found.nics][: rules.MOST_MACS]
        if not macs:
            return None
        known = await self._known(unit, idc_id, macs, found.serial)
        if known is None:
            known = await self._enlist(unit, idc_id, idc, macs, found.serial, found.uuid, at, "", "")
        if known is not None:
            await self.described(unit, known, found, at)
        return known

    async def described(self, unit: UnitOfWork, machine: Machine, found: Inventory, at: datetime) -> None:
        """The machine is locked. An inventory that is older than the one that is known says nothing."""
        if machine.inventory_at is not None and at < machine.inventory_at:
            return
        macs = [nic.mac for nic in found.nics][: rules.MOST_MACS]
        machine = await self._learned(unit, machine, macs, found.serial, found.uuid)
        after = replace(machine, inventory=found, inventory_at=at, seen_at=max(at, machine.seen_at or at))
        await store.put(unit.connection, after)
        await unit.announce(announced(after, "inventoried"))

    async def meant(self, unit: UnitOfWork, idc_id: str, machine_id: str, mac: str) -> Machine | None:
        """The machine of this IDC that an event is about."""
        if is_id(machine_id):
            found = await store.find(unit.connection, machine_id)
            return found if found is not None and found.idc_id == idc_id else None
        try:
            return await store.find_by_mac(unit.connection, idc_id, [rules.mac_of(mac)])
        except Failure:
            return None

    async def _known(self, unit: UnitOfWork, idc_id: str, macs: Sequence[str], serial: str) -> Machine | None:
        """Locked."""
        found = await store.find_by_mac(unit.connection, idc_id, macs, locked=True)
        if found is None and serial:
            found = await store.find_by_serial(unit.connection, idc_id, serial, locked=True)
        return found

    async def _learned(self, unit: UnitOfWork, known: Machine, macs: Sequence[str], serial: str, uuid: str) -> Machine:
        """What it said that nobody knew: further addresses, its serial number."""
        added: list[str] = []
        for mac in macs:
            if mac not in known.macs and len(known.macs) + len(added) < rules.MOST_MACS:
                owner = await store.find_by_mac(unit.connection, known.idc_id, [mac])
                if owner is None:
                    added.append(mac)
                elif owner.id != known.id:
                    log.warning("two machines have one address", mac=mac, machine=known.id, other=owner.id)
        learned = known.serial
        if not known.serial and serial:
            other = await store.find_by_serial(unit.connection, known.idc_id, serial)
            if other is None:
                learned = serial
            else:
                log.warning("two machines have one serial number", serial=serial, machine=known.id, other=other.id)
        macs_now = tuple(sorted((*known.macs, *added)))
        after = replace(known, macs=macs_now, serial=learned, uuid=known.uuid or uuid)
        if after == known:
            return known
        await store.put(unit.connection, after)
        await targets_changed(unit, known.idc_id)
        return after

    async def _enlist(
        self,
        unit: UnitOfWork,
        idc_id: str,
        idc: str,
        macs: Sequence[str],
        serial: str,
        uuid: str,
        at: datetime,
        address: str,
        architecture: str,
    ) -> Machine | None:
        if await store.count_pending(unit.connection, idc_id) >= self._most_pending:
            log.warning("too many strangers", idc=idc, most=self._most_pending, action="accept, ignore or remove some")
            return None
        machine = Machine(
            id=self.new_id(),
            idc_id=idc_id,
            idc=idc,
            name=rules.name_for(macs[0]),
            state=MachineState.PENDING,
            macs=tuple(sorted(set(macs))),
            created_at=unit.clock.now(),
            serial=serial,
            uuid=uuid,
            address=address,
            architecture=architecture,
            seen_at=at,
        )
        await store.add(unit.connection, machine)
        await targets_changed(unit, idc_id)
        await unit.announce(announced(machine, "enlisted"))
        log.info("machine enlisted", machine=machine.id, idc=idc, macs=list(machine.macs))
        return machine
