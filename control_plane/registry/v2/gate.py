"""Who asks, and where to get a token: `WWW-Authenticate` as the Docker token specification wants it
(distribution: docs/content/spec/auth/token.md).

The challenge names every scope that the request needs, for a mount also the source's (if the client named none, the
blob's, for which the token names a repository that its user may pull from): a client that fetches exactly this token
succeeds on its second try.
"""

from __future__ import annotations

import contextlib
import re
from datetime import timedelta

from starlette.requests import HTTPConnection

from common.digest import Digest, DigestInvalid
from common.errors import Unauthenticated
from common.reference import NameInvalid, check_repository_name
from control_plane.registry.collaborators import RegistryTokens
from control_plane.registry.failures import ScopeInsufficient
from control_plane.registry.scopes import CATALOG, DELETE, PULL, PUSH, show_blob, show_scopes
from control_plane.registry.uploads import UPLOAD_LIFETIME
from control_plane.registry.v2 import Options
from control_plane.registry.v2.exchange import Exchange
from control_plane.registry.v2.paths import Kind
from control_plane.tenants.access import ANONYMOUS, Principal, RepositoryScope
from control_plane.tenants.principals import Authenticator, credentials_of
from control_plane.web.addresses import client_of

_HOST = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,255}")
_READS = frozenset({"GET", "HEAD"})
_ON_THE_DOT = timedelta(0)


class Gate:
    def __init__(self, authenticator: Authenticator, tokens: RegistryTokens, options: Options) -> None:
        self._authenticator = authenticator
        self._tokens = tokens
        self._options = options

    async def principal_of(self, exchange: Exchange) -> Principal:
        """Raises `Unauthenticated` for credentials that are sent and wrong, `RateLimited` after too many."""
        connection = HTTPConnection(exchange.scope)
        credentials = credentials_of(connection)
        if credentials is None:
            return ANONYMOUS
        # An upload that was begun with a token is finished with it, however long it takes: who owns the upload, and
        # whether its owner still may push there, is asked for each of its requests anyway.
        late = UPLOAD_LIFETIME if exchange.target.kind is Kind.UPLOAD else _ON_THE_DOT
        principal = await self.authenticate(credentials, client_of(connection), late)
        exchange.scope["longshore.principal"] = principal
        return principal

    async def authenticate(self, credentials: str, client: str, late: timedelta = _ON_THE_DOT) -> Principal:
        """Bearer: a registry token first, for that is what nearly every request brings; then what the API takes. `late`
        is for how long after its end a registry token still counts.
        """
        scheme, _, value = credentials.partition(" ")
        if scheme.lower() == "bearer":
            with contextlib.suppress(Unauthenticated):
                return await self._tokens.verify(value.strip(), late)
        return await self._authenticator.authenticate(credentials, client)

    def challenge(self, exchange: Exchange, failure: Unauthenticated) -> str:
        if exchange.target.kind is Kind.TOKEN:
            return f'Basic realm="{self._options.service}"'
        parts = [f'realm="{self._realm(exchange)}"', f'service="{self._options.service}"']
        scope = " ".join(filter(None, (show_scopes(_needed(exchange, failure)), _sought(exchange))))
        if scope:
            parts.append(f'scope="{scope}"')
        if isinstance(failure, ScopeInsufficient):
            parts.append('error="insufficient_scope"')
        elif exchange.headers.get("authorization", "").lower().startswith("bearer "):
            parts.append('error="invalid_token"')
        return "Bearer " + ",".join(parts)

    def _realm(self, exchange: Exchange) -> str:
        if self._options.public_url is not None:
            return f"{self._options.public_url.rstrip('/')}/v2/token"
        host = exchange.headers.get("host", "")
        if not _HOST.fullmatch(host):
            server = exchange.scope.get("server") or ("localhost", None)
            host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
        return f"{exchange.scope.get('scheme', 'http')}://{host}/v2/token"


def _needed(exchange: Exchange, failure: Unauthenticated) -> list[RepositoryScope]:
    target = exchange.target
    if target.kind is Kind.CATALOG:
        return [CATALOG]
    if not target.repository:
        return []
    scopes = [RepositoryScope(target.repository, _actions(target.kind, exchange.method))]
    source = exchange.query.get("from") if target.kind is Kind.UPLOADS and "mount" in exchange.query else None
    source = source or str(failure.facts.get("source") or "")
    if source and source != target.repository and _is_name(source):
        scopes.append(RepositoryScope(source, frozenset({PULL})))
    return scopes


def _sought(exchange: Exchange) -> str:
    """For a mount from wherever the blob is."""
    query = exchange.query
    if exchange.target.kind is not Kind.UPLOADS or "mount" not in query or query.get("from"):
        return ""
    try:
        return show_blob(Digest.parse(query["mount"]))
    except DigestInvalid:
        return ""


def _actions(kind: Kind, method: str) -> frozenset[str]:
    # Whoever only asks for a blob is about to push it: with one token for both it needs no second login, which some
    # clients never try (oras for Python sends its first token again). The token holds what its user may, no more.
    if kind in (Kind.UPLOADS, Kind.UPLOAD) or (kind is Kind.BLOB and method == "HEAD"):
        return frozenset({PULL, PUSH})
    if method in _READS:
        return frozenset({PULL})
    return frozenset({DELETE}) if method == "DELETE" else frozenset({PULL, PUSH})


def _is_name(text: str) -> bool:
    try:
        check_repository_name(text)
    except NameInvalid:
        return False
    return True
