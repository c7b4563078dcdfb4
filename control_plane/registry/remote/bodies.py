"""Reading small answers whole, within a bound; and what they say went wrong."""

from __future__ import annotations

import json
import math
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from common.clock import Clock
from control_plane.registry.remote.failures import RemoteUntrue

_LONGEST_MESSAGE = 200


async def read_body(answer: aiohttp.ClientResponse, limit: int, host: str) -> bytes:
    """Raises `RemoteUntrue` for more than `limit` bytes, and what the connection does."""
    parts: list[bytes] = []
    size = 0
    async for piece in answer.content.iter_any():
        size += len(piece)
        if size > limit:
            raise RemoteUntrue(f"{host} answers with more than {limit} bytes", action="check what is stored there")
        parts.append(piece)
    return b"".join(parts)


def as_json(body: bytes, host: str) -> dict[str, Any]:
    """Raises `RemoteUntrue` unless it is a JSON object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RemoteUntrue(f"{host} does not answer with JSON", action="check that it is a registry")
    return document


def message_of(body: bytes) -> str:
    """The first error of a registry's answer in one printable line; "" if it names none."""
    try:
        first = json.loads(body)["errors"][0]
        text = f"{first['code']}: {first.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return "".join(character if character.isprintable() else "?" for character in text)[:_LONGEST_MESSAGE]


def retry_after(header: str | None, clock: Clock) -> float | None:
    """Seconds (RFC 9110 section 10.2.3: a number of them, or a date)."""
    if not header:
        return None
    if header.strip().isdigit():
        return min(float(header.strip()[:9]), 86_400.0)
    try:
        wait = (parsedate_to_datetime(header) - clock.now()).total_seconds()
    except (ValueError, TypeError, IndexError):
        return None
    return max(0.0, wait) if math.isfinite(wait) else None
