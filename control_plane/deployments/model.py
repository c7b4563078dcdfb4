"""Deployments and their slots; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from common.errors import Conflict, Invalid
from control_plane.fleet.placement.model import Explanation, Resources, Rules
from control_plane.instances.model import DesiredState, InstanceImage, InstanceSpec

FIRST_REVISION = 1


class RolloutInvalid(Invalid):
    """`facts["field"]` names what is wrong."""

    code = "rollout_invalid"


class NothingToUndo(Conflict):
    """There is no such revision, or none before the present one."""

    code = "nothing_to_undo"


class RolloutOver(Conflict):
    """There is nothing under way that could be paused or resumed."""

    code = "rollout_over"


class RolloutState(StrEnum):
    FINISHED = "finished"  # every slot that has a host runs the revision, and is well
    GOING = "going"
    PAUSED = "paused"  # by somebody, or by itself because of failures; slots that were told go on


class OnFailure(StrEnum):
    PAUSE = "pause"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Pace:
    """max_unavailable: how many of the wanted may not serve because of the rollout. max_surge: how many more than
    wanted may be there meanwhile, where hosts have room. canaries: so many are changed first, and the others once those
    are well; 0: none. healthy: how long one must be well to count as well. patience: within which it must have become
    so, not counting what fetching takes. max_failures: how many may fail before it stops.
    """

    max_unavailable: int = 1
    max_surge: int = 0
    canaries: int = 0
    healthy: timedelta = timedelta(seconds=10)
    patience: timedelta = timedelta(minutes=10)
    max_failures: int = 0
    on_failure: OnFailure = OnFailure.PAUSE


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way from revision `base`, the last that was well everywhere, to the deployment's own. `reason`: why it stands
    or what it waits for. `resumed_at`: failures from before it are forgiven. `undoes`: it takes back one that failed.
    """

    state: RolloutState = RolloutState.FINISHED
    base: int = FIRST_REVISION
    pace: Pace = Pace()
    reason: str = ""
    began_at: datetime | None = None
    resumed_at: datetime | None = None
    ended_at: datetime | None = None
    undoes: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """What a deployment runs, as it was asked for once; never changed. `cause`, for people. `finished_at`: when it was
    well everywhere for the first time.
    """

    number: int
    reference: str
    images: Mapping[str, InstanceImage]
    spec: InstanceSpec
    cause: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def ask(self) -> Resources:
        return asked_by(self.spec)

    def same_as(self, other: Revision) -> bool:
        """Whether both ask hosts for the same."""
        return (self.reference, self.images, self.spec) == (other.reference, other.images, other.spec)


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
    """`revision`: what its slots shall run, which is what `reference`, `images` and `spec` are; `rollout`: how far they
    are. `images` by architecture, as the tag was when it was asked for. `look_at`: when there may be something to do
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
    revision: int = FIRST_REVISION
    rollout: Rollout = Rollout()

    @property
    def ask(self) -> Resources:
        return asked_by(self.spec)

    @property
    def own_revision(self) -> Revision:
        """The one that it is on the way to, or at."""
        return Revision(self.revision, self.reference, self.images, self.spec, "", self.created_by, self.updated_at)

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
    only holds the contents, so that at no time two of them run. `revision`: of both. `told_at`: when the present one
    was told it, or fetched for it last; None: it was made with it.
    """

    number: int
    instance_id: str
    host_id: str
    successor_id: str = ""
    successor_host_id: str = ""
    revision: int = FIRST_REVISION
    told_at: datetime | None = None


def asked_by(spec: InstanceSpec) -> Resources:
    """What of a host is promised to such an instance."""
    return Resources(round(spec.cpus * 1000), spec.memory_bytes, spec.disk_bytes)
