"""What moves announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class InstanceMoves(Message):
    """A move has begun, entered another stage, or ended."""

    topic: ClassVar[str] = "instances.moves"
    move_id: str
    instance_id: str
    tenant_id: str
    stage: str
    source_host_id: str
    target_host_id: str
