"""What TFTP and DHCP say of machines: GRUB's configurations, files of a boot, loaders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import NotFound
from regional.boot_targets import Asker, BootMap
from regional.dhcp.events import DhcpSeen
from regional.machines.choosing import MachineBoots
from regional.machines.model import Target
from regional.machines.words import target_of

from .boots import running_site
from .rack import MAC, image_intent, target
from .test_boot_over_http import direct, script_only

NAME = "grub/grub.cfg-01-52-54-00-12-34-56"
CLIENT = "127.0.0.1"


async def test_grub_boots_what_was_approved_all_by_tftp(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        find = site.machines.boot_files.find
        for name in (NAME, "/boot/grub.cfg-01-52:54:00:12:34:56", "a\\b\\grub.cfg-01-52-54-00-12-34-56"):
            found = await find(name, CLIENT)
            assert isinstance(found, bytes)
            assert b"chainloader" in found
        await site.approve(target(direct()))
        found = await find(NAME, CLIENT)
        assert isinstance(found, bytes)
        token = re.search(rb"linux '/boot/s/([^/]+)/kernel'", found)
        assert token is not None
        kernel = await find(f"boot/s/{token[1].decode()}/kernel", CLIENT)
        assert isinstance(kernel, Path)
        assert kernel.read_bytes() == b"kernels/longshore-installer" * 100
        again = await find(NAME, CLIENT)
        assert isinstance(again, bytes)
        assert b"/kernel" not in again
        assert await find(f"/boot/s/{token[1].decode()}/initrd0", CLIENT)
        with pytest.raises(NotFound):
            await find(f"boot/s/{'x' * 43}/kernel", CLIENT)


async def test_a_serial_number_that_grub_cannot_say_is_said_by_our_installer_or_nothing_begins(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(direct(), serial="SN-1"))
        found = await site.machines.boot_files.find(NAME, CLIENT)
        assert isinstance(found, bytes)
        assert b"cannot say a serial number" in found
        intent = script_only()
        intent.id = "i2"
        await site.approve(target(intent, serial="SN-1"))
        found = await site.machines.boot_files.find(NAME, CLIENT)
        assert isinstance(found, bytes)
        assert b"longshore.token=" in found


async def test_a_grub_that_names_no_machine_is_known_by_the_address_that_dhcp_gave_it(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        intent = script_only()
        await site.approve(target(intent))
        find, timeline = site.machines.boot_files.find, site.machines.timeline
        # Whoever merely said that it is there, is not; then GRUB says itself who it is.
        timeline.located(MAC, CLIENT)
        assert await find("grub/grub.cfg", CLIENT) == b"configfile /boot/grub.cfg-01-$net_default_mac\nexit\n"
        timeline.dhcp(DhcpSeen(MAC, "ack", "eth0", CLIENT, boots=True))
        found = await find("/grub/grub.cfg", CLIENT)
        assert isinstance(found, bytes)
        assert b"longshore.token=" in found
        timeline.dhcp(DhcpSeen("52:54:00:00:00:02", "ack", "eth0", CLIENT, boots=True))
        stranger = await find("grub/grub.cfg", CLIENT)
        assert isinstance(stranger, bytes)
        assert b"chainloader" in stranger


async def test_an_address_that_was_given_up_is_nobodys(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        timeline = site.machines.timeline
        for address in (CLIENT, "127.0.0.2"):
            timeline.dhcp(DhcpSeen(MAC, "ack", "eth0", address, boots=True))
        assert timeline.lessee(CLIENT) is None
        assert timeline.lessee("127.0.0.2") == MAC


async def test_other_names_are_left_to_the_directory(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        find = site.machines.boot_files.find
        assert await find("static/ipxe.efi", CLIENT) is None
        assert await find("grub.cfg-01-nonsense", CLIENT) is None
        assert await find("boot/52-54-00-12-34-56.ipxe", CLIENT) is not None
        assert await find("grub/grub.cfg", CLIENT) is not None
        own = tmp_path / "root/grub/grub.cfg"
        own.parent.mkdir(parents=True)
        own.write_text("# the operator's")
        assert await find("grub/grub.cfg", CLIENT) is None


async def test_what_firmware_is_told_is_seen_and_the_stall_is_named(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(image_intent()))
        site.machines.watching.asked(MAC, CLIENT, ipxe=True)
        await site.machines.boot_files.find(NAME, CLIENT)
        await site.machines.watching.write_down()
        events = [each for each in site.reports() if each.HasField("event")]
        assert [each.event.stage for each in events] == ["script", "script"]
        assert all(each.machine_id == "m1" for each in events)
        assert [each.sighting.mac for each in site.reports() if each.HasField("sighting")] == [MAC]
        status, body = await site.get(f"{site.base}/api/v1/boot/machines/{MAC.replace(':', '-')}/timeline")
        assert status == 200
        assert b"asks for its script" in body
        assert (await site.get(f"{site.base}/api/v1/boot/machines"))[0] == 200


def test_the_centre_overrides_loaders_and_architectures_and_never_for_ipxe() -> None:
    said = target()
    said.loader = "shimx64.efi"
    known = target_of(said)
    assert isinstance(known, Target)
    boots = MachineBoots(BootMap("http://h", "http://h/boot/{mac}.ipxe"), {MAC: known}.get)
    first = boots.file_for(Asker(MAC, (7,)))
    assert first is not None
    assert first.name == "static/shimx64.efi"
    ipxe = boots.file_for(Asker(MAC, (7,), ipxe=True))
    assert ipxe is not None
    assert ipxe.name == "http://h/boot/52-54-00-12-34-56.ipxe"
    assert boots.knows(MAC)
    assert not boots.knows("52:54:00:00:00:02")


def test_a_firmware_that_boots_over_http_gets_a_url() -> None:
    known = Target("m1", (MAC,), architecture=16)
    boots = MachineBoots(BootMap("http://h", "http://h/boot/{mac}.ipxe"), {MAC: known}.get)
    found = boots.file_for(Asker(MAC, (7,)))
    assert found is not None
    assert found.name == "http://h/static/ipxe.efi"
    assert boots.file_for(Asker("52:54:00:00:00:02", (7,))) is not None
