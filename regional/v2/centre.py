"""The centre's `/v2/` as a client: manifests, and whatever else only the centre can answer.

Invariant: the asker's own credentials are shown, never ours: what the centre answers is what the asker may have. A
manifest counts only if its bytes are its digest's. While the centre does not answer it is not asked for a few seconds,
so that those who pull held images do not each wait for it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from common.clock import Clock
from common.digest import Digest, DigestInvalid, DigestMismatch
from common.errors import Unavailable
from regional.centre import CentreAway, CentreBusy

# The specification asks registries to take manifests of 4 MiB; ours takes no larger ones.
_MANIFEST_BYTES = 4 << 20
_REFUSAL_BYTES = 64 << 10
_ANSWER_SECONDS = 15.0
_CONNECT_SECONDS = 3.0
_SILENCE_SECONDS = 30.0
# How long a centre that did not answer is left alone.
_AWAY_SECONDS = 3.0
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest, verified."""

    digest: Digest
    media_type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unchanged:
    """It is still the one whose digest was named."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The centre's own no, to be passed on. `code` is the OCI's."""

    status: int
    content_type: str
    body: bytes
    code: str


class CentreRegistry:
    """`base_url` is asked anew each time: a Welcome may name another."""

    def __init__(self, http: aiohttp.ClientSession, base_url: Callable[[], str], clock: Clock) -> None:
        self._http = http
        self._base_url = base_url
        self._clock = clock
        self._away_until = float("-inf")

    async def manifest(
        self, repository: str, reference: Digest | str, headers: Mapping[str, str], known: Digest | None
    ) -> Found | Unchanged | Refusal:
        """`headers`: the asker's, as they are shown. Raises `CentreAway`, `CentreBusy`."""
        sent = dict(headers)
        if known is not None:
            sent["If-None-Match"] = f'"{known}"'
        path = f"/v2/{repository}/manifests/{quote(str(reference), safe=':')}"
        async with self.ask("GET", path, sent, seconds=_ANSWER_SECONDS) as response:
            try:
                if response.status == 304 and known is not None:
                    return Unchanged()
                if response.status != 200:
                    return await refusal(response)
                payload = await _read(response, _MANIFEST_BYTES)
            except _BROKEN as error:
                raise _away(error) from error
            return _verified(response, reference, payload)

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], *, seconds: float | None = None, body: bytes = b""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Any answer but a failure of the centre's. `path`: with its query, as it goes over the wire. `seconds`: for
        all of it; without, a body may take as long as bytes come. Raises `CentreAway`, `CentreBusy`.
        """
        if self._clock.monotonic() < self._away_until:
            raise CentreAway("the centre did not answer a moment ago", retry_after_seconds=_AWAY_SECONDS)
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
        url = URL(self._base_url().rstrip("/") + path, encoded=True)
        try:
            # identity: bodies are passed on and verified as they are.
            response = await self._http.request(
                method, url, headers={"Accept-Encoding": "identity", **headers}, data=body or None, timeout=timeout
            )
        except _BROKEN as error:
            self._away_until = self._clock.monotonic() + _AWAY_SECONDS
            raise _away(error) from error
        try:
            _check(response)
            yield response
        finally:
            # close, not release: an abandoned body must stop crossing the WAN at once.
            response.release() if response.content.at_eof() else response.close()

    async def document(self, path: str) -> Any:
        """A small JSON document that everybody may read. Raises `CentreAway`, `CentreBusy`."""
        async with self.ask("GET", path, {}, seconds=_ANSWER_SECONDS) as response:
            try:
                if response.status != 200:
                    raise CentreAway(f"the centre answered {response.status} for {path}")
                return json.loads(await _read(response, _MANIFEST_BYTES))
            except (*_BROKEN, ValueError) as error:
                raise _away(error) from error


async def refusal(response: aiohttp.ClientResponse) -> Refusal:
    body = await _read(response, _REFUSAL_BYTES)
    return Refusal(response.status, response.content_type, body, _code(body))


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Raises `CentreAway` for more than `limit` bytes, and what a broken connection raises."""
    body = bytearray()
    while chunk := await response.content.read(limit + 1 - len(body)):
        body += chunk
        if len(body) > limit:
            raise CentreAway(f"the centre's answer has more than {limit} bytes")
    return bytes(body)


def _verified(response: aiohttp.ClientResponse, reference: Digest | str, payload: bytes) -> Found:
    try:
        digest = reference if isinstance(reference, Digest) else Digest.parse(response.headers["Docker-Content-Digest"])
        digest.verify(Digest.of(payload, digest.algorithm))
    except (KeyError, DigestInvalid, DigestMismatch) as error:
        raise CentreAway("the centre sent a manifest that is not what its digest says") from error
    return Found(digest, response.headers.get("Content-Type", ""), payload)


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status in (429, 503):
        raise CentreBusy(f"the centre is busy ({response.status})", action="wait", retry_after_seconds=2)
    if response.status >= 500:
        raise CentreAway(f"the centre answered {response.status}", retry_after_seconds=2)


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["errors"][0]["code"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def _away(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    return CentreAway(
        f"the centre does not answer: {str(error) or type(error).__name__}",
        action="check the line to the centre; what is held and was asked for before is served",
        retry_after_seconds=_AWAY_SECONDS,
    )
