"""Access tokens: JWT (RFC 7519) signed with RS256, checked without SQL; and the signing and reading of any token here.

Invariant: only a token that we signed with a key that still verifies, for the audience it is shown to, is read at all
(RFC 8725: the algorithm is ours to say, key material in a token's header is never looked at). What it says of roles is
for other readers; ours ask the user's standing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import jwt

from common.clock import Clock
from common.errors import Unauthenticated
from control_plane.tenants.access import Permission, Role, permissions_of
from control_plane.tenants.model import AccessToken, Standing, TenantSettings
from control_plane.tenants.signing_keys import SigningKeys

_ALGORITHM = "RS256"
# Ours are about 1 KB; servers refuse headers beyond 8 to 64 KB.
_MAX_TOKEN_LENGTH = 16_384
# Verifying a signature takes 66 us and finding a token that was verified before less than one.
_REMEMBERED = 4096
# Somebody in very many tenants still gets a token that fits into a header.
_MAX_ROLES = 64


class TokenInvalid(Unauthenticated):
    code = "token_invalid"


class TokenExpired(Unauthenticated):
    code = "token_expired"


class TokenCodec:
    """Signs and reads; knows nothing of what the claims mean."""

    def __init__(self, keys: SigningKeys, clock: Clock, issuer: str) -> None:
        self._keys = keys
        self._clock = clock
        self._issuer = issuer

    async def sign(self, audience: str, claims: Mapping[str, Any]) -> str:
        key = await self._keys.signing()
        return jwt.encode(
            {"iss": self._issuer, "aud": audience, **claims}, key.private, _ALGORITHM, headers={"kid": key.id}
        )

    async def read(self, token: str, audience: str, late: timedelta = timedelta(0)) -> dict[str, Any]:
        """`late`: for how long after its end a token is still read. Raises `TokenInvalid`, `TokenExpired`."""
        if len(token) > _MAX_TOKEN_LENGTH:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
            key = await self._keys.find(str(header.get("kid", "")))
            if key is None or header.get("alg") != _ALGORITHM:
                raise _invalid()
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=audience,
                issuer=self._issuer,
                # The clock is ours, not the library's: expiry is checked below.
                options={
                    "require": ["exp", "iat", "jti", "sub"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            expires_at = moment_of(claims["exp"], self._clock)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise _invalid() from error
        check_not_expired(expires_at, self._clock, late)
        return claims


class AccessTokens:
    """Issues and reads access tokens; remembers those it has verified."""

    def __init__(self, codec: TokenCodec, clock: Clock, settings: TenantSettings) -> None:
        self._codec = codec
        self._clock = clock
        self._settings = settings
        self._verified: OrderedDict[str, AccessToken] = OrderedDict()

    async def issue(self, token_id: str, standing: Standing, issued_at: datetime, expires_at: datetime) -> str:
        return await self._codec.sign(
            self._settings.audience,
            {
                "sub": standing.user_id,
                "jti": token_id,
                "iat": int(issued_at.timestamp()),
                "exp": int(expires_at.timestamp()),
                "gen": standing.token_generation,
                "name": standing.name,
                "roles": _roles(standing),
                "permissions": _permissions(standing),
            },
        )

    async def read(self, token: str) -> AccessToken:
        """Raises `TokenInvalid`, `TokenExpired`."""
        known = self._verified.get(token)
        if known is not None:
            check_not_expired(known.expires_at, self._clock)
            return known
        claims = await self._codec.read(token, self._settings.audience)
        if not isinstance(claims.get("gen"), int):
            raise _invalid()
        found = AccessToken(
            id=str(claims["jti"]),
            user_id=str(claims["sub"]),
            generation=claims["gen"],
            expires_at=moment_of(claims["exp"], self._clock),
        )
        self._verified[token] = found
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return found


def check_not_expired(expires_at: datetime, clock: Clock, late: timedelta = timedelta(0)) -> None:
    if clock.now() - late >= expires_at:
        raise TokenExpired(
            f"the token expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}", action="refresh it, or log in again"
        )


def _roles(standing: Standing) -> list[str]:
    held = [f"{tenant}:{role.value}" for tenant, role in sorted(standing.roles.items())[:_MAX_ROLES]]
    return ["platform:admin", *held] if standing.platform_admin else held


def _permissions(standing: Standing) -> list[str]:
    # What is allowed in at least one place; where exactly is in `roles`.
    if standing.platform_admin:
        return sorted(permission.value for permission in Permission)
    roles: set[Role] = set(standing.roles.values())
    granted = {permission for role in roles for permission in permissions_of(role)} | {Permission.PLATFORM_READ}
    return sorted(permission.value for permission in granted)


def moment_of(seconds: object, clock: Clock) -> datetime:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError("a NumericDate is a number")
    return datetime.fromtimestamp(seconds, tz=clock.now().tzinfo)


def _invalid() -> TokenInvalid:
    return TokenInvalid("the token is not genuine", action="log in again")
