"""Machines that are seen: who they are, what they say, and whose word counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_plane.machines import enlisting, rules, store
from control_plane.machines.model import Machine, MachineExists, MachineState, MachineUnknown
from control_plane.machines.service import Description
from control_plane.web.paging import PageRequest
from proto.regional.v1 import machines_pb2 as wire
from tests.control_plane.instances.parts import ADMIN
from tests.control_plane.machines.rack import Rack

ALL = PageRequest(page_size=200)


async def known(rack: Rack) -> list[Machine]:
    return list((await rack.machines.reading.page(ADMIN, store.Filter(), ALL)).items)


async def test_a_stranger_is_enlisted_once_and_waits(rack: Rack) -> None:
    seen: dict[str, Any] = {"serial": "ABC123", "address": "10.0.0.9", "architecture": "uefi-x64"}
    assert await rack.says(rack.sighting("52-54-00-AB-CD-EF", **seen), rack.sighting("52:54:00:ab:cd:ef")) == []
    [machine] = await known(rack)
    assert (machine.state, machine.name, machine.macs) == (
        MachineState.PENDING,
        "m-525400abcdef",
        ("52:54:00:ab:cd:ef",),
    )
    assert (machine.serial, machine.address, machine.architecture) == ("ABC123", "10.0.0.9", "uefi-x64")
    told = await rack.target(machine)
    assert (told.serial, told.without_intent) == ("ABC123", wire.WITHOUT_INTENT_AS_STRANGER)
    accepted = await rack.machines.service.accept(ADMIN, machine.id)
    assert accepted.state is MachineState.READY
    assert (await rack.target(accepted)).without_intent == wire.WITHOUT_INTENT_UNSPECIFIED


async def test_the_same_serial_number_with_another_address_is_the_same_machine(rack: Rack) -> None:
    await rack.says(rack.sighting("52:54:00:00:01:01", serial="S1"), rack.sighting("52:54:00:00:01:02", serial="S1"))
    [machine] = await known(rack)
    assert machine.macs == ("52:54:00:00:01:01", "52:54:00:00:01:02")


@pytest.mark.parametrize("word", ["To Be Filled By O.E.M.", "Default string", "0000000000", "", "N/A", "\x00\x01"])
def test_what_makers_leave_in_place_of_a_serial_number_is_none(word: str) -> None:
    assert rules.serial_of(word) == ""


async def test_an_inventory_is_kept_and_an_older_one_says_nothing(rack: Rack) -> None:
    machine = await rack.machine()
    nics = [
        wire.Nic(name="eth0", mac=machine.macs[0], link=True, neighbour=wire.Neighbour(switch_name="sw1", port="7")),
        wire.Nic(name="eth1", mac="52:54:00:ff:00:01"),
        wire.Nic(name="tun0", mac=""),
    ]
    disks = [wire.Disk(name="nvme0n1", size_bytes=1 << 40, transport="nvme", serial="D1")]
    said = wire.Inventory(vendor="Acme", cpu_cores=8, memory_bytes=64 << 30, disks=disks, nics=nics)
    assert await rack.says(rack.report(machine, inventory=said)) == []
    older = rack.report(machine, inventory=wire.Inventory(vendor="Old"))
    older.occurred_ms -= 60_000
    await rack.says(older)
    found = await rack.machines.reading.get(ADMIN, machine.id)
    assert found.inventory is not None
    assert (found.inventory.vendor, found.inventory.cpu_cores) == ("Acme", 8)
    assert [(nic.name, nic.switch, nic.switch_port) for nic in found.inventory.nics] == [
        ("eth0", "sw1", "7"),
        ("eth1", "", ""),
    ]
    assert found.macs == (machine.macs[0], "52:54:00:ff:00:01")
    assert found.serial == machine.serial


async def test_a_stranger_that_says_what_it_is_made_of_is_enlisted_with_all_its_addresses(rack: Rack) -> None:
    nics = [wire.Nic(name="eth0", mac="52:54:00:00:02:01"), wire.Nic(name="eth1", mac="52:54:00:00:02:02")]
    await rack.says(rack.report(inventory=wire.Inventory(serial="X9", nics=nics)))
    [machine] = await known(rack)
    assert (len(machine.macs), machine.serial, machine.state) == (2, "X9", MachineState.PENDING)


async def test_a_machine_takes_no_address_and_no_serial_number_from_another(rack: Rack) -> None:
    one, other = await rack.machine("one"), await rack.machine("two")
    nics = [wire.Nic(name="eth0", mac=other.macs[0]), wire.Nic(name="eth1", mac=one.macs[0])]
    assert await rack.says(rack.report(other, inventory=wire.Inventory(serial=one.serial, nics=nics))) == []
    assert (await rack.machines.reading.get(ADMIN, one.id)).macs == one.macs
    assert (await rack.machines.reading.get(ADMIN, other.id)).macs == other.macs


async def test_a_flood_of_strangers_is_bounded(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    small = enlisting.Enlisting(rack.clock, most_pending=3)
    monkeypatch.setattr(rack.machines.receiving, "_enlisting", small)
    await rack.says(*(rack.sighting(f"52:54:00:00:03:{number:02x}") for number in range(8)))
    assert len(await known(rack)) == 3


async def test_ignored_machines_are_strangers_to_their_regional(rack: Rack) -> None:
    machine = await rack.machine()
    await rack.machines.service.ignore(ADMIN, machine.id)
    assert await rack.targets() == {}
    await rack.says(rack.sighting(machine.macs[0]))
    assert [found.state for found in await known(rack)] == [MachineState.IGNORED]


async def test_strangers_that_do_not_come_again_are_forgotten(rack: Rack) -> None:
    mine = await rack.machine()
    await rack.says(rack.sighting("52:54:00:00:01:01"))
    await rack.clock.advance(timedelta(days=31).total_seconds())
    await rack.machines.receiving.forget()
    assert [machine.id for machine in await known(rack)] == [mine.id]


async def test_names_addresses_and_serial_numbers_are_unique_in_an_idc(rack: Rack) -> None:
    one, other = await rack.machine("one"), await rack.machine("two")
    service = rack.machines.service
    for wish in (Description(name="one"), Description(serial=one.serial), Description(macs=list(one.macs))):
        with pytest.raises(MachineExists):
            await service.describe(ADMIN, other.id, wish)
    await rack.machine("one", idc="west", tags=["a"])
    assert (await rack.machines.reading.get(ADMIN, other.id)) == other


async def test_machines_are_found_by_part_of_a_name_a_tag_and_an_address(rack: Rack) -> None:
    web, store_ = await rack.machine("web-1", tags=["rack=r1", "gpu"]), await rack.machine("store-1", tags=["gpu2"])

    async def found(**chosen: str) -> list[str]:
        page = await rack.machines.reading.page(ADMIN, store.Filter(**chosen), ALL)  # type: ignore[arg-type]
        return [machine.name for machine in page.items]

    assert await found(text="eb-") == ["web-1"]
    assert await found(text=store_.macs[0].upper()) == ["store-1"]
    assert await found(text=web.serial) == ["web-1"]
    assert await found(tag="gpu") == ["web-1"]
    assert await found(tag="gpu%") == []
    assert await found(idc="west") == []


async def test_a_removed_machine_is_a_new_one_when_it_is_seen_again(rack: Rack) -> None:
    machine = await rack.machine()
    await rack.machines.service.remove(ADMIN, machine.id)
    with pytest.raises(MachineUnknown):
        await rack.machines.reading.get(ADMIN, machine.id)
    await rack.says(rack.sighting(machine.macs[0]))
    [again] = await known(rack)
    assert (again.state, again.id == machine.id) == (MachineState.PENDING, False)


async def test_the_boot_timeline_is_kept_newest_first_and_bounded(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.machines.receiving._MOST_EVENTS", 5)
    machine = await rack.machine()
    for number in range(8):
        await rack.clock.advance(1)
        event = wire.BootEvent(mac=machine.macs[0], stage="tftp", detail=f"{number}\n\x00", trouble=number == 7)
        assert await rack.says(rack.report(event=event)) == []
    page = await rack.machines.reading.events(ADMIN, machine.id, ALL)
    assert [event.detail for event in page.items] == ["7", "6", "5", "4", "3"]
    assert page.items[0].trouble
