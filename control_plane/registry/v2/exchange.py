"""One request and its answer: headers, query, the body as it streams in, and sending.

Every wait for the client has a deadline. Bytes are handed on as the server received them, without copying.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.datastructures import Headers as RequestHeaders
from starlette.datastructures import QueryParams
from starlette.types import Message, Receive, Scope, Send

from control_plane.registry.failures import ContentRangeInvalid, ManifestTooLarge, UploadStalled
from control_plane.registry.serving import Headers, send_empty, send_start
from control_plane.registry.v2.paths import Kind, Target

# In `idle_seconds` at least: who sends a byte now and then holds a connection, and an upload's lock, for ever.
SLOWEST_BYTES = 4096
_VERSION = (b"docker-distribution-api-version", b"registry/2.0")


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class Exchange:
    """`failure_headers` join the answer if the handler fails."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, idle_seconds: float) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers = RequestHeaders(scope=scope)
        self.target = Target(Kind.BASE)
        self.failure_headers: dict[str, str] = {}
        self.answering = False
        self.receive = receive
        self.idle_seconds = idle_seconds
        self._send = send
        self._query: QueryParams | None = None
        self._waited = 0.0  # for the client, since `SLOWEST_BYTES` of its body arrived
        self._arrived = 0

    @property
    def query(self) -> QueryParams:
        if self._query is None:
            self._query = QueryParams(self.scope["query_string"])
        return self._query

    @property
    def content_length(self) -> int | None:
        """The server has checked that it is a number and holds the body to it."""
        text = self.headers.get("content-length")
        return int(text) if text is not None else None

    @property
    def has_body(self) -> bool:
        return "transfer-encoding" in self.headers or bool(self.content_length)

    async def chunks(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """The body. Raises `ClientGone`, `UploadStalled`, and `ContentRangeInvalid` once it exceeds `limit` bytes
        (after having given out what is within).
        """
        left = limit
        while True:
            message = await self._next()
            chunk: bytes = message.get("body", b"")
            if left is not None and len(chunk) > left:
                yield chunk[:left]
                raise ContentRangeInvalid(f"the body is longer than the {limit} bytes of its range", action="send less")
            if chunk:
                yield chunk
                left = None if left is None else left - len(chunk)
            if not message.get("more_body", False):
                return

    async def body(self, limit: int) -> bytes:
        """All of a small body. Raises `ManifestTooLarge`, `ClientGone`, `UploadStalled`."""
        parts: list[bytes] = []
        size = self.content_length or 0
        if size <= limit:
            size = 0
            async for chunk in self.chunks():
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
        if size > limit:
            raise ManifestTooLarge(f"the body has more than {limit} bytes", action="send less", limit=limit)
        return b"".join(parts)

    async def _next(self) -> Message:
        # Only waiting for the client counts, not what is done with the bytes meanwhile.
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(self.idle_seconds - self._waited):
                message = await self.receive()
        except TimeoutError:
            raise UploadStalled(
                f"less than {SLOWEST_BYTES} bytes arrived in {self.idle_seconds:g} seconds",
                action="ask how far the upload got and go on there",
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._waited += clock() - begun
        self._arrived += len(message.get("body", b""))
        if self._arrived >= SLOWEST_BYTES:
            self._waited, self._arrived = 0.0, 0
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answering = True
            message["headers"].append(_VERSION)
        await self._send(message)

    async def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"", more: Headers = ()
    ) -> None:
        """A small answer; a HEAD gets the headers of the body that it does not get. `more` are headers that repeat."""
        sent: Headers = (*(headers or {}).items(), *more)
        if status not in (204, 304):
            sent = (*sent, ("Content-Length", str(len(body))))
        if self.method == "HEAD":
            await send_empty(self.send, status, sent)
            return
        await send_start(self.send, status, sent)
        await self.send({"type": "http.response.body", "body": body})

    async def answer_json(self, document: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(document, separators=(",", ":")).encode()
        await self.answer(200, {"Content-Type": "application/json", **(headers or {})}, body)
