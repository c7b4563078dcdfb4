"""The mutual-TLS listener: contents and their metainfo for agents, the same routes as the centre's.

Invariant: a byte is given only for a content token of the very content, presented by the very process it was made for:
the token's bearer is the name in the client's certificate, so a stolen token is worth nothing.
"""

from __future__ import annotations

import ssl

from aiohttp import web

from common.byte_ranges import Validators
from common.content_statement import HEADER as STATEMENT_HEADER
from common.content_token import ContentClaim, ContentVerifier
from common.digest import Digest
from common.errors import Denied, NotFound, Unauthenticated
from common.tls import certificate_name
from regional.edge import Edge
from regional.metainfos import Metainfos
from regional.model import ContentKey
from regional.sending import Representation, send

_TORRENT = "application/x-bittorrent"


class TokenMissing(Unauthenticated):
    code = "token_missing"


class BearerForeign(Denied):
    """The token was made for another process than the one that presents it."""

    code = "bearer_foreign"


class NotInSwarm(NotFound):
    code = "not_in_swarm"


class ContentRoutes:
    def __init__(self, edge: Edge, metainfos: Metainfos, verifier: ContentVerifier) -> None:
        self._edge = edge
        self._metainfos = metainfos
        self._verifier = verifier

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/content/v1/{digest}", self.content),
            web.get("/content/v1/{digest}/metainfo", self.metainfo),
        ]

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Held bytes at once; others as they arrive from the centre and are verified."""
        digest = Digest.parse(request.match_info["digest"])
        key, token = self._authorised(request, digest)
        self._edge.links.heard(request, digest)
        async with await self._edge.open(key, token) as reader:
            headers = {"Docker-Content-Digest": str(digest)}
            with self._edge.links.serving(request, key):
                return await send(request, Representation(reader, Validators(str(digest)), headers=headers))

    async def metainfo(self, request: web.Request) -> web.StreamResponse:
        """The centre's with its statement, kept on disk. 404 `not_in_swarm` for contents that have none."""
        digest = Digest.parse(request.match_info["digest"])
        key, token = self._authorised(request, digest)
        signed = await self._metainfos.signed(key, token)
        if signed is None:
            raise NotInSwarm(f"{digest} is not spread by swarm", action="fetch it over HTTP")
        self._edge.links.heard(request, digest)
        self._edge.demand(key, token)
        headers = {STATEMENT_HEADER: signed.statement}
        return web.Response(body=signed.metainfo.encoded, content_type=_TORRENT, headers=headers)

    def _authorised(self, request: web.Request, digest: Digest) -> tuple[ContentKey, str]:
        claim, token = authorised(request, self._verifier, digest)
        return ContentKey(digest, claim.tenant_id), token


def authorised(request: web.Request, verifier: ContentVerifier, digest: Digest) -> tuple[ContentClaim, str]:
    """What the request's token is good for, and the token. Raises what refuses it."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenMissing("the request has no content token", action="send Authorization: Bearer <content token>")
    claim = verifier.verify(token.strip(), digest)
    _check_bearer(request, claim)
    return claim, token.strip()


def _check_bearer(request: web.Request, claim: ContentClaim) -> None:
    connection = request.get_extra_info("ssl_object")
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    if certificate is None:
        raise Unauthenticated("the connection shows no client certificate", action="connect with mutual TLS")
    name = certificate_name(ssl.DER_cert_to_PEM_cert(certificate).encode())
    if claim.bearer != f"{name.kind}/{name.id}":
        raise BearerForeign("the content token was made for another process", action="use the token you received")
