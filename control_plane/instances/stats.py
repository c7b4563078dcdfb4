"""`/api/v1/instances/{id}/stats`: what an instance used when its host last said so."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from control_plane.fleet.host_looks import HostLooks, InstanceUse, finite
from control_plane.fleet.sample_routes import moment_of
from control_plane.instances.reading import InstanceReading
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope


class InstanceStats(BaseModel):
    """Counters grow from the start of the container."""

    taken_at: datetime = Field(description="by the host's own clock")
    cpu_seconds: float
    busy_cpus: float = Field(description="in processors, mean of about the last minute")
    memory_bytes: int
    memory_limit_bytes: int = Field(description="0: none")
    received_bytes: int
    sent_bytes: int
    processes: int


def build_router(reading: InstanceReading, looks: HostLooks) -> APIRouter:
    router = APIRouter(tags=["instances"])

    @router.get("/api/v1/instances/{instance_id}/stats")
    async def instance_stats(principal: CurrentPrincipal, instance_id: str) -> Envelope[InstanceStats]:
        """What an instance used within the last minutes."""
        view = await reading.get(principal, instance_id)
        return Envelope(data=_stats(await looks.latest_of(view.instance.host_id, instance_id)))

    return router


def _stats(found: InstanceUse) -> InstanceStats:
    use = found.use
    return InstanceStats(
        taken_at=moment_of(found.taken_at_ms),
        cpu_seconds=finite(use.cpu_seconds),
        busy_cpus=finite(use.busy_cpus),
        memory_bytes=use.memory_bytes,
        memory_limit_bytes=use.memory_limit_bytes,
        received_bytes=use.received_bytes,
        sent_bytes=use.sent_bytes,
        processes=use.processes,
    )
