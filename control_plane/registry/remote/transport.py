"""One request to a registry: authenticated as it asks, tried again where that may help, its failures in our words."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from urllib.parse import urljoin, urlsplit

import aiohttp

from common.backoff import Backoff
from common.clock import Clock
from common.errors import Failure, RateLimited, Unavailable
from control_plane.registry.remote.bodies import message_of, retry_after
from control_plane.registry.remote.challenges import parse_challenges
from control_plane.registry.remote.failures import (
    RemoteAway,
    RemoteBusy,
    RemoteDenied,
    RemoteMissing,
    RemoteRejected,
    RemoteUntrue,
)
from control_plane.registry.remote.model import Endpoint, Patience
from control_plane.registry.remote.tokens import Tokens
from control_plane.web.outbound import Outbound, trusting

_ERROR_BYTES = 4096
Answer = aiohttp.ClientResponse


class Transport:
    """Raises `UrlInvalid` for a CA that is none."""

    def __init__(
        self, outbound: Outbound, endpoint: Endpoint, clock: Clock, random: Callable[[], float], patience: Patience
    ) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self.clock = clock
        self.random = random
        self._outbound = outbound
        self._tls = trusting(endpoint.ca_pem)
        self._tokens = Tokens(outbound, endpoint, clock, self._tls, patience)

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        scope: str,
        expected: Collection[int] = (200,),
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        open_data: Callable[[], AsyncIterator[bytes]] | None = None,
        endless: bool = False,
        tries: int | None = None,
    ) -> AsyncIterator[Answer]:
        """An answer with one of the `expected` statuses. `path` begins with `/v2/`, or is a URL that the registry gave.
        `open_data`: a body that streams; then only a 401 is tried again. `endless`: bounded by idling alone.

        Raises the failures of this package and those of `Outbound.request`.
        """
        url = self.url_of(path)
        timeout = aiohttp.ClientTimeout(
            total=None if endless or open_data else self.patience.request_seconds,
            # With the wait for a free connection.
            connect=self.patience.request_seconds,
            sock_connect=10,
            sock_read=self.patience.idle_seconds,
        )

        async def attempt(stack: contextlib.AsyncExitStack) -> Answer:
            authorization = self._tokens.authorization(scope)
            for _ in range(2):
                request = self._outbound.request(
                    method,
                    url,
                    headers=headers,
                    secrets={"Authorization": authorization} if authorization else {},
                    data=open_data() if open_data is not None else data,
                    tls=self._tls,
                    timeout=timeout,
                )
                inner = await stack.enter_async_context(contextlib.AsyncExitStack())
                answer = await inner.enter_async_context(request)
                if answer.status != 401 or not self._is_ours(str(answer.url)):
                    break
                challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", []))
                await inner.aclose()
                authorization = await self._tokens.answer(challenges, scope, authorization)
            if answer.status not in expected:
                raise await self._failure(answer, method)
            return answer

        async with contextlib.AsyncExitStack() as stack:
            yield await self._persistent(stack, attempt, 1 if open_data else tries or self.patience.tries)

    def url_of(self, path: str) -> str:
        """Of a path, or of a `Location` that the registry answered with: it must stay at the registry."""
        url = urljoin(self.endpoint.url + "/", path)
        if not self._is_ours(url) and self.endpoint.url.startswith("https:"):
            # Behind a proxy that ends TLS, registries name themselves by http.
            url = url.replace("http://", "https://", 1)
        if not self._is_ours(url):
            raise RemoteUntrue(
                f"{self.endpoint.host} sends us to another server: {urlsplit(url).netloc[:120]}",
                action="have its operator state its public address",
                registry=self.endpoint.host,
            )
        return url

    def _is_ours(self, url: str) -> bool:
        here, there = urlsplit(self.endpoint.url), urlsplit(url)
        return (here.scheme, here.netloc.lower()) == (there.scheme, there.netloc.lower())

    async def _persistent(
        self,
        stack: contextlib.AsyncExitStack,
        attempt: Callable[[contextlib.AsyncExitStack], Awaitable[Answer]],
        tries: int,
    ) -> Answer:
        backoff = Backoff(self.random, self.patience.first_wait_seconds, self.patience.longest_wait_seconds)
        for left in range(tries - 1, -1, -1):
            async with contextlib.AsyncExitStack() as trying:
                try:
                    answer = await attempt(trying)
                except (Unavailable, RateLimited) as failure:
                    wait = self._wait(failure, backoff)
                    if left == 0 or wait is None:
                        raise
                else:
                    await stack.enter_async_context(trying.pop_all())
                    return answer
            await self.clock.sleep(wait)
        raise AssertionError("tries is at least 1")

    def _wait(self, failure: Unavailable | RateLimited, backoff: Backoff) -> float | None:
        """How long before the next try; None if trying again does not help or takes too long."""
        if isinstance(failure, RemoteUntrue):
            return None
        delay = backoff.next_delay()
        if isinstance(failure, RemoteBusy | RemoteAway):
            delay = max(delay, failure.retry_after_seconds)
        return delay if delay <= self.patience.longest_wait_seconds else None

    async def _failure(self, answer: Answer, method: str) -> Failure:
        status, host = answer.status, self.endpoint.host
        body = await answer.content.read(_ERROR_BYTES) if method != "HEAD" else b""
        said = message_of(body) or f"status {status}"
        if status == 429:
            wait = retry_after(answer.headers.get("Retry-After"), self.clock)
            return RemoteBusy(
                f"{host} is asked too often ({said})",
                action="wait, or use credentials",
                retry_after_seconds=1.0 if wait is None else wait,
            )
        if status >= 500:
            wait = retry_after(answer.headers.get("Retry-After"), self.clock)
            return RemoteAway(f"{host} fails ({said})", action="try again later", retry_after_seconds=wait or 0.0)
        if status in (401, 403):
            return RemoteDenied(
                f"{host} denies it ({said})", action="check the credentials for this registry and their rights"
            )
        if status == 404:
            return RemoteMissing(f"{host} has no such thing ({said})", action="check the repository's name")
        return RemoteRejected(f"{host} refuses a {method} ({said})", action="see what it says", status=status)
