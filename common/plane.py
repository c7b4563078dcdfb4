"""Where the control plane listens for the edge: asked at `<server URL>/.well-known/longshore`, remembered on disk.

Only addresses are believed here. Who answers at them is checked by TLS against the CA whose hash stood in the join
token, so a false answer can delay, never deceive. A centre that is away does not matter: the last answer is used.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from common.durable import write_file
from common.errors import Failure, Unavailable

_FILE = "plane.json"
_DEADLINE = aiohttp.ClientTimeout(total=10)
_MAX_ANSWER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Plane:
    """`enrolment` and `attach` are host:port of the two gRPC listeners."""

    enrolment: str
    attach: str
    ca_pem: bytes


async def discover(server_url: str, http: aiohttp.ClientSession) -> Plane:
    """Ask. Raises `Unavailable` if nobody answers, or something that is not a control plane does."""
    url = f"{server_url.rstrip('/')}/.well-known/longshore"
    try:
        async with http.get(url, timeout=_DEADLINE) as response:
            body = await response.content.read(_MAX_ANSWER_BYTES)
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unavailable(
            f"{server_url} does not answer: {error or type(error).__name__}",
            action="check the URL given as --server, and that the control plane runs",
        ) from error
    if status != 200:
        raise Unavailable(f"{url} answered with HTTP {status}", action="check the URL given as --server")
    try:
        answer: Any = json.loads(body)
        return Plane(str(answer["enrolment"]), str(answer["attach"]), str(answer["ca_pem"]).encode())
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{url} is no Longshore control plane", action="check the URL given as --server") from error


class PlaneLocator:
    """The newest known addresses; `identity_dir` keeps them for starts while the centre is away."""

    def __init__(self, server_url: str, identity_dir: Path, http: aiohttp.ClientSession) -> None:
        self._server_url = server_url
        self._path = identity_dir / _FILE
        self._http = http

    async def attach_address(self) -> str:
        """host:port of the attach listener. Raises `Unavailable` only if it was never learned."""
        try:
            found = await discover(self._server_url, self._http)
        except Failure:
            remembered = await asyncio.to_thread(self._read)
            if remembered is None:
                raise
            return remembered
        await asyncio.to_thread(self._remember, found)
        return found.attach

    def _read(self) -> str | None:
        try:
            return str(json.loads(self._path.read_bytes())["attach"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, found: Plane) -> None:
        # Written only when it changed: this runs once a round of attachment.
        if self._read() != found.attach:
            content = json.dumps({"enrolment": found.enrolment, "attach": found.attach}).encode()
            write_file(self._path, content, 0o644)
