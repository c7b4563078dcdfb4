"""What is to be where, from when to when, and how much it may disturb; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Invalid, NotFound
from common.limits import DailyWindow
from control_plane.instances.model import ImageContent, InstanceImage, Phase
from control_plane.swarm.model import Effort


class PreheatUnknown(NotFound):
    code = "preheat_unknown"


class PreheatInvalid(Invalid):
    code = "preheat_invalid"


class State(StrEnum):
    ACTIVE = "active"  # fetching, or done and kept
    WAITING = "waiting"  # outside its window; what is there stays
    KEPT = "kept"  # its window is over for good; what is there stays until it expires
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Targets:
    """Which hosts: `hosts` (ids or idc/name), or those of `idcs` (empty: of all) that have all `labels`, or
    `percentage` of these. `regionals_only`: the IDCs' regionals and no host.
    """

    idcs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    percentage: int = 100
    hosts: tuple[str, ...] = ()
    regionals_only: bool = False
    architectures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """When bytes may move: between two moments (None: no bound), in some hours of each day (None: all)."""

    starts_at: datetime | None = None
    ends_at: datetime | None = None
    daily: DailyWindow | None = None


@dataclass(frozen=True, slots=True)
class PreheatRequest:
    """`keep_until` None: until it is cancelled (a pin)."""

    tenant: str
    image: str
    targets: Targets
    window: Window = Window()
    lower_effort: bool = True
    keep_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preheat:
    """`images` by architecture, as the reference meant them when it was asked for. `effort` is what is in force;
    `idc_ids` where it is wanted now.
    """

    id: str
    tenant_id: str
    tenant: str
    reference: str
    images: Mapping[str, InstanceImage]
    targets: Targets
    window: Window
    lower_effort: bool
    keep_until: datetime | None
    created_by: str
    created_at: datetime
    generation: int = 1
    effort: Effort = Effort.PAUSED
    idc_ids: tuple[str, ...] = ()
    ended_at: datetime | None = None
    cancelled: bool = False

    def contents(self) -> tuple[ImageContent, ...]:
        """Of all its platforms, each digest once."""
        every = (content for _, image in sorted(self.images.items()) for content in image.all_contents())
        return tuple({content.digest: content for content in every}.values())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that may be chosen."""

    host_id: str
    idc_id: str
    architecture: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HostProgress:
    host_id: str
    host: str
    idc: str
    phase: Phase
    detail: str
    total_bytes: int
    held_bytes: int = 0
    from_centre_bytes: int = 0
    from_regional_bytes: int = 0
    from_peers_bytes: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class IdcProgress:
    """`regional_bytes`: of `total_bytes`, what the regional that has most of it holds."""

    idc: str
    total_bytes: int
    regional_bytes: int
    from_centre_bytes: int
    hosts: int
    hosts_held: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class PreheatView:
    """`next_change_at`: when it goes on or stops by itself next; None: never."""

    preheat: Preheat
    state: State
    next_change_at: datetime | None
    idcs: tuple[IdcProgress, ...] = ()
