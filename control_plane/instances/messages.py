"""What the instances announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class InstanceRequested(Message):
    """A new instance is wanted on a host."""

    topic: ClassVar[str] = "instances.requested"
    instance_id: str
    tenant_id: str
    host_id: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class InstanceChanged(Message):
    """What is wanted of an instance has a new generation."""

    topic: ClassVar[str] = "instances.changed"
    instance_id: str
    tenant_id: str
    generation: int
    desired_state: str


@dataclass(frozen=True, slots=True)
class InstanceReported(Message):
    """A host said something new of an instance: its phase or its health is another than before."""

    topic: ClassVar[str] = "instances.reported"
    instance_id: str
    tenant_id: str
    generation: int
    phase: str
    health: str


@dataclass(frozen=True, slots=True)
class InstanceForgotten(Message):
    """Nothing is left of an instance: not on its host, not here."""

    topic: ClassVar[str] = "instances.forgotten"
    instance_id: str
    tenant_id: str
    host_id: str
