"""`/content/v1/...`: bytes and metainfo for agents and regionals, by content token. Plain Starlette routes: here is
where the WAN begins.

Invariant: what is counted as egress is payload that the server took off our hands, piece by piece: when a client goes
away, at most one piece (1 MiB) too many. HEAD and refused requests count nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from common.byte_ranges import RangeUnsatisfiable
from common.content_statement import HEADER as STATEMENT_HEADER
from common.content_token import ContentClaim
from common.digest import Digest
from control_plane.registry.model import OCTETS, Content
from control_plane.registry.serving import Piece, Plan, accelerated, plan, send_body, send_empty, send_start
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.describe import ContentSource
from control_plane.swarm.egress import EgressCounter
from control_plane.swarm.model import EgressKey
from control_plane.swarm.service import SwarmService
from control_plane.swarm.statements import Statements
from control_plane.web.errors import ProblemResponse, problem_of
from control_plane.web.zero_copy import EXTENSION as ZERO_COPY

# A client that takes no 1 MiB in this time (9 kB/s) is gone or stuck; it may come back with a range.
_STALL_SECONDS = 120.0

Count = Callable[[int], None]


class ContentRoutes:
    def __init__(
        self,
        access: ContentAccess,
        contents: ContentSource,
        swarm: SwarmService,
        statements: Statements,
        egress: EgressCounter,
        accel_prefix: str | None = None,
    ) -> None:
        """`accel_prefix`: nginx's internal location over the blob store (registry/serving.py); None: we send them."""
        self._access = access
        self._contents = contents
        self._swarm = swarm
        self._statements = statements
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
        try:
            planned = plan(request.method, request.headers, digest, content.size, OCTETS)
        except RangeUnsatisfiable as failure:
            return _unsatisfiable(request, failure, content.size)
        count = self._counter(claim, digest, content.size)
        if self._accel_prefix is not None and content.path is not None and not planned.bodiless:
            # nginx reads the client's Range itself, and sends what we would have sent.
            count(planned.end - planned.start)
            return Response(headers=accelerated(self._accel_prefix, digest, OCTETS))
        return _ContentResponse(planned, content, count)

    async def metainfo(self, request: Request) -> Response:
        digest = Digest.parse(request.path_params["digest"])
        claim = await self._access.claim(request.headers.get("authorization"), digest)
        found = await self._swarm.metainfo(claim.tenant_id, digest)
        headers = {
            "ETag": f'"{found.info_hash.hex()}"',
            # Not to be kept by others: the statement in front of it is as young as the key that signed it.
            "Cache-Control": "private, no-cache",
            STATEMENT_HEADER: self._statements.sign(found),
        }
        return Response(found.encoded, media_type="application/x-bittorrent", headers=headers)

    def _counter(self, claim: ContentClaim, digest: Digest, size_bytes: int) -> Count:
        key = EgressKey(claim.idc, claim.tenant_id, digest, size_bytes)
        return lambda payload_bytes: self._egress.add(key, payload_bytes)


class _ContentResponse(Response):
    """Carries out a plan. Nothing goes out before the first piece is read: a blob that cannot be opened is an error of
    its own, not a 200 that breaks off.
    """

    def __init__(self, planned: Plan, content: Content, count: Count) -> None:
        super().__init__(status_code=planned.status)
        self._plan = planned
        self._content = content
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        planned = self._plan
        if planned.bodiless:
            await send_empty(send, planned.status, planned.headers)
            return
        content = self._content
        by_kernel = content.pieces if ZERO_COPY in scope.get("extensions", ()) else None
        source = by_kernel or content.read
        async with contextlib.aclosing(source(planned.start, planned.end)) as pieces:
            first = await anext(pieces, b"")
            await send_start(send, planned.status, planned.headers)
            length = planned.end - planned.start
            await send_body(
                receive, _counted(send, self._count), length, _rejoined(first, pieces), stall_seconds=_STALL_SECONDS
            )


def _counted(send: Send, count: Count) -> Send:
    async def sent(message: Message) -> None:
        await send(message)
        count(message["count"] if message["type"] == ZERO_COPY else len(message.get("body", b"")))

    return sent


async def _rejoined(first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    yield first
    async for piece in rest:
        yield piece


def _unsatisfiable(request: Request, failure: RangeUnsatisfiable, size: int) -> Response:
    body = problem_of(failure, request.url.path) | {"status": 416, "title": "Range Not Satisfiable"}
    return ProblemResponse(body, 416, {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"})
