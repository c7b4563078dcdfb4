"""The centre's registry tokens, checked here with the public keys it last gave; no network.

Invariant: only a token that the centre signed with RS256, for its registry, and that has not ended, opens anything, and
only the repositories that it names for pulling. The centre asks a token's owner again each time; an edge cannot, so
what was taken from somebody is gone here when the token ends: after fifteen minutes at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt

from common.clock import Clock
from common.errors import Unauthenticated

_ALGORITHM = "RS256"
_MAX_LENGTH = 16_384
# Verifying a signature takes 66 us and finding a token that was verified before less than one.
_REMEMBERED = 4096
# The centre counts to the second; clocks in an IDC differ by more only if they are wrong.
_LEEWAY_SECONDS = 5.0


class RegistryTokenInvalid(Unauthenticated):
    code = "registry_token_invalid"


class RegistryTokenExpired(RegistryTokenInvalid):
    code = "registry_token_expired"


class ScopeInsufficient(Unauthenticated):
    """A genuine token for other repositories. 401, not 403: the client is to fetch another one."""

    code = "scope_insufficient"


class KeyUnknown(RegistryTokenInvalid):
    """Perhaps the centre rotated its keys."""

    code = "registry_key_unknown"


@dataclass(frozen=True, slots=True)
class RegistryClaim:
    """`pulls`: the repositories that it opens."""

    pulls: frozenset[str]
    expires_at: datetime

    def require(self, repository: str) -> None:
        """Raises `ScopeInsufficient`."""
        if repository not in self.pulls:
            raise ScopeInsufficient(
                f"the token is not for pulling {repository}"[:300], action="ask for a token with this scope"
            )


class RegistryVerifier:
    """Before the first `trust` nothing is genuine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._audience = ""
        self._known: OrderedDict[str, RegistryClaim] = OrderedDict()

    def trust(self, jwks: Mapping[str, Any], audience: str) -> None:
        """Verify with these keys (RFC 7517) and nothing else from now on; keys of another kind are left out."""
        keys: dict[str, Any] = {}
        for entry in jwks.get("keys", ()):
            try:
                if entry.get("kty") == "RSA" and entry.get("alg", _ALGORITHM) == _ALGORITHM:
                    keys[str(entry["kid"])] = jwt.PyJWK(entry, _ALGORITHM).key
            except (jwt.PyJWTError, ValueError, KeyError, TypeError, AttributeError):
                continue
        if keys.keys() != self._keys.keys() or audience != self._audience:
            self._known.clear()
        self._keys, self._audience = keys, audience

    def verify(self, token: str) -> RegistryClaim:
        """Raises `RegistryTokenInvalid`; `KeyUnknown` and `RegistryTokenExpired` are such."""
        claim = self._known.get(token)
        if claim is None:
            claim = self._known[token] = self._read(token)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if self._clock.now().timestamp() >= claim.expires_at.timestamp() + _LEEWAY_SECONDS:
            raise RegistryTokenExpired("the registry token expired", action="ask the token service for another one")
        return claim

    def _read(self, token: str) -> RegistryClaim:
        if len(token) > _MAX_LENGTH:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != _ALGORITHM:
                raise _invalid()
            key = self._keys.get(str(header.get("kid", "")))
            if key is None:
                raise KeyUnknown(
                    "the registry token was signed by an unknown key", action="ask the token service for another one"
                )
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                # The clock is ours, not the library's: expiry is checked above.
                options={"require": ["exp", "sub", "aud"], "verify_exp": False, "verify_iat": False},
            )
            expires_at = datetime.fromtimestamp(int(claims["exp"]), tz=self._clock.now().tzinfo)
            return RegistryClaim(_pulls(claims.get("access", ())), expires_at)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise _invalid() from error


def _pulls(entries: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(
        str(entry["name"]) for entry in entries if entry["type"] == "repository" and "pull" in entry["actions"]
    )


def _invalid() -> RegistryTokenInvalid:
    return RegistryTokenInvalid(
        "the registry token is not genuine", action="ask the token service for a registry token"
    )
