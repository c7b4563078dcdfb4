"""`/api/v1/hosts/{host}/metrics`: how busy a host was when it last said so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from pydantic import BaseModel, Field

from control_plane.fleet.host_looks import HostLooks, finite
from control_plane.fleet.hosts import Members
from control_plane.tenants.access import Permission
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope
from proto.agent.v1 import agent_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = timedelta(days=365 * 200)


class HostMetrics(BaseModel):
    """Rates are means since the sample before, about a minute earlier."""

    taken_at: datetime = Field(description="by the host's own clock")
    busy_cpus: float = Field(description="in processors: 1.5 is one and a half of them")
    load_1m: float
    memory_used_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int = Field(description="of the file system that contents are on")
    disk_total_bytes: int
    disk_read_bytes_per_second: float
    disk_written_bytes_per_second: float
    received_bytes_per_second: float
    sent_bytes_per_second: float
    cache_bytes: int = Field(description="contents held")
    instances: int = Field(description="how many instances are in the sample")


def build_router(members: Members, looks: HostLooks) -> APIRouter:
    """To be included before the routes of hosts, whose `{host:path}` would swallow it."""
    router = APIRouter(tags=["fleet"])

    @router.get("/api/v1/hosts/{host:path}/metrics")
    async def host_metrics(principal: CurrentPrincipal, host: str) -> Envelope[HostMetrics]:
        """How busy a host, named by its id or by `idc/name`, was within the last minutes."""
        principal.require(Permission.PLATFORM_READ)
        seen = await members.get("host", host)
        return Envelope(data=_metrics(await looks.latest(seen.member.id)))

    return router


def moment_of(milliseconds: int) -> datetime:
    """What a host's clock says, which may be nonsense."""
    return _EPOCH + min(timedelta(milliseconds=min(milliseconds, 1 << 52)), _LATEST)


def _metrics(sample: agent_pb2.Sample) -> HostMetrics:
    return HostMetrics(
        taken_at=moment_of(sample.taken_at_ms),
        busy_cpus=finite(sample.busy_cpus),
        load_1m=finite(sample.load_1m),
        memory_used_bytes=sample.memory_used_bytes,
        memory_total_bytes=sample.memory_total_bytes,
        disk_free_bytes=sample.disk_free_bytes,
        disk_total_bytes=sample.disk_total_bytes,
        disk_read_bytes_per_second=finite(sample.disk_read_bytes_per_second),
        disk_written_bytes_per_second=finite(sample.disk_written_bytes_per_second),
        received_bytes_per_second=finite(sample.received_bytes_per_second),
        sent_bytes_per_second=finite(sample.sent_bytes_per_second),
        cache_bytes=sample.cache_bytes,
        instances=len(sample.instances),
    )
