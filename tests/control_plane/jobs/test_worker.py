"""Leases, cancellation, killed workers, and the worker as it runs in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from common.clock import ManualClock, SystemClock
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.database.outbox import outbox
from control_plane.jobs import store
from control_plane.jobs.model import ENDED, Job, JobState
from control_plane.jobs.running import RunningJob
from control_plane.jobs.service import JobService
from control_plane.jobs.worker import Worker, WorkerLimits
from control_plane.queues import Queue
from tests.pace import BUSY_SECONDS

MakeWorker = Callable[..., Worker]
QUICK = WorkerLimits(concurrency=3, lease_seconds=1.0, sweep_seconds=0.1, poll_seconds=0.2)


async def enqueue(database: Database, jobs: JobService, **options: Any) -> str:
    async with database.transaction() as unit:
        return await jobs.enqueue(unit, "work", {}, **options)


async def ended(jobs: JobService, job_id: str, seconds: float = 10) -> Job:
    async with asyncio.timeout(seconds):
        while True:
            job = await jobs.get(job_id)
            if job.state in ENDED:
                return job
            await asyncio.sleep(0.02)


class Hanging:
    """A handler that starts, says so, and never ends by itself."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.was_cancelled = False

    async def __call__(self, job: RunningJob) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def succeed(job: RunningJob) -> dict[str, int]:
    return {"attempt": job.attempt}


async def test_the_job_of_a_killed_worker_runs_again_once_its_lease_has_lapsed(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    job_id = await enqueue(database, jobs)
    await _claim_and_die(database, job_id, clock)
    assert (await jobs.get(job_id)).state is JobState.RUNNING
    worker = make_worker({"work": succeed})
    clock.tick(30)
    assert await worker.run_waiting() == 0  # the lease still holds
    clock.tick(31)
    assert await worker.run_waiting() == 1
    job = await jobs.get(job_id)
    assert (job.state, job.result) == (JobState.DONE, {"attempt": 2})


async def test_a_worker_that_stops_gives_its_job_back_and_the_attempt_does_not_count(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    job_id = await enqueue(database, jobs)
    hanging = Hanging()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(make_worker({"work": hanging}).run_one(job_id))
        await hanging.started.wait()
        task.cancel()
    job = await jobs.get(job_id)
    assert (job.state, job.attempts, job.lease_owner) == (JobState.QUEUED, 0, None)
    assert hanging.was_cancelled
    assert await make_worker({"work": succeed}).run_waiting() == 1


async def test_a_job_that_kills_every_worker_fails_in_the_end(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    job_id = await enqueue(database, jobs, max_attempts=3)
    for _ in range(3):
        await _claim_and_die(database, job_id, clock)
        clock.tick(61)
    assert await make_worker({"work": succeed}).run_waiting() == 1
    job = await jobs.get(job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "abandoned")


async def _claim_and_die(database: Database, job_id: str, clock: ManualClock) -> None:
    async with database.transaction() as unit:
        until = clock.now() + timedelta(seconds=60)
        assert await store.claim(unit.connection, job_id, "dead-worker", clock.now(), until)


async def test_a_worker_that_lost_its_lease_writes_nothing_and_its_handler_is_stopped(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    job_id = await enqueue(database, jobs)
    going_on = asyncio.Event()

    class Slow(Hanging):
        async def __call__(self, job: RunningJob) -> None:
            self.started.set()
            await going_on.wait()
            await job.report(0.5)  # finds out here
            await super().__call__(job)

    slow = Slow()
    async with asyncio.TaskGroup() as group:
        late = group.create_task(make_worker({"work": slow}).run_one(job_id))
        await slow.started.wait()
        clock.tick(61)
        assert await make_worker({"work": succeed}).run_waiting() == 1
        going_on.set()
        async with asyncio.timeout(BUSY_SECONDS):
            await late
    assert slow.was_cancelled
    assert (await jobs.get(job_id)).result == {"attempt": 2}


async def test_a_running_job_is_cancelled_within_its_heartbeat(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    job_id = await enqueue(database, jobs)
    hanging = Hanging()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(make_worker({"work": hanging}, QUICK, SystemClock()).run())
        await hanging.started.wait()
        await jobs.cancel(job_id)
        job = await ended(jobs, job_id)
        running.cancel()
    assert job.state is JobState.CANCELLED
    assert hanging.was_cancelled


async def test_a_handler_that_finishes_in_spite_of_being_cancelled_has_finished(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    async def stubborn(job: RunningJob) -> dict[str, bool]:
        await jobs.cancel(job.id)
        clock.tick(2)
        try:
            await job.report(0.5)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        return {"finished": True}

    job_id = await enqueue(database, jobs)
    await make_worker({"work": stubborn}).run_waiting()
    assert (await jobs.get(job_id)).state is JobState.DONE


async def test_progress_is_seen_while_the_job_runs_and_written_at_most_once_a_second(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    seen = []

    async def work(job: RunningJob) -> None:
        for step in range(1, 5):
            await job.report(step / 10, f"step {step}")
            seen.append((await jobs.get(job.id)).progress_note)
            clock.tick(0.6)

    await enqueue(database, jobs)
    await make_worker({"work": work}).run_waiting()
    assert seen == ["step 1", "step 1", "step 3", "step 3"]


async def test_the_lease_is_kept_while_the_handler_works(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    attempts = []

    async def long_work(job: RunningJob) -> None:
        attempts.append(job.attempt)
        await asyncio.sleep(2.2)  # more than two leases

    job_id = await enqueue(database, jobs)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(make_worker({"work": long_work}, QUICK, SystemClock()).run()) for _ in range(2)]
        job = await ended(jobs, job_id)
        for worker in workers:
            worker.cancel()
    assert (job.state, attempts) == (JobState.DONE, [1])


async def test_a_handler_that_hangs_is_ended_and_tried_again(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    hanging = Hanging()
    job_id = await enqueue(database, jobs, max_attempts=1)
    worker = make_worker({"work": hanging}, WorkerLimits(attempt_seconds=0.1))
    assert await worker.run_one(job_id)
    job = await jobs.get(job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "internal")
    assert hanging.was_cancelled


async def test_a_worker_runs_so_many_jobs_at_once_and_no_more(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    now_running, most = 0, 0

    async def work(job: RunningJob) -> None:
        nonlocal now_running, most
        now_running += 1
        most = max(most, now_running)
        await asyncio.sleep(0.05)
        now_running -= 1

    ids = [await enqueue(database, jobs) for _ in range(12)]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(make_worker({"work": work}, QUICK, SystemClock()).run())
        for job_id in ids:
            assert (await ended(jobs, job_id)).state is JobState.DONE
        running.cancel()
    assert 2 <= most <= 3


async def test_a_handler_that_cancels_itself_by_mistake_does_not_look_like_a_wish(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    async def confused(job: RunningJob) -> None:
        raise asyncio.CancelledError

    job_id = await enqueue(database, jobs, max_attempts=1)
    await make_worker({"work": confused}).run_waiting()
    assert (await jobs.get(job_id)).state is JobState.FAILED


async def test_the_end_of_a_job_is_announced(database: Database, jobs: JobService, make_worker: MakeWorker) -> None:
    job_id = await enqueue(database, jobs)
    await make_worker({"work": succeed}).run_waiting()
    cancelled = await enqueue(database, jobs)
    await jobs.cancel(cancelled)
    async with database.reading() as connection:
        payloads = (await connection.execute(select(outbox.c.payload).order_by(outbox.c.id))).scalars().all()
    assert payloads == [
        {"job_id": job_id, "kind": "work", "state": "done"},
        {"job_id": cancelled, "kind": "work", "state": "cancelled"},
    ]


class Flaky:
    """A queue that is away until told otherwise."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.away = True

    async def push(self, job_id: str) -> None:
        self._check()
        await self._queue.push(job_id)

    async def pop(self, timeout_seconds: float) -> str | None:
        self._check()
        return await self._queue.pop(timeout_seconds)

    async def close(self) -> None: ...

    def _check(self) -> None:
        if self.away:
            raise Unavailable("away")


async def test_jobs_run_once_each_while_the_queue_is_away_and_after_it_is_back(
    database: Database, jobs: JobService, queue: Queue, make_worker: MakeWorker
) -> None:
    flaky = Flaky(queue)
    during = [await enqueue(database, jobs) for _ in range(5)]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(make_worker({"work": succeed}, QUICK, SystemClock(), queue=flaky).run())
        for job_id in during:
            job = await ended(jobs, job_id)
            assert (job.state, job.result) == (JobState.DONE, {"attempt": 1})
        flaky.away = False
        assert (await ended(jobs, await enqueue(database, jobs))).state is JobState.DONE
        running.cancel()
