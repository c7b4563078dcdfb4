"""What jobs promise, on both databases and both queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from common.clock import ManualClock
from common.errors import Invalid, Unavailable
from control_plane.database import Database
from control_plane.jobs.model import Job, JobState
from control_plane.jobs.running import RunningJob
from control_plane.jobs.service import JobEndedAlready, JobService, JobUnknown
from control_plane.jobs.worker import Worker
from control_plane.queues import Queue
from control_plane.queues.memory import MemoryQueue

MakeWorker = Callable[..., Worker]


class Recorder:
    """A handler that keeps the payloads it saw, and fails as often as it is told."""

    def __init__(self, *failures: Exception) -> None:
        self.seen: list[Mapping[str, Any]] = []
        self._failures = list(failures)

    async def __call__(self, job: RunningJob) -> Mapping[str, Any] | None:
        self.seen.append(dict(job.payload))
        if self._failures:
            raise self._failures.pop(0)
        return {"attempt": job.attempt}


async def enqueue(database: Database, jobs: JobService, kind: str = "work", **options: Any) -> str:
    async with database.transaction() as unit:
        return await jobs.enqueue(unit, kind, options.pop("payload", {}), **options)


async def test_a_job_runs_once_and_its_result_can_be_read(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    work = Recorder()
    job_id = await enqueue(database, jobs, payload={"image": "acme/web"})
    assert (await jobs.get(job_id)).state is JobState.QUEUED
    assert await make_worker({"work": work}).run_waiting() == 1
    job = await jobs.get(job_id)
    assert work.seen == [{"image": "acme/web"}]
    assert (job.state, job.result, job.progress, job.attempts) == (JobState.DONE, {"attempt": 1}, 1.0, 1)
    assert await make_worker({"work": work}).run_waiting() == 0


async def test_a_job_of_a_transaction_that_is_rolled_back_never_was(
    database: Database, jobs: JobService, queue: Queue
) -> None:
    async def change_ones_mind() -> None:
        async with database.transaction() as unit:
            await jobs.enqueue(unit, "work", {})
            raise KeyError("no")

    with pytest.raises(KeyError):
        await change_ones_mind()
    assert await queue.pop(0) is None
    assert await jobs.list() == ()


async def test_an_unknown_job_is_not_found(jobs: JobService) -> None:
    with pytest.raises(JobUnknown):
        await jobs.get("nonsense")
    with pytest.raises(JobUnknown):
        await jobs.cancel("nonsense")


async def test_a_unique_key_joins_the_job_that_is_queued_or_running(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    first = await enqueue(database, jobs, unique_key="image-1")
    assert await enqueue(database, jobs, unique_key="image-1") == first
    assert await enqueue(database, jobs, unique_key="image-2") != first
    assert await enqueue(database, jobs, kind="other", unique_key="image-1") != first
    joined = []

    async def work(job: RunningJob) -> None:
        if job.id == first:
            joined.append(await enqueue(database, jobs, unique_key="image-1"))

    assert await make_worker({"work": work, "other": Recorder()}).run_waiting() == 3
    assert joined == [first]
    assert await enqueue(database, jobs, unique_key="image-1") != first  # that one has ended


async def test_many_replicas_that_ask_at_once_get_one_job(
    database: Database, jobs: JobService, open_replica: Callable[[], Database]
) -> None:
    replica = open_replica()
    asked = [enqueue((database, replica)[number % 2], jobs, unique_key="same") for number in range(12)]
    assert len(set(await asyncio.gather(*asked))) == 1
    assert len(await jobs.list()) == 1


async def test_a_failed_attempt_is_repeated_later_and_then_succeeds(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    work = Recorder(Unavailable("the registry is away", retry_after_seconds=20), RuntimeError("boom"))
    worker = make_worker({"work": work})
    job_id = await enqueue(database, jobs)
    assert await worker.run_waiting() == 1
    job = await jobs.get(job_id)
    assert (job.state, job.error_code, job.attempts) == (JobState.QUEUED, "unavailable", 1)
    assert await worker.run_waiting() == 0  # not before its time
    clock.tick(21)
    assert await worker.run_waiting() == 1
    clock.tick(600)
    assert await worker.run_waiting() == 1
    job = await jobs.get(job_id)
    assert (job.state, job.result, job.error) == (JobState.DONE, {"attempt": 3}, None)


async def test_a_job_that_cannot_succeed_fails_at_once_with_its_reason(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    job_id = await enqueue(database, jobs)
    await make_worker({"work": Recorder(Invalid("not an image", action="send another"))}).run_waiting()
    job = await jobs.get(job_id)
    assert (job.state, job.error_code, job.attempts) == (JobState.FAILED, "invalid", 1)
    assert job.error == "not an image (send another)"


async def test_a_job_fails_for_good_after_its_last_attempt(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    job_id = await enqueue(database, jobs, max_attempts=3)
    worker = make_worker({"work": Recorder(*[RuntimeError("boom\0")] * 9)})
    for _ in range(5):
        await worker.run_waiting()
        clock.tick(601)
    job = await jobs.get(job_id)
    assert (job.state, job.attempts, job.error) == (JobState.FAILED, 3, "RuntimeError: boom?")


async def test_a_result_that_is_not_json_fails_the_attempt_not_the_worker(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    async def work(job: RunningJob) -> Mapping[str, Any]:
        return {"value": object()}

    job_id = await enqueue(database, jobs, max_attempts=1)
    await make_worker({"work": work}).run_waiting()
    assert (await jobs.get(job_id)).state is JobState.FAILED


async def test_a_kind_that_no_worker_knows_waits_for_a_newer_worker(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    job_id = await enqueue(database, jobs, kind="future")
    await make_worker({}).run_waiting()
    assert (await jobs.get(job_id)).error_code == "no_handler"
    clock.tick(601)
    await make_worker({"future": Recorder()}).run_waiting()
    assert (await jobs.get(job_id)).state is JobState.DONE


async def test_a_delayed_job_waits_for_its_time(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    await enqueue(database, jobs, delay=timedelta(minutes=5))
    worker = make_worker({"work": Recorder()})
    assert await worker.run_waiting() == 0
    clock.tick(301)
    assert await worker.run_waiting() == 1


async def test_losing_the_whole_queue_loses_no_job(
    database: Database, jobs: JobService, queue: Queue, make_worker: MakeWorker
) -> None:
    for number in range(5):
        await enqueue(database, jobs, payload={"number": number})
    while await queue.pop(0) is not None:
        pass
    work = Recorder()
    assert await make_worker({"work": work}).run_waiting() == 5
    assert sorted(seen["number"] for seen in work.seen) == list(range(5))


async def test_a_queue_that_is_away_costs_the_caller_nothing(
    database: Database, clock: ManualClock, make_worker: MakeWorker
) -> None:
    class Away(MemoryQueue):
        async def push(self, job_id: str) -> None:
            raise Unavailable("the queue is away")

    job_id = await enqueue(database, JobService(database, Away(), clock))
    await make_worker({"work": Recorder()}).run_waiting()
    jobs = JobService(database, Away(), clock)
    assert (await jobs.get(job_id)).state is JobState.DONE


async def test_an_id_that_is_handed_out_twice_runs_once(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    job_id = await enqueue(database, jobs)
    work = Recorder()
    worker = make_worker({"work": work})
    assert [await worker.run_one(job_id), await worker.run_one(job_id)] == [True, False]
    assert len(work.seen) == 1


async def test_two_workers_that_get_the_same_id_do_not_both_run_it(
    database: Database, jobs: JobService, make_worker: MakeWorker, open_replica: Callable[[], Database]
) -> None:
    work = Recorder()
    workers = [make_worker({"work": work}), make_worker({"work": work}, database=open_replica())]
    for _ in range(5):
        job_id = await enqueue(database, jobs)
        ran = await asyncio.gather(*(worker.run_one(job_id) for worker in workers))
        assert sorted(ran) == [False, True]
    assert len(work.seen) == 5


async def test_ended_jobs_are_forgotten_after_a_while_and_active_ones_never(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    ended = await enqueue(database, jobs)
    await make_worker({"work": Recorder()}).run_waiting()
    waiting = await enqueue(database, jobs)
    clock.tick(8 * 86400)
    assert await jobs.forget_ended(clock.now() - timedelta(days=7)) == 1
    assert [job.id for job in await jobs.list()] == [waiting]
    with pytest.raises(JobUnknown):
        await jobs.get(ended)


async def test_a_list_is_filtered_by_kind_and_state(
    database: Database, jobs: JobService, make_worker: MakeWorker, clock: ManualClock
) -> None:
    first = await enqueue(database, jobs)
    await make_worker({"work": Recorder()}).run_waiting()
    clock.tick(1)
    second = await enqueue(database, jobs)
    clock.tick(1)
    third = await enqueue(database, jobs, kind="other")

    def ids(found: tuple[Job, ...]) -> list[str]:
        return [job.id for job in found]

    assert ids(await jobs.list()) == [third, second, first]
    assert ids(await jobs.list(kind="work")) == [second, first]
    assert ids(await jobs.list(kind="work", state=JobState.DONE)) == [first]
    assert ids(await jobs.list(limit=1)) == [third]


async def test_a_queued_job_is_cancelled_at_once(database: Database, jobs: JobService, make_worker: MakeWorker) -> None:
    job_id = await enqueue(database, jobs)
    await jobs.cancel(job_id)
    await jobs.cancel(job_id)
    assert (await jobs.get(job_id)).state is JobState.CANCELLED
    work = Recorder()
    assert await make_worker({"work": work}).run_waiting() == 0
    assert work.seen == []


async def test_a_job_that_has_ended_cannot_be_cancelled(
    database: Database, jobs: JobService, make_worker: MakeWorker
) -> None:
    job_id = await enqueue(database, jobs)
    await make_worker({"work": Recorder()}).run_waiting()
    with pytest.raises(JobEndedAlready):
        await jobs.cancel(job_id)
