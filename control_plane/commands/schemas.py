"""Wire models of commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from control_plane.commands.model import Command, State, Verb
from control_plane.commands.service import Wish


class CommandBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verb: Verb
    id: str = Field(default="", max_length=36, description="a UUID of your own: a repeated request is then one command")
    begin_within_seconds: int = Field(default=3600, description="not begun later than that")
    end_within_seconds: int = Field(default=600, description="given up when it takes longer")

    argument: str = Field(default="", max_length=255, description="of a snapshot: its name")

    def wish(self) -> Wish:
        return Wish(
            self.verb,
            self.id,
            _seconds(self.begin_within_seconds),
            _seconds(self.end_within_seconds),
            self.argument,
        )


class SnapshotBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=63, description="letters, digits, dots and hyphens; one that is there stays as it is")
    id: str = Field(default="", max_length=36, description="a UUID of your own: a repeated request is then one command")


class SnapshotView(BaseModel):
    name: str
    created_at: datetime
    size_bytes: int = Field(description="0: the engine does not say")


def snapshot_view(found: Mapping[str, Any]) -> SnapshotView:
    """`found`: what a host sent."""
    created_at = datetime.fromtimestamp(int(found["created_ns"]) / 1e9, UTC)
    return SnapshotView(name=str(found["name"]), created_at=created_at, size_bytes=int(found["size_bytes"]))


def _seconds(number: int) -> timedelta:
    """What no timedelta can hold is outside of what is allowed anyway."""
    return timedelta(seconds=max(0, min(number, 1 << 30)))


class CommandListed(BaseModel):
    id: str
    verb: Verb
    argument: str
    host: str
    host_id: str
    instance_id: str
    tenant: str
    state: State
    cancel_wanted: bool
    detail: str
    requested_by: str
    created_at: datetime
    begin_by: datetime
    updated_at: datetime


class CommandView(CommandListed):
    result: str = Field(description="JSON that the host sent; empty until it is done")


def command_listed(command: Command, labels: Mapping[str, str]) -> CommandListed:
    return CommandListed(**_fields(command, labels))


def command_view(command: Command, labels: Mapping[str, str]) -> CommandView:
    return CommandView(**_fields(command, labels), result=command.result)


def _fields(command: Command, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": command.id,
        "verb": command.verb,
        "argument": command.argument,
        "host": labels.get(command.host_id, ""),
        "host_id": command.host_id,
        "instance_id": command.instance_id,
        "tenant": command.tenant,
        "state": command.state,
        "cancel_wanted": command.cancel_wanted,
        "detail": command.detail,
        "requested_by": command.requested_by,
        "created_at": command.created_at,
        "begin_by": command.begin_by,
        "updated_at": command.updated_at or command.created_at,
    }
