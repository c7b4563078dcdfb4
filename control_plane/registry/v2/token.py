"""`/v2/token`: credentials in, a token for some repositories out.

GET as the Docker token specification has it (token.md: Basic credentials, several `scope`s), POST as its OAuth2
variant (oauth.md: form fields, `grant_type` password or refresh_token). Who shows a password or key and asks for
`offline_token=true` or `access_type=offline` gets a refresh token to keep in its place; it stays the same when it is
used. An API key serves as `refresh_token` too.

Who asks without credentials gets a token for the public repositories among those it asks for: clients fetch a token
before they pull, whether or not they have a login.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection

from common.errors import Unauthenticated
from control_plane.registry.collaborators import IssuedToken, PasswordAuthenticator, RegistryTokens
from control_plane.registry.failures import RequestInvalid
from control_plane.registry.rights import Rights
from control_plane.registry.scopes import PULL, parse_blobs, parse_scopes, show_scopes
from control_plane.registry.uploads import UploadService
from control_plane.registry.v2 import Options
from control_plane.registry.v2.exchange import Exchange
from control_plane.registry.v2.gate import Gate
from control_plane.tenants.access import Principal, RepositoryScope
from control_plane.web.addresses import client_of

_MAX_FORM = 64 << 10
_MAX_FIELDS = 100


class TokenEndpoints:
    def __init__(
        self,
        gate: Gate,
        passwords: PasswordAuthenticator,
        tokens: RegistryTokens,
        rights: Rights,
        uploads: UploadService,
        options: Options,
    ) -> None:
        self._gate = gate
        self._rights = rights
        self._uploads = uploads
        self._passwords = passwords
        self._tokens = tokens
        self._options = options

    async def get(self, exchange: Exchange, principal: Principal) -> None:
        query = exchange.query
        self._check_service(query.get("service"))
        issued, _ = await self._issue(principal, query.getlist("scope"))
        document = {"token": issued.token, "access_token": issued.token}
        # Only for who showed a password or key now: a short token must not become a long one.
        shown = exchange.headers.get("authorization", "").lower().startswith("basic ")
        if shown and query.get("offline_token", "").lower() == "true":
            document |= await self._opened(principal, query.get("client_id") or query.get("account") or "")
        await _answer(exchange, issued, document)

    async def post(self, exchange: Exchange, _principal: Principal) -> None:
        form = await _form(exchange)
        self._check_service(_one(form, "service"))
        principal = await self._grantee(form, client_of(HTTPConnection(exchange.scope)))
        issued, scopes = await self._issue(principal, form.get("scope", []))
        document = {"access_token": issued.token, "scope": show_scopes(scopes)}
        if _one(form, "access_type") == "offline":
            kept = _one(form, "refresh_token") if _one(form, "grant_type") == "refresh_token" else None
            document |= (
                {"refresh_token": kept} if kept else await self._opened(principal, _one(form, "client_id") or "")
            )
        await _answer(exchange, issued, document)

    async def _opened(self, principal: Principal, client: str) -> dict[str, str]:
        opened = await self._tokens.open_login(principal, client)
        return {} if opened is None else {"refresh_token": opened}

    async def _grantee(self, form: dict[str, list[str]], client: str) -> Principal:
        match _one(form, "grant_type"):
            case "password":
                return await self._passwords.authenticate_basic(
                    _one(form, "username") or "", _one(form, "password") or "", client
                )
            case "refresh_token":
                found = await self._tokens.resume_login(_one(form, "refresh_token") or "")
                if found is not None:
                    return found
                return await self._gate.authenticate(f"Bearer {_one(form, 'refresh_token') or ''}", client)
        raise RequestInvalid("the grant type is not known", action="use grant_type password or refresh_token")

    async def _issue(self, principal: Principal, asked: list[str]) -> tuple[IssuedToken, tuple[RepositoryScope, ...]]:
        """Somebody without credentials gets a token for what everybody may pull, if it asks for some of that."""
        scopes = await self._rights.grant(principal, parse_scopes((*asked, *await self._sources(principal, asked))))
        if principal.anonymous and not scopes:
            raise Unauthenticated("a token needs credentials", action="log in, for example with `docker login`")
        return await self._tokens.issue(principal, self._options.service, scopes), scopes

    async def _sources(self, principal: Principal, asked: list[str]) -> list[str]:
        """Where to mount from, for whom has a login: nobody else can push."""
        blobs = () if principal.anonymous else parse_blobs(asked)
        names = [await self._uploads.source_of(principal, digest) for digest in blobs]
        return [show_scopes([RepositoryScope(name, frozenset({PULL}))]) for name in names if name is not None]

    def _check_service(self, service: str | None) -> None:
        if service is not None and service != self._options.service:
            raise RequestInvalid(
                f"this is not the service {service[:80]!r}", action=f"ask for service={self._options.service}"
            )


async def _form(exchange: Exchange) -> dict[str, list[str]]:
    body = await exchange.body(_MAX_FORM)
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise RequestInvalid("the form is malformed", action="send application/x-www-form-urlencoded") from error


def _one(form: dict[str, list[str]], name: str) -> str | None:
    values = form.get(name)
    return values[0] if values else None


async def _answer(exchange: Exchange, issued: IssuedToken, document: dict[str, Any]) -> None:
    document |= {
        "expires_in": issued.expires_in,
        "issued_at": issued.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    await exchange.answer_json(document, {"Cache-Control": "no-store"})
