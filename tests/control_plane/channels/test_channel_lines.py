"""One channel in the middle: whatever the ends do in whatever order, nothing is lost, doubled or waited for in vain."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock, SystemClock
from common.errors import Invalid
from common.flow import WINDOW_BYTES, FlowBroken, ReceiveWindow, SendWindow
from common.rpc_failures import pack
from control_plane.channels.lines import Line
from control_plane.channels.model import ChannelLimits, Ended, InputTaken, Piece
from proto.agent.v1 import channels_pb2
from tests.pace import BUSY_SECONDS

LIMITS = ChannelLimits(open_seconds=5)
ENDS = {
    "exit": channels_pb2.ChannelUp(end=channels_pb2.ChannelEnd(exit_code=3)),
    "failure": channels_pb2.ChannelUp(end=channels_pb2.ChannelEnd(failure=pack(Invalid("no", action="mend it")))),
    "nonsense": channels_pb2.ChannelUp(end=channels_pb2.ChannelEnd(failure=b"{")),
    "lost": None,
}


class HostEnd:
    """A host that keeps to its window, sends what it was given, and then ends in the way it was told."""

    def __init__(self, sizes: list[int], end: str, chance: random.Random) -> None:
        self.sent = b"".join(bytes([index % 251]) * size for index, size in enumerate(sizes))
        self.taken = b""
        self._sizes = sizes
        self._end = end
        self._chance = chance
        self._window = SendWindow()
        self._input = ReceiveWindow()
        self._ready: asyncio.Queue[Any] = asyncio.Queue(1)
        self.accepted = False

    async def say_all(self) -> None:
        await self._ready.put(channels_pb2.ChannelUp(opened=channels_pb2.ChannelOpened()))
        position = 0
        for size in self._sizes:
            left = size
            while left:
                part = await self._window.take(min(left, 32 << 10))
                data = self.sent[position : position + part]
                await self._ready.put(channels_pb2.ChannelUp(piece=channels_pb2.ChannelPiece(data=data)))
                position, left = position + part, left - part
        await self._ready.put(ENDS[self._end] or grpc.aio.EOF)

    async def read(self) -> Any:
        if self._chance.random() < 0.2:
            await asyncio.sleep(0)
        return await self._ready.get()

    async def write(self, message: Any) -> None:
        if self._chance.random() < 0.2:
            await asyncio.sleep(0)
        match message.WhichOneof("body"):
            case "accepted":
                self.accepted = True
            case "credit":
                self._window.credit(message.credit)
            case "input":
                assert self.accepted
                self._input.arrived(len(message.input))
                self.taken += message.input


@given(st.lists(st.integers(1, 70_000), max_size=12), st.sampled_from(sorted(ENDS)), st.integers(0, 1 << 30))
async def test_everything_a_host_said_is_read_in_order_and_then_one_last_word(
    sizes: list[int], end: str, seed: int
) -> None:
    chance = random.Random(seed)
    host, line = HostEnd(sizes, end, chance), Line("c", "h", LIMITS, SystemClock())
    got = b""
    async with asyncio.timeout(BUSY_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(line.serve(host))
        saying = group.create_task(host.say_all())
        await line.opened()
        while not isinstance(word := await line.read(), Ended):
            assert isinstance(word, Piece)
            got += word.data
            await line.taken(len(word.data))
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        saying.cancel()
    assert got == host.sent
    assert await line.read() == word
    code = word.failure.code if word.failure is not None else word.exit_code
    assert code == {"exit": 3, "failure": "invalid", "nonsense": "internal", "lost": "channel_lost"}[end]


@given(st.lists(st.integers(1, 60_000), max_size=20), st.integers(0, 1 << 30))
async def test_a_client_that_leaves_at_any_moment_frees_the_host_at_once(sizes: list[int], seed: int) -> None:
    chance = random.Random(seed)
    host, line = HostEnd(sizes, "exit", chance), Line("c", "h", LIMITS, SystemClock())
    async with asyncio.timeout(BUSY_SECONDS), asyncio.TaskGroup() as group:
        serving = group.create_task(line.serve(host))
        saying = group.create_task(host.say_all())
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        line.leave()
        await serving
        saying.cancel()
    assert line.over
    await line.send(b"x")  # nobody hears it, and nobody waits
    await line.end_input()


async def test_one_window_of_input_is_taken_and_no_more() -> None:
    host, line = HostEnd([], "exit", random.Random(1)), Line("c", "h", LIMITS, SystemClock())
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(line.serve(host))
        await line.send(bytes(WINDOW_BYTES))
        with pytest.raises(FlowBroken):
            await line.send(b"x")
        line.leave()
        await serving


async def test_a_host_that_gives_back_what_it_never_got_loses_the_channel() -> None:
    line = Line("c", "h", LIMITS, ManualClock())

    class Liar(HostEnd):
        async def say_all(self) -> None:
            await self._ready.put(channels_pb2.ChannelUp(credit=5))

    host = Liar([], "exit", random.Random(1))
    async with asyncio.timeout(BUSY_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(line.serve(host))
        group.create_task(host.say_all())
        word = await line.read()
    assert isinstance(word, Ended)
    assert word.failure is not None
    assert word.failure.code == "flow_broken"
    assert not isinstance(word, InputTaken)
