"""Bearer tokens of one registry: asked for once a scope, kept while they are good."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from urllib.parse import urlencode

import aiohttp

from common.clock import Clock
from control_plane.registry.remote.bodies import read_body
from control_plane.registry.remote.challenges import Challenge, trusted_realm
from control_plane.registry.remote.failures import RemoteAway, RemoteBusy, RemoteDenied, RemoteUntrue
from control_plane.registry.remote.model import Endpoint, Patience
from control_plane.web.outbound import Outbound

_MAX_TOKENS = 256
_MAX_BYTES = 256 << 10
# The token specification: "if omitted, this defaults to 60 seconds"; ours end a little before theirs do.
_DEFAULT_SECONDS = 60.0
_EARLY_SECONDS = 5.0
_LONGEST_SECONDS = 3600.0


class Tokens:
    """`authorization` gives what is at hand, `answer` does what a challenge asks."""

    def __init__(
        self, outbound: Outbound, endpoint: Endpoint, clock: Clock, tls: ssl.SSLContext | None, patience: Patience
    ) -> None:
        self._outbound = outbound
        self._endpoint = endpoint
        self._clock = clock
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=patience.request_seconds, sock_connect=10)
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._asks_basic = False
        self._asking = asyncio.Lock()

    def authorization(self, scope: str) -> str | None:
        """The `Authorization` header for a scope, if there is one at hand."""
        if self._asks_basic:
            return self._basic()
        kept = self._kept.get(scope)
        if kept is None or kept[1] <= self._clock.monotonic():
            return None
        return f"Bearer {kept[0]}"

    async def answer(self, challenges: tuple[Challenge, ...], scope: str, refused: str | None) -> str:
        """A header that the challenge asks for. `refused` is the one it was the answer to.

        Raises `RemoteDenied`, `RemoteAway`, `RemoteBusy`, `RemoteUntrue` and what `Outbound.request` does.
        """
        by_scheme = {each.scheme: each.parameters for each in reversed(challenges)}
        if "bearer" in by_scheme:
            async with self._asking:
                # Many requests are refused at once when a token ends: the first of them gets the next one for all.
                current = self.authorization(scope)
                if current is not None and current != refused:
                    return current
                return f"Bearer {await self._fetch(by_scheme['bearer'], scope)}"
        if "basic" in by_scheme and self._endpoint.has_credentials and refused != self._basic():
            self._asks_basic = True
            return self._basic()
        raise self._denied(
            "it refuses our credentials" if self._endpoint.has_credentials else "it asks for credentials"
        )

    async def _fetch(self, parameters: Mapping[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        if not trusted_realm(realm, self._endpoint.url, self._endpoint.auth_hosts):
            raise RemoteDenied(
                f"{self._endpoint.host} sends us to {realm[:120]!r} for a token, which is not known to belong to it",
                action="if it does, name its host among the token services (auth hosts)",
                registry=self._endpoint.host,
            )
        asked = [("scope", each) for each in (scope or parameters.get("scope", "")).split()]
        if "service" in parameters:
            asked.insert(0, ("service", parameters["service"]))
        url = realm + ("&" if "?" in realm else "?") + urlencode(asked)
        secrets = {"Authorization": self._basic()} if self._endpoint.has_credentials else {}
        async with self._outbound.request("GET", url, secrets=secrets, tls=self._tls, timeout=self._timeout) as answer:
            self._check(answer.status)
            body = await read_body(answer, _MAX_BYTES, self._endpoint.host)
        token, seconds = self._parse(body)
        self._kept[scope] = (token, self._clock.monotonic() + seconds)
        while len(self._kept) > _MAX_TOKENS:
            self._kept.popitem(last=False)
        return token

    def _check(self, status: int) -> None:
        if status == 200:
            return
        if status == 429:
            raise RemoteBusy(f"the token service of {self._endpoint.host} is asked too often", action="try again later")
        if status >= 500:
            raise RemoteAway(f"the token service of {self._endpoint.host} answers {status}", action="try again later")
        raise self._denied(f"its token service answers {status}")

    def _parse(self, body: bytes) -> tuple[str, float]:
        try:
            document = json.loads(body)
            token = document.get("token") or document.get("access_token")
            seconds = float(document.get("expires_in") or _DEFAULT_SECONDS)
        except (ValueError, TypeError, AttributeError, RecursionError):
            token, seconds = None, 0.0
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or seconds != seconds:
            raise RemoteUntrue(
                f"the token service of {self._endpoint.host} does not send a token", action="check its address"
            )
        return token, max(0.0, min(seconds, _LONGEST_SECONDS) - _EARLY_SECONDS)

    def _basic(self) -> str:
        pair = f"{self._endpoint.username}:{self._endpoint.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def _denied(self, why: str) -> RemoteDenied:
        return RemoteDenied(
            f"{self._endpoint.host} does not let us in: {why}",
            action="check the user name and the password or token for this registry",
            registry=self._endpoint.host,
        )
