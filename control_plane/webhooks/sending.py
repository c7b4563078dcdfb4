"""One attempt: a signed POST through the guarded way out. Whatever happens becomes an `Answer`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

import aiohttp

from common.errors import Failure
from control_plane.web.outbound import Outbound
from control_plane.webhooks.model import Answer

_MAX_ERROR = 400


class Sender(Protocol):
    async def send(self, url: str, headers: dict[str, str], body: bytes, now: datetime) -> Answer:
        """Never raises but for cancellation; ends within the sender's deadline."""
        ...


class OutboundSender:
    """Implements `Sender`. Redirects are failures (a POST is not repeated elsewhere), and the body of the answer is not
    read: nothing that an address says can fill our memory or be shown to who named the address.
    """

    def __init__(self, outbound: Outbound, timeout_seconds: float) -> None:
        self._outbound = outbound
        self._seconds = timeout_seconds

    async def send(self, url: str, headers: dict[str, str], body: bytes, now: datetime) -> Answer:
        timeout = aiohttp.ClientTimeout(total=self._seconds)
        try:
            # Beside aiohttp's own: looking up the name counts too.
            async with (
                asyncio.timeout(self._seconds + 1),
                self._outbound.request("POST", url, headers=headers, data=body, timeout=timeout) as answer,
            ):
                wait = retry_after(answer.headers.get("Retry-After"), now)
                return Answer(answer.status, retry_after=wait if answer.status in (429, 503) else None)
        except TimeoutError:
            return Answer(None, f"no answer within {self._seconds:g} s")
        except Failure as failure:
            return Answer(None, f"{failure.code}: {failure.detail}"[:_MAX_ERROR])


def retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds, of either form (RFC 9110 section 10.2.3); None for none, or for what cannot be read."""
    if text is None:
        return None
    if text.strip().isdigit():
        return float(min(int(text.strip()[:9]), 10**8))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
