"""Tokens of the Docker registry protocol (distribution: spec/auth/jwt): fifteen minutes, for the repositories that were
asked for and allowed.

Invariant: a token carries at most what its principal may when it is made, and counts for at most what its user may when
it is shown; so neither a limited API key nor a lost role is got around by asking for a token. The audience is the
registry's name: these tokens open nothing else, and access tokens do not open the registry as one of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from common.clock import Clock
from common.errors import Invalid
from common.identifiers import new_id
from control_plane.tenants.access import ACTIONS, Principal, RepositoryScope, Role, lesser
from control_plane.tenants.model import RegistryToken, Standing, TenantSettings
from control_plane.tenants.standings import Standings
from control_plane.tenants.tokens import TokenCodec, TokenInvalid


class ServiceUnknown(Invalid):
    code = "service_unknown"


class IssuedToken(NamedTuple):
    """The fields of the token endpoint's answer."""

    token: str
    expires_in: int
    issued_at: datetime


class RegistryTokens:
    def __init__(self, codec: TokenCodec, clock: Clock, standings: Standings, settings: TenantSettings) -> None:
        self._codec = codec
        self._clock = clock
        self._standings = standings
        self._settings = settings

    @property
    def service(self) -> str:
        """The name that `WWW-Authenticate: Bearer ... service=` gives, and the audience."""
        return self._settings.registry_service

    async def issue(self, principal: Principal, service: str, scopes: Sequence[RepositoryScope]) -> IssuedToken:
        """For as much of `scopes` as the principal may; what it may not is left out, as the protocol wants it.

        Raises `ServiceUnknown`.
        """
        if service != self.service:
            raise ServiceUnknown(f"{service[:80]!r} is not this registry", action=f"ask for service {self.service}")
        standing = await self._standings.get(principal.user_id) if principal.user_id is not None else None
        granted = [scope for scope in (allowed(principal, wanted) for wanted in scopes) if scope.actions]
        now = self._clock.now()
        lifetime = int(self._settings.registry_lifetime.total_seconds())
        roles = {scope.tenant: principal.role_in(scope.tenant) for scope in granted}
        claims = {
            "sub": principal.user_id or "",
            "name": principal.name,
            "jti": new_id(self._clock),
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(now.timestamp()) + lifetime,
            "gen": standing.token_generation if standing is not None else 0,
            "adm": principal.platform_admin,
            "roles": {tenant: role.value for tenant, role in roles.items() if role is not None},
            "access": [
                {"type": "repository", "name": scope.repository, "actions": sorted(scope.actions)} for scope in granted
            ],
        }
        return IssuedToken(await self._codec.sign(service, claims), lifetime, now)

    async def verify(self, token: str) -> Principal:
        """The principal, limited to the token's scopes. Raises `TokenInvalid`, `TokenExpired`."""
        found = _parse(await self._codec.read(token, self.service))
        if found.user_id is None:
            return Principal(scopes=found.scopes, limited=True)
        standing = await self._standings.get(found.user_id)
        if standing is None or standing.disabled or standing.token_generation != found.generation:
            raise _invalid()
        return Principal(
            standing.user_id,
            standing.name,
            standing.platform_admin and found.platform_admin,
            _roles(standing, found.roles),
            found.scopes,
            limited=True,
        )


def allowed(principal: Principal, wanted: RepositoryScope) -> RepositoryScope:
    """`wanted` with the actions that the principal may; pure. `*` becomes the actions that it stands for."""
    asked = set(ACTIONS) if "*" in wanted.actions else wanted.actions
    return RepositoryScope(
        wanted.repository,
        frozenset(
            action
            for action in asked
            if (needed := ACTIONS.get(action)) is not None and principal.may_on(needed, wanted.repository)
        ),
    )


def _roles(standing: Standing, caps: Mapping[str, Role]) -> dict[str, Role]:
    own = {tenant: Role.ADMIN if standing.platform_admin else standing.roles.get(tenant) for tenant in caps}
    return {tenant: lesser(role, caps[tenant]) for tenant, role in own.items() if role is not None}


def _parse(claims: Mapping[str, Any]) -> RegistryToken:
    try:
        scopes = tuple(
            RepositoryScope(str(entry["name"]), frozenset(map(str, entry["actions"])))
            for entry in claims["access"]
            if entry["type"] == "repository"
        )
        return RegistryToken(
            user_id=claims["sub"] or None,
            generation=int(claims["gen"]),
            platform_admin=claims["adm"] is True,
            roles={str(tenant): Role(role) for tenant, role in claims["roles"].items()},
            scopes=scopes,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _invalid() from error


def _invalid() -> TokenInvalid:
    return TokenInvalid("the registry token is not valid", action="ask the token endpoint for another one")
