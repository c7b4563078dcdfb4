"""A data centre with one rack: a real centre, a real regional with DHCP, TFTP and HTTP, and machines in QEMU.

    this machine (centre, tests) --- leg --- regional's namespace --- cable --- machines' namespace (bridge, taps)

The regional reaches the centre and the machines reach the regional; no machine reaches the centre.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.spread import wrap
from common.digest import Digest, Hasher
from common.reference import Reference
from control_plane.cli.image_source import BlobSource
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node
from deploy.demo.services import Service
from proto.regional.v1 import machines_pb2
from tests.engines.boot_disk import DISK_BYTES, system_disk
from tests.engines.boot_kernel import ARGUMENTS, GRUB, SHIM
from tests.engines.installer_environment import installer
from tests.engines.namespaces import Namespace
from tests.engines.processes import find_program
from tests.engines.qemu import Bridge, Firmware, Machine, bridge, machine
from tests.regional.dhcp.rack import SERVER, Rack, rack

T = TypeVar("T")
# Emulated, and beside everything else that this computer does: 20 to 60 seconds is usual.
PATIENCE_SECONDS = 300.0
SYSTEM, IMAGE = "debian-12", "acme/debian:12"
# Profiles: with scripts and a wipe before, and nothing but the image.
WHOLE, QUICK = "whole", "quick"
LOADERS = Path("/usr/lib/ipxe")
DHCP = """
[[subnets]]
network = "10.77.0.0/24"
interface = "eth0"
authoritative = true
answer_ipv6 = true
pools = [{ first = "10.77.0.10", last = "10.77.0.99" }]
"""


@dataclass(frozen=True)
class Body:
    """A machine of the rack. `disk` starts empty."""

    firmware: Firmware
    mac: str
    serial: str
    disk: Path


class Site:
    def __init__(self, fleet: Fleet, network: Rack, plugs: Bridge, image: Digest) -> None:
        self.fleet = fleet
        self.image = image
        self._network = network
        self._plugs = plugs
        self._cards = 0
        self._bodies = 0

    @property
    def regional(self) -> Service:
        return self.fleet.services["regional-east"]

    # Machines.

    def body(self, firmware: Firmware) -> Body:
        self._bodies += 1
        disk = self.fleet.root / f"disk-{self._bodies}"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES + (8 << 20))
        return Body(firmware, f"52:54:00:77:01:{self._bodies:02x}", f"SN-{self._bodies}", disk)

    def power_on(self, body: Body, disk_bytes_per_second: int = 0) -> AbstractContextManager[Machine]:
        """Off again at the end, whatever it does."""
        self._cards += 1
        return machine(
            body.firmware,
            self._plugs,
            body.mac,
            self.fleet.root,
            number=self._cards,
            serial=body.serial,
            disk=body.disk,
            disk_bytes_per_second=disk_bytes_per_second,
        )

    # The centre.

    def described(self, body: Body) -> dict[str, Any] | None:
        """As the centre knows it, once it said what it is made of."""
        rows = self.fleet.client.every("/api/v1/machines")
        return next((row for row in rows if body.mac in row["macs"] and row["inventory"]), None)

    def register(self, body: Body, loader: str = "") -> str:
        """Before anybody has seen it; its id."""
        words = {"idc": "east", "macs": [body.mac], "serial": body.serial, "boot": {"loader": loader}}
        return str(self.fleet.client.post("/api/v1/machines", words)["data"]["id"])

    def ask(self, machine_id: str, profile: str = WHOLE) -> str:
        """For an installation; the task."""
        wish = {"machine": machine_id, "profile": profile}
        return str(self.fleet.client.post("/api/v1/install-tasks", wish)["data"]["id"])

    def say(self, task: str, word: str) -> None:
        """approve, cancel or retry."""
        self.fleet.client.post(f"/api/v1/install-tasks/{task}/{word}", {})

    def task(self, task: str) -> dict[str, Any]:
        return dict(self.fleet.client.get(f"/api/v1/install-tasks/{task}")["data"])

    def history(self, task: str) -> list[str]:
        return [each["state"] for each in self.fleet.client.get(f"/api/v1/install-tasks/{task}/history")["data"]]

    def logged(self, task: str) -> list[str]:
        """What its installer wrote."""
        return [line["text"] for line in self.fleet.client.every(f"/api/v1/install-tasks/{task}/logs")]

    def events(self, machine_id: str) -> list[str]:
        return [
            f"{row['stage']}: {row['detail']}"
            for row in self.fleet.client.every(f"/api/v1/machines/{machine_id}/events")
        ]

    # The regional.

    def armed(self, task: str) -> bool:
        """It has the newest approval and the image on its disk."""
        holds = (self.regional.data / "cache" / "content" / "sha256" / self.image.hex[:2] / self.image.hex).exists()
        path = self.regional.data / "machines" / "machines.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            bodies = [row[0] for row in database.execute("SELECT body FROM targets")]
        intents = [machines_pb2.BootTarget.FromString(body).intent for body in bodies]
        attempt = self.task(task)["attempt"]
        return holds and any((intent.task_id, intent.attempt) == (task, attempt) for intent in intents)

    def timeline(self, body: Body) -> list[str]:
        """As it tells it on its own computer, with the centre away too."""
        url = f"http://{SERVER}:{self.regional.facts['api']}/api/v1/boot/machines/{body.mac}/timeline"
        busybox = find_program("busybox", "netboot")
        found = json.loads(self._network.run(self._network.regional, busybox, "wget", "-q", "-O", "-", url))
        return [f"{event['stage']}: {event['detail']}" for event in found["events"]]

    def address(self, body: Body) -> str:
        """Firmware, loaders and systems of one machine have one."""
        (found,) = {address for address in self.told("dhcp", "address", mac=body.mac) if address}
        return str(found)

    def log(self) -> list[dict[str, Any]]:
        lines = self.regional.log_path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def told(self, event: str, key: str, **facts: str) -> list[Any]:
        """What the regional's log says of events, by one of their keys."""
        return [
            line[key]
            for line in self.log()
            if line["event"] == event and key in line and all(line.get(name) == value for name, value in facts.items())
        ]


def eventually(condition: Callable[[], T | None], on: Machine | None = None) -> T:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, on.said[-3000:] if on is not None else "it never came to be"
        time.sleep(0.2)
    return found


@contextlib.contextmanager
def site(root: Path) -> Iterator[Site]:
    """Raises `EngineCannotRun`."""
    with rack() as network, bridge(network.machines, "eth0") as plugs, _leg(network.regional) as centre:
        (root / "dhcp.toml").write_text(DHCP)
        options = ("--enable-dhcp", f"--dhcp-config={root / 'dhcp.toml'}", "--enable-tftp", "--log-style=json")
        settings = {
            "LONGSHORE_REGIONAL_BOOT_STRANGERS": "discover",
            "LONGSHORE_REGIONAL_INSTALLER_ARGUMENTS": ARGUMENTS,
        }
        east = Idc("east", Node("regional-east", SERVER, network.regional.command_prefix), ())
        _publish(root / "regional-east" / "tftpboot" / "static")
        with Fleet(
            root,
            Node("centre", centre),
            [east],
            runtime="none",
            edge_arguments=options,
            edge_environment=settings,
        ) as fleet:
            fleet.start()
            image = _push_system(fleet)
            _profiles(fleet)
            yield Site(fleet, network, plugs, image)


def _profiles(fleet: Fleet) -> None:
    quick = {
        "system": {"family": "debian", "version": "12"},
        "method": "image",
        "image": IMAGE,
        "root_password_hash": "$6$saltsalt$" + "a" * 86,
    }
    whole = {**quick, "hardware_script": "echo the hardware is as it should be", "wipe": True}
    for name, spec in ((QUICK, quick), (WHOLE, whole)):
        fleet.client.post("/api/v1/profiles", {"name": name, "spec": spec})


def _publish(static: Path) -> None:
    made = installer()
    files = {
        "kernels/longshore-installer": made.kernel.read_bytes(),
        "initramfs/longshore-installer.gz": made.initrd.read_bytes(),
        "ipxe.efi": (LOADERS / "ipxe.efi").read_bytes(),
        "shimx64.efi": SHIM.read_bytes(),
        "grubx64.efi": GRUB.read_bytes(),
    }
    for name, content in files.items():
        (static / name).parent.mkdir(parents=True, exist_ok=True)
        (static / name).write_bytes(content)


def _push_system(fleet: Fleet) -> Digest:
    path = fleet.root / "system.img"
    system_disk(path, SYSTEM)
    hasher = Hasher()
    hasher.update(path.read_bytes())
    blob = BlobSource(hasher.digest(), hasher.size, lambda: path.open("rb"))
    push(fleet.client, Reference.parse(IMAGE), wrap(blob), lambda _digest, _held: None)
    return blob.digest


@contextlib.contextmanager
def _leg(where: Namespace) -> Iterator[str]:
    """A cable from this machine into `where`; our address on it."""
    ip, name = find_program("ip", "tools"), f"lsi{os.getpid() % 100_000}"
    taken = _run(ip, "-o", "-4", "addr", "show")
    # Two runs on one machine must not answer each other.
    nets = (f"10.214.{(os.getpid() + step) % 256}" for step in range(256))
    net = next(net for net in nets if f" {net}." not in taken)
    _run(ip, "link", "add", name, "type", "veth", "peer", "name", "centre", "netns", str(where.pid))
    try:
        _run(ip, "addr", "add", f"{net}.1/24", "dev", name)
        _run(ip, "link", "set", name, "up")
        _run(*where.command_prefix, ip, "addr", "add", f"{net}.2/24", "dev", "centre")
        _run(*where.command_prefix, ip, "link", "set", "centre", "up")
        yield f"{net}.1"
    finally:
        _run(ip, "link", "del", name)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
