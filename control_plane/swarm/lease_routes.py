"""`POST /content/v1/{digest}/lease`: which pieces a host reads from the centre next, when its IDC has no regional.

Invariant: the right to a lease is the right to read, by the same content token.
"""

from __future__ import annotations

from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.digest import Digest
from common.errors import TooLarge
from common.spreading.exchange import MAXIMUM_BODY_BYTES, decode_question, encode_grant
from common.spreading.leases import Shape
from control_plane.swarm.access import ContentAccess
from control_plane.swarm.leases import LeaseBooks
from control_plane.swarm.service import SwarmService

_MOST_SHAPES = 10_000


class LeaseRoutes:
    def __init__(self, access: ContentAccess, swarm: SwarmService, books: LeaseBooks) -> None:
        self._access = access
        self._swarm = swarm
        self._books = books
        self._shapes: OrderedDict[tuple[str, Digest], Shape] = OrderedDict()

    def routes(self) -> list[Route]:
        return [Route("/content/v1/{digest}/lease", self.lease, methods=["POST"])]

    async def lease(self, request: Request) -> Response:
        digest = Digest.parse(request.path_params["digest"])
        claim = await self._access.claim(request.headers.get("authorization"), digest)
        shape = await self._shape(claim.tenant_id, digest)
        question = decode_question(await _body(request), shape.piece_count)
        grant = await self._books.ask(claim, digest, shape, question)
        return Response(encode_grant(grant), media_type="application/json")

    async def _shape(self, tenant_id: str, digest: Digest) -> Shape:
        """Raises what `SwarmService.metainfo` raises. A content's shape never changes."""
        known = self._shapes.get((tenant_id, digest))
        if known is None:
            metainfo = await self._swarm.metainfo(tenant_id, digest)
            known = self._shapes[tenant_id, digest] = Shape(metainfo.length, metainfo.piece_length)
            while len(self._shapes) > _MOST_SHAPES:
                self._shapes.popitem(last=False)
        return known


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BODY_BYTES:
            raise TooLarge("the question for a lease is too long", action="ask with the bit map of one content")
    return body
