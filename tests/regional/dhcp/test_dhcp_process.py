"""DHCP of a real regional for real clients: udhcpc and dhclient in a network of their own. Needs root."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.fixtures import running
from tests.engines.processes import find_program

from .rack import CONFIGURATION, PROJECT, SERVER, Rack, rack, regional

pytestmark = pytest.mark.processes

# Says what the client was told, and puts the address on the card.
SCRIPT = """#!/bin/sh
case "$1$reason" in
  bound*|renew*|BOUND*|REBOOT*|RENEW*) ip addr replace "${ip:-$new_ip_address}/24" dev eth0; env ;;
esac
exit 0
"""


# A ROM that shares the network with another DHCP server: what it hears on 67, then on 4011.
ROM = """
import socket, sys
sys.path.insert(0, {project!r})
from regional.dhcp.packet import decode, encode
from tests.regional.dhcp.packets import discover, firmware, message
rom = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
rom.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
rom.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
rom.bind(("", 68))
rom.settimeout(5)
for packet, to in (
    (discover(options=firmware(7)), ("255.255.255.255", 67)),
    (message(3, options=firmware(7)), ("10.77.0.1", 4011)),
):
    rom.sendto(encode(packet), to)
    answer = decode(rom.recv(2000))
    print(answer.options[53][0], answer.yiaddr, answer.file.decode(), answer.options[60].decode())
"""

# Looks for an IPv6 router until it is told; shows lifetime, flags and what follows.
SOLICITOR = """
import socket, struct, time
asker = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
asker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))
asker.settimeout(0.2)
deadline = time.monotonic() + 8
while time.monotonic() < deadline:
    try:
        asker.sendto(struct.pack("!BBHI", 133, 0, 0, 0), ("ff02::2", 0))
        answer = asker.recv(200)
    except OSError:
        continue
    if answer[0] == 134:
        print(answer[5], answer[6:8].hex(), len(answer))
        break
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Rack]:
    with running("dhcp", rack()) as subject:
        yield subject


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


async def udhcpc(network: Rack, script: Path, *options: str) -> str:
    command = (find_program("udhcpc", "dhcp"), "-i", "eth0", "-s", str(script), *options)
    quick = ("-f", "-q", "-n", "-t", "5", "-T", "1")
    return await asyncio.to_thread(network.run, network.machines, *command, *quick)


async def dhclient(network: Rack, script: Path, directory: Path, *options: str) -> str:
    leases = directory / "dhclient.leases"
    command = (find_program("dhclient", "dhcp"), "-v", "-d", "-1", "-sf", str(script), "-lf", str(leases))
    settings = directory / "dhclient.conf"
    settings.write_text("initial-interval 1; timeout 10;")
    process = await asyncio.create_subprocess_exec(
        *network.machines.command_prefix, *command, "-cf", str(settings), "-pf", str(directory / "dhclient.pid"),
        *options, "eth0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = b""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            # With -d it stays; with -r it ends.
            while line := await process.stdout.readline():
                said += line
                if b"bound to" in line:
                    break
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return said.decode()


async def test_real_clients_get_keep_and_give_back_addresses(network: Rack, script: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "dhcp.toml"
    configuration.write_text(CONFIGURATION)
    options = (f"--dhcp-config={configuration}",)
    async with regional(network.regional, tmp_path, *options) as process:
        told = await asyncio.to_thread(network.run, network.machines, sys.executable, "-c", SOLICITOR)
        assert told == "0 0000 16\n"  # no flags, no lifetime, no prefix: nobody is configured by it
        said = await udhcpc(network, script, "-O", "search", "-O", "staticroutes", "-x", "hostname:x")
        assert "lease of 10.77.0.10 obtained" in said
        for word in ("ip=10.77.0.10", "router=10.77.0.254", "dns=10.77.0.53", "domain=rack.example", "lease=43200"):
            assert word in said
        assert "search=rack.example example" in said
        assert "staticroutes=10.0.0.0/8 10.77.0.254 0.0.0.0/0 10.77.0.254" in said
        assert f"serverid={SERVER}" in said
        network.address("52:54:00:00:00:99")
        said = await dhclient(network, script, tmp_path)
        assert "bound to 10.77.0.99" in said
        assert "new_host_name=node-99" in said
        network.address("52:54:00:00:00:01")
        assert "lease of 10.77.0.11 obtained" in await udhcpc(network, script)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with regional(network.regional, tmp_path, *options) as process:
        network.address("52:54:00:00:00:02")
        # What was promised before kill -9 is still somebody's; a lease asked back by name is given again.
        assert "lease of 10.77.0.12 obtained" in await udhcpc(network, script)
        network.address("52:54:00:12:34:56")
        assert "lease of 10.77.0.10 obtained" in await udhcpc(network, script, "-R")
        network.address("52:54:00:00:00:99")
        assert "DHCPACK of 10.77.0.99" in await dhclient(network, script, tmp_path)
        # Somebody sits on .13 without a lease: it is asked for, and passed over.
        network.run(network.machines, "ip", "addr", "replace", "10.77.0.13/24", "dev", "eth0")
        network.address("52:54:00:00:00:03")
        assert "lease of 10.77.0.14 obtained" in await udhcpc(network, script)
        process.terminate()
        async with asyncio.timeout(15):
            assert await process.wait() == 0
    assert "failed" not in (tmp_path / "log").read_text()


async def test_without_a_file_it_is_a_proxy_on_its_interface(network: Rack, tmp_path: Path) -> None:
    network.run(network.machines, "ip", "addr", "replace", "10.77.0.200/24", "dev", "eth0")
    async with regional(network.regional, tmp_path, "--interface=eth0") as process:
        rom = ROM.format(project=str(PROJECT))
        said = await asyncio.to_thread(network.run, network.machines, sys.executable, "-c", rom)
        assert said.splitlines() == ["2 0 static/ipxe.efi PXEClient", "5 0 static/ipxe.efi PXEClient"]
        process.terminate()
        async with asyncio.timeout(15):
            assert await process.wait() == 0


def test_an_interface_that_is_not_there_ends_the_start(network: Rack, tmp_path: Path) -> None:
    paths = [f"--data={tmp_path / 'data'}", f"--static-root={tmp_path / 'root'}", "--server-ip=10.77.0.1"]
    command = (sys.executable, "-m", "regional", "--idc=east", "--enable-dhcp", "--interface=none0", *paths)
    said = network.run(network.regional, *command, check=False)
    assert "UDP port 67 of none0 cannot be used" in said
    assert "Traceback" not in said
