"""What commands announce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from control_plane.database.messages import Message


@dataclass(frozen=True, slots=True)
class CommandWaits(Message):
    """A host is to be told of a command, or that one is cancelled."""

    topic: ClassVar[str] = "commands.waits"
    host_id: str


@dataclass(frozen=True, slots=True)
class CommandEnded(Message):
    """A command has its outcome."""

    topic: ClassVar[str] = "commands.ended"
    command_id: str
    host_id: str
    verb: str
    state: str
