"""What every `control_plane.queues.Queue` must do."""

from __future__ import annotations

import asyncio
import time

import pytest

from control_plane.queues import Queue
from tests.pace import BUSY_SECONDS


class QueueContract:
    """Subclasses give the fixtures `subject` and `other`: another process's view of the same queue."""

    async def test_an_empty_queue_answers_nothing_after_its_timeout(self, subject: Queue) -> None:
        started = time.monotonic()
        assert await subject.pop(0.2) is None
        assert 0.15 < time.monotonic() - started < 0.2 + BUSY_SECONDS

    async def test_a_pop_without_waiting_takes_what_is_there(self, subject: Queue) -> None:
        assert await subject.pop(0) is None
        await subject.push("job")
        assert await subject.pop(0) == "job"

    async def test_ids_come_out_in_the_order_of_their_first_push(self, subject: Queue) -> None:
        for number in range(5):
            await subject.push(f"job-{number}")
        await subject.push("job-0")
        assert [await subject.pop(1) for _ in range(5)] == [f"job-{number}" for number in range(5)]

    async def test_an_id_that_waits_already_is_not_doubled(self, subject: Queue) -> None:
        await subject.push("job")
        await subject.push("job")
        assert await subject.pop(1) == "job"
        assert await subject.pop(0) is None

    async def test_an_id_that_was_handed_out_may_be_pushed_again(self, subject: Queue) -> None:
        await subject.push("job")
        assert await subject.pop(1) == "job"
        await subject.push("job")
        assert await subject.pop(1) == "job"

    async def test_a_waiting_pop_wakes_when_another_process_pushes(self, subject: Queue, other: Queue) -> None:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(subject.pop(10))
            await asyncio.sleep(0)
            await other.push("job")
        assert waiting.result() == "job"

    async def test_each_id_goes_to_one_caller(self, subject: Queue, other: Queue) -> None:
        async def take(queue: Queue) -> list[str]:
            taken = []
            while (job_id := await queue.pop(0.3)) is not None:
                taken.append(job_id)
            return taken

        async with asyncio.TaskGroup() as group:
            takers = [group.create_task(take(queue)) for queue in (subject, other, subject, other)]
            for number in range(40):
                await other.push(f"job-{number}")
        taken = [job_id for taker in takers for job_id in taker.result()]
        assert sorted(taken) == sorted(f"job-{number}" for number in range(40))

    async def test_a_cancelled_pop_leaves_the_queue_usable(self, subject: Queue) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await subject.pop(10)
        await subject.push("job")
        # A pop whose caller went away may take one id along (the sweep brings it back), never the queue's service.
        first = await subject.pop(1)
        if first is None:
            await subject.push("job")
            first = await subject.pop(1)
        assert first == "job"
