"""Streams of Docker's HTTP API (v1.41 and later): logs and exports as answers, commands over a connection that both
sides take over ("hijacking", API reference of `exec/{id}/start` and `containers/{id}/attach`).

Docker's own library reads streams in threads and may lose what came together with the headers of a hijacked answer, so
these speak to the engine's socket from the event loop. A connection belongs to one stream and is closed with it; what
is not read stays in the kernel and the engine beyond `LARGEST_PIECE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from agent.runtimes.docker_calls import away, refused
from agent.runtimes.failures import ContainerUnknown
from agent.runtimes.streams import LARGEST_PIECE, Channel, Piece
from common.errors import Failure

_CHANNELS = {1: Channel.OUTPUT, 2: Channel.ERRORS}
_FRAME_HEADER_BYTES = 8
_LONGEST_ANSWER_HEADER = 64 << 10
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_NOT_FOUND = 404


class DockerSocket:
    """Where the engine listens. `connect_seconds`: until an answer must have begun."""

    def __init__(self, base_url: str, connect_seconds: float) -> None:
        self.base_url = base_url
        self._seconds = connect_seconds
        parts = urlsplit(base_url)
        self._path = (parts.netloc + parts.path) if parts.scheme in ("unix", "http+unix") else ""
        self._host, self._port = parts.hostname or "", parts.port or 2375

    @contextlib.asynccontextmanager
    async def answer(
        self, path: str, query: Mapping[str, str], silence_seconds: float | None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a GET. Raises `EngineAway`, also after so long a silence, `EngineRefused`, `ContainerUnknown`."""
        connector = aiohttp.UnixConnector(self._path) if self._path else aiohttp.TCPConnector()
        host = "docker" if self._path else f"{self._host}:{self._port}"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._seconds, sock_read=silence_seconds)
        async with aiohttp.ClientSession(
            connector=connector, timeout=limits, read_bufsize=LARGEST_PIECE, auto_decompress=False
        ) as session:
            try:
                async with asyncio.timeout(self._seconds):
                    response = await session.get(f"http://{host}{path}", params=query)
            except (aiohttp.ClientError, OSError) as error:
                raise away(self.base_url, error) from error
            async with response:
                if not response.ok:
                    raise _failure(response.status, await response.content.read(_LONGEST_ANSWER_HEADER))
                yield response.content

    async def take_over(
        self, path: str, document: Mapping[str, Any]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Both ends of the stream behind a POST; the caller closes the writer."""
        try:
            async with asyncio.timeout(self._seconds):
                reader, writer = await self._connect()
                try:
                    await self._ask_for_stream(reader, writer, path, json.dumps(document).encode())
                except BaseException:
                    writer.close()
                    raise
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise away(self.base_url, error) from error
        return reader, writer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._path:
            return await asyncio.open_unix_connection(self._path, limit=LARGEST_PIECE)
        return await asyncio.open_connection(self._host, self._port, limit=LARGEST_PIECE)

    @staticmethod
    async def _ask_for_stream(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes
    ) -> None:
        lines = (
            f"POST {path} HTTP/1.1",
            "Host: docker",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: Upgrade",
            "Upgrade: tcp",
        )
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        await writer.drain()
        header = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(header.split(" ", 2)[1])
        if status not in (101, 200):
            length = re.search(r"(?im)^content-length: *(\d+)", header)
            body = await reader.read(min(int(length[1]), LARGEST_PIECE)) if length else b""
            raise _failure(status, body)


async def pieces(content: aiohttp.StreamReader, base_url: str) -> AsyncIterator[bytes]:
    """The bytes of an answer, as they come."""
    try:
        async for data in content.iter_chunked(LARGEST_PIECE):
            yield data
    except (aiohttp.ClientError, OSError) as error:
        raise away(base_url, error) from error


async def framed_logs(content: aiohttp.StreamReader, base_url: str) -> AsyncIterator[Piece]:
    """Of a container without a terminal: every entry has a frame of its own, and begins with its time."""
    try:
        while True:
            header = await content.readexactly(_FRAME_HEADER_BYTES)
            channel, left = _CHANNELS.get(header[0], Channel.OUTPUT), int.from_bytes(header[4:])
            at_ns: int | None = None
            while left:
                data = await content.readexactly(min(left, LARGEST_PIECE))
                left -= len(data)
                if at_ns is None:
                    at_ns, data = split_stamp(data)
                yield Piece(channel, data, at_ns)
    except asyncio.IncompleteReadError:
        return
    except (aiohttp.ClientError, OSError) as error:
        raise away(base_url, error) from error


async def plain_logs(content: aiohttp.StreamReader, base_url: str) -> AsyncIterator[Piece]:
    """Of a container with a terminal: lines, each beginning with its time."""
    rest = b""
    async for data in pieces(content, base_url):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            at_ns, text = split_stamp(line + b"\n")
            yield Piece(Channel.OUTPUT, text, at_ns)
        if len(rest) >= LARGEST_PIECE:
            at_ns, text = split_stamp(rest)
            yield Piece(Channel.OUTPUT, text, at_ns)
            rest = b""
    if rest:
        at_ns, text = split_stamp(rest)
        yield Piece(Channel.OUTPUT, text, at_ns)


def split_stamp(data: bytes) -> tuple[int, bytes]:
    """(nanoseconds since 1970, the rest): RFC 3339 with up to nine decimals, which `datetime` cannot hold."""
    found = _STAMP.match(data)
    if found is None:
        return 0, data
    zone = found[3].decode().replace("Z", "+00:00")
    seconds = int(datetime.fromisoformat(found[1].decode() + zone).astimezone(UTC).timestamp())
    return seconds * 1_000_000_000 + int((found[2] or b"0").ljust(9, b"0")), data[found.end() :]


def _failure(status: int, body: bytes) -> Failure:
    try:
        explanation = str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        explanation = body.decode("utf-8", "replace").strip() or f"status {status}"
    if status == _NOT_FOUND:
        return ContainerUnknown(f"Docker: {explanation[:300]}", action="look at the engine again")
    return refused("stream", explanation)
