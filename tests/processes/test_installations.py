"""Machines from power-on to an operating system on their disk: real firmware, a real regional, the centre's approval.

Firmware is SeaBIOS with an iPXE ROM, and OVMF with its own PXE and HTTP clients, with Secure Boot too; machines are
emulated, the network is a namespace. That an installation succeeded is seen by what the disk boots. Needs root.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from common.digest import Digest
from tests.engines.fixtures import running
from tests.engines.qemu import Firmware, Machine
from tests.processes.installations import PATIENCE_SECONDS, QUICK, SYSTEM, Body, Site, eventually, site

pytestmark = [pytest.mark.processes, pytest.mark.engine("qemu"), pytest.mark.timeout(900)]

HISTORY = ["pending", "approved", "booting", "installing", "completed"]
STEPS = ["hardware-config", "disk-wipe", "os-install", "reboot", "complete"]
# What disks take of a slow machine's writes: its installation has minutes left when its power is cut.
SLOW = 192 << 10


@pytest.fixture(scope="module")
def east(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running("qemu", site(tmp_path_factory.mktemp("east"))) as place:
        yield place


def runs(body: Body, powered: Machine) -> None:
    """The system on its disk says so, and switches it off."""
    assert powered.wait_off(PATIENCE_SECONDS), powered.said[-3000:]
    assert f"guest.system={SYSTEM}" in powered.marks, powered.said[-3000:]
    firmware = "bios" if body.firmware is Firmware.BIOS else "uefi"
    assert f"started firmware={firmware} mac={body.mac}" in powered.marks


def accepted(east: Site, body: Body, powered: Machine) -> str:
    """The stranger said what it is made of, and was taken in; its id."""
    known = eventually(lambda: east.described(body), powered)
    assert known["state"] == "pending"
    assert known["serial"] == body.serial
    assert [disk["size_bytes"] for disk in known["inventory"]["disks"]] == [body.disk.stat().st_size]
    east.fleet.client.post(f"/api/v1/machines/{known['id']}/accept")
    return str(known["id"])


def completed(east: Site, task: str) -> None:
    eventually(lambda: east.task(task)["ended_at"])
    done = east.task(task)
    assert (done["state"], done["percent"]) == ("completed", 100), done
    assert {step["phase"] for step in done["steps"]} == {"done"}
    assert east.history(task) == HISTORY


def told_the_disk(east: Site, body: Body) -> list[str]:
    """Each time that a loader was sent to the disk, and why."""
    return [line for line in east.timeline(body) if line.startswith("script: to its local disk")]


def installed_as_a_stranger(east: Site, body: Body) -> str:
    """In one boot: it waits in the installer environment for what is decided about it; the task."""
    with east.power_on(body) as powered:
        machine = accepted(east, body, powered)
        task = east.ask(machine)
        assert east.history(task) == ["pending"]
        east.say(task, "approve")
        runs(body, powered)
    completed(east, task)
    assert [step["id"] for step in east.task(task)["steps"]] == STEPS
    assert east.logged(task) == ["the hardware is as it should be"]
    assert any("os-install progress" in line and line.endswith(" %") for line in east.timeline(body))
    return task


def test_a_stranger_with_bios_is_installed_and_boots_its_disk_from_then_on(east: Site) -> None:
    body = east.body(Firmware.BIOS)
    task = installed_as_a_stranger(east, body)
    # Its firmware asked the network first.
    assert told_the_disk(east, body)
    written = Digest.of(body.disk.read_bytes())
    with east.power_on(body) as powered:
        runs(body, powered)
    assert Digest.of(body.disk.read_bytes()) == written
    assert east.history(task) == HISTORY


def test_a_stranger_with_uefi_is_installed_by_pxe(east: Site) -> None:
    body = east.body(Firmware.UEFI_PXE)
    installed_as_a_stranger(east, body)
    assert told_the_disk(east, body)
    by_tftp = east.told("tftp transfer", "file", outcome="completed", client=east.address(body))
    assert set(by_tftp) == {"static/ipxe.efi"}


def test_a_machine_is_installed_over_http_while_the_centre_is_dead(east: Site) -> None:
    body = east.body(Firmware.UEFI_HTTP)
    task = east.ask(east.register(body))
    east.say(task, "approve")
    eventually(lambda: east.armed(task))
    east.fleet.control_plane.kill()
    with east.power_on(body) as powered:
        runs(body, powered)
    east.fleet.control_plane.start()
    completed(east, task)
    assert east.logged(task) == ["the hardware is as it should be"]
    address = east.address(body)
    assert east.told("tftp transfer", "file", client=address) == []
    assert "/static/ipxe.efi" in east.told("request served", "path", client=address)


def test_a_machine_with_secure_boot_is_installed_through_the_signed_shim_and_grub(east: Site) -> None:
    body = east.body(Firmware.UEFI_SECURE)
    task = east.ask(east.register(body, loader="shimx64.efi"))
    east.say(task, "approve")
    eventually(lambda: east.armed(task))
    with east.power_on(body) as powered:
        runs(body, powered)
    completed(east, task)
    files = east.told("tftp transfer", "file", outcome="completed", client=east.address(body))
    loaders = ["shimx64.efi", "grubx64.efi", "grub.cfg"]
    # Who heard nothing for a while asks again.
    names = [name for name, _ in groupby(file.rpartition("/")[2] for file in files)]
    assert names == [*loaders, "kernel", "initrd0", *loaders]


def test_a_machine_that_loses_its_power_midway_is_not_installed_again_by_itself(east: Site) -> None:
    body = east.body(Firmware.BIOS)
    machine = east.register(body)
    task = east.ask(machine, QUICK)
    east.say(task, "approve")
    eventually(lambda: east.armed(task))
    with east.power_on(body, disk_bytes_per_second=SLOW) as powered:
        # Of a file with holes only what was written takes room.
        eventually(lambda: body.disk.stat().st_blocks, powered)
    torn = Digest.of(body.disk.read_bytes())
    begun = HISTORY[:-1]
    with east.power_on(body) as powered:
        eventually(lambda: told_the_disk(east, body), powered)
        eventually(lambda: any("in the middle of its installation" in line for line in east.events(machine)), powered)
    assert Digest.of(body.disk.read_bytes()) == torn
    assert east.history(task) == begun
    assert {step["id"]: step["phase"] for step in east.task(task)["steps"]}["os-install"] == "running"
    # Somebody looked, and wants it installed all the same.
    east.say(task, "cancel")
    east.say(task, "retry")
    eventually(lambda: east.armed(task))
    with east.power_on(body) as powered:
        runs(body, powered)
    eventually(lambda: east.task(task)["state"] == "completed")
    assert east.history(task) == [*begun, "cancelled", *HISTORY[1:]]
