"""The centre's content routes as a client: metainfo, and bytes by range.

Invariant: what the centre says is told apart by what can be done about it: `CentreRefused` (this token is worth
nothing), `CentreUnknown` (no such content), `CentreBusy` (come back later), `CentreAway` (unreachable or broken),
`BodyCut` (it began and stopped). Nothing here is verified; the caller does that.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from common import byte_parts
from common.byte_ranges import Span
from common.clock import Clock
from common.content_statement import HEADER as STATEMENT_HEADER
from common.content_statement import ClaimedMetainfo
from common.digest import Digest
from common.errors import Denied, NotFound, Unavailable
from common.swarm_certificate_client import SignerAnswer, send_request

_CONNECT_SECONDS = 10.0
# No byte for this long is a broken line; a slow one still delivers.
_SILENCE_SECONDS = 30.0
# Less than a host waits for us (agent/credentials.py).
_SIGN_SECONDS = 2.0
_CHUNK = 1 << 20
# 16 MiB is the metainfo of a 2 TiB file.
_METAINFO_BYTES = 17 << 20
_DEFAULT_RETRY_SECONDS = 2.0
# aiohttp 3.14 reads from a connection that closed between two reads with a bare RuntimeError("Connection closed.").
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, RuntimeError)


class CentreRefused(Denied):
    code = "centre_refused"


class CentreUnknown(NotFound):
    code = "content_unknown"


class CentreBusy(Unavailable):
    code = "centre_busy"


class CentreAway(Unavailable):
    code = "centre_away"


class BodyCut(Unavailable):
    code = "centre_body_cut"


@dataclass(frozen=True, slots=True)
class CentreBody:
    """`total` is the size of the whole content, as the centre says. `received` counts what came over the line so far,
    also bytes that a broken connection kept from being read.
    """

    span: Span
    total: int
    chunks: AsyncGenerator[bytes, None]
    received: Callable[[], int]


class Centre:
    """`base_url` is replaced when a Welcome names another. `tls` None: the system's trusted authorities."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        self.base_url = base_url
        self._session = session
        self._clock = clock
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)

    async def metainfo(self, digest: Digest, token: str) -> ClaimedMetainfo | None:
        """None: this content has no swarm. Raises `CentreRefused`, `CentreUnknown`, `CentreBusy` or `CentreAway`."""
        async with self._get(f"/content/v1/{digest}/metainfo", token, {}) as response:
            if response.status == 404 and await _problem_code(response) == "not_in_swarm":
                return None
            self._check(response, digest)
            try:
                encoded = await response.content.read(_METAINFO_BYTES)
                while chunk := await response.content.read(_METAINFO_BYTES - len(encoded)):
                    encoded += chunk
            except _BROKEN as error:
                raise _cut(error) from error
            return ClaimedMetainfo(response.headers.get(STATEMENT_HEADER, ""), encoded)

    async def blocks(self, digest: Digest, token: str) -> bytes | None:
        """The block map (common/bittorrent/reuse.py); None: this content has none. Raises as `metainfo`."""
        async with self._get(f"/content/v1/{digest}/blocks", token, {}) as response:
            if response.status == 404:
                return None
            self._check(response, digest)
            encoded = bytearray()
            try:
                while chunk := await response.content.read(_METAINFO_BYTES - len(encoded)):
                    encoded += chunk
            except _BROKEN as error:
                raise _cut(error) from error
            return bytes(encoded)

    async def sign(self, request: bytes) -> SignerAnswer:
        """A certificate request, ours or a host's (common/swarm_certificate.py). Raises `SignerAway`."""
        return await send_request(self._session, self.base_url, self._tls, request, _SIGN_SECONDS)

    @asynccontextmanager
    async def parts(self, digest: Digest, token: str, spans: Sequence[Span]) -> AsyncIterator[CentreBody]:
        """The bytes of the spans, one after the other; as many as common/byte_parts.py allows. Raises as `content`."""
        body = byte_parts.encode(spans)
        async with self._get(f"/content/v1/{digest}/parts", token, {}, body) as response:
            self._check(response, digest)
            given, total = _given_span(response)
            if total != byte_parts.total(spans):
                raise CentreAway(f"the centre sent {total} bytes of parts, not those asked for")
            yield CentreBody(given, total, _chunks(response), lambda: response.content.total_bytes)

    @asynccontextmanager
    async def content(self, digest: Digest, token: str, span: Span | None = None) -> AsyncIterator[CentreBody]:
        """The bytes of `span`, or all. Raises as `metainfo`; iterating `chunks` raises `BodyCut`."""
        headers = {"Range": f"bytes={span.start}-{span.end - 1}"} if span else {}
        async with self._get(f"/content/v1/{digest}", token, headers) as response:
            self._check(response, digest)
            given, total = _given_span(response)
            if span is not None and given != span:
                raise CentreAway(f"the centre sent bytes {given.start}-{given.end} of {total}, not those asked for")
            yield CentreBody(given, total, _chunks(response), lambda: response.content.total_bytes)

    @asynccontextmanager
    async def _get(
        self, path: str, token: str, headers: dict[str, str], posted: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # identity: ranges and byte counts speak of the content itself, not of a compressed form.
        sent = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", **headers}
        url = self.base_url.rstrip("/") + path
        try:
            response = await self._session.request(
                "GET" if posted is None else "POST",
                url,
                data=posted,
                headers=sent,
                timeout=self._timeout,
                ssl=self._tls,
                read_bufsize=_CHUNK,
            )
        except _BROKEN as error:
            raise CentreAway(
                f"the centre does not answer: {_reason(error)}",
                action="check the line to the centre; the regional tries again by itself",
                retry_after_seconds=_DEFAULT_RETRY_SECONDS,
            ) from error
        try:
            yield response
        finally:
            # close, not release: an abandoned body must stop crossing the WAN at once.
            response.close() if not response.content.at_eof() else response.release()

    def _check(self, response: aiohttp.ClientResponse, digest: Digest) -> None:
        status = response.status
        if status in (200, 206):
            return
        if status in (401, 403):
            raise CentreRefused(f"the centre refused the token for {digest}", action="attach again for a new one")
        if status == 404:
            raise CentreUnknown(f"the centre has no content {digest}", action="push it again")
        delay = self._retry_after(response.headers.get("Retry-After"))
        if status in (429, 503):
            raise CentreBusy(f"the centre is busy ({status})", action="wait", retry_after_seconds=delay)
        raise CentreAway(f"the centre answered {status} for {digest}", retry_after_seconds=delay)

    def _retry_after(self, header: str | None) -> float:
        """Seconds, at most an hour; both forms of RFC 9110 section 10.2.3."""
        if header is None:
            return _DEFAULT_RETRY_SECONDS
        if header.isascii() and header.isdigit() and len(header) < 9:
            return float(min(int(header), 3600))
        try:
            wait = (parsedate_to_datetime(header) - self._clock.now()).total_seconds()
        except (ValueError, TypeError):
            return _DEFAULT_RETRY_SECONDS
        return min(max(wait, 0.0), 3600.0)


async def _chunks(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            yield chunk
    except _BROKEN as error:
        raise _cut(error) from error


async def _problem_code(response: aiohttp.ClientResponse) -> str:
    try:
        body = await response.json(content_type=None)
    except (*_BROKEN, ValueError):
        return ""
    return str(body.get("code", "")) if isinstance(body, dict) else ""


def _given_span(response: aiohttp.ClientResponse) -> tuple[Span, int]:
    """Raises `CentreAway` for answers without a length: they could not be told from cut ones."""
    try:
        if response.status == 206:
            positions, _, total = response.headers["Content-Range"].removeprefix("bytes ").partition("/")
            first, _, last = positions.partition("-")
            return Span(int(first), int(last) + 1), int(total)
        length = int(response.headers["Content-Length"])
        return Span(0, length), length
    except (KeyError, ValueError):
        raise CentreAway("the centre's answer does not say which bytes it holds") from None


def _cut(error: Exception) -> BodyCut:
    return BodyCut(
        f"the centre's answer broke off: {_reason(error)}", action="it is fetched again", retry_after_seconds=1
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
