"""The open HTTP listener: tracker, web seed, files, health and metrics.

Tracker and web seed are for BitTorrent clients, which can carry a token only in a URL. Invariant: without a genuine
token for the very swarm an announce gets a failure reason and no peer, and a web seed request gets no byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from common.byte_ranges import Span, Validators
from common.content_token import ContentVerifier
from common.digest import Digest
from common.errors import Denied, Failure
from regional.announce import AnnounceQuery, parse_announce
from regional.edge import Edge
from regional.metainfos import WIRE_HASH_BYTES, Metainfos
from regional.metrics import Metrics
from regional.model import ContentKey
from regional.progress import StillFetching
from regional.reader import Reader
from regional.sending import Representation, send
from regional.tracker import Answer, Tracker, failure_answer

# An announce waits no longer for a metainfo that the centre still has to send; the client asks again soon.
_METAINFO_SECONDS = 5.0
# libtorrent gives a web seed 20 s (urlseed_timeout) and then leaves it alone for 30; a 503 it honours.
_SEED_SECONDS = 10.0


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
        return [web.get("/announce", self.announce), web.get("/seed/{token}/{hex}", self.seed)]

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
        claim = self._verifier.verify(query.token)
        key = ContentKey(claim.digest, claim.tenant_id)
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

    async def seed(self, request: web.Request) -> web.StreamResponse:
        """BEP 19: the exact file, by range; bytes in flight are waited for, then 503 with Retry-After."""
        token, hexadecimal = request.match_info["token"], request.match_info["hex"]
        digest = Digest.parse(f"{'sha256' if len(hexadecimal) == 64 else 'sha512'}:{hexadecimal}")
        claim = self._verifier.verify(token, digest)
        key = ContentKey(digest, claim.tenant_id)
        async with await self._edge.open(key, token) as reader:
            body = _WholeRange(reader) if "Range" in request.headers else reader
            with self._edge.links.serving(request, key, silent=True):
                return await send(request, Representation(body, Validators(str(digest))))


class _WholeRange:
    """A range that is sent only once all of it is verified: a web seed client bans a seed that cuts answers."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.size = reader.size
        self.send = reader.send

    async def ready(self, span: Span) -> None:
        try:
            async with asyncio.timeout(_SEED_SECONDS):
                await self._reader.wait_whole(span)
        except TimeoutError:
            raise StillFetching(
                "the range is still on its way from the centre", action="ask again", retry_after_seconds=2
            ) from None


class Health:
    """`/healthz` and `/metrics`. `attached`: whether the centre is there; a regional is healthy without it."""

    def __init__(self, metrics: Metrics, attached: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._attached = attached

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/healthz", self.healthz), web.get("/metrics", self.metrics)]

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "attached": self._attached()})

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})
