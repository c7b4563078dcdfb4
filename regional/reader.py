"""Reading a content that is held, or as far as it is verified while it is still on its way.

The descriptor is opened once, so that publication (a rename) and eviction (an unlink) do not disturb a read.
"""

from __future__ import annotations

import asyncio
import os
from typing import BinaryIO

from aiohttp import web

from common.byte_ranges import Span
from regional.progress import Progress
from regional.sending import CHUNK, FileBody, take_turn, write_chunk

# A GET waits this long for bytes in flight; then the client is told to come back (503), or its answer is cut.
WAIT_SECONDS = 30.0


class Reader:
    """`progress` None: the content is held. Close it. Of `file` only what is verified may be read."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress | None) -> None:
        self.file = file
        self._progress = progress
        self.size = size

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    async def ready(self, span: Span) -> None:
        """Until the first byte of `span` is verified, bounded. Raises what hinders the fetch, or `StillFetching`."""
        if self._progress is not None and span.length:
            await self._progress.wait_readable(span.start, WAIT_SECONDS)

    async def wait_whole(self, span: Span) -> None:
        """Until all of `span` is verified: for answers that must not be cut. Bound it outside."""
        position = span.start
        while self._progress is not None and position < span.end:
            await self._progress.wait_readable(position, WAIT_SECONDS)
            position += self._progress.readable(position, span.end - position)

    async def send(self, request: web.BaseRequest, response: web.StreamResponse, span: Span) -> None:
        """Raises the failure of the fetch if it ends before the span does; the caller then cuts the connection."""
        if self._progress is None or self._progress.readable(span.start, span.length) == span.length:
            await FileBody(self.file).send(request, response, span)
            return
        position = span.start
        while position < span.end:
            await self._progress.wait_readable(position, WAIT_SECONDS)
            count = self._progress.readable(position, min(CHUNK, span.end - position))
            await take_turn(request, count)
            chunk = await asyncio.to_thread(os.pread, self.file.fileno(), count, position)
            if len(chunk) != count:
                raise ConnectionResetError("the file became shorter while it was sent")
            await write_chunk(response, chunk)
            position += count
