"""The ASGI application of `/v2/`: find the resource, find out who asks, call the handler, answer failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.types import Receive, Scope, Send

from common.errors import Failure, Internal, Unauthenticated
from control_plane.registry.collaborators import PasswordAuthenticator, RegistryTokens
from control_plane.registry.errors import body_of, headers_of, oci_error_of
from control_plane.registry.failures import MethodUnsupported
from control_plane.registry.service import RegistryService
from control_plane.registry.v2 import Options
from control_plane.registry.v2.blobs import BlobEndpoints
from control_plane.registry.v2.exchange import ClientGone, Exchange
from control_plane.registry.v2.gate import Gate
from control_plane.registry.v2.listings import ListingEndpoints
from control_plane.registry.v2.manifests import ManifestEndpoints
from control_plane.registry.v2.paths import Kind, Target, parse_path
from control_plane.registry.v2.referrers import ReferrerEndpoints
from control_plane.registry.v2.token import TokenEndpoints
from control_plane.registry.v2.uploads import UploadEndpoints
from control_plane.tenants.access import Principal
from control_plane.tenants.principals import Authenticator

Handler = Callable[[Exchange, Principal], Awaitable[None]]
log = structlog.get_logger()


class RegistryApplication:
    def __init__(
        self,
        registry: RegistryService,
        authenticator: Authenticator,
        passwords: PasswordAuthenticator,
        tokens: RegistryTokens,
        options: Options,
    ) -> None:
        self._options = options
        self._gate = Gate(authenticator, tokens, options)
        listings, images = ListingEndpoints(registry), ManifestEndpoints(registry.images)
        blobs, uploads = BlobEndpoints(registry.contents, options), UploadEndpoints(registry.uploads)
        token = TokenEndpoints(self._gate, passwords, tokens, registry.rights, registry.uploads, options)
        self._handlers: Mapping[Kind, Mapping[str, Handler]] = {
            Kind.BASE: _readable(listings.base),
            Kind.TOKEN: {"GET": token.get, "POST": token.post},
            Kind.CATALOG: _readable(listings.catalogue),
            Kind.TAGS: _readable(listings.tags),
            Kind.MANIFEST: {**_readable(images.get), "PUT": images.put, "DELETE": images.delete},
            Kind.BLOB: {"GET": blobs.get, "HEAD": blobs.head, "DELETE": blobs.delete},
            Kind.REFERRERS: _readable(ReferrerEndpoints(registry.referrers).get),
            Kind.UPLOADS: {"POST": uploads.start},
            Kind.UPLOAD: {
                **_readable(uploads.show),
                "PATCH": uploads.append,
                "PUT": uploads.finish,
                "DELETE": uploads.cancel,
            },
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._options.idle_seconds)
        try:
            exchange.target = parse_path(scope["path"])
            handler = self._handler(exchange.target, exchange.method)
            await handler(exchange, await self._gate.principal_of(exchange))
        except ClientGone:
            return
        except Failure as failure:
            await self._refuse(exchange, failure)
        except Exception as error:
            if exchange.answering:
                raise
            log.error("request failed", method=exchange.method, path=scope["path"], exc_info=error)
            await self._refuse(exchange, Internal("the server failed in a way it did not foresee", action="try again"))

    def _handler(self, target: Target, method: str) -> Handler:
        handlers = self._handlers[target.kind]
        handler = handlers.get(method)
        if handler is None:
            allowed = ", ".join(sorted(handlers))
            raise MethodUnsupported(f"{method[:20]} means nothing here", action=f"use {allowed}", allow=allowed)
        return handler

    async def _refuse(self, exchange: Exchange, failure: Failure) -> None:
        if exchange.answering:
            # Half sent: only a broken connection tells the client so.
            raise failure
        await self._options.refused(exchange.scope, failure, exchange.target.repository)
        # A cache in between might keep a 404 (RFC 9110, 15.1), and the content may be pushed the next moment.
        headers = {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            **exchange.failure_headers,
            **headers_of(failure),
        }
        if isinstance(failure, Unauthenticated):
            headers["WWW-Authenticate"] = self._gate.challenge(exchange, failure)
        status = oci_error_of(type(failure)).status
        if status >= 500:
            log.error("request failed", method=exchange.method, path=exchange.scope["path"], failure=str(failure))
        await exchange.answer(status, headers, body_of(failure))


def _readable(handler: Handler) -> dict[str, Handler]:
    return {"GET": handler, "HEAD": handler}
