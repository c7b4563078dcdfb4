"""Schedules: every so often a job. Every replica looks, one of them wins each tick.

A tick that was missed (nobody ran) is made up once, not as often as it was missed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from common.backoff import jittered
from common.clock import Clock
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.jobs.service import JobService
from control_plane.jobs.tick_store import claim_tick, find_tick, first_tick

log = structlog.get_logger()
_LONGEST_LOOK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """`name` is stable: it is the row, and the job's unique key, so that a slow job is not doubled by the next tick."""

    name: str
    kind: str
    every: timedelta
    payload: Mapping[str, Any] = field(default_factory=dict)


def tick_after(due: datetime, every: timedelta, now: datetime) -> datetime:
    """The first moment after `now` on the grid of `due` plus multiples of `every`; pure."""
    missed = max(0, math.floor((now - due) / every))
    return due + every * (missed + 1)


class Periodic:
    """`run` until cancelled, in every replica."""

    def __init__(
        self,
        database: Database,
        jobs: JobService,
        schedules: Sequence[Schedule],
        clock: Clock,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._schedules = tuple(schedules)
        self._clock = clock
        self._chance = chance

    async def run(self) -> None:
        shortest = min((s.every.total_seconds() for s in self._schedules), default=_LONGEST_LOOK_SECONDS)
        look_seconds = max(0.2, min(shortest / 4, _LONGEST_LOOK_SECONDS))
        while True:
            try:
                await self.tick()
            except Unavailable as error:
                log.warning("ticks put off", error=str(error))
            await self._clock.sleep(jittered(look_seconds, 0.2, self._chance))

    async def tick(self) -> tuple[str, ...]:
        """Make the jobs that are due; returns the names of the schedules whose tick this replica won."""
        return tuple([schedule.name for schedule in self._schedules if await self._won(schedule)])

    async def _won(self, schedule: Schedule) -> bool:
        now = self._clock.now()
        async with self._database.reading() as connection:
            due = await find_tick(connection, schedule.name)
        if due is not None and due > now:
            return False
        async with self._database.transaction() as unit:
            if due is None:  # seen for the first time: due at once
                won = await first_tick(unit.connection, schedule.name, now + schedule.every)
            else:
                won = await claim_tick(unit.connection, schedule.name, due, tick_after(due, schedule.every, now))
            if not won:
                return False
            await self._jobs.enqueue(unit, schedule.kind, schedule.payload, unique_key=schedule.name)
        return True
