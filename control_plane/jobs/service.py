"""Use cases around jobs: enqueue, look, cancel, sweep. Running them is the worker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from common.clock import Clock
from common.errors import Conflict, NotFound, Unavailable
from common.identifiers import new_id
from control_plane.database import Database, UnitOfWork
from control_plane.jobs import store
from control_plane.jobs.messages import JobEnded
from control_plane.jobs.model import Job, JobState
from control_plane.queues import Queue

_SWEEP_LIMIT = 1000


class JobUnknown(NotFound):
    code = "job_unknown"


class JobEndedAlready(Conflict):
    code = "job_ended"


class JobService:
    def __init__(self, database: Database, queue: Queue, clock: Clock) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock

    async def enqueue(
        self,
        unit: UnitOfWork,
        kind: str,
        payload: Mapping[str, Any],
        *,
        unique_key: str | None = None,
        delay: timedelta = timedelta(0),
        max_attempts: int = 10,
    ) -> str:
        """The id of the new job, or of the active job of this kind with the same `unique_key`.

        The job exists if and only if the caller's transaction commits.
        """
        for _ in range(3):
            job = self._new(kind, payload, unique_key, delay, max_attempts)
            if await store.insert_unless_active(unit.connection, job):
                if not delay:
                    unit.after_commit(partial(self._queue.push, job.id))
                return job.id
            # Not found means that it ended between the two statements: then ours may begin.
            if unique_key and (active := await store.find_active(unit.connection, kind, unique_key)) is not None:
                return active.id
        raise Unavailable(f"the {kind} jobs of {unique_key!r} end too quickly to join one", action="try again")

    async def get(self, job_id: str) -> Job:
        """Raises `JobUnknown`."""
        async with self._database.reading() as connection:
            job = await store.find(connection, job_id)
        if job is None:
            raise JobUnknown(f"there is no job {job_id}", action="list the jobs; ended ones are deleted after a while")
        return job

    async def list(
        self, *, kind: str | None = None, state: JobState | None = None, limit: int = 100
    ) -> tuple[Job, ...]:
        """The newest first."""
        async with self._database.reading() as connection:
            return await store.list_jobs(connection, kind, state, limit)

    async def cancel(self, job_id: str) -> None:
        """A queued job is cancelled when this returns; a running one is told so within its worker's heartbeat.

        Raises `JobUnknown`, or `JobEndedAlready` if there is nothing left to cancel. A second call is harmless.
        """
        async with self._database.transaction() as unit:
            if await store.cancel_queued(unit.connection, job_id, self._clock.now()):
                job = await store.find(unit.connection, job_id)
                await unit.announce(JobEnded(job_id, job.kind if job else "", JobState.CANCELLED))
                return
            if await store.request_cancel(unit.connection, job_id):
                return
        job = await self.get(job_id)
        if job.state is not JobState.CANCELLED:
            raise JobEndedAlready(f"job {job_id} has ended: {job.state}", action="nothing is left to cancel")

    async def sweep(self) -> int:
        """Push the ids of all jobs that could run now; returns how many. Ids that wait already are not doubled."""
        found = await self.claimable()
        for job_id in found:
            await self._queue.push(job_id)
        return len(found)

    async def claimable(self) -> Sequence[str]:
        """The ids of jobs that could run now, as the rows say."""
        async with self._database.reading() as connection:
            return await store.list_claimable(connection, self._clock.now(), _SWEEP_LIMIT)

    async def forget_ended(self, before: datetime) -> int:
        """Delete jobs that ended before then; returns how many."""
        async with self._database.transaction() as unit:
            return await store.delete_ended(unit.connection, before)

    def _new(
        self, kind: str, payload: Mapping[str, Any], unique_key: str | None, delay: timedelta, max_attempts: int
    ) -> Job:
        now = self._clock.now()
        return Job(
            id=new_id(self._clock),
            kind=kind,
            payload=dict(payload),
            state=JobState.QUEUED,
            unique_key=unique_key,
            attempts=0,
            max_attempts=max_attempts,
            due_at=now + delay,
            lease_owner=None,
            lease_until=None,
            cancel_requested=False,
            progress=0.0,
            progress_note="",
            result=None,
            error_code=None,
            error=None,
            created_at=now,
            ended_at=None,
        )
