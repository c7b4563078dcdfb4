"""What the fleet announces, and what higher domains announce in its words to wake a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class AssignmentsChanged(Message):
    """The desired state of one host has a new generation."""

    topic: ClassVar[str] = "fleet.assignments_changed"
    host_id: str


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
