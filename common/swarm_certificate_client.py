"""Sending a certificate request to a regional or to the centre (common/swarm_certificate.py says what it is)."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass

import aiohttp

from common.errors import Denied, Unavailable
from common.swarm_certificate import MAXIMUM_BYTES, PATH

# aiohttp 3.14 reads from a connection that closed between two reads with a bare RuntimeError("Connection closed.").
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, RuntimeError, ValueError)


class SignerAway(Unavailable):
    code = "signer_away"


class SignerRefused(Denied):
    """It will not sign that; the same request is refused again."""

    code = "signer_refused"


@dataclass(frozen=True, slots=True)
class SignerAnswer:
    """HTTP status, media type and body, as they came."""

    status: int
    media_type: str
    body: bytes

    def certificate_pem(self) -> bytes:
        """Raises `SignerRefused`, `SignerAway`."""
        try:
            said = json.loads(self.body)
            if self.status == 200:
                return str(said["certificate"]).encode("ascii")
            detail = f"{said.get('code')}: {said.get('detail')}"[:300]
        except (ValueError, KeyError, TypeError, AttributeError):
            detail = f"HTTP {self.status}"
        if 400 <= self.status < 500 and self.status != 429:
            raise SignerRefused(f"no swarm certificate is signed for us: {detail}", action="attach again, or enrol")
        raise SignerAway(f"swarm certificates are not signed now: {detail}", retry_after_seconds=5)


async def send_request(
    session: aiohttp.ClientSession, base_url: str, tls: ssl.SSLContext | bool, body: bytes, seconds: float
) -> SignerAnswer:
    """Within `seconds`. Raises `SignerAway`."""
    try:
        async with session.post(
            base_url.rstrip("/") + PATH,
            data=body,
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=seconds),
            ssl=tls,
            allow_redirects=False,
        ) as response:
            answer = await response.content.read(MAXIMUM_BYTES)
            while chunk := await response.content.read(MAXIMUM_BYTES - len(answer)):
                answer += chunk
            return SignerAnswer(response.status, response.content_type, answer)
    except _BROKEN as error:
        raise SignerAway(
            f"{base_url} does not answer: {error or type(error).__name__}", retry_after_seconds=5
        ) from error
