"""A version of the agent on its way over the fleet; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from common.errors import Conflict, Invalid, NotFound
from control_plane.instances.model import ImageContent, InstanceImage, Phase
from control_plane.preheats.model import Targets


class AgentRolloutUnknown(NotFound):
    code = "agent_rollout_unknown"


class AgentRolloutInvalid(Invalid):
    code = "agent_rollout_invalid"


class AgentRolloutOver(Conflict):
    """It can no longer do what is asked of it."""

    code = "agent_rollout_over"


class AgentRolloutRaced(Conflict):
    """Somebody else began one at the same moment."""

    code = "agent_rollout_raced"


class State(StrEnum):
    RUNNING = "running"
    HALTED = "halted"  # by itself, because of hosts; goes on when somebody says so
    DONE = "done"  # every host has it; those that join later get it within minutes
    SUPERSEDED = "superseded"  # a newer one chose hosts of it
    CANCELLED = "cancelled"  # hosts keep what they run


ENDED = frozenset({State.SUPERSEDED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Pace:
    """canaries: hosts of the first wave; share: of all hosts, in the first two waves together; bake: how long all hosts
    of a wave must be well before the next begins; max_failures: hosts that may fail or fall silent after the first
    wave, before it halts; healthy, patience: what a host asks of the version.
    """

    canaries: int = 1
    share: float = 0.1
    bake: timedelta = timedelta(minutes=10)
    max_failures: int = 0
    healthy: timedelta = timedelta(seconds=60)
    patience: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    image: str
    version: str
    targets: Targets
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True)
class Rollout:
    """`order` grows over all rollouts: hosts act on none that is not newer than their last. `images` by architecture.
    `wave`: the last one that was begun, from 1; 0: none. `settled_at`: since when every host of it is well.
    """

    id: str
    order: int
    tenant_id: str
    tenant: str
    reference: str
    version: str
    images: Mapping[str, InstanceImage]
    targets: Targets
    pace: Pace
    created_by: str
    created_at: datetime
    state: State = State.RUNNING
    reason: str = ""
    wave: int = 0
    settled_at: datetime | None = None
    idc_ids: tuple[str, ...] = ()
    ended_at: datetime | None = None

    def contents(self) -> tuple[ImageContent, ...]:
        """Of all its platforms, each digest once."""
        every = (content for _, image in sorted(self.images.items()) for content in image.all_contents())
        return tuple({content.digest: content for content in every}.values())


@dataclass(frozen=True, slots=True)
class Told:
    """A host that was told: in which wave, whether it was attached then, and what it said since. `silent`: it is away,
    and for longer than changing its version takes.
    """

    host_id: str
    wave: int
    was_online: bool
    phase: Phase
    online: bool
    silent: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A host that was not told yet."""

    host_id: str
    online: bool


@dataclass(frozen=True, slots=True)
class HostStanding:
    """For people."""

    host_id: str
    host: str
    idc: str
    wave: int
    phase: Phase
    detail: str
    version: str
