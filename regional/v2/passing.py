"""What only the centre can answer, passed through as it is: lists, contents that a repository shows from its upstream,
what finds no room in the cache, and each refusal in the centre's own words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from aiohttp import web

from common.errors import TooLarge
from regional.sending import SENT_BYTES, take_turn, write_chunk
from regional.v2.centre import CentreRegistry

_CHUNK = 1 << 20
_FORM_BYTES = 64 << 10
_ASKED = ("Accept", "Range", "If-None-Match", "If-Range", "User-Agent")
_ANSWERED = (
    "Content-Type",
    "Content-Length",
    "Content-Range",
    "Accept-Ranges",
    "Cache-Control",
    "Docker-Content-Digest",
    "ETag",
    "Link",
    "OCI-Filters-Applied",
    "Retry-After",
)


Arrive = Callable[[int], Awaitable[None]]
"""Waited for with the size of each chunk from the centre."""


class Passing:
    def __init__(self, centre: CentreRegistry) -> None:
        self._centre = centre

    async def send(
        self, request: web.Request, headers: Mapping[str, str], challenge: str, more: Mapping[str, str], arrive: Arrive
    ) -> web.StreamResponse:
        """`headers`: the asker's credentials. `challenge`: for a 401. `more`: of the answer. Raises `CentreAway`,
        `CentreBusy`.
        """
        asked = {name: request.headers[name] for name in _ASKED if name in request.headers}
        async with self._centre.ask(request.method, request.rel_url.raw_path_qs, {**asked, **headers}) as answer:
            response = web.StreamResponse(status=answer.status, headers=_copied(answer, more))
            if answer.status == 401:
                response.headers["WWW-Authenticate"] = challenge
            await response.prepare(request)
            if request.method != "HEAD":
                request[SENT_BYTES] = await _copy(request, response, answer, arrive)
            return response

    async def login(self, request: web.Request) -> web.Response:
        """The centre's token service, through us: passwords cross this process and are kept nowhere."""
        body = await request.content.read(_FORM_BYTES + 1)
        if len(body) > _FORM_BYTES:
            raise TooLarge("the form is too long", action="send less")
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type", "User-Agent")
            if name in request.headers
        }
        path = request.rel_url.raw_path_qs
        async with self._centre.ask(request.method, path, headers, seconds=15.0, body=body) as answer:
            given = await answer.content.read(_FORM_BYTES)
            told = {
                name: answer.headers[name] for name in ("Cache-Control", "WWW-Authenticate") if name in answer.headers
            }
            told["Content-Type"] = answer.headers.get("Content-Type", "application/json")
            return web.Response(status=answer.status, body=given, headers=told)


def _copied(answer: aiohttp.ClientResponse, more: Mapping[str, str]) -> dict[str, str]:
    return {**more, **{name: answer.headers[name] for name in _ANSWERED if name in answer.headers}}


async def _copy(
    request: web.Request, response: web.StreamResponse, answer: aiohttp.ClientResponse, arrive: Arrive
) -> int:
    sent = 0
    try:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            await arrive(len(chunk))
            await take_turn(request, len(chunk))
            await write_chunk(response, chunk)
            sent += len(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError, TimeoutError, RuntimeError, asyncio.IncompleteReadError):
        # Once headers are out, an answer is complete or its connection is cut.
        if request.transport is not None:
            request.transport.abort()
    return sent
