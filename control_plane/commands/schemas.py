"""Wire models of commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
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

    def wish(self) -> Wish:
        return Wish(
            self.verb,
            self.id,
            _seconds(self.begin_within_seconds),
            _seconds(self.end_within_seconds),
        )


def _seconds(number: int) -> timedelta:
    """What no timedelta can hold is outside of what is allowed anyway."""
    return timedelta(seconds=max(0, min(number, 1 << 30)))


class CommandListed(BaseModel):
    id: str
    verb: Verb
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
