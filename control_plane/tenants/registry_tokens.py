"""Tokens of the Docker registry protocol (distribution: spec/auth/jwt): fifteen minutes, for the repositories that were
asked for and allowed.

Invariant: a token only narrows. It names the credential that asked for it (a user, an API key, a robot's key), and each
time it is shown that credential is asked again: what was taken from it, or ended, is gone for its tokens too, and what
the token was not made for stays closed. The audience is the registry's name: these tokens open nothing else, and access
tokens do not open the registry as one of these.

A token that ended may still be read for a while (`late`) by a caller that finishes what was begun with it; whether its
credential still counts is asked then as ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from common.clock import Clock
from common.errors import Invalid
from common.identifiers import new_id
from control_plane.tenants.access import Principal, RepositoryScope
from control_plane.tenants.model import RegistryToken, TenantSettings
from control_plane.tenants.owners import Owners, Shown
from control_plane.tenants.registry_logins import LOGIN_PREFIX, RegistryLogins
from control_plane.tenants.tokens import TokenCodec, TokenInvalid, check_not_expired, moment_of

# Verifying a signature takes 66 us and finding a token that was verified before less than one.
_REMEMBERED = 4096
# The scope for listing repositories has no repository (Docker: `registry:catalog:*`).
_CATALOG = RepositoryScope("*", frozenset({"catalog"}))
_ON_THE_DOT = timedelta(0)


class ServiceUnknown(Invalid):
    code = "service_unknown"


class IssuedToken(NamedTuple):
    """The fields of the token endpoint's answer."""

    token: str
    expires_in: int
    issued_at: datetime


class RegistryTokens:
    def __init__(
        self,
        codec: TokenCodec,
        clock: Clock,
        owners: Owners,
        logins: RegistryLogins,
        settings: TenantSettings,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._owners = owners
        self._logins = logins
        self._settings = settings
        self._verified: OrderedDict[str, RegistryToken] = OrderedDict()

    @property
    def service(self) -> str:
        """The name that `WWW-Authenticate: Bearer ... service=` gives, and the audience."""
        return self._settings.registry_service

    async def issue(self, principal: Principal, service: str, scopes: Sequence[RepositoryScope]) -> IssuedToken:
        """For `scopes`, which the caller has cut down to what the principal may. Raises `ServiceUnknown`."""
        if service != self.service:
            raise ServiceUnknown(f"{service[:80]!r} is not this registry", action=f"ask for service {self.service}")
        shown = await self._owners.shown_by(principal)
        now = self._clock.now()
        lifetime = int(self._settings.registry_lifetime.total_seconds())
        claims = {
            "sub": shown.user_id,
            "name": principal.name,
            "jti": new_id(self._clock),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(now.timestamp()) + lifetime,
            "gen": shown.generation,
            "key": shown.key_id,
            "robot": shown.robot,
            "access": [_entry(scope) for scope in scopes],
        }
        return IssuedToken(await self._codec.sign(service, claims), lifetime, now)

    async def verify(self, token: str, late: timedelta = _ON_THE_DOT) -> Principal:
        """The principal, limited to the token's scopes; `late` is for how long after its end it still counts.

        Raises `TokenInvalid`, `TokenExpired`, or what its key is refused with.
        """
        found = self._verified.get(token)
        if found is None:
            found = _parse(await self._codec.read(token, self.service, late), self._clock)
            self._verified[token] = found
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        check_not_expired(found.expires_at, self._clock, late)
        return replace(await self._owner(found), scopes=found.scopes, limited=True)

    async def open_login(self, principal: Principal, client: str) -> str | None:
        """`RegistryLogins.open`."""
        return await self._logins.open(principal, client)

    async def resume_login(self, refresh_token: str) -> Principal | None:
        """`RegistryLogins.resume`; None for what is something else by its form."""
        return await self._logins.resume(refresh_token) if refresh_token.startswith(LOGIN_PREFIX) else None

    async def _owner(self, found: RegistryToken) -> Principal:
        shown = Shown(found.user_id or "", found.key_id, found.robot, found.generation)
        principal = await self._owners.principal(shown)
        if principal is None:
            raise _invalid()
        return principal


def _entry(scope: RepositoryScope) -> dict[str, Any]:
    if scope == _CATALOG:
        return {"type": "registry", "name": "catalog", "actions": ["*"]}
    return {"type": "repository", "name": scope.repository, "actions": sorted(scope.actions)}


def _scopes(entries: Sequence[Mapping[str, Any]]) -> Iterator[RepositoryScope]:
    for entry in entries:
        if entry["type"] == "repository":
            yield RepositoryScope(str(entry["name"]), frozenset(map(str, entry["actions"])))
        elif (entry["type"], entry["name"]) == ("registry", "catalog"):
            yield _CATALOG


def _parse(claims: Mapping[str, Any], clock: Clock) -> RegistryToken:
    try:
        return RegistryToken(
            user_id=claims["sub"] or None,
            generation=int(claims["gen"]),
            key_id=claims["key"],
            robot=claims["robot"] is True,
            scopes=tuple(_scopes(claims["access"])),
            expires_at=moment_of(claims["exp"], clock),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _invalid() from error


def _invalid() -> TokenInvalid:
    return TokenInvalid("the registry token is not valid", action="ask the token endpoint for another one")
