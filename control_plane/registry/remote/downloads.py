"""One blob from a registry, however often the connection breaks: it goes on where it was, and verifies the whole."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

import aiohttp

from common.backoff import Backoff
from common.digest import Digest
from common.errors import Unavailable
from control_plane.registry.remote.failures import RemoteAway, RemoteUntrue
from control_plane.registry.remote.transport import Transport

# In a row, without a byte between them.
_MAX_BREAKS = 5
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")


class Download:
    """`size` is the whole blob's. From `start` > 0 on nothing is verified here: the caller has the beginning."""

    def __init__(self, transport: Transport, repository: str, digest: Digest, start: int, *, verify: bool) -> None:
        self._transport = transport
        self._repository = repository
        self._digest = digest
        self._at = start
        self._hasher = digest.hasher() if verify and start == 0 else None
        self._stack = contextlib.AsyncExitStack()
        self._answer: aiohttp.ClientResponse | None = None
        self.size = 0

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """All that is left, as it arrives. Raises `RemoteUntrue` instead of ending if it is not what the digest names,
        `RemoteAway` when the connection broke again and again.
        """
        backoff = Backoff(
            self._transport.random,
            self._transport.patience.first_wait_seconds,
            self._transport.patience.longest_wait_seconds,
        )
        while self._at < self.size:
            before = self._at
            try:
                if self._answer is None:
                    await self._open()
                async for piece in self._received():
                    yield piece
                if self._at < self.size:
                    raise RemoteAway(f"{self._transport.endpoint.host} broke off", action="try again later")
            except Unavailable as failure:
                await self._drop()
                if self._at > before:
                    backoff.reset()
                if isinstance(failure, RemoteUntrue) or backoff.failures >= _MAX_BREAKS:
                    raise
                await self._transport.clock.sleep(backoff.next_delay())
        if self._hasher is not None and self._hasher.digest() != self._digest:
            raise self._untrue(f"blob {self._digest} is {self._hasher.digest()}")

    async def _received(self) -> AsyncIterator[bytes]:
        """Of one connection. Its failures come as `Unavailable`, those of whoever consumes us do not pass here."""
        assert self._answer is not None  # noqa: S101  opened by the caller
        while True:
            try:
                piece = await self._answer.content.readany()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise RemoteAway(
                    f"{self._transport.endpoint.host} broke off: {type(error).__name__}", action="try again later"
                ) from error
            if not piece:
                return
            if self._at + len(piece) > self.size:
                raise self._untrue(f"blob {self._digest} is longer than the {self.size} bytes it stated")
            self._at += len(piece)
            if self._hasher is not None:
                self._hasher.update(piece)
            yield piece

    async def _open(self) -> None:
        headers = {"Range": f"bytes={self._at}-"} if self._at else {}
        path = f"/v2/{self._repository}/blobs/{self._digest}"
        answer = await self._stack.enter_async_context(
            self._transport.exchange(
                "GET", path, f"repository:{self._repository}:pull", (200, 206), headers=headers, endless=True
            )
        )
        size = self._size_of(answer)
        if self.size and size != self.size:
            raise self._untrue(f"blob {self._digest} had {self.size} bytes, now it has {size}")
        self.size = size
        if answer.status == 200 and self._at:
            await self._skip(answer, self._at)
        self._answer = answer

    def _size_of(self, answer: aiohttp.ClientResponse) -> int:
        """Of the whole blob; raises `RemoteUntrue` for an answer that does not begin where we asked."""
        if answer.status == 206:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._at:
                raise self._untrue(f"it answers another range of blob {self._digest}")
            return int(found[2])
        length = answer.headers.get("Content-Length", "")
        if not length.isdigit():
            raise self._untrue(f"it does not say how long blob {self._digest} is")
        return int(length)

    async def _skip(self, answer: aiohttp.ClientResponse, count: int) -> None:
        """A registry without ranges starts again."""
        while count:
            try:
                piece = await answer.content.read(min(count, 1 << 20))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise RemoteAway(f"{self._transport.endpoint.host} broke off", action="try again later") from error
            if not piece:
                raise RemoteAway(f"{self._transport.endpoint.host} broke off", action="try again later")
            count -= len(piece)

    async def _drop(self) -> None:
        self._answer = None
        with contextlib.suppress(Unavailable):
            await self._stack.aclose()
        self._stack = contextlib.AsyncExitStack()

    def _untrue(self, why: str) -> RemoteUntrue:
        return RemoteUntrue(
            f"{self._transport.endpoint.host} is not to be trusted here: {why}", action="check that registry"
        )
