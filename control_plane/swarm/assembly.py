"""The swarm's services, wired; what the composition root asks for.

Invariant: nothing runs when `build_swarm` returns; the content keys are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from prometheus_client import CollectorRegistry

from common.clock import Clock
from control_plane.audit.service import AuditTrail
from control_plane.database import Database
from control_plane.fleet.service import Fleet
from control_plane.jobs.service import JobService
from control_plane.registry.service import RegistryService
from control_plane.sealing import SealedBox
from control_plane.settings import SwarmSettings
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.ahead import DescribeAhead
from control_plane.swarm.authorities import SwarmAuthorities
from control_plane.swarm.bad_peers import BadPeers
from control_plane.swarm.describe import Describer
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.forgetting import Forgetting
from control_plane.swarm.gates import Gates
from control_plane.swarm.keys import ContentKeys
from control_plane.swarm.minting import CertificateMint
from control_plane.swarm.overview import SwarmOverview
from control_plane.swarm.provenance_metrics import SwarmMetrics
from control_plane.swarm.service import SwarmService
from control_plane.swarm.spreads.service import SpreadService
from control_plane.swarm.statements import Statements
from control_plane.swarm.tokens import ContentTokens
from control_plane.swarm.visibility import TenantDirectory


@dataclass(frozen=True, slots=True)
class SwarmOptions:
    """`smallest_bytes`: below it a content goes by HTTP. `metainfo_patience_seconds`: how long a request waits for a
    description that is being made. `certificate_life`: of peers' certificates; None: swarms speak plainly.
    `describe_ahead`: large contents are described when they are pushed.
    """

    smallest_bytes: int
    metainfo_patience_seconds: float
    egress_flush_seconds: float
    certificate_life: timedelta | None = None
    describe_ahead: bool = True

    @classmethod
    def of(cls, chosen: SwarmSettings) -> Self:
        return cls(
            smallest_bytes=chosen.smallest_bytes,
            metainfo_patience_seconds=chosen.metainfo_patience_seconds,
            egress_flush_seconds=chosen.egress_flush_seconds,
            certificate_life=timedelta(hours=chosen.certificate_hours) if chosen.tls else None,
            describe_ahead=chosen.describe_ahead,
        )


@dataclass(frozen=True)
class Swarm:
    service: SwarmService
    keys: ContentKeys
    tokens: ContentTokens
    access: ContentAccess
    egress: EgressCounter
    overview: SwarmOverview
    describer: Describer
    statements: Statements
    bad_peers: BadPeers
    spreads: SpreadService
    mint: CertificateMint | None
    gates: Gates
    forgetting: Forgetting
    ahead: DescribeAhead | None


async def build_swarm(
    database: Database,
    clock: Clock,
    box: SealedBox,
    registry: RegistryService,
    jobs: JobService,
    fleet: Fleet,
    directory: TenantDirectory,
    options: SwarmOptions,
    trail: AuditTrail,
    registered: CollectorRegistry,
) -> Swarm:
    """Reads the content keys, and makes them at the first start."""
    keys = ContentKeys(database, box, clock)
    await keys.load()
    tokens = ContentTokens(keys, clock)
    access = ContentAccess(tokens, fleet.members, clock)
    authorities, life = SwarmAuthorities(database, box), options.certificate_life
    fleet_authority = fleet.authority.signer.certificate
    metrics = SwarmMetrics(registered)
    egress = EgressCounter(database, clock, period_seconds=options.egress_flush_seconds)
    return Swarm(
        service=SwarmService(
            database,
            tokens,
            registry,
            jobs,
            metrics,
            smallest_bytes=options.smallest_bytes,
            patience_seconds=options.metainfo_patience_seconds,
        ),
        keys=keys,
        tokens=tokens,
        access=access,
        egress=egress,
        overview=SwarmOverview(database, directory, egress),
        describer=Describer(database, registry, keys.swarm_secret, authorities.certificate_of if life else None),
        statements=Statements(keys),
        bad_peers=BadPeers(database, trail, directory, metrics),
        spreads=SpreadService(database, directory),
        mint=CertificateMint(access, authorities, fleet_authority, clock, life) if life else None,
        gates=Gates(database),
        forgetting=Forgetting(database, registry.contents),
        ahead=DescribeAhead(database, clock, registry, jobs, options.smallest_bytes)
        if options.describe_ahead
        else None,
    )
