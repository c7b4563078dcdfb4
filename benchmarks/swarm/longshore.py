"""Our side: control plane and regional at the source, an agent on each host, a regional at every further site.

The clock starts with the request of an operator, over the public API: that the control plane tells the hosts, describes
the blob, and that the first regional gets it from the control plane, is part of our time. A host is done when its
cache shows the content, which it does only after the whole digest was verified and the file is durable.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from benchmarks.spread import wrap
from benchmarks.swarm.contender import Arena, Contender
from common.digest import Digest
from common.reference import Reference
from control_plane.cli.push import push
from deploy.demo.fleet import Fleet, Idc, Node

# What publishing sets going in the background is over by then, as the others' torrents are made before their start.
_SETTLE_SECONDS = 4.0
_NAMES = ("east", "west", "north", "south")


class Longshore(Contender):
    name = "Longshore"

    def __init__(
        self,
        arena: Arena,
        *,
        edge_arguments: Sequence[str] = (),
        without: Collection[int] = (),
        logs: Path | None = None,
    ) -> None:
        """`without`: hosts that have no agent. `logs`: where the services' logs are kept."""
        super().__init__(arena)
        self._logs = logs
        network = arena.network
        idcs = []
        for site, hosts_here in enumerate(network.shape.sites):
            if not hosts_here:
                continue  # the control plane alone
            place = network.relay(site) if site else network.source
            regional = Node(f"regional-{_NAMES[site]}", place.address, place.prefix)
            here = [number for number in network.numbers() if network.site_of(number) == site]
            hosts = tuple(network.host(number) for number in here if number not in without)
            idcs.append(Idc(_NAMES[site], regional, hosts))
        self.fleet = Fleet(
            arena.folder / "fleet", network.source, idcs, runtime="none", edge_arguments=tuple(edge_arguments)
        )

    def prepare(self) -> None:
        self.fleet.start()
        push(self.fleet.client, Reference.parse("acme/blob:1"), wrap(self.arena.blob), lambda _digest, _held: None)
        time.sleep(_SETTLE_SECONDS)

    def go(self) -> None:
        self.request("acme/blob:1")

    def request(self, image: str, name: str = "blob") -> None:
        body = {"tenant": "acme", "name": name, "image": image, "all_hosts": True, "desired_state": "held"}
        self.fleet.client.post("/api/v1/instances", body)

    def request_on(self, image: str, numbers: Sequence[int], name: str) -> None:
        network = self.arena.network
        hosts = [f"{_NAMES[network.site_of(number)]}/{network.host(number).name}" for number in numbers]
        body = {"tenant": "acme", "name": name, "image": image, "hosts": hosts, "desired_state": "held"}
        self.fleet.client.post("/api/v1/instances", body)

    def holds(self, number: int) -> bool:
        return self.copy(number).exists()

    def copy(self, number: int) -> Path:
        return self.content(number, self.arena.blob.digest)

    def content(self, number: int, digest: Digest) -> Path:
        """Where that host has a content once it is verified."""
        data = self.fleet.root / self.arena.network.host(number).name
        return data / "content" / digest.algorithm / digest.hex[:2] / digest.hex

    def gathering(self, size: int) -> list[Path]:
        """The hosts' files of that size, whole or not."""
        roots = [self.fleet.root / self.arena.network.host(number).name for number in self.arena.network.numbers()]
        return [path for root in roots for path in root.glob("swarm/*/*") if path.stat().st_size == size]

    def kill(self, number: int) -> None:
        self.fleet.services[self.arena.network.host(number).name].kill()

    def sessions(self) -> set[int]:
        return {service.pid for service in self.fleet.services.values() if service.running}

    def close(self) -> None:
        try:
            self.fleet.close()
        finally:
            if self._logs is not None:
                self._logs.mkdir(parents=True, exist_ok=True)
                for log in self.fleet.root.glob("*.log"):
                    shutil.copy(log, self._logs)
