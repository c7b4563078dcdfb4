"""Who asks, and where to get a token (distribution: docs/content/spec/auth/token.md).

Invariant: credentials that are shown and not genuine are refused, never treated as nobody's; passwords are never taken:
the challenge sends clients with them to the token service.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from aiohttp import web

from common.errors import Failure, Unauthenticated
from regional.v2.tokens import KeyUnknown, RegistryClaim, RegistryTokenInvalid, RegistryVerifier, ScopeInsufficient
from regional.v2.trust import Trust

_HOST = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,255}")


@dataclass(frozen=True, slots=True)
class Asker:
    """`claim` None: nobody in particular. `token` is what is shown to the centre."""

    token: str = ""
    claim: RegistryClaim | None = None

    def require(self, repository: str) -> None:
        """Raises `ScopeInsufficient`. Nobody in particular passes: what is public only the centre tells."""
        if self.claim is not None:
            self.claim.require(repository)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Gate:
    """`own_logins`: clients get their tokens through us, not from the centre itself."""

    def __init__(self, verifier: RegistryVerifier, trust: Trust, *, own_logins: bool) -> None:
        self._verifier = verifier
        self._trust = trust
        self.own_logins = own_logins

    async def asker(self, request: web.Request) -> Asker:
        """Raises `RegistryTokenInvalid`."""
        header = request.headers.get("Authorization")
        if header is None:
            return Asker()
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise RegistryTokenInvalid("an edge takes registry tokens only", action="log in at the token service")
        try:
            return Asker(token, self._verifier.verify(token))
        except KeyUnknown:
            with contextlib.suppress(Failure, OSError):
                await self._trust.refresh()
            return Asker(token, self._verifier.verify(token))

    def challenge(self, request: web.Request, repository: str, failure: Unauthenticated | None) -> str:
        parts = [f'realm="{self._realm(request)}"', f'service="{self._trust.service}"']
        if repository:
            parts.append(f'scope="repository:{repository}:pull"')
        if isinstance(failure, ScopeInsufficient):
            parts.append('error="insufficient_scope"')
        elif "Authorization" in request.headers:
            parts.append('error="invalid_token"')
        return "Bearer " + ",".join(parts)

    def _realm(self, request: web.Request) -> str:
        if not self.own_logins:
            return self._trust.realm
        host = request.headers.get("Host", "")
        return f"{request.scheme}://{host if _HOST.fullmatch(host) else 'localhost'}/v2/token"
