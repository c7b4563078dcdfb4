"""The one way out: every HTTP request of the control plane to an address that a user named goes through `Outbound`.

Invariant: a connection is made only to an address that `AddressPolicy` permits, whatever the URL, its redirects and
the DNS say. A name is resolved once and the connection goes to just that answer; the socket itself is made by us and
asks the policy again, so that neither a literal nor a second answer of the DNS (rebinding) gets past.

Redirects are followed here, not by aiohttp: at most `MAX_HOPS`, only for GET and HEAD, each checked like a first URL,
never from https to http; headers named in `secrets` stay at the origin they were meant for. No cookies, no proxies of
the environment, no decompression (bytes are named by digest). Plain HTTP only to networks that the operator allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from common.errors import Failure, Unavailable
from control_plane.web.outbound_addresses import AddressPolicy, AddressRefused, UrlInvalid, check_url

MAX_HOPS = 5
Origin = tuple[str, str | None, int | None]
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DNS_SECONDS = 5.0
_CONNECT_SECONDS = 10.0
# Most bytes that one read hands out: a stream of a fast peer arrives in pieces of up to twice this.
_READ_BYTES = 512 << 10
_PORTS = {"http": 80, "https": 443}
_UNSET: Final = aiohttp.ClientTimeout(total=None, connect=60.0, sock_connect=_CONNECT_SECONDS, sock_read=30.0)


class TargetAway(Unavailable):
    """The other side does not answer, or not in time, or breaks off."""

    code = "target_away"


class RedirectRefused(Unavailable):
    """The other side sends us where we do not go."""

    code = "redirect_refused"


class _CheckedResolver(AbstractResolver):
    """One name with one forbidden address is refused whole: which one is tried first must not matter."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_DNS_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results = []
        for kind, _, protocol, _, address in found:
            if kind not in (socket.AF_INET, socket.AF_INET6):
                continue
            self._policy.check(str(address[0]), host)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not results:
            raise OSError(f"{host} has no address")
        return results

    async def close(self) -> None: ...


class Outbound:
    """`limit` bounds connections, in all and to one host. Sessions are made at first use and ended by `close`."""

    def __init__(self, policy: AddressPolicy, *, limit: int = 200, limit_per_host: int = 64) -> None:
        self._policy = policy
        self._limits = (limit, limit_per_host)
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def check(self, url: str) -> SplitResult:
        """What can be said of a URL before it is asked, for whoever stores one. Raises `UrlInvalid`,
        `AddressRefused`.
        """
        return check_url(url, self._policy)

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        data: Any = None,
        tls: ssl.SSLContext | None = None,
        timeout: aiohttp.ClientTimeout = _UNSET,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whatever its status; its body is not read yet. `secrets` are headers for this origin only.
        `tls`: trust beside the system's.

        Raises `UrlInvalid`, `AddressRefused`, `RedirectRefused`, `TargetAway`; the last one also while the body is
        read inside of the block.
        """
        sent = {**(headers or {}), **(secrets or {})}
        host = ""
        try:
            for _ in range(MAX_HOPS + 1):
                parts = self.check(url)
                host = parts.netloc
                asking = self._session(parts.scheme).request(
                    method,
                    URL(url, encoded=True),
                    headers=sent,
                    data=data,
                    ssl=tls or True,
                    timeout=timeout,
                    allow_redirects=False,
                )
                async with asking as answer:
                    target = _redirect_of(method, url, answer)
                    if target is None:
                        yield answer
                        return
                if self._next_origin(host, target) != _origin(parts):
                    sent = dict(headers or {})
                url = target
            raise RedirectRefused(f"{host} redirects more than {MAX_HOPS} times", action="check the address")
        except Failure:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(host, error) from error

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _next_origin(self, host: str, target: str) -> Origin:
        try:
            return _origin(self.check(target))
        except UrlInvalid as failure:
            raise RedirectRefused(f"{host} redirects astray: {failure.detail}", action="check the address") from None

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        session = self._sessions.get(scheme)
        if session is None:
            session = self._sessions[scheme] = self._opened(
                self._policy if scheme == "https" else self._policy.only_allowed
            )
        return session

    def _opened(self, policy: AddressPolicy) -> aiohttp.ClientSession:
        def made(info: tuple[Any, ...]) -> socket.socket:
            family, kind, protocol, _, address = info
            policy.check(str(address[0]), "the host")
            return socket.socket(family, kind, protocol)

        limit, per_host = self._limits
        connector = aiohttp.TCPConnector(
            resolver=_CheckedResolver(policy), socket_factory=made, limit=limit, limit_per_host=per_host
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            trust_env=False,
            headers={"User-Agent": "longshore", "Accept-Encoding": "identity"},
        )


def trusting(ca_pem: str | None) -> ssl.SSLContext | None:
    """The system's certificate authorities and this one; None for the system's alone. Raises `UrlInvalid`."""
    if not ca_pem:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise UrlInvalid("the certificate authority is not PEM", action="give the CA's certificate as PEM") from error
    return context


def _redirect_of(method: str, url: str, answer: aiohttp.ClientResponse) -> str | None:
    location = answer.headers.get("Location")
    if answer.status not in _REDIRECTS or location is None:
        return None
    if method not in ("GET", "HEAD"):
        raise RedirectRefused(f"{answer.host} redirects a {method}", action="name the address that it redirects to")
    target = urljoin(url, location)
    if url.startswith("https:") and not target.startswith("https:"):
        raise RedirectRefused(f"{answer.host} redirects to what is not https", action="have its operator mend it")
    return target


def _origin(parts: SplitResult) -> Origin:
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _failure(host: str, error: Exception) -> Failure:
    seen: BaseException | None = error
    while seen is not None:
        # The policy spoke inside of the connector, which wraps what it does not know.
        if isinstance(seen, AddressRefused):
            return seen
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, aiohttp.InvalidURL):
        return UrlInvalid(f"{host} is not a host", action="check the address")
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError):
        return TargetAway(
            f"{host} has no certificate that is trusted here", action="give its certificate authority", host=host
        )
    if isinstance(error, TimeoutError):
        return TargetAway(f"{host} does not answer in time", action="try again later", host=host)
    return TargetAway(
        f"{host} cannot be reached: {type(error).__name__}", action="try again later; check the address", host=host
    )
