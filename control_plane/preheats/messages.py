"""What preheats announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class PreheatChanged(Message):
    """It was made, goes on, stands still, chose other hosts, or is over."""

    topic: ClassVar[str] = "preheats.changed"
    preheat_id: str
    tenant_id: str
    state: str
