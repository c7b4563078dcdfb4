"""The open HTTP listener: tracker, files, health and metrics.

The tracker is for BitTorrent clients, which can carry a token only in a URL. Invariant: without a genuine token for the
very swarm an announce gets a failure reason and no peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from common.content_token import ContentVerifier
from common.errors import Denied, Failure
from regional.announce import AnnounceQuery, parse_announce
from regional.edge import Edge
from regional.metainfos import WIRE_HASH_BYTES, Metainfos
from regional.metrics import Metrics
from regional.model import ContentKey
from regional.progress import StillFetching
from regional.tracker import AnnounceInvalid, Answer, Tracker, failure_answer

# An announce waits no longer for a metainfo that the centre still has to send; the client asks again soon.
_METAINFO_SECONDS = 5.0


class SwarmForeign(Denied):
    """The token is genuine and for another swarm than the one announced."""

    code = "swarm_foreign"


class SwarmWeb:
    def __init__(
        self, tracker: Tracker, verifier: ContentVerifier, metainfos: Metainfos, edge: Edge, metrics: Metrics
    ) -> None:
        self._tracker = tracker
        self._verifier = verifier
        self._metainfos = metainfos
        self._edge = edge
        self._metrics = metrics

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/announce", self.announce)]

    async def announce(self, request: web.Request) -> web.Response:
        """BEP 3: always 200; a refusal is a bencoded failure reason."""
        try:
            query = parse_announce(request.rel_url.raw_query_string)
            body = (await self._announce(query, request.remote or "")).encode()
            self._metrics.announces.labels("answered").inc()
        except Failure as failure:
            body = failure_answer(f"{failure.code}: {failure.detail}")
            self._metrics.announces.labels(failure.code).inc()
        return web.Response(body=body, content_type="text/plain")

    async def _announce(self, query: AnnounceQuery, remote: str) -> Answer:
        claim = self._verifier.verify(query.token, query.digest)
        if query.digest is None and len(claim.digests) > 1:
            raise AnnounceInvalid("the token is for several contents and no digest says which one is announced")
        key = ContentKey(query.digest or claim.digests[0], claim.tenant_id)
        try:
            async with asyncio.timeout(_METAINFO_SECONDS):
                metainfo = await self._metainfos.get(key, query.token)
        except TimeoutError:
            raise StillFetching("the metainfo of this swarm is on its way", retry_after_seconds=1) from None
        if metainfo is None or metainfo.info_hash[:WIRE_HASH_BYTES] != query.info_hash:
            raise SwarmForeign("the token is not for this swarm", action="announce with the token of the content")
        await self._edge.used(key.digest)
        if query.left_bytes and not query.stopped:
            self._edge.demand(key, query.token)
        return self._tracker.announce(query.announce(claim.bearer, remote))


class Health:
    """`/healthz` and `/metrics`. `attached`: whether the centre is there; a regional is healthy without it, and with
    `alarms` that are not of its own making.
    """

    def __init__(
        self, metrics: Metrics, attached: Callable[[], bool], alarms: Callable[[], tuple[str, ...]] = tuple
    ) -> None:
        self._metrics = metrics
        self._attached = attached
        self._alarms = alarms

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/healthz", self.healthz), web.get("/metrics", self.metrics)]

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "attached": self._attached(), "alarms": self._alarms()})

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})
