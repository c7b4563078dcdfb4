"""What replicas tell each other about channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class ChannelWanted(Message):
    """A client of another replica waits for a channel of this host. `order`: `OpenChannel` in base64."""

    topic: ClassVar[str] = "channels.wanted"
    host_id: str
    order: str
