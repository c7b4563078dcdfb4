"""One WebSocket between our terminal and a command in an instance (docs/operations/channels.md).

Invariants: the terminal is given back as it was, whatever ended the conversation short of kill -9. What is written to a
terminal that stands still is not read from the server, yet pings are answered, so that nothing is cut off for a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Any, NoReturn

import aiohttp

from common.errors import Failure, Unavailable
from common.failure_groups import first_of
from common.flow import PIECE_BYTES, WINDOW_BYTES, ReceiveWindow, SendWindow
from control_plane.cli.failures import failure_of

_PROTOCOL = "longshore.channel.v1"
_INPUT = b"\x00"
_DESCRIPTORS = {1: 1, 2: 2}
_PING_SECONDS = 20.0


class ConversationBroken(Failure):
    """What the server said when it ended the channel; `code` is the server's."""

    code = "channel_broken"


class _Ended(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Conversation:
    """`start`: the first word. interactive: our input goes to the command. terminal: ours is made raw, if we have one.
    leave: bytes of input that end the conversation.
    """

    def __init__(self, start: dict[str, Any], *, interactive: bool, terminal: bool, leave: bytes | None = None) -> None:
        self._start = {**start, "window": WINDOW_BYTES}
        self._interactive = interactive
        self._terminal = terminal
        self._leave = leave
        self._input = SendWindow()
        self._output = ReceiveWindow()
        self._opened = asyncio.Event()
        self._signal: int | None = None
        self._heard: asyncio.Queue[Any] = asyncio.Queue()

    async def hold(self, url: str, headers: dict[str, str]) -> int:
        """The exit code. Raises `Unavailable` when the connection broke, and what the server said."""
        try:
            async with aiohttp.ClientSession(headers=headers) as http:
                address = "ws" + url.removeprefix("http")
                async with http.ws_connect(
                    address, protocols=(_PROTOCOL,), heartbeat=_PING_SECONDS, max_msg_size=1 << 20
                ) as socket:
                    return await self._talk(socket)
        except aiohttp.WSServerHandshakeError as error:
            raise failure_of(error.status, b"", f"opening {url}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise _broken() from error
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            return 128 + self._signal

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> int:
        await _say(socket, self._start)
        raw = self._terminal and self._interactive
        with _raw_terminal() if raw else contextlib.nullcontext(), self._heeding_signals():
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._receive(socket))
                    group.create_task(self._show(socket))
                    group.create_task(self._resize(socket))
                    if self._interactive:
                        group.create_task(self._type(socket))
            except BaseExceptionGroup as group_of_reasons:
                reason = first_of(group_of_reasons)
                if isinstance(reason, _Ended):
                    return reason.code
                raise reason from None
        raise _broken()

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Reads all the time, so that pings are answered; the window bounds what waits to be shown."""
        async for message in socket:
            word = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else message.data
            if isinstance(word, dict) and word.get("type") == "credit":
                self._input.credit(word["bytes"])
            else:
                await self._heard.put(word)
        await self._heard.put(None)

    async def _show(self, socket: aiohttp.ClientWebSocketResponse) -> NoReturn:
        while (word := await self._heard.get()) is not None:
            if isinstance(word, bytes):
                await self._write(word, socket)
                continue
            match word.get("type"):
                case "opened":
                    self._opened.set()
                case "exit":
                    raise _Ended(word["code"] or 0)
                case "error":
                    failure = ConversationBroken(word["detail"], action=word["action"])
                    vars(failure)["code"] = word["code"]
                    raise failure
        raise _broken()

    async def _write(self, frame: bytes, socket: aiohttp.ClientWebSocketResponse) -> None:
        descriptor = _DESCRIPTORS.get(frame[0])
        if descriptor is not None:
            # A terminal that was stopped (Ctrl-S) takes nothing for as long as its owner likes.
            await asyncio.to_thread(_write_all, descriptor, frame[1:])
        credit = self._output.taken(len(frame) - 1)
        if credit:
            await _say(socket, {"type": "credit", "bytes": credit})

    async def _type(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        await self._opened.wait()
        typed = _typed()
        while data := await typed.get():
            if self._leave is not None and self._leave in data:
                raise _Ended(0)
            while data:
                room = await self._input.take(len(data))
                await _say(socket, _INPUT + data[:room])
                data = data[room:]
        await _say(socket, {"type": "input_end"})

    async def _resize(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if not self._terminal:
            return
        changed, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, changed.set)
        try:
            await self._opened.wait()
            while True:
                await changed.wait()
                changed.clear()
                columns, rows = shutil.get_terminal_size()
                await _say(socket, {"type": "resize", "columns": columns, "rows": rows})
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)

    @contextlib.contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """What would end the process ends the conversation instead, so that the terminal is given back."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(number: int) -> None:
            self._signal = number
            if task is not None:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)


async def _say(socket: aiohttp.ClientWebSocketResponse, word: dict[str, Any] | bytes) -> None:
    """Nobody to say it to is no failure: what was said last, or that nothing was, is read by `_receive`."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        await (socket.send_bytes(word) if isinstance(word, bytes) else socket.send_str(json.dumps(word)))


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the command, Ctrl-C too. Nothing happens where our input is no terminal."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _typed() -> asyncio.Queue[bytes]:
    """Our input as it comes; b"" at its end. Read by a thread that nobody waits for: a read of a terminal cannot be
    called back.
    """
    queue: asyncio.Queue[bytes] = asyncio.Queue(1)
    loop = asyncio.get_running_loop()

    def read() -> None:
        data = b"?"
        while data:
            try:
                data = os.read(0, PIECE_BYTES)
                asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()
            except (OSError, RuntimeError, asyncio.CancelledError):
                return  # the conversation is over

    threading.Thread(target=read, name="input", daemon=True).start()
    return queue


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _broken() -> Unavailable:
    return Unavailable("the connection to the control plane broke", action="look at the instance, and try again")
