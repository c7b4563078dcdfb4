"""One file on its way from an upstream: written to disk while those who wait for it read what is there.

Invariant: `size` is what upstream announced, and a body is kept only when so many bytes are there; whoever reads
meanwhile gets either all of them or an error, never a short file that looks whole.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from common.backoff import Backoff
from common.byte_ranges import Span
from common.clock import Clock
from common.errors import Failure
from regional.mirrors.model import MirrorFull, UpstreamAway, UpstreamRefuses
from regional.mirrors.shelf import Kept
from regional.sending import CHUNK, take_turn, write_chunk

# Firmware and package clients give up after 30 s to 2 min without a byte.
WAIT_SECONDS = 25.0
_HEAD_SECONDS = 20.0
_STALL_SECONDS = 30.0
_MOST_TRIES = 4
_MOST_REDIRECTS = 3
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Heading:
    """What upstream says of a file before its bytes. `size` None: it does not say."""

    status: int
    size: int | None
    etag: str
    modified: str


class Download:
    """A body that grows. Implements `regional.sending.Body`. `kept`: what became of it, once all of it is there."""

    def __init__(self, heading: Heading, body: str, file: BinaryIO) -> None:
        self.heading = heading
        self.body = body
        self.file = file
        self.written = 0
        self.failure: Failure | None = None
        self.kept: Kept | None = None
        self._users = 1  # who writes it
        self._moved = asyncio.Event()

    @contextmanager
    def used(self) -> Iterator[None]:
        """The file stays open meanwhile. Only while neither `kept` nor `failure` is set."""
        self._users += 1
        try:
            yield
        finally:
            self._left()

    def _left(self) -> None:
        self._users -= 1
        if not self._users:
            self.file.close()

    @property
    def size(self) -> int:
        return self.written if self.heading.size is None else self.heading.size

    async def ready(self, span: Span) -> None:
        """Until the first byte of `span` is there. Raises `UpstreamAway` if that takes too long."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while self.written <= span.start and self.kept is None and span.length:
                    await self._more()
        except TimeoutError:
            raise UpstreamAway("this part of the file is still on its way", action="ask again") from None

    async def send(self, request: web.BaseRequest, response: web.StreamResponse, span: Span) -> None:
        position = span.start
        while position < span.end:
            while self.written <= position:
                await self._more()
            count = min(self.written, span.end, position + CHUNK) - position
            await take_turn(request, count)
            chunk = await asyncio.to_thread(os.pread, self.file.fileno(), count, position)
            await write_chunk(response, chunk)
            position += count

    def moved(self, count: int) -> None:
        self.written += count
        self._wake()

    def end(self, *, kept: Kept | None = None, failure: Failure | None = None) -> None:
        """Once, by who writes it."""
        self.kept, self.failure = kept, failure
        self._wake()
        self._left()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _more(self) -> None:
        if self.failure is not None:
            raise self.failure
        async with asyncio.timeout(_STALL_SECONDS * _MOST_TRIES):
            await self._moved.wait()
        if self.failure is not None:
            raise self.failure


class Source:
    """Asks upstreams; follows redirects within the configured scheme, host and port only."""

    def __init__(
        self, http: aiohttp.ClientSession, clock: Clock, random: Callable[[], float], limit_bytes: int
    ) -> None:
        self._http = http
        self._clock = clock
        self._random = random
        self._limit = limit_bytes

    @asynccontextmanager
    async def opened(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Any answer but a redirect. Raises `UpstreamAway` and `UpstreamRefuses`."""
        target = url
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                async with asyncio.timeout(_HEAD_SECONDS):
                    response = await self._http.get(
                        URL(target, encoded=True), allow_redirects=False,
                        headers={"Accept-Encoding": "identity", **headers},
                    )  # fmt: skip
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                raise UpstreamAway(f"{_origin(url)} does not answer: {_words(error)}", action="try again") from error
            if response.status not in (301, 302, 303, 307, 308):
                try:
                    yield response
                finally:
                    response.close()
                return
            response.close()
            target = urljoin(target, response.headers.get("Location", ""))
            if _origin(target) != _origin(url):
                raise UpstreamRefuses(
                    f"{_origin(url)} sends us on to {_origin(target)[:200]}, which is not configured",
                    action="name that address as the mirror's upstream",
                )
        raise UpstreamRefuses(f"{_origin(url)} redirects in a circle", action="check the mirror's URL")

    def heading(self, response: aiohttp.ClientResponse) -> Heading:
        """Raises `MirrorFull`."""
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        size = None if encoded else response.content_length
        if size is not None and size > self._limit:
            raise MirrorFull(
                f"this file has {size} bytes, and all files of mirrors together {self._limit}",
                action="raise mirror_cache_bytes of the regional",
            )
        headers = response.headers
        return Heading(response.status, size, headers.get("ETag", ""), headers.get("Last-Modified", ""))

    async def fill(self, download: Download, url: str, response: aiohttp.ClientResponse) -> None:
        """All bytes, also if the connection breaks meanwhile, as far as upstream can go on where it stopped. Raises
        what ended it.
        """
        backoff = Backoff(self._random, initial_seconds=0.5, cap_seconds=5.0)
        for attempt in range(_MOST_TRIES):
            try:
                if attempt == 0:
                    await self._read(download, response)
                else:
                    await self._resume(download, url)
                return
            except UpstreamAway:
                if attempt == _MOST_TRIES - 1 or download.heading.size is None:
                    raise
            await self._clock.sleep(backoff.next_delay())

    async def _resume(self, download: Download, url: str) -> None:
        heading = download.heading
        validator = heading.etag if heading.etag.startswith('"') else heading.modified
        if not validator:
            raise UpstreamRefuses("the connection broke, and the upstream cannot go on where it stopped")
        headers = {"Range": f"bytes={download.written}-", "If-Range": validator}
        async with self.opened(url, headers) as response:
            begins = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status != 206 or begins is None or int(begins[1]) != download.written:
                raise UpstreamRefuses("the connection broke, and the upstream has something else now")
            await self._read(download, response)

    async def _read(self, download: Download, response: aiohttp.ClientResponse) -> None:
        try:
            async with asyncio.timeout(_STALL_SECONDS) as deadline:
                async for chunk in response.content.iter_chunked(CHUNK):
                    if download.written + len(chunk) > min(self._limit, download.heading.size or self._limit):
                        raise UpstreamRefuses("the upstream sends more than it announced or than is kept")
                    await asyncio.to_thread(_write, download.file, chunk, download.written)
                    download.moved(len(chunk))
                    deadline.reschedule(asyncio.get_running_loop().time() + _STALL_SECONDS)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UpstreamAway(f"the connection to {_origin(str(response.url))} broke: {_words(error)}") from error
        if download.heading.size not in (None, download.written):
            raise UpstreamAway(f"{_origin(str(response.url))} ended the file early")


def _write(file: BinaryIO, chunk: bytes, position: int) -> None:
    view = memoryview(chunk)
    while view:
        count = os.pwrite(file.fileno(), view, position)
        view, position = view[count:], position + count


def _origin(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "an impossible address"
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
