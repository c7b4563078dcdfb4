"""Registries of ours that copy to each other, on real sockets."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from control_plane.database.relay import Announcement, relay_once
from control_plane.events.memory import MemoryEventBus
from control_plane.registry.manifests import OCI_MANIFEST
from control_plane.registry.replication.assembly import Replication, build_replication
from control_plane.registry.replication.endpoints import EndpointPlan
from control_plane.registry.replication.executions import Tallied
from control_plane.registry.replication.model import Direction, OtherRegistry, Rule, Task
from control_plane.registry.replication.rules import RulePlan
from control_plane.registry.replication.selection import Filter, Naming
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.settings import ReplicationSettings
from control_plane.tenants.access import Principal
from control_plane.web.outbound import Outbound
from control_plane.web.outbound_addresses import AddressPolicy
from control_plane.web.paging import PageRequest
from tests.control_plane.registry.mirroring.sites import HASTY, Site, open_site
from tests.control_plane.registry.people import ADA, Directory, encode

EVERYTHING = PageRequest(1, 100)
SETTINGS = ReplicationSettings(lease_seconds=3, settle_seconds=0.2)


@dataclass(frozen=True)
class Place:
    """`heard`: what was announced, as it was relayed."""

    site: Site
    replication: Replication
    outbound: Outbound
    bus: MemoryEventBus
    heard: list[Announcement]

    async def endpoint(self, url: str, name: str = "there", by: Principal = ADA, **more: object) -> OtherRegistry:
        plan = EndpointPlan("acme", name, url, **more)  # type: ignore[arg-type]
        return await self.replication.endpoints.create(by, plan)

    async def rule(
        self,
        endpoint: OtherRegistry,
        name: str = "all",
        *,
        direction: Direction = Direction.PUSH,
        source: Filter | None = None,
        naming: Naming | None = None,
        **more: object,
    ) -> Rule:
        plan = RulePlan(
            "acme",
            name,
            endpoint.endpoint_id,
            direction,
            source or Filter(("acme/**",)),
            naming or Naming(),
            **more,  # type: ignore[arg-type]
        )
        return await self.replication.rules.create(ADA, plan)

    async def run(self, rule: Rule) -> tuple[str, list[Task]]:
        """A whole run: its state and its tasks."""
        started = await self.replication.executions.start(ADA, rule.rule_id)
        await self.work()
        return await self.outcome(started)

    async def outcome(self, started: Tallied) -> tuple[str, list[Task]]:
        execution_id = started.execution.execution_id
        ended = await self.replication.executions.get(ADA, execution_id)
        tasks = await self.replication.executions.tasks(ADA, execution_id, None, EVERYTHING)
        return ended.execution.state.value, list(tasks.items)

    async def work(self, rounds: int = 30) -> int:
        """Relay and copy until nothing is left; how many attempts that were."""
        attempts = 0
        for _ in range(rounds):
            relayed = await relay_once(self.site.database, self.bus, self._tap)
            self.site.clock.ahead += 2
            began = await self.replication.runner.run_due()
            if not relayed and not began:
                return attempts
            attempts += began
        return attempts

    async def _tap(self, announcements: Sequence[Announcement]) -> None:
        self.heard.extend(announcements)
        await self.replication.tap(announcements)

    def topics(self) -> list[str]:
        return [each.topic for each in self.heard]


@contextlib.asynccontextmanager
async def open_place(root: Path, sqlite_url: str, **more: object) -> AsyncIterator[Place]:
    async with open_site(root, sqlite_url) as site:
        outbound = Outbound(AddressPolicy.of(["127.0.0.1"]))
        replication = build_replication(
            site.database,
            Directory("acme", "birch"),
            SealedBox(KeyRing.load_or_create(root / "keys")),
            outbound,
            site.registry,
            CollectorRegistry(),
            SETTINGS,
            random.Random(7).random,
            HASTY,
        )
        bus = MemoryEventBus()
        yield Place(site, replication, outbound, bus, [])
        await bus.close()
        await outbound.close()


def referrer_manifest(subject: bytes, digest: str, kind: str = "application/vnd.example.sbom", note: str = "") -> bytes:
    """Something about an image, with the empty descriptor as its config and only layer."""
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
    }
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": empty,
            "layers": [empty],
            "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(subject)},
            "annotations": {"note": note},
        }
    )
