"""A WebSocket at one end of a channel: its first word, and the pumping of frames in both directions.

Invariant: the last frame before the close says how it ended: `exit` or `error`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NoReturn

from starlette.websockets import WebSocket, WebSocketDisconnect

from common.clock import Clock
from common.errors import Failure, Unavailable
from common.failure_groups import first_of
from common.flow import SendWindow
from control_plane.channels.formats import failure_document
from control_plane.channels.frames import (
    PROTOCOL,
    ConsoleStart,
    Credit,
    ExecStart,
    Input,
    InputEnd,
    frame_of,
    start_of,
    word_of,
)
from control_plane.channels.lines import Line
from control_plane.channels.model import Ended, FrameMalformed, Piece, TerminalSize

_START_SECONDS = 10.0
_NORMAL, _POLICY, _FAILED = 1000, 1008, 1011


class _Left(Exception):
    """The client hung up, or read the last word."""


async def started(socket: WebSocket, kind: type[ExecStart] | type[ConsoleStart]) -> ExecStart | ConsoleStart:
    """Accepts, and waits for the first word. Raises `FrameMalformed`, `WebSocketDisconnect`."""
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    try:
        async with asyncio.timeout(_START_SECONDS):
            frame = await _received(socket)
    except TimeoutError:
        raise FrameMalformed(f"no `start` came within {_START_SECONDS:.0f} s", action="begin with it") from None
    if isinstance(frame, bytes):
        raise FrameMalformed("the first word is not `start`", action="begin with a text frame of that type")
    return start_of(frame, kind)


async def finish(socket: WebSocket, failure: Failure) -> None:
    """Say why, and close; whoever is gone already is not told."""
    code = _POLICY if isinstance(failure, FrameMalformed) else _FAILED
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_json({"type": "error", **failure_document(failure)})
        await socket.close(code, failure.code)


class Pump:
    """Between `socket` and `line` until either ends. `window`: what the client said in `start`."""

    def __init__(self, socket: WebSocket, line: Line, window: int | None, clock: Clock) -> None:
        self._socket = socket
        self._line = line
        self._window = SendWindow(window) if window is not None else None
        self._clock = clock

    async def run(self) -> None:
        """Raises `FrameMalformed` or `FlowBroken` if the client does not keep to the protocol."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._to_client())
                group.create_task(self._from_client())
                group.create_task(self._give_up())
        except* (_Left, WebSocketDisconnect):
            pass
        except* Failure as group_of_failures:
            raise first_of(group_of_failures) from None

    async def _to_client(self) -> NoReturn:
        await self._socket.send_json({"type": "opened"})
        while True:
            word = await self._line.read()
            if isinstance(word, Piece):
                await self._send_piece(word)
                continue
            await self._send(frame_of(word))
            if isinstance(word, Ended):
                failed = word.failure
                await self._socket.close(_FAILED if failed else _NORMAL, failed.code if failed else None)
                raise _Left

    async def _send_piece(self, piece: Piece) -> None:
        data = piece.data
        while data:
            room = len(data) if self._window is None else await self._window.take(len(data))
            await self._send(frame_of(Piece(piece.stream, data[:room])))
            data = data[room:]
            if self._window is None:
                await self._line.taken(room)

    async def _send(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            await self._socket.send_bytes(frame)
        else:
            await self._socket.send_text(frame)

    async def _from_client(self) -> NoReturn:
        while True:
            match word_of(await _received(self._socket)):
                case Input(data):
                    await self._line.send(data)
                case InputEnd():
                    await self._line.end_input()
                case TerminalSize() as size:
                    await self._line.resize(size)
                case Credit(count):
                    if self._window is None:
                        raise FrameMalformed("credit came without a window", action="name a window in `start`")
                    self._window.credit(count)
                    await self._line.taken(count)

    async def _give_up(self) -> NoReturn:
        await self._line.until_abandoned()
        raise Unavailable("the channel has ended, and nobody read how", action="open it again")


async def _received(socket: WebSocket) -> str | bytes:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", _NORMAL))
    text = message.get("text")
    return text if text is not None else message.get("bytes") or b""
