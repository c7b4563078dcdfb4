"""`/content/v1/...`: bytes and metainfo for agents and regionals, by content token. Plain Starlette routes: this is
where the WAN is.

Invariant: what is counted as egress is payload that the server took off our hands, chunk by chunk; HEAD, refused
requests and broken-off answers count nothing that was not sent (at most one chunk too many when a peer vanishes in the
middle of it).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from common.content_token import ContentClaim
from common.digest import Digest
from common.errors import Invalid
from control_plane.registry.model import Content
from control_plane.registry.serving import accelerated
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.describe import ContentSource
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import EgressKey
from control_plane.swarm.ranges import Span, Unsatisfiable, span_of
from control_plane.swarm.service import SwarmService
from control_plane.web.errors import ProblemResponse, problem_of

# A reader that takes no 1 MiB in this time (9 kB/s) is gone or stuck; it may come back with a range.
_SEND_SECONDS = 120.0
_MEDIA_TYPE = "application/octet-stream"
# The name says what the bytes are, for ever; but the token says who may have them, so no shared cache keeps them.
_CACHE_CONTROL = "private, max-age=31536000, immutable"


class RangeUnsatisfiable(Invalid):
    code = "range_unsatisfiable"


class ContentRoutes:
    def __init__(
        self,
        access: ContentAccess,
        contents: ContentSource,
        swarm: SwarmService,
        egress: EgressCounter,
        accel_prefix: str | None = None,
    ) -> None:
        """`accel_prefix`: nginx's internal location over the blob store (registry/serving.py); None: we send them."""
        self._access = access
        self._contents = contents
        self._swarm = swarm
        self._egress = egress
        self._accel_prefix = accel_prefix

    def routes(self) -> list[Route]:
        # HEAD comes with GET in Starlette.
        return [
            Route("/content/v1/{digest}", self.content, methods=["GET"]),
            Route("/content/v1/{digest}/metainfo", self.metainfo, methods=["GET"]),
        ]

    async def content(self, request: Request) -> Response:
        digest = Digest.parse(request.path_params["digest"])
        claim = await self._access.claim(request.headers.get("authorization"), digest)
        content = await self._contents.content(digest)
        headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Cache-Control": _CACHE_CONTROL}
        if request.headers.get("if-none-match") in (headers["ETag"], "*"):
            return Response(status_code=304, headers=headers)
        asked = _asked_range(request, headers["ETag"])
        span = span_of(asked, content.size)
        if isinstance(span, Unsatisfiable):
            return _unsatisfiable(request, content.size, headers)
        status = 206 if span is not None else 200
        if span is not None:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{content.size}"
        span = span or Span(0, content.size)
        if request.method == "HEAD":
            headers["Content-Length"] = str(span.length)
            return Response(status_code=status, headers=headers, media_type=_MEDIA_TYPE)
        return self._send(content, span, status, headers, self._counter(claim, content.size))

    async def metainfo(self, request: Request) -> Response:
        digest = Digest.parse(request.path_params["digest"])
        claim = await self._access.claim(request.headers.get("authorization"), digest)
        found = await self._swarm.metainfo(claim.tenant_id, digest)
        headers = {"ETag": f'"{found.info_hash.hex()}"', "Cache-Control": _CACHE_CONTROL}
        return Response(found.encoded, media_type="application/x-bittorrent", headers=headers)

    def _send(
        self, content: Content, span: Span, status: int, headers: dict[str, str], count: Callable[[int], None]
    ) -> Response:
        if self._accel_prefix is not None and content.path is not None:
            # nginx reads the client's Range itself, and sends what we would have sent.
            count(span.length)
            return Response(headers=accelerated(self._accel_prefix, content.digest, _MEDIA_TYPE))
        headers["Content-Length"] = str(span.length)
        return _CountedResponse(content.read(span.start, span.end), count, status, headers)

    def _counter(self, claim: ContentClaim, size_bytes: int) -> Callable[[int], None]:
        key = EgressKey(claim.idc, claim.tenant_id, claim.digest, size_bytes)
        return lambda payload_bytes: self._egress.add(key, payload_bytes)


class _CountedResponse(StreamingResponse):
    """Counts each chunk after the server took it; Starlette watches for the client's leaving beside it and cancels."""

    def __init__(
        self, chunks: AsyncIterator[bytes], count: Callable[[int], None], status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(chunks, status_code=status, headers=headers, media_type=_MEDIA_TYPE)
        self._chunks = chunks
        self._count = count

    async def stream_response(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        async with _closing(self._chunks) as chunks:
            # A blob that cannot be opened shall be an error, not a 200 that breaks off: nothing goes out before it is.
            chunk = await anext(chunks, None)
            await send(start)
            while chunk is not None:
                async with asyncio.timeout(_SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._count(len(chunk))
                chunk = await anext(chunks, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.asynccontextmanager
async def _closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """A generator keeps its file open until it is closed; other iterators have nothing to close."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _asked_range(request: Request, etag: str) -> str | None:
    condition = request.headers.get("if-range")
    return request.headers.get("range") if condition in (None, etag) else None


def _unsatisfiable(request: Request, size: int, headers: dict[str, str]) -> Response:
    failure = RangeUnsatisfiable(f"the content has {size} bytes", action="ask for a range inside it", size_bytes=size)
    body = problem_of(failure, request.url.path) | {"status": 416, "title": "Range Not Satisfiable"}
    return ProblemResponse(body, 416, {"Content-Range": f"bytes */{size}", "Accept-Ranges": headers["Accept-Ranges"]})
