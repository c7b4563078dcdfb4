"""Putting the parts together."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import CollectorRegistry

from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.jobs.running import Handler
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.remote.model import Patience
from control_plane.registry.replication.connections import Connections
from control_plane.registry.replication.copies import Copies
from control_plane.registry.replication.endpoints import EndpointService
from control_plane.registry.replication.executions import ExecutionService
from control_plane.registry.replication.hearing import Hearing
from control_plane.registry.replication.jobs import build_handlers
from control_plane.registry.replication.listing import Listing
from control_plane.registry.replication.local import LocalImages
from control_plane.registry.replication.metrics import ReplicationMetrics
from control_plane.registry.replication.rules import RuleService
from control_plane.registry.replication.runner import Runner, RunnerLimits
from control_plane.registry.replication.working import Working
from control_plane.registry.service import RegistryService
from control_plane.sealing import SealedBox
from control_plane.settings import ReplicationSettings
from control_plane.web.outbound import Outbound


@dataclass(frozen=True, slots=True)
class Replication:
    """`runner` runs where jobs do."""

    endpoints: EndpointService
    rules: RuleService
    executions: ExecutionService
    runner: Runner
    hearing: Hearing
    handlers: Mapping[str, Handler]

    async def tap(self, announcements: Sequence[Announcement]) -> None:
        """For the relay."""
        await self.hearing(announcements)


def build_replication(
    database: Database,
    tenants: TenantDirectory,
    box: SealedBox,
    outbound: Outbound,
    registry: RegistryService,
    metrics: CollectorRegistry,
    settings: ReplicationSettings,
    chance: Callable[[], float] = random.random,
    patience: Patience | None = None,
) -> Replication:
    clock = database.clock
    limits = RunnerLimits(settings.at_once, settings.at_once_per_endpoint, settings.lease_seconds)
    connections = Connections(box, outbound, clock, chance, patience)
    local = LocalImages(database)
    copies = Copies(database)
    working = Working(registry, local, Listing(database, clock, local, copies), copies)
    runner = Runner(database, clock, connections, working, ReplicationMetrics(metrics), chance, limits)
    executions = ExecutionService(database, clock, runner.wake)
    return Replication(
        endpoints=EndpointService(database, tenants, box, outbound, connections, clock),
        rules=RuleService(database, tenants, clock),
        executions=executions,
        runner=runner,
        hearing=Hearing(database, clock, chance, settings.settle_seconds),
        handlers=build_handlers(executions, timedelta(days=settings.keep_days)),
    )
