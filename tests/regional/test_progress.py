"""What may be read of a content that is on its way."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Unavailable
from regional.progress import Progress, StillFetching


@given(
    size=st.integers(0, 500),
    piece=st.integers(1, 64),
    marks=st.lists(st.integers(0, 40)),
    start=st.integers(0, 500),
    limit=st.integers(0, 600),
)
def test_only_verified_bytes_without_a_gap_are_readable(
    size: int, piece: int, marks: list[int], start: int, limit: int
) -> None:
    pieces = -(-size // piece)
    good = {index for index in marks if index < pieces}
    subject = Progress()
    subject.begin(size, piece, ())
    for index in good:
        subject.mark(index)
        subject.mark(index)
    readable = [at // piece in good for at in range(size)]
    expected = 0
    while expected < limit and start + expected < size and readable[start + expected]:
        expected += 1
    assert subject.readable(start, limit) == expected
    assert subject.held_bytes == sum(readable)
    assert subject.complete == (len(good) == pieces)
    assert {index for run in subject.missing() for index in run} == set(range(pieces)) - good
    assert all(
        first.stop < second.start for first, second in zip(subject.missing(), subject.missing()[1:], strict=False)
    )


def test_nothing_is_readable_before_the_beginning_and_after_a_restart() -> None:
    subject = Progress()
    assert subject.readable(0, 10) == 0
    assert subject.missing() == []
    subject.begin(10, 10, {0})
    assert subject.readable(0, 10) == 10
    subject.restart()
    assert (subject.readable(0, 10), subject.held_bytes, subject.complete) == (0, 0, False)


async def test_waiters_wake_with_their_piece_and_not_before() -> None:
    subject = Progress()
    async with asyncio.TaskGroup() as group:
        size = group.create_task(subject.wait_begun(5))
        second = group.create_task(subject.wait_readable(15, 5))
        await asyncio.sleep(0)
        subject.begin(20, 10, {0})
        assert await size == 20
        assert not second.done()
        subject.mark(1)
        await second


async def test_waiters_learn_of_the_failure_and_readers_of_what_is_there_do_not() -> None:
    subject = Progress()
    subject.begin(20, 10, {0})
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_outcome(subject.wait_readable(15, 5)))
        await asyncio.sleep(0)
        subject.fail(Unavailable("away"))
        assert isinstance(await waiting, Unavailable)
    await subject.wait_readable(5, 5)
    subject.attempting()
    assert isinstance(await _outcome(subject.wait_readable(15, 0.01)), StillFetching)


async def _outcome(waiting) -> BaseException | None:  # type: ignore[no-untyped-def]
    with pytest.raises(Unavailable) as caught:
        await waiting
    return caught.value
