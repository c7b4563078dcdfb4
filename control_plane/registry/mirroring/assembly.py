"""Putting the parts together. `Mirroring.attached` once the registry is made."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from common.clock import Clock
from control_plane.cache import Cache
from control_plane.database import Database
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.mirroring.directory import PATIENCE, MirrorDirectory
from control_plane.registry.mirroring.healing import UpstreamHealer
from control_plane.registry.mirroring.metrics import MirrorMetrics
from control_plane.registry.mirroring.pull_through import PullThrough
from control_plane.registry.mirroring.service import MirrorService
from control_plane.registry.mirroring.turns import Turns
from control_plane.registry.remote.model import Patience
from control_plane.registry.service import RegistryService
from control_plane.sealing import SealedBox
from control_plane.web.outbound import Outbound


@dataclass(frozen=True, slots=True)
class Mirroring:
    """`pull_through` is the registry's hook; enter it where requests are served."""

    service: MirrorService
    pull_through: PullThrough
    healer: UpstreamHealer

    def attached(self, registry: RegistryService) -> Mirroring:
        """Itself, with what is fetched stored in this registry, which was made with `pull_through` among its hooks."""
        self.pull_through.attach(registry)
        return self


def open_mirroring(
    database: Database,
    tenants: TenantDirectory,
    box: SealedBox,
    outbound: Outbound,
    clock: Clock,
    cache: Cache,
    spools: Path,
    random: Callable[[], float] = random.random,
    patience: Patience = PATIENCE,
    metrics: CollectorRegistry | None = None,
) -> Mirroring:
    """`cache` is shared by the replicas. `spools`: directory of what is being fetched, as large as all fetches of a
    moment.
    """
    directory = MirrorDirectory(database, box, outbound, clock, random, patience)
    service = MirrorService(database, tenants, box, outbound, directory, clock)
    turns, counted = Turns(cache, clock, random), MirrorMetrics(metrics or CollectorRegistry())
    through = PullThrough(directory, database, clock, spools, turns, counted)
    return Mirroring(service, through, UpstreamHealer(directory))
