"""`POST /content/v1/{digest}/lease`: which pieces the asking host reads from here next; on the mutual-TLS listener.

Invariant: the right to a lease is the right to read: the same token, presented by the process it was made for.
"""

from __future__ import annotations

from aiohttp import web

from common.content_token import ContentVerifier
from common.digest import Digest
from common.spreading.exchange import decode_question, encode_grant
from regional.content import NotInSwarm, authorised
from regional.edge import Edge
from regional.leases import LeaseDesks
from regional.metainfos import WIRE_HASH_BYTES, Metainfos
from regional.model import ContentKey
from regional.tracker import Tracker


class LeaseRoutes:
    def __init__(
        self, edge: Edge, metainfos: Metainfos, verifier: ContentVerifier, desks: LeaseDesks, tracker: Tracker
    ) -> None:
        self._edge = edge
        self._metainfos = metainfos
        self._verifier = verifier
        self._desks = desks
        self._tracker = tracker
        edge.arrived = desks.arrived

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/content/v1/{digest}/lease", self.lease)]

    async def lease(self, request: web.Request) -> web.Response:
        """Raises what hinders the fetch from the centre when nothing that the host lacks is here."""
        digest = Digest.parse(request.match_info["digest"])
        claim, token = authorised(request, self._verifier, digest)
        key = ContentKey(digest, claim.tenant_id)
        metainfo = await self._metainfos.get(key, token)
        if metainfo is None:
            raise NotInSwarm(f"{digest} is not spread by swarm", action="fetch it over HTTP")
        question = decode_question(await request.read(), metainfo.piece_count)
        self._edge.links.heard(request, digest)
        self._edge.demand(key, token)
        grant = await self._desks.ask(
            key,
            metainfo,
            claim.bearer,
            question,
            lambda: self._edge.readable(digest)[0],
            lambda: self._tracker.seeds(metainfo.info_hash[:WIRE_HASH_BYTES]),
        )
        held, failure = self._edge.readable(digest)
        if grant.run is None and failure is not None and held is not None and not held & ~question.held:
            raise failure
        return web.Response(body=encode_grant(grant), content_type="application/json")
