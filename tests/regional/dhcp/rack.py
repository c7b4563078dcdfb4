"""A rack in network namespaces: one for the regional, one for machines, a cable between; and a regional inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.engines.namespaces import Namespace, network_namespace
from tests.engines.processes import find_program

PROJECT = Path(__file__).parents[3]
SERVER = "10.77.0.1"

CONFIGURATION = """
[limits]
client = 50

[[subnets]]
network = "10.77.0.0/24"
interface = "eth0"
authoritative = true
answer_ipv6 = true
routers = ["10.77.0.254"]
dns = ["10.77.0.53"]
domain = "rack.example"
search = ["rack.example", "example"]
routes = [{ to = "10.0.0.0/8", via = "10.77.0.254" }]
pools = [{ first = "10.77.0.10", last = "10.77.0.20" }]
reservations = [{ mac = "52:54:00:00:00:99", address = "10.77.0.99", host_name = "node-99" }]
"""


@dataclass(frozen=True)
class Rack:
    regional: Namespace
    machines: Namespace

    def run(self, where: Namespace, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            [*where.command_prefix, *command], capture_output=True, text=True, timeout=30, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def address(self, mac: str) -> None:
        self.run(self.machines, "ip", "link", "set", "eth0", "down")
        self.run(self.machines, "ip", "link", "set", "eth0", "address", mac, "up")


@contextlib.contextmanager
def rack() -> Iterator[Rack]:
    """Raises `EngineCannotRun` also where the clients are not installed."""
    for client in ("udhcpc", "dhclient"):
        find_program(client, "dhcp")
    with network_namespace() as regional, network_namespace() as machines:
        subject = Rack(regional, machines)
        peer = str(machines.pid)
        subject.run(regional, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer)
        subject.run(regional, "ip", "addr", "add", f"{SERVER}/24", "dev", "eth0")
        subject.run(regional, "ip", "link", "set", "eth0", "up")
        subject.run(machines, "ip", "link", "set", "eth0", "address", "52:54:00:12:34:56", "up")
        yield subject


@contextlib.asynccontextmanager
async def regional(where: Namespace, directory: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    data = directory / "data"
    common = [f"--data={data}", f"--static-root={directory / 'root'}", "--idc=east", f"--server-ip={SERVER}"]
    command: Sequence[str] = [
        *where.command_prefix, sys.executable, "-m", "regional", *common, "--enable-dhcp", *options,
    ]  # fmt: skip
    with (directory / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=PROJECT, env={"PATH": "/usr/sbin:/usr/bin:/bin"}, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(40):
            while not _ready(data / "ready.json", process.pid):
                assert process.returncode is None, (directory / "log").read_text()
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _ready(path: Path, pid: int) -> bool:
    # A killed process leaves its file behind, and the next one removes it. nsenter becomes the regional, so the pid is
    # the same.
    try:
        return bool(json.loads(path.read_text())["pid"] == pid)
    except FileNotFoundError:
        return False
