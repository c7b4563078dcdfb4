"""What snapshots an instance has: its host is asked by a command, whose outcome is waited for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from common.clock import Clock
from common.errors import Conflict, Unavailable
from control_plane.commands.model import OPEN, Command, State, Verb
from control_plane.commands.service import CommandService, Wish
from control_plane.tenants.access import Principal

_PATIENCE_SECONDS = 15.0
_LOOK_SECONDS = 0.2


class HostSilent(Unavailable):
    code = "host_silent"


class SnapshotsFailed(Conflict):
    """The host said why not: its engine has none (Docker), or the instance is not there yet."""

    code = "snapshots_failed"


class Snapshots:
    def __init__(self, commands: CommandService, clock: Clock) -> None:
        self._commands = commands
        self._clock = clock

    async def listed(self, principal: Principal, instance_id: str) -> Sequence[Mapping[str, Any]]:
        """Raises `HostSilent`, `SnapshotsFailed`, and what `CommandService.ask_instance` does."""
        patience = timedelta(seconds=_PATIENCE_SECONDS)
        wish = Wish(Verb.LIST_SNAPSHOTS, begin_within=patience, end_within=patience)
        asked = await self._commands.ask_instance(principal, instance_id, wish)
        found = await self._outcome(principal, asked)
        if found.state is not State.DONE:
            raise SnapshotsFailed(
                found.detail or f"the host's answer is {found.state.value}", action="see the instance"
            )
        snapshots: Sequence[Mapping[str, Any]] = json.loads(found.result)["snapshots"]
        return snapshots

    async def _outcome(self, principal: Principal, asked: Command) -> Command:
        deadline = self._clock.monotonic() + _PATIENCE_SECONDS
        while self._clock.monotonic() < deadline:
            found = await self._commands.get(principal, asked.id)
            if found.state not in OPEN:
                return found
            await self._clock.sleep(_LOOK_SECONDS)
        raise HostSilent("its host does not answer", action="try again when it is attached", retry_after_seconds=5)
