"""`/api/v1/device/...`: the device API over HTTP, for installers with curl and for those with a shell and wget.

The token comes as `Authorization: Bearer`, as `token` in the body, or in the path. JSON in, JSON out; `?format=shell`
answers lines `NAME='value'` that a shell can `eval`. Invariant: a body is read up to a bound and no further.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from common.errors import NotFound, TooLarge, Unauthenticated
from regional.machines.device import Device, WordsInvalid

# 600 disks and 100 network cards are 120 KB.
_MOST_BYTES = 512 << 10
_NO_STORE = {"Cache-Control": "no-store"}


class WordUnknown(NotFound):
    code = "device_word_unknown"


class DeviceTokenMissing(Unauthenticated):
    code = "device_token_missing"


class BodyTooLarge(TooLarge):
    code = "device_body_too_large"


class DeviceRoutes:
    def __init__(self, device: Device) -> None:
        self._device = device

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/device/{word}", self.say),
            web.post("/api/v1/device/{token}/{word}", self.say),
            # LPMOS's own paths of these two.
            web.post("/api/v1/{word:report|progress}", self.say),
        ]

    async def say(self, request: web.Request) -> web.Response:
        word = request.match_info["word"]
        act = self._device.words.get(word)
        if act is None:
            raise WordUnknown(f"there is no word {word[:40]!r}", action=f"say one of {', '.join(self._device.words)}")
        body = await _body(request)
        answer = await asyncio.to_thread(act, _token(request, body), body)
        if request.query.get("format") == "shell":
            return web.Response(text=shell_lines(answer), headers=_NO_STORE)
        return web.json_response(answer, headers=_NO_STORE)


def shell_lines(answer: Mapping[str, Any], prefix: str = "") -> str:
    """Nested names are joined by `_`, items of lists numbered from 0, with their count as `NAME_COUNT`."""
    lines = []
    for name, value in answer.items():
        whole = f"{prefix}{name}".upper()
        if isinstance(value, dict):
            lines.append(shell_lines(value, f"{whole}_"))
        elif isinstance(value, list):
            lines.append(f"{whole}_COUNT='{len(value)}'\n")
            lines += [shell_lines({str(number): each}, f"{whole}_") for number, each in enumerate(value)]
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            lines.append(f"{whole}='" + text.replace("'", "'\\''") + "'\n")
    return "".join(lines)


async def _body(request: web.Request) -> Mapping[str, Any]:
    """Raises `BodyTooLarge` or `WordsInvalid`; no body is an empty object."""
    read = bytearray()
    async for chunk in request.content.iter_chunked(64 << 10):
        read += chunk
        if len(read) > _MOST_BYTES:
            raise BodyTooLarge(f"the body is larger than {_MOST_BYTES} bytes", action="send less")
    if not read.strip():
        return {}
    try:
        body = json.loads(read)
    except (ValueError, RecursionError):
        raise WordsInvalid("the body is no JSON", action="send one JSON object") from None
    if not isinstance(body, dict):
        raise WordsInvalid("the body is no JSON object", action="send one JSON object")
    return body


def _token(request: web.Request, body: Mapping[str, Any]) -> str:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    said = body.get("token")
    token = request.match_info.get("token") or (bearer.strip() if scheme.lower() == "bearer" else "")
    token = token or (said if isinstance(said, str) else "")
    if not token:
        raise DeviceTokenMissing("the request has no token", action="send the token of longshore.token= as a bearer")
    return token
