"""Takes what the control plane asks of this host's containers, and comes to it with a channel each.

Invariant: nothing is begun before the control plane accepted the channel, so that a client who has gone meanwhile costs
nothing; and no more than `MOST_OPEN` are open, whatever the control plane asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import structlog

from agent.channels.leftovers import kill_leftovers
from agent.channels.line import ClientGone, HostLine
from agent.channels.work import ChannelWork, TooManyOnHost
from agent.runtimes import RuntimeDriver
from common.channels import identified_channel
from common.errors import Failure, NotFound, Unavailable
from common.returning import Spawn
from common.rpc_failures import pack
from common.tls import Identity
from proto.agent.v1 import channels_pb2, channels_pb2_grpc

log = structlog.get_logger()

Work = Callable[[HostLine], Awaitable[channels_pb2.ChannelEnd]]

# The control plane's own limit (channels.per_host) is lower; this one bounds what its mistakes cost.
MOST_OPEN = 128
_MOST_TOLD = 2 * MOST_OPEN
_MARGIN_SECONDS = 60.0


class ChannelDesk:
    """`address`: host:port of the attach listener that is attached to."""

    def __init__(
        self,
        driver: Callable[[], RuntimeDriver | None],
        identity_dir: Path,
        address: Callable[[], Awaitable[str]],
        spawn: Spawn,
    ) -> None:
        self._driver = driver
        self._identity_dir = identity_dir
        self._address = address
        self._spawn = spawn
        self.open_count = 0
        self._cleared = asyncio.Event()

    async def clear(self) -> None:
        """Kill what commands a killed agent left; channels that are asked for meanwhile wait for it."""
        identity = await asyncio.to_thread(Identity.load, self._identity_dir)
        if identity is not None and (killed := await asyncio.to_thread(kill_leftovers, identity.name.id)):
            log.warning("commands that a killed agent had left were ended", processes=killed)
        self._cleared.set()

    def asked(self, order: channels_pb2.OpenChannel) -> None:
        """Come with the channel, in the background."""
        if self.open_count >= _MOST_TOLD:
            log.warning("too many channels are asked for at once", channel=order.channel_id[:64])
            return
        self.open_count += 1
        self._spawn(f"channel {order.channel_id[:64]}", self._serve_quietly(order))

    async def _serve_quietly(self, order: channels_pb2.OpenChannel) -> None:
        longest = order.longest_seconds + _MARGIN_SECONDS if order.longest_seconds else None
        try:
            async with asyncio.timeout(longest):
                await self._cleared.wait()
                await self._serve(order)
            log.debug("channel ended", channel=order.channel_id, instance=order.instance_id)
        except ClientGone:
            log.debug("channel left by its client", channel=order.channel_id, instance=order.instance_id)
        except (Failure, OSError, TimeoutError, _NotThere) as error:
            log.warning(
                "channel broken off", channel=order.channel_id[:64], instance=order.instance_id, error=str(error)
            )
        finally:
            self.open_count -= 1

    async def _serve(self, order: channels_pb2.OpenChannel) -> None:
        identity = await asyncio.to_thread(Identity.load, self._identity_dir)
        if identity is None:
            return
        work: Work = ChannelWork(self._driver, order, identity.name.id) if self.open_count <= MOST_OPEN else _refuse
        # Where a replica is known by may not be where this host reaches it; the usual way may then lead there too.
        if order.address:
            try:
                async with _accepted(order, order.address, identity) as line:
                    await line.serve(work)
                return
            except _NotThere as wrong:
                usual = await self._address()
                if usual == order.address:
                    raise wrong.failure from None
        else:
            usual = await self._address()
        async with _accepted(order, usual, identity) as line:
            await line.serve(work)


class _NotThere(Exception):
    """The control plane was not reached, or nobody waits there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


@contextlib.asynccontextmanager
async def _accepted(order: channels_pb2.OpenChannel, target: str, identity: Identity) -> AsyncIterator[HostLine]:
    async with identified_channel(target, identity) as channel:
        call = channels_pb2_grpc.ChannelsStub(channel).Serve()
        line = HostLine(call)
        try:
            hello = channels_pb2.ChannelHello(channel_id=order.channel_id, secret=order.secret)
            try:
                await line.accept(hello, f"the channel to {target}")
            except ClientGone:
                raise
            except (NotFound, Unavailable) as failure:
                raise _NotThere(failure) from failure
            yield line
        finally:
            call.cancel()


async def _refuse(line: HostLine) -> channels_pb2.ChannelEnd:
    failure = TooManyOnHost(f"{MOST_OPEN} channels of this host are open", action="close one, and try again")
    return channels_pb2.ChannelEnd(failure=pack(failure))
