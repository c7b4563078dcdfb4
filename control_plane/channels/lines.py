"""One open channel as this process holds it, between the client's task and the host's call.

Invariants: at most one window of bytes waits in each direction, whoever is slow and whoever lies about it. There is
exactly one last word (`Ended`); the client reads it after everything that came before it. When the client leaves, the
host's call ends at once; when the host is lost, the client hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

import grpc.aio
import structlog

from common.clock import Clock
from common.errors import Failure, Unavailable
from common.flow import LARGEST_PIECE_BYTES, ReceiveWindow, SendWindow
from control_plane.channels.model import (
    ChannelExpired,
    ChannelLimits,
    ChannelLost,
    ChannelNotOpened,
    Ended,
    HostAway,
    InputTaken,
    Piece,
    TerminalSize,
)
from control_plane.channels.wire import ended_of, piece_of, size_message
from proto.agent.v1 import channels_pb2

log = structlog.get_logger()

# Messages that wait in a direction; bytes are bounded by the windows, this bounds what is said about none.
_MOST_WAITING = 256
_LAST_WRITE_SECONDS = 1.0
# A client that does not read the end of an ended channel.
_LAST_READ_SECONDS = 30.0


class HostStream(Protocol):
    """The part of `grpc.aio.ServicerContext` that is used."""

    async def read(self) -> Any: ...

    async def write(self, message: Any) -> None: ...


class _Over(Exception):
    """The call is to end: no failure of the call."""


class Line:
    """`serve` is the host's side, everything else the client's, which has one reading and one writing task."""

    def __init__(self, channel_id: str, host_id: str, limits: ChannelLimits, clock: Clock) -> None:
        self.id = channel_id
        self.host_id = host_id
        self._limits = limits
        self._clock = clock
        self._from_host: deque[Piece | InputTaken] = deque()
        self._to_host: asyncio.Queue[channels_pb2.ChannelDown] = asyncio.Queue(_MOST_WAITING)
        self._output = ReceiveWindow()
        self._input = SendWindow()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._opened = asyncio.Event()
        self._came = False
        self._last: Ended | None = None
        self._over = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._moved_at = clock.monotonic()
        # Asked now and then: raises when the client may not have this channel any more.
        self.still: Callable[[], Awaitable[None]] = _always

    # The client's side.

    async def opened(self) -> None:
        """Wait for the host. Raises `ChannelNotOpened`, or the failure that the host sent instead."""
        try:
            async with asyncio.timeout(self._limits.open_seconds):
                await self._opened.wait()
        except TimeoutError:
            raise ChannelNotOpened(
                f"the host did not open the channel within {self._limits.open_seconds:.0f} s",
                action="try again; check that its agent is of this version, and that hosts reach this control plane "
                "(setting channels.address, if there are several)",
                retry_after_seconds=5,
            ) from None
        if not self._came:
            raise (self._last and self._last.failure) or _lost()

    async def read(self) -> Piece | InputTaken | Ended:
        """What comes next; after the last word always that."""
        while not self._from_host:
            if self._last is not None:
                return self._last
            self._changed.clear()
            await self._changed.wait()
        self._room.set()
        return self._from_host.popleft()

    async def taken(self, count: int) -> None:
        """The client has taken so many bytes of pieces: the host may send more."""
        credit = self._output.taken(count)
        if credit:
            await self._say(channels_pb2.ChannelDown(credit=credit))

    async def send(self, data: bytes) -> None:
        """Raises `FlowBroken` for more than was given back (`InputTaken`)."""
        self._input.spend(len(data))
        for start in range(0, len(data), LARGEST_PIECE_BYTES):
            await self._say(channels_pb2.ChannelDown(input=data[start : start + LARGEST_PIECE_BYTES]))

    async def end_input(self) -> None:
        await self._say(channels_pb2.ChannelDown(input_end=channels_pb2.ChannelInputEnd()))

    async def resize(self, size: TerminalSize) -> None:
        await self._say(channels_pb2.ChannelDown(resize=size_message(size)))

    def leave(self) -> None:
        """Nobody is at the client's end any more."""
        self.end(Ended())

    def end(self, last: Ended) -> None:
        """The first word that is called the last one is."""
        if self._last is None:
            self._last = last
            self._over.set()
            self._opened.set()
            self._changed.set()
            self._room.set()
            while not self._to_host.empty():  # nobody hears it any more, and nobody waits for room
                self._to_host.get_nowait()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    async def until_abandoned(self) -> None:
        """Returns when the channel has ended and its client did not read that for half a minute."""
        await self._over.wait()
        await self._clock.sleep(_LAST_READ_SECONDS)

    # The host's side.

    async def serve(self, stream: HostStream) -> None:
        """Until either end is gone."""
        if self.over:
            return
        self._moved_at = self._clock.monotonic()
        # Before anything else that may wait: only now may the host begin.
        self._to_host.put_nowait(channels_pb2.ChannelDown(accepted=channels_pb2.ChannelAccepted()))
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(stream))
                try:
                    await self._talk(stream)
                finally:
                    await self._let_finish(writer)
        except* _Over:
            pass
        finally:
            self.end(Ended(failure=_lost()))

    async def _talk(self, stream: HostStream) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_over())
            group.create_task(self._expire())
            group.create_task(self._recheck())
            await self._listen(stream)
            raise _Over

    async def _listen(self, stream: HostStream) -> None:
        while True:
            message = await stream.read()
            if message is grpc.aio.EOF:
                return
            try:
                await self._heard(message)
            except Failure as failure:
                self.end(Ended(failure=failure))
                return

    async def _heard(self, message: channels_pb2.ChannelUp) -> None:
        match message.WhichOneof("body"):
            case "opened":
                self._came = True
                self._opened.set()
            case "piece":
                self._output.arrived(len(message.piece.data))
                await self._keep(piece_of(message.piece))
            case "credit":
                self._input.credit(message.credit)
                await self._keep(InputTaken(message.credit))
            case "end":
                self.end(ended_of(message.end))

    async def _keep(self, word: Piece | InputTaken) -> None:
        self._moved_at = self._clock.monotonic()
        while len(self._from_host) >= _MOST_WAITING and not self.over:
            self._room.clear()
            await self._room.wait()
        self._from_host.append(word)
        self._changed.set()

    async def _write(self, stream: HostStream) -> None:
        while True:
            message = await self._to_host.get()
            self._idle.clear()
            try:
                await stream.write(message)
            except grpc.aio.BaseError:
                raise _Over from None  # it broke while we wrote; the reader knows why
            finally:
                self._idle.set()
            self._moved_at = self._clock.monotonic()

    async def _let_finish(self, writer: asyncio.Task[None]) -> None:
        # A write that is cut off half-way leaves gRPC unable to end the call in good order.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_SECONDS):
                await self._idle.wait()
        writer.cancel()

    async def _until_over(self) -> NoReturn:
        await self._over.wait()
        raise _Over

    async def _expire(self) -> None:
        began, limits = self._clock.monotonic(), self._limits
        while True:
            now = self._clock.monotonic()
            idle, whole = self._moved_at + limits.idle_seconds - now, began + limits.longest_seconds - now
            if min(idle, whole) <= 0:
                why = f"nothing moved for {limits.idle_seconds:.0f} s"
                if whole <= 0:
                    why = f"it was open for {limits.longest_seconds:.0f} s"
                self.end(Ended(failure=ChannelExpired(f"the channel was closed: {why}", action="open it again")))
                return
            await self._clock.sleep(min(idle, whole))

    async def _recheck(self) -> None:
        while not self.over:
            await self._clock.sleep(self._limits.check_seconds)
            try:
                await self.still()
            except HostAway as failure:
                self.end(Ended(failure=failure))
            except Unavailable as failure:
                log.warning("a channel's client could not be checked", channel=self.id, error=str(failure))
            except Failure as failure:
                self.end(Ended(failure=failure))

    async def _say(self, message: channels_pb2.ChannelDown) -> None:
        if not self.over:
            await self._to_host.put(message)


async def _always() -> None:
    """Whoever opened it may have it."""


def _lost() -> ChannelLost:
    return ChannelLost(
        "the host's end of the channel is gone: its agent ended, or the network between broke",
        action="look at the host, and open it again",
    )
