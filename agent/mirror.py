"""A read-only OCI registry on loopback, for this host's container engine alone (distribution specification, "Pull").

Invariant: it serves by digest, and only the pairs of repository and digest that the current assignments name; whole
verified contents from the cache, and contents that are still on their way as far as `streaming.py` lets their bytes
out. There are no tags, no uploads and no lists: everything else is "not found".
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from aiohttp import web

from agent.cache import ContentCache
from agent.model import Assignment, Assignments, Content, DesiredState
from agent.streaming import Streams
from common.byte_ranges import RangeUnsatisfiable, Span, requested_span
from common.digest import Digest, DigestInvalid
from common.errors import Failure

log = structlog.get_logger()

_ROUTE = re.compile(r"/v2/(?P<repository>[a-z0-9._/-]+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_VERSION_HEADER = {"Docker-Distribution-Api-Version": "registry/2.0"}
_CLOSE_SECONDS = 5.0
# An engine that takes less than a slice in this time is hung. It may be slow: it unpacks while it reads.
_SLICE = 4 << 20
_SLICE_SECONDS = 300.0


class Mirror:
    """Use as an async context manager; it listens from then on. `port` 0 picks a free one.

    `streams`: for contents that are still on their way; without it only what is held is served. `listener`: a socket to
    use instead, for an engine that lives in another network namespace.
    """

    def __init__(
        self,
        assignments: Callable[[], Assignments],
        cache: ContentCache,
        host: str = "127.0.0.1",
        port: int = 0,
        listener: socket.socket | None = None,
        *,
        streams: Streams | None = None,
    ) -> None:
        self._assignments = assignments
        self._cache = cache
        self._host = host
        self._wished_port = port
        self._listener = listener
        self._streams = streams
        application = web.Application()
        application.router.add_get("/v2/", _version)
        application.router.add_get("/{path:.*}", self._serve)
        # An engine that hangs up is gone, also while it waits for bytes: what it wanted soon is nobody's wish any more.
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=_CLOSE_SECONDS, handler_cancellation=True
        )
        self.port = port

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            if self._listener is not None:
                await web.SockSite(self._runner, self._listener).start()
            else:
                await web.TCPSite(self._runner, self._host, self._wished_port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        # The raw path, not the decoded one: %2e and %2f must not become path components after matching.
        matched = _ROUTE.fullmatch(request.raw_path.partition("?")[0])
        if matched is None:
            return _refusal(404, "NAME_UNKNOWN", "this mirror serves manifests and blobs by digest only")
        is_manifest = matched["kind"] == "manifests"
        try:
            digest = Digest.parse(matched["reference"])
        except DigestInvalid:
            code = "MANIFEST_UNKNOWN" if is_manifest else "DIGEST_INVALID"
            return _refusal(404 if is_manifest else 400, code, "ask by digest; this mirror resolves no tags")
        return await self._answer(request, matched["repository"], digest, is_manifest)

    async def _answer(
        self, request: web.Request, repository: str, digest: Digest, is_manifest: bool
    ) -> web.StreamResponse:
        found = self._find(repository, digest, is_manifest)
        if found is not None:
            assignment, content = found
            if (path := self._cache.find(digest)) is not None:
                # FileResponse answers HEAD and single ranges, and sends by sendfile(2).
                return web.FileResponse(path, chunk_size=1 << 20, headers=_headers(content))
            if self._streams is not None and assignment.desired_state is not DesiredState.REMOVED:
                wanted = functools.partial(self._find, repository, digest, is_manifest)
                return await _Stream(self._streams, request, content, assignment.tenant_id, wanted).answer()
        code = "MANIFEST_UNKNOWN" if is_manifest else "BLOB_UNKNOWN"
        return _refusal(404, code, f"{digest} is not assigned to this host in {repository}, or not held yet")

    def _find(self, repository: str, digest: Digest, is_manifest: bool) -> tuple[Assignment, Content] | None:
        for assignment in self._assignments().items.values():
            if assignment.image.repository != repository:
                continue
            named = (assignment.image.manifest,) if is_manifest else assignment.image.contents
            for content in named:
                if content.digest == digest:
                    return assignment, content
        return None


@dataclass(frozen=True)
class _Stream:
    """The answer with a content that is still on its way: headers at once, the body as it comes."""

    streams: Streams
    request: web.Request
    content: Content
    tenant_id: str
    wanted: Callable[[], object]

    async def answer(self) -> web.StreamResponse:
        size = self.content.size_bytes
        try:
            asked = requested_span(self.request.headers.get("Range"), size)
        except RangeUnsatisfiable:
            return web.Response(status=416, headers={**_VERSION_HEADER, "Content-Range": f"bytes */{size}"})
        span = asked or Span(0, size)
        response = web.StreamResponse(status=206 if asked else 200, headers=_headers(self.content))
        response.content_length = span.length
        response.headers["Accept-Ranges"] = "bytes"
        if asked:
            response.headers["Content-Range"] = asked.content_range(size)
        await response.prepare(self.request)
        if self.request.method != "HEAD":
            await self._send(response, span)
        return response

    async def _send(self, response: web.StreamResponse, span: Span) -> None:
        """An answer is complete or its connection is cut; it is never silently short."""
        sink = _Sink(self.request, response)
        try:
            await self.streams.copy(self.content, self.tenant_id, span, sink, self.wanted)
            await response.write_eof()
        except (OSError, TimeoutError, Failure) as error:
            if not isinstance(error, ConnectionError):
                log.warning("stream cut short", digest=str(self.content.digest), error=str(error))
            if self.request.transport is not None:
                self.request.transport.abort()


@dataclass(frozen=True)
class _Sink:
    request: web.Request
    response: web.StreamResponse

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(_SLICE_SECONDS):
            await self.response.write(data)

    async def send_file(self, path: Path, span: Span) -> None:
        loop, transport = asyncio.get_running_loop(), self.request.transport
        with path.open("rb") as file:
            for start in range(span.start, span.end, _SLICE):
                if transport is None:
                    raise ConnectionResetError("the engine is gone")
                async with asyncio.timeout(_SLICE_SECONDS):
                    await loop.sendfile(transport, file, start, min(_SLICE, span.end - start))


def _headers(content: Content) -> dict[str, str]:
    return {
        **_VERSION_HEADER,
        "Content-Type": content.media_type or "application/octet-stream",
        "Docker-Content-Digest": str(content.digest),
        "ETag": f'"{content.digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
    }


async def _version(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"{}", content_type="application/json", headers=_VERSION_HEADER)


def _refusal(status: int, code: str, message: str) -> web.Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=_VERSION_HEADER)
