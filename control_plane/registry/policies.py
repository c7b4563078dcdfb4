"""What tenants rule about their images, put together for `app`: retention and immutability, signatures, replication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.database import Database, UnitOfWork
from control_plane.jobs.running import Handler
from control_plane.jobs.service import JobService
from control_plane.registry.collaborators import TenantDirectory
from control_plane.registry.replication.assembly import Replication
from control_plane.registry.retention.assembly import Retention, build_retention
from control_plane.registry.retention.pictures import RunningImages
from control_plane.registry.retention.pulls import PullTimes
from control_plane.registry.service import RegistryService
from control_plane.registry.signatures.gate import SignatureGate
from control_plane.registry.signatures.service import SignatureService


@dataclass(frozen=True)
class Policies:
    retention: Retention
    signatures: SignatureService
    replication: Replication

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return {**self.retention.handlers, **self.replication.handlers}

    async def tenant_going(self, unit: UnitOfWork, tenant_id: str) -> str | None:
        """For `tenants`, which asks before it deletes one."""
        await self.retention.service.tenant_going(unit, tenant_id)
        await self.replication.endpoints.tenant_goes(unit, tenant_id)
        return await self.signatures.tenant_going(unit, tenant_id)


def build_policies(
    database: Database,
    tenants: TenantDirectory,
    registry: RegistryService,
    jobs: JobService,
    running: RunningImages,
    gate: SignatureGate,
    pulls: PullTimes,
    replication: Replication,
) -> Policies:
    clock = database.clock
    return Policies(
        build_retention(database, tenants, jobs, registry.images, running, pulls, clock),
        SignatureService(database, tenants, registry.rights, gate, clock),
        replication,
    )
