"""Wire models of standings and capacity."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from control_plane.fleet.placement.model import CapacityPolicy, HostStanding, ScopeKind, Standing
from control_plane.fleet.placement.service import ScopePolicy

_Count = Annotated[int | None, Field(default=None, ge=0, lt=1 << 62)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CordonBody(_Body):
    reason: str = Field(default="", max_length=500, description="for people; shown with the host")


class DrainBody(CordonBody):
    max_unavailable: int = Field(
        default=1, ge=1, le=10_000, description="how many instances of one deployment may be down at a time"
    )


class StandingView(BaseModel):
    standing: Standing
    reason: str
    by: str
    since: datetime | None
    max_unavailable: int

    @classmethod
    def of(cls, found: HostStanding) -> StandingView:
        return cls(
            standing=found.standing,
            reason=found.reason,
            by=found.by,
            since=found.since,
            max_unavailable=found.max_unavailable,
        )


class CapacityBody(_Body):
    """What is left out is as the wider scope says: IDC, then platform, then nothing kept back, all promised once."""

    reserve_cpus: float | None = Field(default=None, description="cores kept back from instances")
    reserve_memory_bytes: _Count
    reserve_disk_bytes: _Count
    cpu_overcommit: float | None = Field(default=None, description="how many times over CPUs may be promised")
    memory_overcommit: float | None = Field(default=None, description="how many times over memory may be promised")

    def policy(self) -> CapacityPolicy:
        values: dict[str, Any] = self.model_dump(include=set(CapacityBody.model_fields))
        return CapacityPolicy(**values)


class CapacityPolicyView(CapacityBody):
    scope: ScopeKind
    name: str = Field(description="of the IDC, or idc/name of the host; empty for the platform")

    @classmethod
    def of(cls, found: ScopePolicy) -> CapacityPolicyView:
        policy = found.policy
        return cls(
            scope=found.kind,
            name=found.name,
            reserve_cpus=policy.reserve_cpus,
            reserve_memory_bytes=policy.reserve_memory_bytes,
            reserve_disk_bytes=policy.reserve_disk_bytes,
            cpu_overcommit=policy.cpu_overcommit,
            memory_overcommit=policy.memory_overcommit,
        )
