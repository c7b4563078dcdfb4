"""The ASGI extension `http.response.zerocopysend` for uvicorn: the kernel moves a file's bytes to the client.

    {"type": "http.response.zerocopysend", "file": <descriptor>, "offset": int, "count": int, "more_body": bool}

(https://asgi.readthedocs.io/en/latest/extensions.html#zero-copy-send; `file` is a descriptor here, and `offset` and
`count` are required.) uvicorn has no such extension; reading and writing 1 MiB at a time copies every byte twice,
sendfile(2) never: measured on loopback with 8 and 32 clients 0.15 to 0.19 against 0.055 CPU seconds a GB.

Invariant: bytes go out in the order in which the application sent them, and only ever to the connection that asked.
uvicorn's transport is empty before the kernel sends, and what sends is a descriptor of our own of the same socket, so a
connection that is closed meanwhile never lends its number to another.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

EXTENSION = "http.response.zerocopysend"


class ZeroCopyProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`. Over TLS there is nothing that the kernel could send as it is."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.transport.get_extra_info("sslcontext") is None:
            app = _Offering(cycle, app)
        super()._start_asgi_task(cycle, app)


class _Offering:
    """One request's application, with the extension in its scope."""

    def __init__(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:
        self._cycle = cycle
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: {}}

        def sending(message: Message) -> Awaitable[None]:
            return send(message) if message["type"] != EXTENSION else self._send_file(message, send)

        await self._app(scope, receive, sending)

    async def _send_file(self, message: Message, send: Send) -> None:
        cycle, count = self._cycle, int(message["count"])
        if not cycle.response_started or cycle.response_complete or cycle.chunked_encoding:
            raise RuntimeError("a file can only be sent in an answer that has a Content-Length")
        if count > cycle.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        if cycle.scope["method"] != "HEAD" and count and not cycle.disconnected:
            await _emptied(cycle)
            await _transfer(cycle, message["file"], message["offset"], count)
            cycle.expected_content_length -= count
        if not message.get("more_body", False):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _emptied(cycle: RequestResponseCycle) -> None:
    """Until everything that was written before has left the transport."""
    transport: Any = cycle.transport
    if not transport.get_write_buffer_size():
        return
    transport.set_write_buffer_limits(high=0)
    try:
        while transport.get_write_buffer_size() and not cycle.disconnected:
            await cycle.flow.drain()
            await asyncio.sleep(0)  # drain does not wait if the transport has not said yet that it is full
    finally:
        transport.set_write_buffer_limits()


async def _transfer(cycle: RequestResponseCycle, file: int, offset: int, count: int) -> None:
    if cycle.transport.is_closing():
        return
    end = offset + count
    ours = os.dup(cycle.transport.get_extra_info("socket").fileno())
    try:
        while offset < end and not cycle.disconnected:
            try:
                sent = os.sendfile(ours, file, offset, end - offset)
            except BlockingIOError:
                await _writable(ours)
                continue
            except (BrokenPipeError, ConnectionResetError):
                return  # uvicorn hears of it as well and says so to whoever receives
            if sent == 0:
                raise OSError(errno.EIO, f"the file ended {end - offset} bytes early")
            offset += sent
    finally:
        os.close(ours)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
