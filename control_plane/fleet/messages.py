"""What the fleet announces, and what higher domains announce in its words to wake a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class AssignmentsChanged(Message):
    """The desired state of a host, and of others with it, has a new generation. `generations`: theirs, in that order;
    without them a stream has to ask.
    """

    topic: ClassVar[str] = "fleet.assignments_changed"
    host_id: str
    others: tuple[str, ...] = ()
    generations: tuple[int, ...] = ()

    @classmethod
    def of(cls, generations: Mapping[str, int]) -> AssignmentsChanged:
        """`generations` by host id, at least one."""
        first, *others = generations
        return cls(first, tuple(others), tuple(generations.values()))


@dataclass(frozen=True, slots=True)
class OrdersChanged(Message):
    """What the regionals of one IDC shall hold has a new generation."""

    topic: ClassVar[str] = "fleet.orders_changed"
    idc_id: str


@dataclass(frozen=True, slots=True)
class IdentityRevoked(Message):
    """A host or regional may not come back; its live stream is ended."""

    topic: ClassVar[str] = "fleet.identity_revoked"
    kind: str
    identity_id: str


@dataclass(frozen=True, slots=True)
class HostLabelled(Message):
    """What operators say of a host has changed; whoever chooses hosts by label looks again."""

    topic: ClassVar[str] = "fleet.host_labelled"
    host_id: str


@dataclass(frozen=True, slots=True)
class HostStandingChanged(Message):
    """A host was cordoned, is being drained, or takes new instances again."""

    topic: ClassVar[str] = "fleet.host_standing_changed"
    host_id: str
    standing: str


@dataclass(frozen=True, slots=True)
class HostsCame(Message):
    """So many hosts attached that were away, or that say something new of themselves; whoever waits for hosts looks
    again.
    """

    topic: ClassVar[str] = "fleet.hosts_came"
    hosts: int


@dataclass(frozen=True, slots=True)
class CapacityChanged(Message):
    """How much of hosts may be promised was said anew, for the platform, an IDC or a host."""

    topic: ClassVar[str] = "fleet.capacity_changed"
    kind: str
    target_id: str


@dataclass(frozen=True, slots=True)
class MemberEnrolled(Message):
    """A host or regional got its first certificate, or a new one by a join token made for its name."""

    topic: ClassVar[str] = "fleet.member_enrolled"
    kind: str
    identity_id: str


@dataclass(frozen=True, slots=True)
class RegionalsChanged(Message):
    """A regional of this IDC attached, left, moved or was revoked; its agents are told anew where to fetch."""

    topic: ClassVar[str] = "fleet.regionals_changed"
    idc_id: str


@dataclass(frozen=True, slots=True)
class LimitsChanged(Message):
    """How much of the links may be used was said anew, of the platform, an IDC or a tenant."""

    topic: ClassVar[str] = "fleet.limits_changed"
    kind: str
    target_id: str


@dataclass(frozen=True, slots=True)
class SessionReplaced(Message):
    """A newer stream of this identity counts, and the replica that holds an older one ends it. An empty `session_id`:
    no stream counts any more; the identity was enrolled anew.
    """

    topic: ClassVar[str] = "fleet.session_replaced"
    kind: str
    identity_id: str
    session_id: str
