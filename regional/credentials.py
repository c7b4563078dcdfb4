"""This regional's certificates in tenants' swarms, and the questions of its hosts, which it passes on to the centre.

Invariant: one certificate a tenant, `*`, is enough for whatever is seeded; it is asked for with tokens of orders, or
with those of hosts that asked for a content here. Nothing is signed here: only the centre has the tenants' authorities.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from common.bittorrent.credential_book import CredentialBook
from common.bittorrent.credential_keeper import CredentialKeeper
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.errors import TooLarge, Unavailable
from common.swarm_certificate import MAXIMUM_BYTES, MAXIMUM_TOKENS, PATH, signed_request
from common.tls import Identity
from regional.centre import Centre

# Of a tenant without orders here, the newest few tokens are as good as all others.
_KEPT_TOKENS = 4


class NoTokens(Unavailable):
    """Nothing shows yet that this tenant has contents in the IDC."""

    code = "no_tokens"


class Credentials:
    """`tokens`: of a tenant's orders; set once there are orders."""

    def __init__(
        self, directory: Path, identity_dir: Path, centre: Centre, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._book = CredentialBook(directory, clock)
        self._identity_dir = identity_dir
        self._centre = centre
        self._offered: dict[str, dict[str, None]] = {}
        self.keeper = CredentialKeeper(self._book, self._ask, clock, random)
        self.tokens: Callable[[str], Sequence[str]] = lambda _: ()

    async def load(self) -> None:
        """Call once, before anything is seeded."""
        await self._book.load()

    def offer(self, tenant_id: str, token: str) -> None:
        """Somebody showed a genuine token of that tenant."""
        kept = self._offered.setdefault(tenant_id, {})
        kept.pop(token, None)
        kept[token] = None
        while len(kept) > _KEPT_TOKENS:
            del kept[next(iter(kept))]

    async def _ask(self, tenant_id: str, _: Metainfo) -> bytes:
        # The newest last ones offered are the likeliest to be good; of the orders' any one is.
        tokens = [*reversed(self._offered.get(tenant_id, {})), *self.tokens(tenant_id)][:MAXIMUM_TOKENS]
        if not tokens:
            raise NoTokens(f"nobody ordered anything of tenant {tenant_id} here", retry_after_seconds=5)
        body = await asyncio.to_thread(self._request, tokens)
        return (await self._centre.sign(body)).certificate_pem()

    def _request(self, tokens: Sequence[str]) -> bytes:
        identity = Identity.load(self._identity_dir)
        if identity is None:
            raise NoTokens("this regional is not enrolled yet", retry_after_seconds=5)
        return signed_request(identity, self._book.request(), tokens).encode()


class CertificateRoutes:
    """On the mutual-TLS listener, so only members of the fleet are passed on."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH, self.certificate)]

    async def certificate(self, request: web.Request) -> web.Response:
        """The centre's answer, word for word."""
        body = b""
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MAXIMUM_BYTES:
                raise TooLarge(f"a certificate request has at most {MAXIMUM_BYTES} bytes", action="ask in parts")
        answer = await self._centre.sign(body)
        headers = {"Cache-Control": "no-store"}
        return web.Response(status=answer.status, body=answer.body, content_type=answer.media_type, headers=headers)
