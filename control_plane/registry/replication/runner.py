"""Carrying tasks out: claims what is due, a few at a time for each endpoint, under leases that are kept meanwhile.

Not jobs of `control_plane.jobs`: their few workers are everybody's, and copying a large image over a slow line takes
hours. Any number of processes run it; who dies is followed by another when the lease lapses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.errors import Failure, Internal, RateLimited, Stale, Unavailable
from common.identifiers import new_id
from control_plane.database import Database
from control_plane.jobs.rounds import Rounds
from control_plane.registry.remote.failures import RemoteUntrue
from control_plane.registry.replication import task_store
from control_plane.registry.replication.connections import Connections
from control_plane.registry.replication.course import Course, Outcome
from control_plane.registry.replication.metrics import ReplicationMetrics
from control_plane.registry.replication.model import GIVE_UP_AFTER, Claimed, State, retry_seconds
from control_plane.registry.replication.settling import Settling
from control_plane.registry.replication.working import Working

log = structlog.get_logger()
# Failures that time may mend. Others that may pass (a lying registry, a mistake of ours) are tried a few times.
_PATIENT = (Unavailable, RateLimited, Stale)
_FEW = 5
_GIVE_BACK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """`at_once` in this process, `at_once_per_endpoint` over all processes."""

    at_once: int = 8
    at_once_per_endpoint: int = 3
    lease_seconds: float = 30.0
    poll_seconds: float = 1.0


class _LeaseLost(Exception):
    """Somebody else has the task, or it was stopped."""


class Runner:
    """`run` until cancelled; `wake` when there may be something to do."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        connections: Connections,
        working: Working,
        metrics: ReplicationMetrics,
        chance: Callable[[], float],
        limits: RunnerLimits,
    ) -> None:
        self._database = database
        self._clock = clock
        self._connections = connections
        self._working = working
        self._settling = Settling(database, clock)
        self._metrics = metrics
        self._chance = chance
        self._limits = limits
        self._busy = 0
        self._rounds = Rounds("replication", self._start, clock, chance, limits.poll_seconds)

    def wake(self) -> None:
        self._rounds.wake()

    async def run(self) -> None:
        """Never returns. Waits out an outage of the database."""
        await self._rounds.run()

    async def run_due(self) -> int:
        """One round, to its end: for tests and tools."""
        return await self._rounds.once()

    async def _start(self, group: asyncio.TaskGroup) -> int:
        room, now = self._limits.at_once - self._busy, self._clock.now()
        if room <= 0:
            return 0
        async with self._database.reading() as connection:  # an idle runner takes no turn of SQLite's writer
            if not await task_store.is_due(connection, now):
                return 0
        async with self._database.transaction() as unit:
            claimed = await task_store.claim(
                unit.connection,
                new_id(self._clock),
                now,
                self._lease_end(),
                self._limits.at_once_per_endpoint,
                room,
            )
        for each in claimed:
            self._busy += 1
            group.create_task(self._do(each), name=f"replication {each.task.task_id}")
        return len(claimed)

    def _lease_end(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._limits.lease_seconds)

    async def _do(self, claimed: Claimed) -> None:
        try:
            await self._attempt(claimed)
        except (Unavailable, TimeoutError) as error:
            # The lease lapses, somebody looks again and finds what is there already.
            log.warning("outcome of a replication not written", task=claimed.task.task_id, error=str(error))
        except Exception as error:  # one task's mishap must not end those of all others
            log.error("replication failed", task=claimed.task.task_id, exc_info=error)
        finally:
            self._busy -= 1
            self._rounds.wake()

    async def _attempt(self, claimed: Claimed) -> None:
        course: Course | None = None
        try:
            course = self._course(claimed)
            await self._settling.begin(claimed)
            outcome = await self._kept(claimed, course)
        except _LeaseLost:
            log.info("replication stopped", task=claimed.task.task_id)
        except asyncio.CancelledError:
            await self._give_back(claimed, course)
            raise
        except Exception as error:  # a failure is data here
            await self._failed(claimed, course, error)
        else:
            await self._settling.end(claimed, State.SUCCEEDED, course.moved, outcome)
            self._metrics.ended(claimed.rule.direction, State.SUCCEEDED)
        finally:
            if course is not None:
                self._metrics.moved(claimed.rule.direction, course.moved - claimed.task.bytes_done)

    def _course(self, claimed: Claimed) -> Course:
        async def keep(checkpoint: Mapping[str, str]) -> None:
            async with self._database.transaction() as unit:
                if not await task_store.keep_checkpoint(unit.connection, claimed, checkpoint):
                    raise _LeaseLost

        connections, rule = self._connections, claimed.rule
        client, throttle = connections.client(claimed.endpoint), connections.throttle(rule)
        return Course(claimed.task, rule, client, throttle, connections.whereabouts, keep)

    async def _kept(self, claimed: Claimed, course: Course) -> Outcome:
        """The work, while the lease is prolonged beside it."""
        work = asyncio.ensure_future(self._working.do(claimed, course))
        keeping = asyncio.ensure_future(self._keep(claimed, course))
        try:
            await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise _LeaseLost
            return work.result()
        finally:
            for each in (work, keeping):
                each.cancel()
            await asyncio.gather(work, keeping, return_exceptions=True)

    async def _keep(self, claimed: Claimed, course: Course) -> None:
        """Ends when the lease is lost."""
        held_until = self._clock.monotonic() + self._limits.lease_seconds
        while self._clock.monotonic() < held_until:
            await self._clock.sleep(min(self._limits.lease_seconds / 3, 5.0))
            began = self._clock.monotonic()
            try:
                async with self._database.transaction() as unit:
                    if not await task_store.renew(unit.connection, claimed, self._lease_end(), course.moved):
                        return
            except Unavailable as error:
                log.warning("lease not prolonged", task=claimed.task.task_id, error=str(error))
                continue
            held_until = began + self._limits.lease_seconds

    async def _failed(self, claimed: Claimed, course: Course | None, error: Exception) -> None:
        task = claimed.task
        moved = task.bytes_done if course is None else course.moved
        why = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        if not isinstance(error, Failure):
            log.error("replication failed", task=task.task_id, exc_info=error)
        if self._is_over(claimed, error):
            if await self._settling.end(claimed, State.FAILED, moved, Outcome(why, changed=False)):
                log.warning("replication given up", task=task.task_id, rule=claimed.rule.rule_id, error=why)
                self._metrics.ended(claimed.rule.direction, State.FAILED)
            return
        wait = error.retry_after_seconds if isinstance(error, Unavailable | RateLimited) else 0.0
        seconds = retry_seconds(task.attempts, wait, self._chance())
        async with self._database.transaction() as unit:
            again = self._clock.now() + timedelta(seconds=seconds)
            await task_store.put_off(unit.connection, claimed, again, moved, why[:2000].replace("\x00", "?"))
        self._metrics.put_off(claimed.rule.direction)

    def _is_over(self, claimed: Claimed, error: Exception) -> bool:
        if isinstance(error, Failure) and not isinstance(error, (*_PATIENT, Internal)):
            return True
        patient = isinstance(error, _PATIENT) and not isinstance(error, RemoteUntrue)
        if not patient and claimed.task.attempts >= _FEW:
            return True
        return self._clock.now() - claimed.task.created_at > GIVE_UP_AFTER

    async def _give_back(self, claimed: Claimed, course: Course | None) -> None:
        moved = claimed.task.bytes_done if course is None else course.moved
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_SECONDS), self._database.transaction() as unit:
                await task_store.put_off(unit.connection, claimed, self._clock.now(), moved, "")
