"""What one look at a deployment sees, and what it decides; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.deployments.model import Deployment, Revision, Rollout, Slot
from control_plane.fleet.placement.model import Explanation, Offer, Resources
from control_plane.instances.model import DesiredState, Health, Instance, Phase, Status

READY = (Phase.VERIFIED, Phase.CREATING, Phase.RUNNING, Phase.PAUSED, Phase.STOPPED)


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that counts for one look. `instances`: those of the slots that still exist, by id. `watched_since`:
    since when we would have seen a host come back; before that nobody is called lost. `revisions`: by number, those
    that slots have and the rollout's base; the deployment's own may be left out.
    """

    deployment: Deployment
    slots: Mapping[int, Slot]
    instances: Mapping[str, tuple[Instance, Status]]
    offers: Mapping[str, Offer]
    max_unavailable: Mapping[str, int]
    now: datetime
    watched_since: datetime
    revisions: Mapping[int, Revision] = field(default_factory=dict)

    def revision(self, number: int) -> Revision:
        return self.revisions.get(number, self.deployment.own_revision)

    @property
    def architectures(self) -> frozenset[str]:
        """Those that a slot may have to be made for."""
        deployment = self.deployment
        return frozenset(deployment.images.keys() & self.revision(deployment.rollout.base).images.keys())

    @property
    def ask(self) -> Resources:
        """What a new place must have: as much as either end of the rollout asks for."""
        return most_of(self.deployment.ask, self.revision(self.deployment.rollout.base).ask)


@dataclass(frozen=True, slots=True)
class Creation:
    """`successor`: it only holds the contents until it takes over."""

    number: int
    host_id: str
    successor: bool
    revision: int


@dataclass
class Course:
    """What to do. `create` comes from `slots` where they say more of it. `remove`, `run`: instance ids; `revise`: those
    that are told the deployment's own revision. `slots`: as they are afterwards, without those that are given up.
    `undo`: the rollout failed, and is to be taken back. `soon`: something of it is under way.
    """

    slots: dict[int, Slot]
    rollout: Rollout
    create: list[Creation] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    revise: list[str] = field(default_factory=list)
    unplaced: int = 0
    why: Explanation = field(default_factory=Explanation)
    undo: bool = False
    soon: bool = False

    @property
    def waiting(self) -> bool:
        """Whether something that was begun is not at its end."""
        return bool(self.create) or any(slot.successor_id for slot in self.slots.values())


def serves(picture: Picture, slot: Slot) -> bool:
    """Whether the slot does its work now, as far as is known: as it was told last, or as before."""
    found = picture.instances.get(slot.instance_id)
    if found is None:
        return False
    instance, status = found
    offer = picture.offers.get(instance.host_id)
    if instance.desired_state is DesiredState.REMOVED or offer is None or offer.absent_since is not None:
        return False
    if status.observed_generation < instance.generation:
        return False
    return works(instance, status)


def works(instance: Instance, status: Status) -> bool:
    """Whether the host says that it does what is wanted of it."""
    if instance.desired_state is not DesiredState.RUNNING:
        return status.phase in READY
    return status.phase is Phase.RUNNING and status.health is not Health.UNHEALTHY


def most_of(one: Resources, other: Resources) -> Resources:
    return Resources(
        max(one.millicpus, other.millicpus),
        max(one.memory_bytes, other.memory_bytes),
        max(one.disk_bytes, other.disk_bytes),
    )
