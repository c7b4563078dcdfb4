"""Wire models of `/api/v1/agent-rollouts`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.agent_rollouts.model import HostStanding, Pace, Rollout, RolloutRequest, State
from control_plane.instances.model import Phase
from control_plane.instances.schemas import Name
from control_plane.preheats.model import Targets


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HostsBody(_Asked):
    """Hosts by name, or those of IDCs that have all labels."""

    idcs: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list, description="empty: every IDC")
    labels: dict[str, str] = Field(default_factory=dict, max_length=16)
    hosts: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list, description="ids or idc/name")


class PaceBody(_Asked):
    canaries: int = Field(default=1, ge=1, le=100, description="hosts of the first wave")
    percentage: float = Field(default=10.0, gt=0, le=100, description="of all hosts, in the first two waves together")
    bake_seconds: float = Field(
        default=600.0, ge=0, le=14 * 86400, description="how long a wave must be well before the next begins"
    )
    max_failures: int = Field(default=0, ge=0, le=50_000, description="hosts that may fail after the first wave")
    healthy_seconds: float = Field(
        default=60.0, ge=1, le=3600, description="how long the version stays attached to be trusted"
    )
    patience_seconds: float = Field(default=300.0, ge=10, le=7200, description="within which it must have become so")

    def pace(self) -> Pace:
        return Pace(
            canaries=self.canaries,
            share=self.percentage / 100,
            bake=timedelta(seconds=self.bake_seconds),
            max_failures=self.max_failures,
            healthy=timedelta(seconds=self.healthy_seconds),
            patience=timedelta(seconds=self.patience_seconds),
        )


class RolloutBody(_Asked):
    image: str = Field(max_length=600, examples=["longshore/agent:1.4.2"])
    version: str | None = Field(default=None, max_length=64, description="for people; the tag if left out")
    targets: HostsBody = Field(default_factory=HostsBody)
    pace: PaceBody = Field(default_factory=PaceBody)

    def request(self) -> RolloutRequest:
        chosen = self.targets
        return RolloutRequest(
            image=self.image,
            version=self.version if self.version is not None else _tag_of(self.image),
            targets=Targets(tuple(chosen.idcs), dict(chosen.labels), hosts=tuple(chosen.hosts)),
            pace=self.pace.pace(),
        )


class RolloutShown(BaseModel):
    id: str
    order: int = Field(description="hosts act on none that is not newer than their last")
    image: str
    version: str
    digests: dict[str, str] = Field(description="manifest by architecture, as the tag meant it then")
    targets: HostsBody
    pace: PaceBody
    state: State
    reason: str = Field(description="why it halted, or what superseded it")
    wave: int = Field(description="the last one that was begun, of three")
    settled_at: datetime | None = Field(description="since when all its hosts are well")
    created_by: str
    created_at: datetime
    ended_at: datetime | None


class HostStandingBody(BaseModel):
    host_id: str
    host: str
    idc: str
    wave: int
    phase: Phase = Field(
        description="fetching; verified: not yet tried; creating: being tried; running: trusted; failed: went back"
    )
    detail: str
    version: str = Field(description="what the host's agent said when it last attached")


def rollout_shown(rollout: Rollout) -> RolloutShown:
    targets, pace = rollout.targets, rollout.pace
    return RolloutShown(
        id=rollout.id,
        order=rollout.order,
        image=rollout.reference,
        version=rollout.version,
        digests={name: str(image.manifest.digest) for name, image in rollout.images.items()},
        targets=HostsBody(idcs=list(targets.idcs), labels=dict(targets.labels), hosts=list(targets.hosts)),
        pace=PaceBody(
            canaries=pace.canaries,
            percentage=pace.share * 100,
            bake_seconds=pace.bake.total_seconds(),
            max_failures=pace.max_failures,
            healthy_seconds=pace.healthy.total_seconds(),
            patience_seconds=pace.patience.total_seconds(),
        ),
        state=rollout.state,
        reason=rollout.reason,
        wave=rollout.wave,
        settled_at=rollout.settled_at,
        created_by=rollout.created_by,
        created_at=rollout.created_at,
        ended_at=rollout.ended_at,
    )


def host_standing_body(one: HostStanding) -> HostStandingBody:
    return HostStandingBody(
        host_id=one.host_id,
        host=one.host,
        idc=one.idc,
        wave=one.wave,
        phase=one.phase,
        detail=one.detail,
        version=one.version,
    )


def _tag_of(image: str) -> str:
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]
