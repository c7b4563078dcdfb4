"""`/blocks` and `/parts` of a content, for hosts that hold most of it in another one; the same routes as the centre's
(control_plane/swarm/part_routes.py), authorised by the same tokens as the content itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import BinaryIO

from aiohttp import web

from common import byte_parts
from common.byte_ranges import Span, Validators
from common.content_token import ContentVerifier
from common.digest import Digest
from common.errors import NotFound
from regional.content import authorised
from regional.edge import Edge
from regional.model import ContentKey
from regional.reader import Reader
from regional.sending import Representation, send, take_turn, write_chunk

# Small parts leave together.
_TOGETHER = 256 << 10


class NoBlockMap(NotFound):
    code = "no_block_map"


class PartRoutes:
    def __init__(self, edge: Edge, verifier: ContentVerifier) -> None:
        self._edge = edge
        self._verifier = verifier

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/content/v1/{digest}/blocks", self.blocks),
            web.post("/content/v1/{digest}/parts", self.parts),
        ]

    async def blocks(self, request: web.Request) -> web.Response:
        digest = Digest.parse(request.match_info["digest"])
        claim, token = authorised(request, self._verifier, digest)
        key = ContentKey(digest, claim.tenant_id)
        encoded = await self._edge.reuse.blocks(key, token)
        if encoded is None:
            raise NoBlockMap(f"{digest} has no block map", action="fetch it whole")
        with self._edge.links.serving(request, key):
            await take_turn(request, len(encoded))
        return web.Response(body=encoded, content_type="application/octet-stream")

    async def parts(self, request: web.Request) -> web.StreamResponse:
        """Parts that are not here yet are waited for, as with ranges of the content."""
        digest = Digest.parse(request.match_info["digest"])
        claim, token = authorised(request, self._verifier, digest)
        body = await request.content.read(byte_parts.MOST_ENCODED + 1)
        while chunk := await request.content.read(byte_parts.MOST_ENCODED + 1 - len(body)):
            body += chunk
        key = ContentKey(digest, claim.tenant_id)
        self._edge.links.heard(request, digest)
        async with await self._edge.open(key, token) as reader:
            parts = _Parts(reader, byte_parts.parse(body, reader.size))
            with self._edge.links.serving(request, key):
                return await send(request, Representation(parts, Validators(str(digest)), byte_parts.MEDIA_TYPE))


class _Parts:
    """The parts' bytes as one body."""

    def __init__(self, reader: Reader, spans: Sequence[Span]) -> None:
        self._reader = reader
        self._spans = spans
        self.size = byte_parts.total(spans)

    async def ready(self, _: Span) -> None:
        await self._reader.ready(self._spans[0])

    async def send(self, request: web.BaseRequest, response: web.StreamResponse, _: Span) -> None:
        group: list[Span] = []
        for span in self._spans:
            group.append(span)
            if byte_parts.total(group) >= _TOGETHER:
                await self._send(request, response, group)
                group = []
        if group:
            await self._send(request, response, group)

    async def _send(self, request: web.BaseRequest, response: web.StreamResponse, group: Sequence[Span]) -> None:
        await take_turn(request, byte_parts.total(group))
        for span in group:
            await self._reader.wait_whole(span)
        await write_chunk(response, await asyncio.to_thread(_read, self._reader.file, group))


def _read(file: BinaryIO, group: Sequence[Span]) -> bytes:
    read = b"".join(os.pread(file.fileno(), span.length, span.start) for span in group)
    if len(read) != byte_parts.total(group):
        raise ConnectionResetError("the file became shorter while it was sent")
    return read
