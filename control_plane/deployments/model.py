"""Deployments and their slots; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.fleet.placement.model import Explanation, Resources, Rules
from control_plane.instances.model import DesiredState, InstanceImage, InstanceSpec


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """`reschedule_after_seconds`: how long a host may be away before its instances get other places; 0: for ever.
    `state_may_be_lost`: it may move although it has volumes, which do not move with it. `exclusive`: a host that nobody
    reaches stops its instance before it gets another place.
    """

    tenant: str
    name: str
    image: str
    spec: InstanceSpec
    rules: Rules
    desired_state: DesiredState = DesiredState.RUNNING
    reschedule_after_seconds: int = 0
    state_may_be_lost: bool = False
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """`images` by architecture, as the tag was when it was asked for. `look_at`: when there may be something to do
    next; None: when something else changes. `why`: what kept `unplaced` slots without a host at the last look.
    """

    id: str
    tenant_id: str
    tenant: str
    name: str
    reference: str
    images: Mapping[str, InstanceImage]
    spec: InstanceSpec
    rules: Rules
    desired_state: DesiredState
    reschedule_after_seconds: int
    state_may_be_lost: bool
    exclusive: bool
    created_by: str
    created_at: datetime
    updated_at: datetime
    removing: bool = False
    look_at: datetime | None = None
    unplaced: int = 0
    why: Explanation = field(default_factory=Explanation)

    @property
    def ask(self) -> Resources:
        return Resources(round(self.spec.cpus * 1000), self.spec.memory_bytes, int(getattr(self.spec, "disk_bytes", 0)))

    @property
    def stateful(self) -> bool:
        """Whether moving would leave something behind that nobody allowed to be lost."""
        return bool(self.spec.mounts) and not self.state_may_be_lost

    @property
    def movable(self) -> bool:
        return not self.stateful and self.rules.count is not None

    def instance_name(self, number: int) -> str:
        return f"{self.name}-{number}"


@dataclass(frozen=True, slots=True)
class Slot:
    """`successor_id`: the instance that takes over on `successor_host_id` once the present one is gone; until then it
    only holds the contents, so that at no time two of them run.
    """

    number: int
    instance_id: str
    host_id: str
    successor_id: str = ""
    successor_host_id: str = ""
