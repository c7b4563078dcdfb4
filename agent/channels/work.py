"""What a channel is for: reading a container's logs, running a command inside, holding its console.

Invariant: whatever ends a channel (the command, the client, the network, this process being stopped) leaves the
context that the driver gave, which ends what runs for it in the container.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from agent.channels.line import HostLine
from agent.channels.orders import ArchiveOrder, work_of
from agent.model import LIVE_STATES
from agent.runtimes import Channel, ExecOrder, LogQuery, Piece, RuntimeDriver, Session, Size
from common.errors import Conflict, Failure, Internal, NotFound, RateLimited
from common.failure_groups import first_of
from common.lifecycle import being_cancelled
from common.rpc_failures import pack
from proto.agent.v1 import channels_pb2

log = structlog.get_logger()

_SIZE_AGAIN_SECONDS = (0.1, 0.4, 1.5)


class NothingOnHost(NotFound):
    """The instance has no container on this host (yet, or any more)."""

    code = "nothing_on_host"


class NoEngine(Conflict):
    code = "no_engine"


class TooManyOnHost(RateLimited):
    code = "too_many_channels_on_host"


class ChannelWork:
    def __init__(
        self, driver: Callable[[], RuntimeDriver | None], order: channels_pb2.OpenChannel, host_id: str
    ) -> None:
        self._driver = driver
        self._order = order
        self._host_id = host_id

    async def __call__(self, line: HostLine) -> channels_pb2.ChannelEnd:
        """The last word. Raises nothing but what ends `line` itself."""
        try:
            return await self._done(line)
        except* Failure as group:
            failure = first_of(group)
        except* Exception as group:
            # A defect of a driver or a library must not end the agent because somebody looked at logs.
            log.error("a channel failed unexpectedly", instance=self._order.instance_id, exc_info=group)
            failure = Internal("the host's agent failed", action="see its log")
        if being_cancelled():
            raise asyncio.CancelledError
        return channels_pb2.ChannelEnd(failure=pack(failure))

    async def _done(self, line: HostLine) -> channels_pb2.ChannelEnd:
        work = work_of(self._order, self._host_id)
        driver = self._driver()
        if driver is None:
            raise NoEngine("this host has no container engine", action="see `longshore host show`")
        runtime_id = await _container(driver, self._order.instance_id)
        match work:
            case LogQuery():
                async with driver.logs(runtime_id, work) as pieces:
                    await line.opened()
                    async for piece in pieces:
                        await line.send(piece)
                return channels_pb2.ChannelEnd()
            case ExecOrder():
                return await _converse(line, driver.execute(runtime_id, work), work.terminal)
            case Size():
                return await _converse(line, driver.console(runtime_id, work), work)
            case ArchiveOrder():
                # An engine may write for long before anything can be read; who waits shall know that somebody is here.
                await line.opened()
                async with driver.export(runtime_id, with_snapshots=work.with_snapshots) as chunks:
                    async for chunk in chunks:
                        await line.send(Piece(Channel.OUTPUT, chunk))
                return channels_pb2.ChannelEnd()


async def _container(driver: RuntimeDriver, instance_id: str) -> str:
    """The one that runs; of several (an update under way) the newest. Raises `NothingOnHost`."""
    found = [one for one in await driver.containers() if one.instance_id == instance_id]
    if not found:
        raise NothingOnHost(
            "the instance has no container on its host",
            action="wait until it is created; see `longshore instance show`",
        )
    return max(found, key=lambda one: (one.state in LIVE_STATES, one.generation)).runtime_id


async def _converse(
    line: HostLine, opening: AbstractAsyncContextManager[Session], size: Size | None
) -> channels_pb2.ChannelEnd:
    async with opening as session:
        await line.opened()
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(_type(line, session)), group.create_task(_resize(line, session, size))]
            while (piece := await session.read()) is not None:
                await line.send(piece)
            for other in others:
                other.cancel()
        code = await session.exit_code()
    # -1: the engine does not say.
    return channels_pb2.ChannelEnd(exit_code=code) if code >= 0 else channels_pb2.ChannelEnd()


async def _type(line: HostLine, session: Session) -> None:
    while (data := await line.input()) is not None:
        await session.write(data)
        await line.taken(len(data))
    await session.end_input()


async def _resize(line: HostLine, session: Session, size: Size | None) -> None:
    """Without a terminal there is nothing to do. The first size is given again: dockerd 20.10 may lose one that comes
    while the command begins, and say nothing.
    """
    if size is None:
        return
    pauses = [None, *_SIZE_AGAIN_SECONDS[::-1]]
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pauses.pop() if len(pauses) > 1 else None):
                size = await line.resized()
        # A command that just ended has no terminal any more, and an engine that is away says so when it is read.
        with contextlib.suppress(Failure):
            await session.resize(size)
