"""Schedules: each tick makes one job, whichever replica wins it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from common.clock import ManualClock
from control_plane.database import Database
from control_plane.jobs.model import JobState
from control_plane.jobs.periodic import Periodic, Schedule
from control_plane.jobs.service import JobService
from control_plane.jobs.worker import Worker
from control_plane.queues import Queue

MakeWorker = Callable[..., Worker]
HOURLY = Schedule("collect-garbage", "registry.collect", timedelta(hours=1), {"deep": True})


async def nothing(job: object) -> None: ...


async def test_a_schedule_is_due_when_first_seen_and_then_every_period(
    database: Database, jobs: JobService, clock: ManualClock, make_worker: MakeWorker
) -> None:
    periodic = Periodic(database, jobs, [HOURLY], clock)
    worker = make_worker({"registry.collect": nothing})
    won = []
    for _ in range(8):
        won.append(len(await periodic.tick()))
        await worker.run_waiting()
        clock.tick(1200)
    assert won == [1, 0, 0, 1, 0, 0, 1, 0]
    assert [job.payload for job in await jobs.list()] == [{"deep": True}] * 3


async def test_replicas_never_run_one_tick_twice(
    database: Database, queue: Queue, clock: ManualClock, open_replica: Callable[[], Database], make_worker: MakeWorker
) -> None:
    databases = [database, open_replica(), open_replica()]
    replicas = [Periodic(each, JobService(each, queue, clock), [HOURLY], clock) for each in databases]
    worker = make_worker({"registry.collect": nothing})
    for _ in range(5):
        won = await asyncio.gather(*(replica.tick() for replica in replicas))
        assert sorted(map(len, won)) == [0, 0, 1]
        await worker.run_waiting()
        clock.tick(3600)
    assert len(await JobService(database, queue, clock).list(state=JobState.DONE)) == 5


async def test_a_slow_job_is_not_doubled_by_the_next_tick(
    database: Database, jobs: JobService, clock: ManualClock
) -> None:
    periodic = Periodic(database, jobs, [HOURLY], clock)
    for _ in range(3):
        await periodic.tick()
        clock.tick(3600)
    assert len(await jobs.list()) == 1


async def test_ticks_that_were_missed_are_made_up_once(
    database: Database, jobs: JobService, clock: ManualClock, make_worker: MakeWorker
) -> None:
    periodic = Periodic(database, jobs, [HOURLY], clock)
    worker = make_worker({"registry.collect": nothing})
    await periodic.tick()
    await worker.run_waiting()
    clock.tick(10 * 3600 + 60)
    assert len(await periodic.tick()) == 1
    await worker.run_waiting()
    assert len(await periodic.tick()) == 0
    clock.tick(3600 - 60)
    assert len(await periodic.tick()) == 1
