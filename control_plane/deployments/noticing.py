"""Looking again at deployments that wait as soon as what they wait for may be there: hosts, room, a host that goes.

Invariant: only the wait is shortened. What is missed, because a process ends or the database is away, is found by the
look that was due anyway; and where nothing helps, ten deployments a second are looked at in the mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from common.clock import Clock
from common.errors import Failure
from control_plane.database import Database
from control_plane.database.relay import Announcement
from control_plane.deployments import store
from control_plane.deployments.converging import Converging
from control_plane.fleet.messages import (
    CapacityChanged,
    HostLabelled,
    HostsCame,
    HostStandingChanged,
    IdentityRevoked,
)
from control_plane.fleet.placement.model import Standing
from control_plane.instances.messages import InstanceForgotten

log = structlog.get_logger()

# The first time at once, then so long after each other: hosts come and instances go in crowds.
_APART_SECONDS = 5.0
_SECONDS_A_LOOK = 0.1
_ROOM = frozenset(
    one.topic for one in (CapacityChanged, HostLabelled, HostsCame, HostStandingChanged, InstanceForgotten)
)


class Noticing:
    """`tap` in the process that relays, and `run` beside it; `converging` is woken if it runs there too, and else finds
    by itself what is due.
    """

    def __init__(self, database: Database, clock: Clock, converging: Converging) -> None:
        self._database = database
        self._clock = clock
        self._converging = converging
        self._told = asyncio.Event()
        self._room = False
        self._leaving: set[str] = set()

    async def tap(self, announcements: Sequence[Announcement]) -> None:
        """For the relay."""
        for one in announcements:
            if one.topic == IdentityRevoked.topic and one.payload["kind"] == "host":
                self._leaving.add(str(one.payload["identity_id"]))
            elif one.topic == HostStandingChanged.topic and one.payload["standing"] == Standing.DRAINING.value:
                self._leaving.add(str(one.payload["host_id"]))
            elif one.topic in _ROOM:
                self._room = True
            else:
                continue
            self._told.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._told.wait()
            self._told.clear()
            hastened = 0
            try:
                hastened = await self.once()
            except Failure as failure:
                log.warning("deployments that wait are looked at in their time", error=str(failure))
            await self._clock.sleep(max(_APART_SECONDS, hastened * _SECONDS_A_LOOK))

    async def once(self) -> int:
        """How many deployments are looked at earlier than they would have been."""
        room, self._room = self._room, False
        leaving, self._leaving = self._leaving, set()
        now = self._clock.now()
        async with self._database.transaction() as unit:
            hastened = await store.hasten_of_hosts(unit.connection, leaving, now) if leaving else 0
            hastened += await store.hasten_waiting(unit.connection, now) if room else 0
        if hastened:
            self._converging.wake()
        return hastened
