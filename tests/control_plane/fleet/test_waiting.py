"""A flag and a mailbox for one who waits."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.fleet.waiting import Flag, Mailbox, MailboxFull


async def test_who_waits_for_a_flag_goes_on_when_it_is_up() -> None:
    flag = Flag()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(flag.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        flag.set()
    assert flag.is_set()
    await flag.wait()


async def test_who_waited_goes_on_although_the_flag_came_down_at_once() -> None:
    flag = Flag()
    async with asyncio.TaskGroup() as group:
        group.create_task(flag.wait())
        await asyncio.sleep(0)
        flag.set()
        flag.clear()
    assert not flag.is_set()


async def test_who_gave_up_leaves_the_flag_to_the_next() -> None:
    flag = Flag()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await flag.wait()
    async with asyncio.TaskGroup() as group:
        group.create_task(flag.wait())
        await asyncio.sleep(0)
        flag.set()


async def test_a_flag_that_is_put_up_twice_wakes_once() -> None:
    flag = Flag()
    async with asyncio.TaskGroup() as group:
        group.create_task(flag.wait())
        await asyncio.sleep(0)
        flag.set()
        flag.set()


async def test_a_second_who_waits_is_told_so() -> None:
    flag = Flag()
    async with asyncio.TaskGroup() as group:
        group.create_task(flag.wait())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one waiter"):
            await flag.wait()
        flag.set()


async def test_a_mailbox_gives_in_the_order_it_took() -> None:
    box: Mailbox[int] = Mailbox(3)
    for number in range(3):
        box.put_nowait(number)
    assert box.qsize() == 3
    assert [await box.get() for _ in range(3)] == [0, 1, 2]


async def test_a_full_mailbox_takes_nothing_more() -> None:
    box: Mailbox[int] = Mailbox(1)
    box.put_nowait(1)
    with pytest.raises(MailboxFull):
        box.put_nowait(2)
    assert await box.get() == 1
    assert box.qsize() == 0


async def test_a_reader_who_was_cancelled_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox(4)
    reader = asyncio.ensure_future(box.get())
    await asyncio.sleep(0)
    box.put_nowait(1)
    reader.cancel()  # its wait had ended, but it had not taken the item yet
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await box.get() == 1


async def test_an_empty_mailbox_waits_for_what_is_put_later() -> None:
    box: Mailbox[str] = Mailbox(1)
    async with asyncio.TaskGroup() as group:
        found = group.create_task(box.get())
        await asyncio.sleep(0)
        box.put_nowait("now")
    assert found.result() == "now"
