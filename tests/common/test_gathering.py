"""Questions that come together are answered together, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from common.errors import Failure, NotFound, Unavailable
from common.gathering import CROWD, STEP_SECONDS, Gathering
from tests.pace import BUSY_SECONDS


class Work:
    """Doubles numbers; odd ones do not exist. Stands still while the gate is shut."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def answer(self, questions: Sequence[int]) -> list[int | Failure]:
        self.pieces.append(list(questions))
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [NotFound(f"no {one}") if one % 2 else one * 2 for one in questions]


async def test_who_asks_alone_is_answered_alone() -> None:
    work = Work()
    gathering = Gathering(work.answer)

    assert [await gathering.ask(2), await gathering.ask(4)] == [4, 8]
    assert work.pieces == [[2], [4]]


async def test_who_asks_while_others_are_answered_is_answered_with_all_who_wait() -> None:
    work = Work()
    gathering = Gathering(work.answer, most=3)

    answers = await asyncio.gather(*(gathering.ask(number) for number in (2, 4, 6, 8, 10)))

    assert answers == [4, 8, 12, 16, 20]
    assert work.pieces == [[2], [4, 6, 8], [10]]


async def test_without_a_step_nobody_waits_for_company() -> None:
    work, loop = Work(), asyncio.get_running_loop()
    gathering = Gathering(work.answer)
    began = loop.time()

    assert [await gathering.ask(2) for _ in range(100)] == [4] * 100
    assert loop.time() - began < 50 * STEP_SECONDS


async def test_a_crowd_that_comes_one_after_the_other_keeps_step() -> None:
    work, loop = Work(), asyncio.get_running_loop()
    gathering = Gathering(work.answer, step_seconds=STEP_SECONDS)
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(0, 800, 2):
            group.create_task(gathering.ask(number))
            await asyncio.sleep(0.001)
    steps = (loop.time() - began) / STEP_SECONDS

    assert sum(len(piece) for piece in work.pieces) == 400
    # Without steps 400; those before it is a crowd, one or two a step, which shortens as it grows, and its end.
    assert len(work.pieces) <= CROWD + 2 * steps + CROWD


async def test_a_crowd_that_fills_a_piece_does_not_wait_for_its_step() -> None:
    work, loop = Work(), asyncio.get_running_loop()
    gathering = Gathering(work.answer, most=10, step_seconds=STEP_SECONDS)
    began = loop.time()

    await asyncio.gather(*(gathering.ask(number) for number in range(0, 2_002, 2)))

    assert len(work.pieces) == 101
    assert loop.time() - began < 100 * STEP_SECONDS


async def test_a_failure_is_raised_at_the_one_whose_answer_it_is() -> None:
    gathering = Gathering(Work().answer)

    answers = await asyncio.gather(gathering.ask(2), gathering.ask(3), return_exceptions=True)

    assert answers[0] == 4
    assert isinstance(answers[1], NotFound)


async def test_work_that_fails_fails_for_all_who_were_in_it_and_for_nobody_else() -> None:
    work = Work()
    work.failure = Unavailable("away")
    gathering = Gathering(work.answer)

    answers = await asyncio.gather(gathering.ask(2), gathering.ask(4), return_exceptions=True)
    work.failure = None

    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert await gathering.ask(6) == 12


async def test_if_the_one_who_works_for_all_is_cancelled_another_does_it_again() -> None:
    work = Work()
    work.gate.clear()
    gathering = Gathering(work.answer)
    async with asyncio.TaskGroup() as group:
        alone = group.create_task(gathering.ask(0))
        working, *others = [group.create_task(gathering.ask(number)) for number in (2, 4, 6)]
        await _until(lambda: len(work.pieces) == 1)
        work.gate.set()
        await alone
        work.gate.clear()
        await _until(lambda: len(work.pieces) == 2)
        working.cancel()
        await _until(lambda: len(work.pieces) == 3)
        work.gate.set()

    assert [other.result() for other in others] == [8, 12]
    assert work.pieces == [[0], [2, 4, 6], [4, 6]]
    with pytest.raises(asyncio.CancelledError):
        working.result()


async def test_who_is_cancelled_while_waiting_is_not_asked_for() -> None:
    work = Work()
    work.gate.clear()
    gathering = Gathering(work.answer, most=1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(gathering.ask(2))
        second = group.create_task(gathering.ask(4))
        third = group.create_task(gathering.ask(6))
        await _until(lambda: len(work.pieces) == 1)
        second.cancel()
        work.gate.set()

    assert (first.result(), third.result()) == (4, 12)
    assert [4] not in work.pieces


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0)
