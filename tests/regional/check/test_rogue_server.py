"""A second DHCP server in the rack: the regional hears it and says so in log, metrics and health; `check` sees both."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.engines.fixtures import running
from tests.pace import BUSY_SECONDS
from tests.regional.dhcp.rack import CONFIGURATION, PROJECT, Rack, rack, regional

from .test_check_process import check

pytestmark = pytest.mark.processes

# Offers the same address to everybody who asks.
ROGUE = """
import socket, sys
from dataclasses import replace
sys.path.insert(0, {project!r})
from regional.dhcp.packet import decode, encode
from tests.regional.dhcp.test_rivals import answer
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
line.bind(("", 67))
print("listening", flush=True)
while True:
    asked = decode(line.recv(2000))
    if asked.op == 1 and asked.options[53] == bytes((1,)):
        offer = replace(answer(server={server}), xid=asked.xid, chaddr=asked.chaddr, flags=asked.flags)
        line.sendto(encode(offer), ("255.255.255.255", 68))
"""
METRICS = "import urllib.request; print(urllib.request.urlopen('http://10.77.0.1:{port}/metrics').read().decode())"


@pytest.fixture(scope="module")
def network() -> Iterator[Rack]:
    with running("dhcp", rack()) as subject:
        subject.run(subject.machines, "ip", "addr", "replace", "10.77.0.200/24", "dev", "eth0")
        yield subject


@asynccontextmanager
async def rogue(network: Rack) -> AsyncIterator[None]:
    script = ROGUE.format(project=str(PROJECT), server=0x0A4D00C8)
    process = await asyncio.create_subprocess_exec(
        *network.machines.command_prefix, sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(BUSY_SECONDS):
            assert await process.stdout.readline() == b"listening\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_second_server_is_said_wherever_somebody_looks(network: Rack, tmp_path: Path) -> None:
    configuration, words = tmp_path / "dhcp.toml", "another DHCP server, 10.77.0.200, gives addresses on eth0"
    configuration.write_text(CONFIGURATION)
    async with (
        rogue(network),
        regional(network.regional, tmp_path, f"--dhcp-config={configuration}", "--api-port=8081"),
    ):
        async with asyncio.timeout(BUSY_SECONDS):
            # It asks when it starts.
            while words not in (tmp_path / "log").read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found = await check(network, "--firmware=uefi-http")
        assert ("warning", "2 DHCP servers give addresses: 10.77.0.1, 10.77.0.200") in found["dhcp uefi-http"]
        assert ("warning", f"it says: {words}") in found["http regional"]
        metrics = await asyncio.to_thread(
            network.run, network.machines, sys.executable, "-c", METRICS.format(port=8081)
        )
        assert "longshore_regional_dhcp_rivals 1.0" in metrics
    assert (tmp_path / "log").read_text().count(words) == 1
