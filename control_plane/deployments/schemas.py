"""Wire models of `/api/v1/deployments`, of draining and of room on hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.deployments.model import Deployment, DeploymentRequest, RolloutState
from control_plane.deployments.reading import DeploymentView, DrainView, Leaving
from control_plane.fleet.placement.model import Offer, Rules, Spread, Standing
from control_plane.fleet.placement.schemas import StandingView
from control_plane.fleet.placement.selectors import parse_requirement, written
from control_plane.instances.model import DesiredState, Health, Phase
from control_plane.instances.schemas import Name, RunBody

_Names = Annotated[list[Name], Field(max_length=32)]
_Hosts = Annotated[list[Name], Field(max_length=1000)]


class SpreadBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: str = Field(max_length=63, description="idc, or the key of a label", examples=["idc", "rack"])
    max_skew: int = Field(default=1, description="how many more one may have than the one with the fewest")


class RulesBody(BaseModel):
    """Which hosts, and how many. Lists that are left out choose everything."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(default=1, description="how many instances")
    everywhere: bool = Field(default=False, description="one on every host that fits, instead of a count")
    idcs: _Names = Field(default_factory=list)
    hosts: _Hosts = Field(default_factory=list, description="each an id or idc/name")
    where: _Names = Field(
        default_factory=list,
        description="label requirements: KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY, !KEY",
        examples=[["rack in (r1,r2)"]],
    )
    spread: Annotated[list[SpreadBody], Field(max_length=32)] = Field(default_factory=list)
    near: _Names = Field(default_factory=list, description="instances or deployments that must be on the same host")
    apart: _Names = Field(default_factory=list, description="instances or deployments that must not be there")
    engine: str = Field(default="", max_length=32, description="that the host must have: docker, lxd")
    architectures: _Names = Field(default_factory=list, description="GOARCH words")
    per_host: int = Field(default=1, description="how many of them one host may have")

    def rules(self) -> Rules:
        """Raises `PlacementInvalid`."""
        return Rules(
            count=None if self.everywhere else self.count,
            idcs=tuple(self.idcs),
            hosts=tuple(self.hosts),
            labels=tuple(parse_requirement(text) for text in self.where),
            spread=tuple(Spread(one.by, one.max_skew) for one in self.spread),
            near=tuple(self.near),
            apart=tuple(self.apart),
            engine=self.engine,
            architectures=tuple(self.architectures),
            per_host=self.per_host,
        )

    @classmethod
    def of(cls, rules: Rules) -> RulesBody:
        return cls(
            count=rules.count or 0,
            everywhere=rules.count is None,
            idcs=list(rules.idcs),
            hosts=list(rules.hosts),
            where=[written(one) for one in rules.labels],
            spread=[SpreadBody(by=one.by, max_skew=one.max_skew) for one in rules.spread],
            near=list(rules.near),
            apart=list(rules.apart),
            engine=rules.engine,
            architectures=list(rules.architectures),
            per_host=rules.per_host,
        )


class DeployBody(RunBody):
    """What an instance is asked for with, and rules instead of hosts: `hosts`, `idc` and `all_hosts` stay empty."""

    hosts: Literal[None] = None
    idc: Literal[None] = None
    all_hosts: Literal[False] = False
    rules: RulesBody = Field(default_factory=RulesBody)
    reschedule_after_seconds: int = Field(
        default=0, description="how long a host may be away before its instances get other places; 0: for ever"
    )
    state_may_be_lost: bool = Field(default=False, description="it may move although its volumes do not move with it")
    exclusive: bool = Field(
        default=False, description="a host that nobody reaches stops its instance before another gets its place"
    )

    def deployment(self) -> DeploymentRequest:
        """Raises `PlacementInvalid`."""
        asked = self.request()
        return DeploymentRequest(
            tenant=asked.tenant,
            name=asked.name,
            image=asked.image,
            spec=asked.spec,
            rules=self.rules.rules(),
            desired_state=asked.desired_state,
            reschedule_after_seconds=self.reschedule_after_seconds,
            state_may_be_lost=self.state_may_be_lost,
            exclusive=self.exclusive,
        )


class SlotBody(BaseModel):
    number: int
    instance_id: str
    host: str
    phase: Phase
    health: Health
    detail: str
    moving_to: str = Field(description="idc/name of the host where its successor waits; empty: it does not move")
    revision: int = Field(description="what it was told to run")


class DeploymentBody(BaseModel):
    id: str
    tenant: str
    name: str
    image: str
    desired_state: DesiredState
    rules: RulesBody
    reschedule_after_seconds: int
    state_may_be_lost: bool
    exclusive: bool
    removing: bool
    revision: int = Field(description="what its instances run, or come to run while `rollout` is not finished")
    rollout: RolloutState
    running: int
    unplaced: int = Field(description="how many have no host")
    why: str = Field(description="why they have none")
    why_hosts: Mapping[str, str] = Field(description="the reason of each host, of the first hundred")
    slots: Sequence[SlotBody]
    created_by: str
    created_at: datetime
    updated_at: datetime


class DrainedBody(BaseModel):
    id: str
    tenant: str
    name: str
    phase: Phase
    leaving: Leaving
    detail: str


class DrainBody(BaseModel):
    """How far a host is drained. `finished`: everything that can move has moved."""

    host: str
    standing: StandingView
    finished: bool
    counts: Mapping[Leaving, int]
    instances: Sequence[DrainedBody]


class RoomBody(BaseModel):
    """What a host has for instances after reserves and overcommit, and what is promised. Null: it does not say."""

    host: str
    standing: Standing
    away_since: datetime | None
    instances: int
    cpus: float | None
    used_cpus: float
    memory_bytes: int | None
    used_memory_bytes: int
    disk_bytes: int | None
    used_disk_bytes: int


def deployment_body(view: DeploymentView) -> DeploymentBody:
    one: Deployment = view.deployment
    return DeploymentBody(
        id=one.id,
        tenant=one.tenant,
        name=one.name,
        image=one.reference,
        desired_state=one.desired_state,
        rules=RulesBody.of(one.rules),
        reschedule_after_seconds=one.reschedule_after_seconds,
        state_may_be_lost=one.state_may_be_lost,
        exclusive=one.exclusive,
        removing=one.removing,
        revision=one.revision,
        rollout=one.rollout.state,
        running=view.running,
        unplaced=one.unplaced,
        why=one.why.text if one.unplaced else "",
        why_hosts=one.why.hosts if one.unplaced else {},
        slots=[
            SlotBody(
                number=slot.number,
                instance_id=slot.instance_id,
                host=slot.host,
                phase=slot.status.phase,
                health=slot.status.health,
                detail=slot.status.detail,
                moving_to=slot.moving_to,
                revision=slot.revision,
            )
            for slot in view.slots
        ],
        created_by=one.created_by,
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


def drain_body(view: DrainView) -> DrainBody:
    return DrainBody(
        host=view.host,
        standing=StandingView.of(view.standing),
        finished=view.finished,
        counts={leaving: sum(one.leaving is leaving for one in view.instances) for leaving in Leaving},
        instances=[
            DrainedBody(
                id=one.instance.id,
                tenant=one.instance.tenant,
                name=one.instance.name,
                phase=one.status.phase,
                leaving=one.leaving,
                detail=one.detail,
            )
            for one in view.instances
        ],
    )


def room_body(offer: Offer) -> RoomBody:
    capacity, used = offer.capacity, offer.used
    return RoomBody(
        host=offer.label,
        standing=offer.standing,
        away_since=offer.absent_since,
        instances=offer.instances,
        cpus=None if capacity.millicpus is None else capacity.millicpus / 1000,
        used_cpus=used.millicpus / 1000,
        memory_bytes=capacity.memory_bytes,
        used_memory_bytes=used.memory_bytes,
        disk_bytes=capacity.disk_bytes,
        used_disk_bytes=used.disk_bytes,
    )
