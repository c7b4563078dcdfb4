"""The content routes of regionals and of the centre, as a client: metainfo, and bytes by range.

What a source says is told apart by what can be done about it, so that the caller decides by class: `TokenRejected` (a
new full set brings new tokens), `ContentAbsent` (ask another), `SourceFetching` (a regional has it on its way: wait
there instead of crossing the WAN a second time), `SourceBusy` (come back), `SourceAway` and `BodyBroken` (try again or
ask another). Nothing is verified here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import aiohttp

from common import byte_parts
from common.byte_ranges import Span
from common.content_statement import HEADER as STATEMENT_HEADER
from common.content_statement import ClaimedMetainfo
from common.digest import Digest
from common.effort import EFFORT_HEADER, LOWER_EFFORT
from common.errors import NotFound, Unauthenticated, Unavailable
from common.spreading.exchange import (
    MAXIMUM_BODY_BYTES,
    Grant,
    LeaseQuestionInvalid,
    Question,
    decode_grant,
    encode_question,
)

_CONNECT_SECONDS = 5.0
# A regional lets a reader wait 30 s for bytes on their way (regional/reader.py) before it says so; silence for longer
# than that is a broken line.
_SILENCE_SECONDS = 45.0
_CHUNK = 1 << 20
# 16 MiB is the metainfo of a 2 TiB file.
_METAINFO_BYTES = 17 << 20
# aiohttp 3.14 reads from a connection that closed between two reads with a bare RuntimeError("Connection closed.").
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, RuntimeError)
_ACCUSED_BYTES = 4096
_DEFAULT_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 10.0


class TokenRejected(Unauthenticated):
    code = "content_token_rejected"


class ContentAbsent(NotFound):
    code = "content_absent"


class SourceAway(Unavailable):
    code = "source_away"


class BodyBroken(Unavailable):
    code = "source_body_broken"


class SourceBusy(Unavailable):
    code = "source_busy"


class SourceFetching(SourceBusy):
    code = "source_fetching"


@dataclass(frozen=True, slots=True)
class Source:
    kind: Literal["regional", "centre"]
    base_url: str

    def __str__(self) -> str:
        return f"the {self.kind} {self.base_url}"


class Trust(Protocol):
    """TLS contexts of the present identity; asked anew for each request, because certificates are renewed."""

    def regional(self) -> ssl.SSLContext: ...

    def centre(self) -> ssl.SSLContext: ...


Pace = Callable[[int], Awaitable[None]]


async def at_once(_amount: int) -> None:
    """Nothing is limited."""


class ContentHttp:
    """`pace` is waited for with the size of every chunk; `lower`: whether the effort is lower now, which a regional is
    told.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        trust: Trust,
        *,
        pace: Pace = at_once,
        lower: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session = session
        self._trust = trust
        self._pace = pace
        self._lower = lower
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)

    def paced(self, pace: Pace, lower: Callable[[], bool]) -> ContentHttp:
        """The same routes for one transfer that waits for its turn."""
        return ContentHttp(self._session, self._trust, pace=pace, lower=lower)

    async def metainfo(self, source: Source, digest: Digest, token: str) -> ClaimedMetainfo | None:
        """None: this content has no swarm. Nothing of the answer is verified."""
        async with self._get(source, f"/content/v1/{digest}/metainfo", token, {}) as response:
            problem = await _problem(response)
            if response.status == 404 and problem.get("code") == "not_in_swarm":
                return None
            _check(source, response, digest, problem)
            encoded = b""
            try:
                while chunk := await response.content.read(_METAINFO_BYTES - len(encoded)):
                    encoded += chunk
            except _BROKEN as error:
                raise _broken(source, error) from error
            return ClaimedMetainfo(response.headers.get(STATEMENT_HEADER, ""), encoded)

    async def accuse(self, source: Source, digest: Digest, token: str, address: str, port: int) -> str:
        """Tell a regional that the peer at that address sent false bytes; whose its tracker says it is, or ""."""
        path, body = f"/content/v1/{digest}/offences", json.dumps({"address": address, "port": port}).encode()
        async with self._get(source, path, token, {"Content-Type": "application/json"}, body) as response:
            _check(source, response, digest, await _problem(response))
            try:
                answer = json.loads(await response.content.read(_ACCUSED_BYTES))
                return str(answer["accused"])[:64]
            except (*_BROKEN, ValueError, LookupError, TypeError) as error:
                raise _broken(source, error) from error

    async def lease(self, source: Source, digest: Digest, token: str, question: Question, piece_count: int) -> Grant:
        """Which pieces to read from there next; the source may take two seconds to find any."""
        path, body = f"/content/v1/{digest}/lease", encode_question(question)
        async with self._get(source, path, token, {"Content-Type": "application/json"}, body) as response:
            _check(source, response, digest, await _problem(response))
            answer = b""
            try:
                while chunk := await response.content.read(MAXIMUM_BODY_BYTES - len(answer)):
                    answer += chunk
                return decode_grant(answer, piece_count)
            except _BROKEN as error:
                raise _broken(source, error) from error
            except LeaseQuestionInvalid as error:
                raise SourceAway(f"{source} gave no lease of {digest}: {error.detail}") from error

    async def blocks(self, source: Source, digest: Digest, token: str) -> bytes | None:
        """The block map (common/bittorrent/reuse.py); None: this content has none."""
        async with self._get(source, f"/content/v1/{digest}/blocks", token, {}) as response:
            problem = await _problem(response)
            if response.status == 404:
                return None
            _check(source, response, digest, problem)
            encoded = bytearray()
            try:
                while chunk := await response.content.read(min(_METAINFO_BYTES - len(encoded), _CHUNK)):
                    await self._pace(len(chunk))
                    encoded += chunk
            except _BROKEN as error:
                raise _broken(source, error) from error
            return bytes(encoded)

    async def parts(
        self, source: Source, digest: Digest, token: str, spans: Sequence[Span]
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of the spans, one after the other; as many as common/byte_parts.py allows. Raises as `read`."""
        missing = byte_parts.total(spans)
        path, headers = f"/content/v1/{digest}/parts", {"Content-Type": byte_parts.MEDIA_TYPE}
        async with self._get(source, path, token, headers, byte_parts.encode(spans)) as response:
            _check(source, response, digest, await _problem(response))
            try:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    missing -= len(chunk)
                    await self._pace(len(chunk))
                    yield chunk
            except _BROKEN as error:
                raise _broken(source, error) from error
            if missing:
                raise BodyBroken(f"{source} sent {missing} bytes of {digest} too few", action="they are fetched again")

    async def read(
        self, source: Source, digest: Digest, token: str, start: int, end: int
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `end`, exactly; raises if there are fewer, and never yields more."""
        headers = {"Range": f"bytes={start}-{end - 1}"}
        async with self._get(source, f"/content/v1/{digest}", token, headers) as response:
            _check(source, response, digest, await _problem(response))
            skip = _bytes_to_skip(source, response, start)
            missing = end - start
            try:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    wanted = chunk[skip : skip + missing]
                    skip -= min(skip, len(chunk))
                    missing -= len(wanted)
                    if wanted:
                        await self._pace(len(wanted))
                        yield wanted
                    if not missing:
                        return
            except _BROKEN as error:
                raise _broken(source, error) from error
            if missing:
                raise BodyBroken(
                    f"{source} sent {missing} bytes of {digest} too few", action="it is fetched again from there"
                )

    @asynccontextmanager
    async def _get(
        self, source: Source, path: str, token: str, headers: dict[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """With a `body` it is a POST."""
        # identity: ranges and byte counts speak of the content itself, not of a compressed form.
        sent = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", **headers}
        if self._lower():
            sent[EFFORT_HEADER] = LOWER_EFFORT
        tls = self._trust.regional() if source.kind == "regional" else self._trust.centre()
        try:
            response = await self._session.request(
                "GET" if body is None else "POST",
                source.base_url + path,
                data=body,
                headers=sent,
                timeout=self._timeout,
                ssl=tls,
                allow_redirects=False,
                read_bufsize=_CHUNK,
            )
        except (*_BROKEN, ValueError) as error:
            raise SourceAway(
                f"{source} does not answer: {error or type(error).__name__}",
                action="check the line to it; it is tried again",
                retry_after_seconds=1,
            ) from error
        try:
            yield response
        finally:
            # close, not release: what is left of an abandoned body must not go on crossing the line.
            response.close() if not response.content.at_eof() else response.release()


def _check(source: Source, response: aiohttp.ClientResponse, digest: Digest, problem: dict[str, Any]) -> None:
    status = response.status
    if status in (200, 206):
        return
    said = str(problem.get("detail") or f"HTTP {status}")[:300]
    if status in (401, 403):
        raise TokenRejected(
            f"{source} rejected the token for {digest}: {said}", action="new ones come with the next full set"
        )
    if status in (404, 410, 416):
        raise ContentAbsent(f"{source} does not have {digest}: {said}", action="push the image again")
    delay = _retry_after(response)
    if problem.get("code") == "still_fetching":
        raise SourceFetching(f"{source} is still fetching {digest}", retry_after_seconds=delay)
    if status in (429, 503):
        raise SourceBusy(f"{source} cannot serve {digest} now: {said}", retry_after_seconds=delay)
    raise SourceAway(f"{source} failed for {digest}: {said}", retry_after_seconds=delay)


async def _problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    if response.status < 400:
        return {}
    try:
        body = await response.json(content_type=None)
    except (*_BROKEN, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _retry_after(response: aiohttp.ClientResponse) -> float:
    """Seconds, bounded: whoever asks for longer is asked again, or passed over for another source."""
    header = response.headers.get("Retry-After", "")
    return min(float(header), _LONGEST_RETRY_SECONDS) if header.isdecimal() else _DEFAULT_RETRY_SECONDS


def _bytes_to_skip(source: Source, response: aiohttp.ClientResponse, start: int) -> int:
    """A server may ignore Range and send everything (RFC 9110 section 14.2)."""
    if response.status == 200:
        return start
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if first != str(start):
        raise SourceAway(f"{source} sent bytes from {first or 'nowhere'}, not from {start}")
    return 0


def _broken(source: Source, error: Exception) -> BodyBroken:
    return BodyBroken(
        f"the answer of {source} broke off: {error or type(error).__name__}",
        action="the rest is fetched again",
        retry_after_seconds=1,
    )
