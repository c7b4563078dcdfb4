"""Machines boot from power-on through a real regional: its DHCP, TFTP and HTTP, iPXE or GRUB, to a system that says so.

The firmware is real (SeaBIOS with an iPXE ROM, OVMF's own PXE and HTTP clients, Secure Boot with Debian's signed shim),
the machines are emulated, the network is a namespace. Needs root; some 10 to 30 seconds each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines.boot_kernel import ARGUMENTS, GRUB, KERNEL, SHIM, initial_file_system
from tests.engines.fixtures import running
from tests.engines.processes import Process, find_program
from tests.engines.qemu import Bridge, Firmware, bridge, ip, machine
from tests.regional.dhcp.rack import SERVER, Rack, rack, regional

pytestmark = [pytest.mark.processes, pytest.mark.engine("qemu"), pytest.mark.timeout(400)]

BASE = f"http://{SERVER}:8081/static"
MACS = {firmware: f"52:54:00:77:00:{number:02x}" for number, firmware in enumerate(Firmware, 1)}
# Emulated, and beside everything else that this computer does: 13 to 30 seconds is usual.
PATIENCE_SECONDS = 300
OTHER_SERVER, LOADERS = "10.77.0.2", Path("/usr/lib/ipxe")
CONFIGURATION = f"""
[[subnets]]
network = "10.77.0.0/24"
interface = "eth0"
authoritative = true
answer_ipv6 = true
routers = ["10.77.0.254"]
pools = [{{ first = "10.77.0.10", last = "10.77.0.20" }}]
[boot]
script = "{BASE}/{{mac}}.ipxe"
[boot.machines."{MACS[Firmware.UEFI_SECURE]}"]
uefi-x64 = "static/shimx64.efi"
"""
WORDS = f"{ARGUMENTS} fetch={BASE}/word"
SCRIPT = f"""#!ipxe
kernel {BASE}/kernels/vmlinuz initrd=initrd {WORDS} guest.via=${{platform}}-${{net0/chip}}
initrd --name initrd {BASE}/initrds/initrd
boot
"""
# The ROM of the card is an iPXE that needs no loader; it fetches the one for BIOS all the same, as old ROMs do.
BIOS_SCRIPT = SCRIPT.replace(
    "#!ipxe\n",
    "#!ipxe\niseq ${net0/chip} virtio-net && chain tftp://${next-server}/static/undionly.kpxe ||\n",
)
GRUB_CONFIGURATION = f"""
set timeout=0
linux /static/kernels/vmlinuz {WORDS} guest.via=grub
initrd /static/initrds/initrd
boot
"""


@pytest.fixture(scope="module")
def cables() -> Iterator[tuple[Rack, Bridge]]:
    with running("qemu", rack()) as network, bridge(network.machines, "eth0") as plugs:
        yield network, plugs


@pytest.fixture(scope="module")
def initrd() -> Iterator[bytes]:
    with running("qemu", contextlib.nullcontext(initial_file_system)) as make:
        yield make()


def publish(root: Path, initrd: bytes) -> None:
    files = {
        "kernels/vmlinuz": KERNEL.read_bytes(),
        "initrds/initrd": initrd,
        "word": b"a word from the regional",
        "ipxe.efi": (LOADERS / "ipxe.efi").read_bytes(),
        "undionly.kpxe": (LOADERS / "undionly.kpxe").read_bytes(),
        "shimx64.efi": SHIM.read_bytes(),
        "grubx64.efi": GRUB.read_bytes(),
    }
    for firmware, mac in MACS.items():
        script = BIOS_SCRIPT if firmware is Firmware.BIOS else SCRIPT
        files[f"{mac.replace(':', '-')}.ipxe"] = script.encode()
    for name, content in files.items():
        path = root / "static" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "grub").mkdir()
    (root / "grub" / "grub.cfg").write_text(GRUB_CONFIGURATION)


@dataclass(frozen=True)
class Told:
    """What the regional's log says of one boot."""

    lines: list[dict[str, Any]]

    def values(self, event: str, key: str, **facts: str) -> list[Any]:
        return [
            line[key]
            for line in self.lines
            if line["event"] == event and all(line.get(name) == value for name, value in facts.items())
        ]

    @property
    def by_tftp(self) -> list[str]:
        return self.values("tftp transfer", "file", outcome="completed")

    @property
    def by_http(self) -> list[str]:
        return [path.removeprefix("/static/") for path in self.values("request served", "path", method="GET")]


async def boot(
    firmware: Firmware, cables: tuple[Rack, Bridge], initrd: bytes, folder: Path, configuration: str
) -> tuple[list[str], Told]:
    """What the guest said, and what the regional did for it."""
    network, plugs = cables
    (folder / "dhcp.toml").write_text(configuration)
    publish(folder / "root", initrd)
    options = (f"--dhcp-config={folder / 'dhcp.toml'}", "--enable-tftp", "--log-style=json")
    async with regional(network.regional, folder, *options) as process:
        number = list(Firmware).index(firmware)
        with running("qemu", machine(firmware, plugs, MACS[firmware], folder, number=number)) as booted:
            off = await asyncio.to_thread(booted.wait_off, PATIENCE_SECONDS)
            assert off, f"{booted.said[-2000:]}\n{(folder / 'log').read_text()[-4000:]}"
            marks = booted.marks
        process.terminate()
        async with asyncio.timeout(30):
            await process.wait()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return marks, Told(lines)


def guest(firmware: str, mac: str, via: str, server: str = SERVER) -> list[str]:
    return [
        f"started firmware={firmware} mac={mac}",
        f"lease ip=10.77.0.10 server={server}",
        "fetched a word from the regional",
        f"guest.via={via}",
        "done",
    ]


def script(firmware: Firmware) -> str:
    return f"{MACS[firmware].replace(':', '-')}.ipxe"


async def test_bios_boots_by_pxe(cables: tuple[Rack, Bridge], initrd: bytes, tmp_path: Path) -> None:
    marks, told = await boot(Firmware.BIOS, cables, initrd, tmp_path, CONFIGURATION)
    assert marks == guest("bios", MACS[Firmware.BIOS], "pcbios-undionly")
    assert told.by_tftp == ["static/undionly.kpxe"]
    assert told.by_http == [*[script(Firmware.BIOS)] * 2, "kernels/vmlinuz", "initrds/initrd", "word"]
    # ROM, iPXE and system are one machine.
    assert {address for address in told.values("dhcp", "address") if address} == {"10.77.0.10"}


async def test_uefi_boots_by_pxe_while_another_server_gives_the_addresses(
    cables: tuple[Rack, Bridge], initrd: bytes, tmp_path: Path
) -> None:
    _, plugs = cables
    proxy = CONFIGURATION.replace("authoritative = true", "proxy = true")
    with running("dnsmasq", other_server(plugs, tmp_path)):
        marks, told = await boot(Firmware.UEFI_PXE, cables, initrd, tmp_path, proxy)
    assert marks == guest("uefi", MACS[Firmware.UEFI_PXE], "efi-SNP", server=OTHER_SERVER)
    assert told.by_tftp == ["static/ipxe.efi"]
    assert told.by_http == [script(Firmware.UEFI_PXE), "kernels/vmlinuz", "initrds/initrd", "word"]
    assert set(told.values("dhcp", "verdict")) == {"proxy offer", "proxy ack"}
    assert set(told.values("dhcp", "address")) == {None}


async def test_uefi_boots_over_http(cables: tuple[Rack, Bridge], initrd: bytes, tmp_path: Path) -> None:
    marks, told = await boot(Firmware.UEFI_HTTP, cables, initrd, tmp_path, CONFIGURATION)
    assert marks == guest("uefi", MACS[Firmware.UEFI_HTTP], "efi-SNP")
    assert told.by_tftp == []
    assert told.by_http == ["ipxe.efi", script(Firmware.UEFI_HTTP), "kernels/vmlinuz", "initrds/initrd", "word"]
    assert {address for address in told.values("dhcp", "address") if address} == {"10.77.0.10"}


async def test_uefi_with_secure_boot_runs_the_signed_shim_and_grub(
    cables: tuple[Rack, Bridge], initrd: bytes, tmp_path: Path
) -> None:
    marks, told = await boot(Firmware.UEFI_SECURE, cables, initrd, tmp_path, CONFIGURATION)
    assert marks == guest("uefi", MACS[Firmware.UEFI_SECURE], "grub")
    signed = ["static/shimx64.efi", "static/grubx64.efi", "/grub/grub.cfg"]
    assert told.by_tftp == [*signed, "/static/kernels/vmlinuz", "/static/initrds/initrd"]
    assert told.by_http == ["word"]


@contextlib.contextmanager
def other_server(plugs: Bridge, folder: Path) -> Iterator[None]:
    """It knows nothing of booting. Raises `EngineCannotRun`."""
    ip(plugs.network, f"addr replace {OTHER_SERVER}/24 dev {plugs.name}")
    process = Process(
        [
            find_program("dnsmasq", "tftp"), "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
            f"--interface={plugs.name}", "--bind-interfaces", "--user=root", "--no-ping",
            "--dhcp-range=10.77.0.10,10.77.0.20,1h",
            f"--dhcp-host={MACS[Firmware.UEFI_PXE]},10.77.0.10", f"--dhcp-leasefile={folder / 'leases'}",
            f"--pid-file={folder / 'dnsmasq.pid'}",
        ],
        folder / "dnsmasq.log",
        prefix=plugs.network.command_prefix,
    )  # fmt: skip
    try:
        process.wait_ready((folder / "dnsmasq.pid").exists, 30)
        yield
    finally:
        process.stop()
        ip(plugs.network, f"addr del {OTHER_SERVER}/24 dev {plugs.name}")
