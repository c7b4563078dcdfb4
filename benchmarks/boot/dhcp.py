"""DHCP: full handshakes a second of a real regional, leases durable, by Kea's perfdhcp.

One network namespace for the regional, one for the load, a cable between. perfdhcp plays a relay with ever new
clients; each exchange is DISCOVER, OFFER, REQUEST, ACK. The peer is dnsmasq, which writes its file anew for each lease,
without fsync, and so is asked less. The goal is 2,000 a second with next to no drops. Needs root, iproute2, kea-admin
and dnsmasq.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure

GOAL = 2000
# Offered loads; the best one that is answered nearly whole counts.
LOADS = {"longshore": (1000, 2000, 3000, 4000), "dnsmasq": (100, 200, 300)}
SECONDS = 8
_MOST_DROPPED = 0.01
_ADDRESS, _FIRST, _LAST = "10.96.0.1", "10.96.1.0", "10.96.250.255"

CONFIGURATION = f"""
[limits]
client = 0
interface = 0
newcomers = 0
[[subnets]]
network = "10.96.0.0/16"
interface = "eth0"
authoritative = true
routers = ["{_ADDRESS}"]
pools = [{{ first = "{_FIRST}", last = "{_LAST}" }}]
"""


@dataclass(frozen=True)
class Measured:
    offered: int
    reached: float
    dropped: float
    mean_ms: float


def run(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120).stdout


@contextlib.contextmanager
def cable() -> Iterator[tuple[str, str]]:
    server, load = f"lsd{os.getpid()}s", f"lsd{os.getpid()}l"
    try:
        for name in (server, load):
            subprocess.run(["ip", "netns", "add", name], check=True)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", load)
        for name, address in ((server, _ADDRESS), (load, "10.96.0.2")):
            run("ip", "-n", name, "addr", "add", f"{address}/16", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
        yield server, load
    finally:
        for name in (server, load):
            run("ip", "netns", "del", name)


@contextlib.contextmanager
def started(namespace: str, directory: Path, command: list[str], ready: Path) -> Iterator[None]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["ip", "netns", "exec", namespace, *command], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 40
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "log").read_text())
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextlib.contextmanager
def longshore(namespace: str, directory: Path) -> Iterator[None]:
    (directory / "dhcp.toml").write_text(CONFIGURATION)
    data = directory / "data"
    options = [f"--data={data}", f"--static-root={directory}/root", f"--dhcp-config={directory}/dhcp.toml"]
    command = [sys.executable, "-m", "regional", "--idc=bench", f"--server-ip={_ADDRESS}", "--enable-dhcp", *options]
    with started(namespace, directory, command, data / "ready.json"):
        yield


@contextlib.contextmanager
def dnsmasq(namespace: str, directory: Path) -> Iterator[None]:
    pid = directory / "pid"
    options = ["--port=0", "--interface=eth0", f"--dhcp-range={_FIRST},{_LAST},255.255.0.0,12h", "--no-ping"]
    options += [
        "--dhcp-authoritative",
        "--dhcp-lease-max=100000",
        f"--dhcp-leasefile={directory}/leases",
        "--user=root",
    ]
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--pid-file={pid}", *options]
    with started(namespace, directory, command, pid):
        yield


def under_load(namespace: str, offered: int, round_number: int) -> Measured:
    """Other clients each time: no renewal makes it easier."""
    clients = offered * SECONDS
    base = f"mac=02:{round_number:02x}:00:00:00:00"
    shown = run(
        "ip", "netns", "exec", namespace, "perfdhcp", "-4", "-l", "eth0", "-r", str(offered), "-R", str(clients), "-p",
        str(SECONDS), "-b", base, _ADDRESS,
    )  # fmt: skip
    rate = re.search(r"Rate: ([\d.]+) 4-way", shown)
    drops = [int(each) for each in re.findall(r"drops: (\d+)", shown)]
    sent = [int(each) for each in re.findall(r"sent packets: (\d+)", shown)]
    delays = [float(each) for each in re.findall(r"avg delay: ([\d.]+) ms", shown)]
    if rate is None or not sent:
        raise RuntimeError(shown)
    return Measured(offered, float(rate[1]), sum(drops) / max(1, sum(sent)), sum(delays))


def best(server: str, load: str, name: str, folder: Path) -> Measured:
    """A fresh server for each load, so that the pool is never the limit."""
    found = Measured(0, 0.0, 1.0, 0.0)
    for number, offered in enumerate(LOADS[name], 1):
        with tempfile.TemporaryDirectory(dir=folder) as directory:
            serving = longshore if name == "longshore" else dnsmasq
            with serving(server, Path(directory)):
                result = under_load(load, offered, number)
                if name == "longshore":
                    _all_on_disk(Path(directory), result)
        print(f"{name}: {result}", file=sys.stderr, flush=True)
        if result.dropped <= _MOST_DROPPED and result.reached > found.reached:
            found = result
    return found


def _all_on_disk(directory: Path, result: Measured) -> None:
    """Read while the server still runs: nothing of it was written at its end."""
    lines = (directory / "data" / "dhcp" / "leases").read_bytes().count(b"\n")
    if lines < result.reached * SECONDS * 0.99:
        raise RuntimeError(f"{lines} leases on disk, where {result.reached * SECONDS:.0f} were promised")


def measure(folder: Path, runs: int) -> None:
    """`runs` is the other figures' business: each load here takes its own fresh server."""
    with cable() as (server, load):
        ours = best(server, load, "longshore", folder)
        peer = best(server, load, "dnsmasq", folder)
    ratio = round(ours.reached / peer.reached, 2) if peer.reached else None
    Figure(
        benchmark="boot.dhcp",
        figure="full handshakes",
        unit="1/s",
        ours=round(ours.reached),
        peer=round(peer.reached),
        peer_name="dnsmasq",
        ratio=ratio,
        goal=f">= {GOAL}/s, leases durable",
        met=ours.reached >= GOAL * 0.98,
    ).print()
