"""Sends commands down the streams of this replica.

Invariant: whoever is attached here is told of everything that waits for it, at once by the event, within two seconds
otherwise; the same stream is told once. What was sent on a stream that broke is sent on the next one, and the host
knows it by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

import structlog

from common.backoff import jittered
from common.clock import Clock
from common.errors import Failure
from control_plane.commands.messages import CommandWaits
from control_plane.commands.model import Command
from control_plane.commands.service import CommandService
from control_plane.commands.wire import commands_message
from control_plane.events import EventBus
from control_plane.fleet.session import Session
from control_plane.fleet.sessions import Sessions
from control_plane.jobs.rounds import Rounds

log = structlog.get_logger()

_POLL_SECONDS = 2.0
_Told = tuple[str, bool]  # id of the command, whether that it is cancelled


class CommandMessenger:
    """`run` as long as the process has streams."""

    def __init__(
        self, service: CommandService, bus: EventBus, sessions: Sessions, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._service = service
        self._bus = bus
        self._sessions = sessions
        self._clock = clock
        self._chance = chance
        self._told: WeakKeyDictionary[Session, set[_Told]] = WeakKeyDictionary()
        self._rounds = Rounds("commands", self._tell, clock, chance, _POLL_SECONDS)

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rounds.run())
            group.create_task(self._follow_events())

    async def once(self) -> int:
        return await self._rounds.once()

    async def _follow_events(self) -> None:
        while True:
            try:
                async with self._bus.subscribe(CommandWaits.topic) as events:
                    async for event in events:
                        if self._sessions.find("host", str(event.payload["host_id"])) is not None:
                            self._rounds.wake()
            except Failure as failure:
                log.warning("commands are only found by looking", error=str(failure))
            await self._clock.sleep(jittered(1.0, 0.5, self._chance))

    async def _tell(self, group: asyncio.TaskGroup) -> int:
        for host_id, waiting in (await self._service.hosts_to_tell()).items():
            session = self._sessions.find("host", host_id)
            if session is not None and self._news(session, waiting):
                told = self._news(session, await self._service.offered(host_id))
                if told:
                    session.send(commands_message(told, self._clock.now()))
                    self._told.setdefault(session, set()).update((one.id, one.cancel_wanted) for one in told)
        return 0

    def _news(self, session: Session, waiting: list[Command]) -> list[Command]:
        told = self._told.get(session, set())
        return [one for one in waiting if (one.id, one.cancel_wanted) not in told]
