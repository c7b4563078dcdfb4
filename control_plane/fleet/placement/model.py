"""Words of placement: resources, what a host offers, and the rules by which hosts are chosen; pure.

Invariant: resources are whole numbers (thousandths of a CPU, bytes), so that sums over instances are exact and the same
on every replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Conflict, Invalid

BY_IDC = "idc"


class PlacementInvalid(Invalid):
    """`facts["field"]` names what is wrong."""

    code = "placement_invalid"


class HostClosed(Conflict):
    """The host takes nothing new: it is cordoned or being drained."""

    code = "host_closed"


class NoRoom(Conflict):
    """A host has not what is asked for."""

    code = "no_room"


class Standing(StrEnum):
    """What operators say of a host."""

    OPEN = "open"
    CORDONED = "cordoned"  # nothing new
    DRAINING = "draining"  # nothing new, and what may move moves away


@dataclass(frozen=True, slots=True)
class HostStanding:
    """`max_unavailable`: how many instances of one deployment may be down at a time while the host is drained."""

    standing: Standing = Standing.OPEN
    reason: str = ""
    by: str = ""
    since: datetime | None = None
    max_unavailable: int = 1


@dataclass(frozen=True, slots=True)
class Resources:
    """What an instance asks for, or what many take together. Zero of one: it asks for no certain amount of it."""

    millicpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0

    def plus(self, other: Resources) -> Resources:
        return Resources(
            self.millicpus + other.millicpus,
            self.memory_bytes + other.memory_bytes,
            self.disk_bytes + other.disk_bytes,
        )

    def beyond(self, other: Resources) -> Resources:
        """What is more of it than of `other`."""
        return Resources(
            max(0, self.millicpus - other.millicpus),
            max(0, self.memory_bytes - other.memory_bytes),
            max(0, self.disk_bytes - other.disk_bytes),
        )

    def times(self, count: int) -> Resources:
        return Resources(self.millicpus * count, self.memory_bytes * count, self.disk_bytes * count)

    @property
    def nothing(self) -> bool:
        return self == NOTHING


NOTHING = Resources()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a host has for instances. None: it does not say, and nothing is held against it."""

    millicpus: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CapacityPolicy:
    """What operators keep back on a host, and how many times over its parts may be promised. None: as the wider scope
    says (host, then IDC, then platform, then: nothing kept back, everything promised once).
    """

    reserve_cpus: float | None = None
    reserve_memory_bytes: int | None = None
    reserve_disk_bytes: int | None = None
    cpu_overcommit: float | None = None
    memory_overcommit: float | None = None

    @property
    def empty(self) -> bool:
        return self == CapacityPolicy()


class ScopeKind(StrEnum):
    PLATFORM = "platform"
    IDC = "idc"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Scope:
    """`target_id` is empty for the platform, else an IDC's or a host's."""

    kind: ScopeKind
    target_id: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """One host, as a place to run something.

    used, instances: of everything that is assigned to it, whatever its state. present: names of the asking tenant's
    instances and deployments that are there. taken_names: of deployments that can have no instance there for now.
    absent_since: when it was last heard of, of a host that is away: it gets nothing new.
    """

    host_id: str
    host: str
    idc_id: str
    idc: str
    architecture: str = "amd64"
    labels: Mapping[str, str] = field(default_factory=dict)
    engines: frozenset[str] = frozenset()
    capacity: Capacity = Capacity()
    used: Resources = NOTHING
    instances: int = 0
    standing: Standing = Standing.OPEN
    absent_since: datetime | None = None
    present: frozenset[str] = frozenset()
    taken_names: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        return f"{self.idc}/{self.host}"


class Operator(StrEnum):
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Requirement:
    """Of one label. `values` only with `in` and `notin`; a host without the label fits `notin`."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """Over the domains that `by` (`idc`, or the key of a label) divides hosts into: none has more than `max_skew`
    instances more than the one with the fewest.
    """

    by: str
    max_skew: int = 1


@dataclass(frozen=True, slots=True)
class Rules:
    """Which hosts may be chosen, and how many.

    count: None for one on every host that fits. idcs, hosts (ids or `idc/name`): empty for all. near, apart: names of
    the tenant's instances or deployments that must be, or must not be, on the same host. engine: that the host must
    have; empty for any. architectures: GOARCH words; empty for any.
    """

    count: int | None = 1
    idcs: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    labels: tuple[Requirement, ...] = ()
    spread: tuple[Spread, ...] = ()
    near: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    engine: str = ""
    architectures: tuple[str, ...] = ()
    per_host: int = 1


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something has no place: how many hosts for each reason, and the reason of each of the first hosts."""

    summary: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        if not self.summary:
            return "there is no host"
        ordered = sorted(self.summary.items(), key=lambda pair: (-pair[1], pair[0]))
        return "; ".join(f"{count} host{'s' if count > 1 else ''}: {reason}" for reason, count in ordered)


@dataclass(frozen=True, slots=True)
class Plan:
    """`stay`: slots whose host is right. `place`: where the others go. `surplus`: slots that are not wanted any more.
    `unplaced`: slots that find no host, for the reason in `why`. Hosts by id.
    """

    stay: Mapping[int, str] = field(default_factory=dict)
    place: Mapping[int, str] = field(default_factory=dict)
    surplus: tuple[int, ...] = ()
    unplaced: tuple[int, ...] = ()
    why: Explanation = Explanation()
