"""Commands run in an LXD instance, and its console: websockets of one operation, natively.

How LXD speaks ("Run commands in an instance", rest-api.md): the operation names a secret for each stream and for
`control`; it starts when all are connected. Bytes are binary messages, an empty text message is the end of a stream.
Closing `control` of a command without a terminal leaves the command alone, so leaving a session kills by name: the
command gets SIGKILL through `control`, and what it started is found by a mark in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from agent.runtimes.failures import EngineAway, EngineRefused
from agent.runtimes.lxd_calls import LxdCalls, Missing
from agent.runtimes.streams import LARGEST_PIECE, Channel, ExecOrder, Piece, Size

_MARK = "LONGSHORE_EXEC"
# Pieces that wait for a reader, of each output: half a MiB in all.
_QUEUED = 4
_CLOSE_SECONDS = 1.0
# LXD waits 10 s for an answer to its pings.
_SILENT_SECONDS, _LONGEST_PONG_SECONDS = 1.0, 5.0
_UNSAID = -1
_OVER = frozenset(
    {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
)
# Of a command whose instance ended while it was being started.
_NEVER_BEGAN = "Failed to retrieve PID of executing child process"


class LxdSession:
    """One operation with its websockets. `outputs`: by channel; with a terminal the one stream is both ways."""

    def __init__(
        self,
        calls: LxdCalls,
        operation: Mapping[str, Any],
        outputs: Mapping[Channel, aiohttp.ClientWebSocketResponse],
        keyboard: aiohttp.ClientWebSocketResponse,
        control: aiohttp.ClientWebSocketResponse | None,
        *,
        terminal: bool,
    ) -> None:
        self._calls = calls
        self._operation = operation
        self._outputs = outputs
        self._keyboard = keyboard
        self._control = control
        self._terminal = terminal
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue(_QUEUED)
        self._open = len(outputs)
        self._cut = False
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def read(self) -> Piece | None:
        while self._open or not self._pieces.empty():
            piece = await self._pieces.get()
            if piece is not None:
                return piece
            self._open -= 1
        if self._cut:
            await self._require_engine()
        return None

    async def write(self, data: bytes) -> None:
        if not self._keyboard.closed:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await self._keyboard.send_bytes(data)

    async def end_input(self) -> None:
        if self._terminal:
            await self.write(b"\x04")  # what a person would type
        elif not self._keyboard.closed:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await self._keyboard.send_str("")

    async def resize(self, size: Size) -> None:
        if self._terminal:
            await self._say("window-resize", args={"width": str(size.columns), "height": str(size.rows)})

    async def exit_code(self) -> int:
        return await asyncio.shield(self._ended)

    @property
    def over(self) -> bool:
        return self._ended.done()

    async def kill(self) -> None:
        await self._say("signal", signal=int(signal.SIGKILL))

    async def run(self) -> None:
        """Move bytes until the operation ends; cancelled when the session is left."""
        async with asyncio.TaskGroup() as group:
            for channel, socket in self._outputs.items():
                group.create_task(self._pump(channel, socket))
            if self._control is not None:
                group.create_task(_drain(self._control))
            if self._keyboard not in self._outputs.values():
                group.create_task(_drain(self._keyboard))
            await self._await_end()

    async def _await_end(self) -> None:
        try:
            found = await self._calls.outcome(self._operation, None)
            code = found.get("return")
            self._settle(int(code) if code is not None else _UNSAID)
        except (EngineAway, EngineRefused, Missing) as failure:
            if _NEVER_BEGAN in str(failure):
                self._settle(_UNSAID)
            elif not self._ended.done():
                self._ended.set_exception(failure)
                self._ended.exception()  # nobody may ask for it

    def _settle(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    async def _pump(self, channel: Channel, socket: aiohttp.ClientWebSocketResponse) -> None:
        """A full queue stops the reading, and so, in the end, the command."""
        async for message in _messages(socket):
            if message.type is not aiohttp.WSMsgType.BINARY:
                break  # the end, as LXD says it
            for start in range(0, len(message.data), LARGEST_PIECE):
                await self._pieces.put(Piece(channel, bytes(message.data[start : start + LARGEST_PIECE])))
        else:
            self._cut = True
        await self._pieces.put(None)
        await _hang_up(socket)  # of a terminal LXD waits for that before it says how the command ended

    async def _require_engine(self) -> None:
        """A stream ended without its end. Whether LXD is lost, or only hung up, the operation says."""
        with contextlib.suppress(TimeoutError, EngineRefused, Missing):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(self._ended)

    async def _say(self, command: str, **more: Any) -> None:
        if self._control is not None and not self._control.closed:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await self._control.send_str(json.dumps({"command": command, **more}))


async def _hang_up(socket: aiohttp.ClientWebSocketResponse) -> None:
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await socket.close()


async def _messages(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[aiohttp.WSMessage]:
    """Until LXD hangs up, or is lost.

    LXD pings at once and then now and then. It is answered when it has been silent for a while: whoever writes to a
    socket that its peer has closed loses what he has not read yet (asyncio's transports), which is what a short
    command said.
    """
    now = asyncio.get_running_loop().time
    ping, asked = b"", 0.0
    with contextlib.suppress(aiohttp.ClientError, OSError):
        while True:
            try:
                message = await socket.receive(_SILENT_SECONDS if asked else None)
            except TimeoutError:
                message = None
            if asked and (message is None or now() - asked > _LONGEST_PONG_SECONDS):
                await socket.pong(ping)
                asked = 0.0
            if message is None:
                continue
            if message.type in _OVER:
                return
            if message.type is aiohttp.WSMsgType.PING:
                ping, asked = message.data, now()
            elif message.type is not aiohttp.WSMsgType.PONG:
                yield message


async def _drain(socket: aiohttp.ClientWebSocketResponse) -> None:
    """LXD's pings and goodbyes are answered only while somebody reads."""
    async for _ in _messages(socket):
        pass


@contextlib.asynccontextmanager
async def command(
    calls: LxdCalls, name: str, order: ExecOrder, identity: Mapping[str, Any]
) -> AsyncIterator[LxdSession]:
    """`identity`: user and group in LXD's words."""
    mark = uuid.uuid4().hex
    terminal = order.terminal is not None
    size = order.terminal or Size()
    body = {
        "command": list(order.argv),
        "environment": {**({"TERM": "xterm"} if terminal else {}), **order.environment, _MARK: mark},
        "wait-for-websocket": True,
        "interactive": terminal,
        "width": size.columns,
        "height": size.rows,
        **({"cwd": order.working_dir} if order.working_dir else {}),
        **identity,
    }
    operation = await calls.begin("POST", "instances", name, "exec", body=body)
    async with _connected(calls, operation, terminal=terminal) as session:
        if not order.input and not terminal:
            await session.end_input()
        try:
            yield session
        finally:
            if not session.over:
                await session.kill()
                await asyncio.to_thread(_kill_marked, f"{_MARK}={mark}".encode())


@contextlib.asynccontextmanager
async def console(calls: LxdCalls, name: str, size: Size) -> AsyncIterator[LxdSession]:
    """Shows what is said from when LXD's `forkconsole` is attached, a moment after this is entered (LXD tells nobody
    when); what was said before is in the instance's logs.
    """
    body = {"type": "console", "width": size.columns, "height": size.rows}
    operation = await calls.begin("POST", "instances", name, "console", body=body)
    async with _connected(calls, operation, terminal=True) as session:
        yield session


@contextlib.asynccontextmanager
async def _connected(calls: LxdCalls, operation: Mapping[str, Any], *, terminal: bool) -> AsyncIterator[LxdSession]:
    secrets: dict[str, str] = dict(operation["metadata"]["fds"])
    sockets: dict[str, aiohttp.ClientWebSocketResponse] = {}
    try:
        # LXD starts the command without waiting for `control`, and a short one may have ended before it is there.
        for stream, secret in sorted(secrets.items(), reverse=True):
            sockets[stream] = await _websocket(calls, operation, secret)
        outputs = (
            {Channel.OUTPUT: sockets["0"]} if terminal else {Channel.OUTPUT: sockets["1"], Channel.ERRORS: sockets["2"]}
        )
        session = LxdSession(calls, operation, outputs, sockets["0"], sockets.get("control"), terminal=terminal)
        async with _running(session):
            yield session
    finally:
        for socket in sockets.values():
            await _hang_up(socket)


async def _websocket(calls: LxdCalls, operation: Mapping[str, Any], secret: str) -> aiohttp.ClientWebSocketResponse:
    try:
        return await calls.websocket(str(operation["id"]), secret)
    except EngineAway:
        await calls.outcome(operation, _CLOSE_SECONDS)  # if it failed already, it says why
        raise


@contextlib.asynccontextmanager
async def _running(session: LxdSession) -> AsyncIterator[None]:
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(session.run())
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) > 1:
            raise
        raise errors.exceptions[0] from None  # what the user's block raised, as it was


def _kill_marked(mark: bytes) -> None:
    """Whoever has the mark in its environment. The agent reads it as root, as it must be to use the socket."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
