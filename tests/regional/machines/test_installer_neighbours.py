"""What switches say by LLDP reaches the inventory; the frames go over the loopback interface."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from deploy.installer.building import Installer

from ..conftest import until
from .boots import Site, running_site
from .installer_machine import SECONDS, machine, of_the_environment, running

pytestmark = [
    pytest.mark.engine("installer"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root sends frames"),
]
_LLDP = 0x88CC


def item(kind: int, value: bytes) -> bytes:
    return struct.pack("!H", kind << 9 | len(value)) + value


def frame(name: bytes, *more: bytes) -> bytes:
    head = bytes.fromhex("0180c200000e525400112233") + struct.pack("!H", _LLDP)
    chassis, port = item(1, b"\x04\x52\x54\x00\x11\x22\x33"), item(2, b"\x05Eth1/7")
    return head + chassis + port + item(3, b"\x00\x78") + item(5, name) + b"".join(more) + item(0, b"")


def heard(site: Site) -> list[tuple[str, str, int]]:
    found = [nic.neighbour for each in site.reports() for nic in each.inventory.nics if nic.HasField("neighbour")]
    return [(each.switch_name, each.port, each.vlan) for each in found]


async def test_the_switch_and_its_port_are_reported_also_after_nonsense(tmp_path: Path, installer: Installer) -> None:
    tools = of_the_environment(tmp_path / "environment", installer)
    async with running_site(tmp_path, boot_strangers="discover") as site:
        machine(tmp_path / "machine", site, await site.token(serial="SN-1"))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("lo", _LLDP))
            good = frame(b'leaf-1\t"x"', item(127, b"\x00\x80\xc2\x01\x00\x2a"))

            def spoken() -> bool:
                for each in (good[:14], good[:20], good[:16] + b"\xff\xff", frame(b"", item(127, b"\x00")), good):
                    wire.send(each)
                return ('leaf-1"x"', "Eth1/7", 42) in heard(site)

            async with running(tmp_path, tools):
                await until(spoken, SECONDS)
