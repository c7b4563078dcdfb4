"""Credit: what is on the way is bounded, and whoever breaks the rule is found out."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.flow import LARGEST_PIECE_BYTES, PIECE_BYTES, WINDOW_BYTES, FlowBroken, ReceiveWindow, SendWindow
from tests.pace import BUSY_SECONDS


@given(st.lists(st.integers(1, PIECE_BYTES), min_size=1, max_size=200), st.randoms())
async def test_everything_arrives_and_no_more_than_a_window_is_ever_on_the_way(
    sizes: list[int], chance: object
) -> None:
    sender, receiver, way = SendWindow(), ReceiveWindow(), asyncio.Queue[int]()
    most = on_the_way = 0

    async def send() -> None:
        nonlocal most, on_the_way
        for size in sizes:
            while size:
                part = await sender.take(size)
                size -= part
                on_the_way += part
                most = max(most, on_the_way)
                way.put_nowait(part)
        way.put_nowait(0)

    async def take() -> int:
        nonlocal on_the_way
        total = 0
        while part := await way.get():
            receiver.arrived(part)
            total += part
            on_the_way -= part
            if credit := receiver.taken(part):
                sender.credit(credit)
            if chance.random() < 0.3:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        return total

    async with asyncio.timeout(BUSY_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(send())
        taking = group.create_task(take())
    assert taking.result() == sum(sizes)
    assert most <= WINDOW_BYTES


async def test_a_sender_waits_until_something_is_given_back() -> None:
    sender = SendWindow()
    assert await sender.take(WINDOW_BYTES + 1) == WINDOW_BYTES
    waiting = asyncio.ensure_future(sender.take(10))
    await asyncio.sleep(0)
    assert not waiting.done()
    sender.credit(4)
    assert await waiting == 4


def test_what_nobody_has_credit_for_is_a_fault() -> None:
    receiver = ReceiveWindow()
    for _ in range(WINDOW_BYTES // LARGEST_PIECE_BYTES):
        receiver.arrived(LARGEST_PIECE_BYTES)
    with pytest.raises(FlowBroken):
        receiver.arrived(1)
    with pytest.raises(FlowBroken):
        ReceiveWindow().arrived(LARGEST_PIECE_BYTES + 1)


def test_more_back_than_was_sent_is_a_fault() -> None:
    sender = SendWindow()
    sender.spend(10)
    sender.credit(10)
    for count in (1, -1):
        with pytest.raises(FlowBroken):
            sender.credit(count)


def test_who_passes_on_never_waits() -> None:
    sender = SendWindow()
    sender.spend(WINDOW_BYTES)
    with pytest.raises(FlowBroken):
        sender.spend(1)
