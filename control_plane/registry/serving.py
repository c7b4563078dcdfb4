"""Answering with the bytes of a content: whole, a range, not modified, or handed to the web server in front.

`plan` decides from the headers alone, so that an answer without body costs no disk access; `send_body` moves 1 MiB at a
time and notices a client that went away or stands still. For any route that serves contents by digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Message, Receive, Scope, Send

from common.byte_ranges import Span, Validators, requested_span
from common.digest import Digest
from control_plane.blobs import BlobReader, FileBacked, FilePiece
from control_plane.web.zero_copy import EXTENSION as ZERO_COPY

_SMALL = 1 << 20
# Content named by its digest never changes; only its reader may keep it, for others may not have the right.
FOREVER = "private, max-age=31536000, immutable"
Piece = bytes | FilePiece
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`start` to `end` (exclusive) of the content are the body; nothing is read if `bodiless`."""

    status: int
    headers: Headers
    start: int
    end: int
    bodiless: bool


def plan(method: str, asked: Mapping[str, str], digest: Digest, size: int, media_type: str) -> Plan:
    """`asked` are the request's headers. Raises `RangeUnsatisfiable`."""
    validators = Validators(str(digest))
    common = (
        ("Docker-Content-Digest", str(digest)),
        *validators.headers().items(),
        ("Cache-Control", FOREVER),
        ("Accept-Ranges", "bytes"),
    )
    if validators.not_modified(asked.get("if-none-match"), None):
        return Plan(304, common, 0, 0, bodiless=True)
    wanted = requested_span(asked.get("range"), size) if validators.range_applies(asked.get("if-range")) else None
    span = wanted or Span(0, size)
    headers: Headers = (*common, ("Content-Type", media_type), ("Content-Length", str(span.length)))
    if wanted is not None:
        headers = (*headers, ("Content-Range", wanted.content_range(size)))
    return Plan(200 if wanted is None else 206, headers, span.start, span.end, bodiless=method == "HEAD")


async def send_start(send: Send, status: int, headers: Mapping[str, str] | Headers) -> None:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def send_empty(send: Send, status: int, headers: Mapping[str, str] | Headers) -> None:
    await send_start(send, status, headers)
    await send({"type": "http.response.body", "body": b""})


def pieces_of(scope: Scope, reader: BlobReader, start: int, end: int) -> AsyncIterator[Piece]:
    """For `send_body`: parts of the file itself if the server can let the kernel send them, else bytes."""
    if isinstance(reader, FileBacked) and ZERO_COPY in scope.get("extensions", ()):
        return reader.file_pieces(start, end)
    return reader.read(start, end)


async def send_body(
    receive: Receive, send: Send, length: int, pieces: AsyncIterator[Piece], stall_seconds: float = 60.0
) -> None:
    """Send `length` bytes. A client that is gone ends it, one that takes nothing for `stall_seconds` is given up;
    both leave the connection broken, as a failure of `pieces` does, so that a part never looks like the whole.
    """
    if length == 0:
        await send({"type": "http.response.body", "body": b""})
    elif length <= _SMALL:
        await _send_pieces(send, length, pieces, stall_seconds, asyncio.Event())
    else:
        # The server swallows what is sent to a client that is gone; without this we would read it all for nothing.
        gone = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_watch(receive, gone))
                await _send_pieces(send, length, pieces, stall_seconds, gone)
                watching.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def _send_pieces(
    send: Send, length: int, pieces: AsyncIterator[Piece], stall_seconds: float, gone: asyncio.Event
) -> None:
    sent = 0
    async for piece in pieces:
        sent += piece.length if isinstance(piece, FilePiece) else len(piece)
        try:
            async with asyncio.timeout(stall_seconds):
                await send(_message(piece, more=sent < length))
        except TimeoutError:
            return
        # Neither a cached read nor a send to a client that is gone gives way by itself.
        await asyncio.sleep(0)
        if gone.is_set():
            return


def _message(piece: Piece, *, more: bool) -> Message:
    if not isinstance(piece, FilePiece):
        return {"type": "http.response.body", "body": piece, "more_body": more}
    where = {"file": piece.descriptor, "offset": piece.offset, "count": piece.length}
    return {"type": ZERO_COPY, **where, "more_body": more}


async def _watch(receive: Receive, gone: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


def accelerated(prefix: str, digest: Digest, media_type: str) -> dict[str, str]:
    """Headers that make nginx send the file itself, ranges and all (X-Accel-Redirect; `prefix` is an internal location
    whose alias is the store's `blobs` directory).
    """
    return {
        "X-Accel-Redirect": f"{prefix.rstrip('/')}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}",
        "Content-Type": media_type,
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        "Cache-Control": FOREVER,
    }


def sees_credentials(registry: str, address: str) -> bool:
    """Whether clients in Go send their `Authorization` along when they are redirected (net/http, `Client`: to the same
    name or one beneath it, whatever the port). Stores answer 400 to a signed address with a second proof of identity,
    and have no business with our tokens. `registry` is a URL, with or without its scheme.
    """
    try:
        here, there = urlsplit(registry).hostname, urlsplit(address).hostname
    except ValueError:
        return False
    return bool(here and there) and f".{there}".endswith(f".{here}")


def redirected(address: str, digest: Digest) -> dict[str, str]:
    """Headers of a 307: the client repeats its request there, range and all. Nobody keeps the address: it expires."""
    return {
        "Location": address,
        "Docker-Content-Digest": str(digest),
        "Cache-Control": "no-store",
        "Content-Length": "0",
    }
