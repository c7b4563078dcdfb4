"""Runs jobs: takes ids from the queue, the lease from the row, calls the handler, writes how it ended.

Lives inside the server (memory queue) or as `longshore-server worker` (Redis); any number of workers share the work.
Also sweeps: every worker pushes what is due or abandoned, so that one living worker is enough for every job.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from common.backoff import Backoff, jittered
from common.clock import Clock
from common.errors import Unavailable
from common.identifiers import new_id
from common.lifecycle import being_cancelled
from control_plane.database import Database
from control_plane.jobs import store
from control_plane.jobs.messages import JobEnded
from control_plane.jobs.model import ENDED, Cancelled, Ending, Failed, Job, Outcome, done, ending, judged
from control_plane.jobs.running import Handler, LeasedJob
from control_plane.jobs.service import JobService
from control_plane.queues import Queue

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """`attempt_seconds` ends a handler that hangs; `stop_seconds` bounds returning jobs when the worker stops."""

    concurrency: int = 4
    lease_seconds: float = 60.0
    sweep_seconds: float = 5.0
    poll_seconds: float = 5.0
    attempt_seconds: float = 6 * 3600.0
    stop_seconds: float = 3.0


class Worker:
    """`run` until cancelled. Handlers are found by the kind of the job."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        handlers: Mapping[str, Handler],
        clock: Clock,
        limits: WorkerLimits = WorkerLimits(),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._queue = queue
        self._handlers = dict(handlers)
        self._clock = clock
        self._limits = limits
        self._chance = chance
        self._service = JobService(database, queue, clock)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep_forever(), name="job sweep")
            for number in range(self._limits.concurrency):
                group.create_task(self._work_forever(), name=f"job worker {number}")

    async def run_waiting(self) -> int:
        """Run what is due now, one after the other, and return how many attempts that were: for tests and tools."""
        await self._service.sweep()
        attempts = 0
        while (job_id := await self._queue.pop(0)) is not None:
            attempts += await self.run_one(job_id)
        return attempts

    async def run_one(self, job_id: str) -> bool:
        """One attempt, if the job can be claimed. Raises `Unavailable` when the database is away."""
        owner, now = new_id(self._clock), self._clock.now()
        until = now + timedelta(seconds=self._limits.lease_seconds)
        async with self._database.transaction() as unit:
            job = await store.claim(unit.connection, job_id, owner, now, until)
        if job is None:
            return False
        leased = LeasedJob(job, owner, self._database, self._clock, self._limits.lease_seconds)
        try:
            outcome = await self._attempt(leased)
        except asyncio.CancelledError:
            await self._give_back(leased)
            raise
        if leased.lost:
            log.warning("job lost to another worker", job=job.id, kind=job.kind)
        else:
            await self._finish(leased, ending(job, outcome, self._clock.now(), self._chance()))
        return True

    async def _attempt(self, leased: LeasedJob) -> Outcome:
        if leased.cancel_requested:
            return Cancelled()
        if leased.job.attempts > leased.job.max_attempts:
            # Whoever tried before was killed each time: perhaps by this very job.
            return Failed("abandoned", f"{leased.job.max_attempts} workers died while they ran it", passing=False)
        handler = self._handlers.get(leased.job.kind)
        if handler is None:
            return Failed("no_handler", f"no worker knows jobs of kind {leased.job.kind!r}", passing=True)
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._call(handler, leased))
            beside = (group.create_task(leased.keep()), group.create_task(leased.must_stop.wait()))
            await asyncio.wait({work, beside[1]}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, *beside):
                task.cancel()  # harmless to one that is done
        return Cancelled() if work.cancelled() else work.result()

    async def _call(self, handler: Handler, leased: LeasedJob) -> Outcome:
        try:
            async with asyncio.timeout(self._limits.attempt_seconds):
                return done(await handler(leased))
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            # It cancelled something of its own and let that escape: a mistake, not somebody's wish.
            return judged(RuntimeError("the handler cancelled itself"))
        except Exception as error:  # a handler's failure is data; it must not end the worker
            log.warning("job attempt failed", job=leased.id, kind=leased.job.kind, error=repr(error))
            return judged(error)

    async def _finish(self, leased: LeasedJob, end: Ending) -> None:
        """Try until the lease lapses: what was done should not be done again for one lost connection."""
        backoff = Backoff(self._chance, initial_seconds=0.2, cap_seconds=5)
        deadline = self._clock.monotonic() + self._limits.lease_seconds
        while True:
            try:
                await self._write(leased.job, leased.owner, end)
                return
            except Unavailable as error:
                if self._clock.monotonic() >= deadline:
                    log.warning("job result lost, it will run again", job=leased.id, error=str(error))
                    return
            await self._clock.sleep(backoff.next_delay())

    async def _write(self, job: Job, owner: str, end: Ending) -> None:
        async with self._database.transaction() as unit:
            if not await store.finish(unit.connection, job.id, owner, end, self._clock.now()):
                log.warning("job lost to another worker", job=job.id, kind=job.kind)
                return
            written = await store.find(unit.connection, job.id)
            if written is not None and written.state in ENDED:
                await unit.announce(JobEnded(job.id, job.kind, written.state))

    async def _give_back(self, leased: LeasedJob) -> None:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(self._limits.stop_seconds):
                async with self._database.transaction() as unit:
                    await store.give_back(unit.connection, leased.id, leased.owner, self._clock.now())
                await self._queue.push(leased.id)

    async def _work_forever(self) -> None:
        backoff = Backoff(self._chance, initial_seconds=0.5, cap_seconds=5)
        while True:
            try:
                job_id = await self._queue.pop(self._limits.poll_seconds)
                if job_id is not None:
                    await self.run_one(job_id)
                backoff.reset()
            except Unavailable as error:
                log.warning("worker waits", error=str(error))
                await self._clock.sleep(backoff.next_delay())
                await self._work_without_queue()

    async def _work_without_queue(self) -> None:
        """The rows say what is due, and claiming says who gets it; the queue only makes it quick. Without this nobody
        would describe contents while Redis is away, and every host would fetch its own copy from the centre.
        """
        with contextlib.suppress(Unavailable):
            for job_id in await self._service.claimable():
                await self.run_one(job_id)

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self._service.sweep()
            except Unavailable as error:
                log.warning("sweep put off", error=str(error))
            await self._clock.sleep(jittered(self._limits.sweep_seconds, 0.2, self._chance))
