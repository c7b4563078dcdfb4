"""Jobs on both databases and both queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from common.clock import Clock, ManualClock, SystemClock
from control_plane.database import Database
from control_plane.jobs.running import Handler
from control_plane.jobs.service import JobService
from control_plane.jobs.worker import Worker, WorkerLimits
from control_plane.queues import Queue
from control_plane.queues.memory import MemoryQueue
from control_plane.queues.redis import RedisQueue
from tests.engines.redis import RedisEngine

ORDINARY = WorkerLimits()
MakeWorker = Callable[..., Worker]


@pytest.fixture(params=["memory", "redis"])
async def queue(request: pytest.FixtureRequest) -> AsyncIterator[Queue]:
    if request.param == "memory":
        yield MemoryQueue()
        return
    server: RedisEngine = request.getfixturevalue("redis_server")
    opened = RedisQueue(server.url, SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
def jobs(database: Database, queue: Queue, clock: ManualClock) -> JobService:
    return JobService(database, queue, clock)


@pytest.fixture
def make_worker(database: Database, queue: Queue, clock: ManualClock) -> MakeWorker:
    def make(
        handlers: dict[str, Handler], limits: WorkerLimits = ORDINARY, clock: Clock = clock, **others: object
    ) -> Worker:
        where = {"database": database, "queue": queue, **others}
        return Worker(where["database"], where["queue"], handlers, clock, limits, lambda: 0.5)  # type: ignore[arg-type]

    return make
