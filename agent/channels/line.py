"""The host's end of one channel: what a person typed, in order; what a container wrote, as fast as it is read.

Invariants: at most one window of bytes is on the way in each direction. The plane's words of control are heard also
while a command does not read its input. When the plane ends the call, or is lost, the work is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from agent.channels.orders import piece_message, size_of
from agent.runtimes import Piece, Size
from common.errors import Failure, Internal, Unavailable
from common.failure_groups import first_of
from common.flow import PIECE_BYTES, ReceiveWindow, SendWindow
from common.rpc_failures import failure_of
from proto.agent.v1 import channels_pb2

_Call = grpc.aio.StreamStreamCall[channels_pb2.ChannelUp, channels_pb2.ChannelDown]

_ACCEPT_SECONDS = 15.0
# What grpc.aio makes of a write into a call that the other end had just ended, whatever its status was.
_WRITTEN_TOO_LATE = "Internal error from Core"
# Messages of input that wait; their bytes are bounded by the window.
_MOST_INPUTS = 4096


class ClientGone(Unavailable):
    """Nobody is at the other end any more."""

    code = "client_gone"


class HostLine:
    """`work` is given the line after the plane accepted; what it returns is the last word."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._outbox: asyncio.Queue[channels_pb2.ChannelUp | None] = asyncio.Queue(4)
        self._output = SendWindow()
        self._input = ReceiveWindow()
        self._inputs: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_INPUTS)
        self._sizes: asyncio.Queue[Size] = asyncio.Queue(1)
        self._all_said = False

    async def accept(self, hello: channels_pb2.ChannelHello, what: str) -> None:
        """Raises the plane's refusal, `ClientGone`, or another `Unavailable`."""
        try:
            async with asyncio.timeout(_ACCEPT_SECONDS):
                await self._call.write(channels_pb2.ChannelUp(hello=hello))
                message: Any = await self._call.read()
        except TimeoutError:
            raise Unavailable(f"{what} was not answered within {_ACCEPT_SECONDS:.0f} s") from None
        except asyncio.InvalidStateError:
            message = grpc.aio.EOF  # it had ended before we wrote: its status says why
        except grpc.aio.AioRpcError as error:
            raise failure_of(error, what) from error
        if message is grpc.aio.EOF:
            await self._raise_status(what)
            raise ClientGone("nobody waits for the channel any more")
        if message.WhichOneof("body") != "accepted":
            raise Internal(f"{what} was not answered with ChannelAccepted", action="update the control plane")

    async def serve(self, work: Callable[[HostLine], Awaitable[channels_pb2.ChannelEnd]]) -> None:
        """Raises `ClientGone` if the plane ended it first, a `Failure` if it was lost."""
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write())
                reader = group.create_task(self._read())
                end = await work(self)
                await self._outbox.put(channels_pb2.ChannelUp(end=end))
                await self._outbox.put(None)
                self._all_said = True
                # Hanging up before the plane has read the last word would take it back. It reads as fast as its client
                # does, and ends the call by its own deadlines.
                await writer
                await reader
        except* Failure as group_of_failures:
            raise first_of(group_of_failures) from None

    # For the work.

    async def opened(self) -> None:
        await self._outbox.put(channels_pb2.ChannelUp(opened=channels_pb2.ChannelOpened()))

    async def send(self, piece: Piece) -> None:
        """Waits while nobody takes what is on the way."""
        data = piece.data
        while data:
            room = await self._output.take(min(len(data), PIECE_BYTES))
            await self._outbox.put(piece_message(piece, data[:room]))
            data = data[room:]

    async def input(self) -> bytes | None:
        """What was typed next; None: no more will come. Tell `taken` when the container has it."""
        return await self._inputs.get()

    async def taken(self, count: int) -> None:
        credit = self._input.taken(count)
        if credit:
            await self._outbox.put(channels_pb2.ChannelUp(credit=credit))

    async def resized(self) -> Size:
        """The terminal's next size."""
        return await self._sizes.get()

    # The plane.

    async def _read(self) -> None:
        while True:
            try:
                message: Any = await self._call.read()
            except grpc.aio.AioRpcError as error:
                raise failure_of(error, "the channel") from error
            if message is grpc.aio.EOF:
                await self._raise_status("the channel")
                if self._all_said:
                    return
                raise ClientGone("nobody is at the other end of the channel any more")
            match message.WhichOneof("body"):
                case "input":
                    self._input.arrived(len(message.input))
                    await self._inputs.put(message.input)
                case "input_end":
                    await self._inputs.put(None)
                case "resize":
                    self._resize(size_of(message.resize))
                case "credit":
                    self._output.credit(message.credit)

    def _resize(self, size: Size) -> None:
        # Only the newest counts.
        while not self._sizes.empty():
            self._sizes.get_nowait()
        self._sizes.put_nowait(size)

    async def _write(self) -> None:
        while (message := await self._outbox.get()) is not None:
            try:
                await self._call.write(message)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await self._raise_status("the channel")
                raise ClientGone("nobody is at the other end of the channel any more") from None
        await self._call.done_writing()

    async def _raise_status(self, what: str) -> None:
        """Raises if the call failed; returns if it ended in good order."""
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.OK or details == _WRITTEN_TOO_LATE:
            return
        initial, trailing = await self._call.initial_metadata(), await self._call.trailing_metadata()
        raise failure_of(grpc.aio.AioRpcError(code, initial, trailing, details=details), what)
