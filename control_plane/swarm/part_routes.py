"""`/content/v1/{digest}/blocks` and `/parts`: for who holds most of a content already, in another one.

The block map tells which blocks those are, and one request fetches many small parts of the rest. Authorised by the same
token as the content itself, and counted as egress like it, the map included.

Invariant: no answer has more than 16 MiB, and a part costs no more than its own bytes and a gap's reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from common import byte_parts
from common.byte_ranges import Span
from common.content_token import ContentClaim
from common.digest import Digest
from common.errors import NotFound
from control_plane.database import Database
from control_plane.registry.model import Content
from control_plane.registry.serving import send_body, send_start
from control_plane.swarm import block_map_store
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.describe import ContentSource
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import EgressKey

# Reading this much for nothing costs less than asking the store once more: a request to S3 takes some 10 ms.
_GAP_BYTES = 256 << 10
_STALL_SECONDS = 120.0
_FOREVER = "private, max-age=31536000, immutable"


class NoBlockMap(NotFound):
    """The content is small, compressed, or not described yet; it is fetched whole."""

    code = "no_block_map"


class PartRoutes:
    def __init__(
        self, database: Database, access: ContentAccess, contents: ContentSource, egress: EgressCounter
    ) -> None:
        self._database = database
        self._access = access
        self._contents = contents
        self._egress = egress

    def routes(self) -> list[Route]:
        return [
            Route("/content/v1/{digest}/blocks", self.blocks, methods=["GET"]),
            Route("/content/v1/{digest}/parts", self.parts, methods=["POST"]),
        ]

    async def blocks(self, request: Request) -> Response:
        digest = Digest.parse(request.path_params["digest"])
        claim = await self._access.claim(request.headers.get("authorization"), digest)
        content = await self._contents.content(digest)
        async with self._database.reading() as connection:
            encoded = await block_map_store.find(connection, digest)
        if encoded is None:
            raise NoBlockMap(f"{digest} has no block map", action="fetch it whole")
        self._counter(claim, digest, content.size)(len(encoded))
        return Response(encoded, media_type="application/octet-stream", headers={"Cache-Control": _FOREVER})

    async def parts(self, request: Request) -> Response:
        digest = Digest.parse(request.path_params["digest"])
        claim = await self._access.claim(request.headers.get("authorization"), digest)
        content = await self._contents.content(digest)
        spans = byte_parts.parse(await _body(request), content.size)
        return _PartsResponse(content, spans, self._counter(claim, digest, content.size))

    def _counter(self, claim: ContentClaim, digest: Digest, size_bytes: int) -> Callable[[int], None]:
        key = EgressKey(claim.idc, claim.tenant_id, digest, size_bytes)
        return lambda payload_bytes: self._egress.add(key, payload_bytes)


class _PartsResponse(Response):
    """Nothing goes out before the first part is read, as with whole contents."""

    def __init__(self, content: Content, spans: Sequence[Span], count: Callable[[int], None]) -> None:
        super().__init__(status_code=200)
        self._content = content
        self._spans = spans
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = byte_parts.total(self._spans)
        async with contextlib.aclosing(_read(self._content, self._spans)) as parts:
            first = await anext(parts, b"")
            headers = {"Content-Type": byte_parts.MEDIA_TYPE, "Content-Length": str(length)}
            await send_start(send, 200, headers)
            await send_body(receive, send, length, self._counted(first, parts), stall_seconds=_STALL_SECONDS)

    async def _counted(self, first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        self._count(len(first))
        yield first
        async for part in rest:
            self._count(len(part))
            yield part


async def _read(content: Content, spans: Sequence[Span]) -> AsyncGenerator[bytes]:
    """The bytes of the spans, each window of neighbours in one go."""
    for window in byte_parts.windows(spans, _GAP_BYTES):
        found = bytearray()
        waiting, position = list(reversed(window)), window[0].start
        async with contextlib.aclosing(content.read(window[0].start, window[-1].end)) as chunks:
            async for chunk in chunks:
                found += _cut(chunk, position, waiting)
                position += len(chunk)
                if len(found) >= _GAP_BYTES:
                    yield bytes(found)
                    found.clear()
        if found:
            yield bytes(found)


def _cut(chunk: bytes, position: int, waiting: list[Span]) -> bytes:
    """What of the chunk at `position` the spans want; those that end in it are taken off the list (last one first)."""
    view, end, found = memoryview(chunk), position + len(chunk), bytearray()
    while waiting and waiting[-1].start < end:
        span = waiting[-1]
        found += view[max(span.start - position, 0) : span.end - position]
        if span.end > end:
            break
        waiting.pop()
    return bytes(found)


async def _body(request: Request) -> bytes:
    """Read no further than a valid list goes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > byte_parts.MOST_ENCODED:
            raise byte_parts.PartsInvalid("the list of parts is too long", action="ask in several requests")
    return bytes(body)
