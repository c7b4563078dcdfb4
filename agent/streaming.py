"""A content's bytes in order while it is still on its way, for the mirror's readers.

Invariants: a byte is given only when its piece passed the Merkle root that the content's metainfo names, and the last
piece only after the whole digest matched, so nobody ever has a complete wrong content. Without a swarm (small contents)
nothing is given before the whole is verified. A reader that was given pieces of a swarm that turned out to be false is
cut off, never continued from another source.

The pieces in front of each reader are asked for first (a window of few: with every host streaming, a wide one would
make all of them want the same newest piece); it ends with the reader. A slow reader holds nothing up but itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.cache import ContentCache
from agent.flights import Flight
from agent.model import Content
from agent.swarms import Member
from common.byte_ranges import Span
from common.clock import Clock
from common.errors import Failure, Unavailable

# What is asked for ahead of a reader: two pieces at least, so that the next is under way while one is sent.
_AHEAD_PIECES = 2
_AHEAD_BYTES = 1 << 20
# How often somebody who waits looks whether there is still something to wait for.
_LOOK_SECONDS = 1.0
# Hashing is the one phase in which no byte arrives; the slowest disk that is worth mentioning reads this fast.
_HASHED_BYTES_PER_SECOND = 50 << 20


class StreamStalled(Unavailable):
    code = "stream_stalled"


class StreamBroken(Unavailable):
    """What was given may not be the content's, or nobody is to have it any more."""

    code = "stream_broken"


class Arrivals(Protocol):
    """`Fetcher`, as far as a reader needs it."""

    def aboard(self, content: Content, tenant_id: str) -> AbstractAsyncContextManager[Flight]: ...

    def held_bytes(self, content: Content, tenant_id: str) -> int: ...

    async def bring(self, content: Content, tenant_id: str, member: Member, index: int) -> None:
        """Get one piece by the quickest way, beside the swarm. Never fails; it may bring nothing."""
        ...


class Sink(Protocol):
    """Where the bytes go; both raise OSError or TimeoutError when the reader is gone."""

    async def write(self, data: bytes) -> None: ...

    async def send_file(self, path: Path, span: Span) -> None: ...


@dataclass(frozen=True)
class Streams:
    """`stall_seconds`: without one more byte of the content on this host, a reader is given up."""

    arrivals: Arrivals
    cache: ContentCache
    clock: Clock
    stall_seconds: float = 120.0

    async def copy(
        self, content: Content, tenant_id: str, span: Span, sink: Sink, wanted: Callable[[], object]
    ) -> None:
        """Returns when all of `span` is in the sink. Raises the failure of the fetch, `StreamStalled`, `StreamBroken`
        (also once `wanted` gives nothing true any more), and what the sink raises.
        """
        async with self.arrivals.aboard(content, tenant_id) as flight:
            watch = _Watch(lambda: self.arrivals.held_bytes(content, tenant_id), self.clock, self.stall_seconds)

            async def bring(member: Member, index: int) -> None:
                await self.arrivals.bring(content, tenant_id, member, index)

            reader = _Reader(content, flight, watch, wanted, bring)
            try:
                position = await reader.copy_arriving(span, sink)
            finally:
                reader.leave()
        if position < span.end:
            path = self.cache.find(content.digest)
            if path is None:
                raise StreamBroken(f"{content.digest} has just left the cache", action="ask again")
            await sink.send_file(path, Span(position, span.end))


@dataclass
class _Watch:
    """Ends the patience of a reader for whom nothing moves."""

    held_bytes: Callable[[], int]
    clock: Clock
    seconds: float
    _held: int = -1
    _since: float = 0.0

    def check(self, content: Content) -> None:
        held, now = self.held_bytes(), self.clock.monotonic()
        if held != self._held:
            self._held, self._since = held, now
        hashing = content.size_bytes / _HASHED_BYTES_PER_SECOND
        if now - self._since > self.seconds + hashing:
            raise StreamStalled(f"no byte of {content.digest} came in {self.seconds:.0f} s", action="ask again later")


@dataclass(eq=False)
class _Reader:
    content: Content
    flight: Flight
    watch: _Watch
    wanted: Callable[[], object]
    bring: Callable[[Member, int], Awaitable[None]]
    _begun: bool = False
    _from: Member | None = field(default=None)

    async def copy_arriving(self, span: Span, sink: Sink) -> int:
        """Up to where it came before the content had landed (the rest is in the cache), or to the end."""
        position = span.start
        while position < span.end:
            self._check()
            if self.flight.landed.done():
                self.flight.landed.result()
                return position
            data = await self._piece_at(position)
            if data:
                data = data[: span.end - position]
                await sink.write(data)
                position += len(data)
        return position

    def leave(self) -> None:
        self._want(range(0))

    async def _piece_at(self, position: int) -> bytes:
        """Some bytes from there on, or none if there is something to look at first."""
        member = self.flight.member
        index = position // member.metainfo.piece_length if member is not None else -1
        if member is None or index == member.metainfo.piece_count - 1:
            await self.flight.news(_LOOK_SECONDS)
            return b""
        self._from = member
        self._want(self._window(member, index))
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                piece = await (member.handle.read_piece(index) if self._begun else self._first(member, index))
        except TimeoutError:
            return b""
        except Failure:
            # The torrent ended: the flight knows more, and says so in a moment.
            await self.flight.news(_LOOK_SECONDS)
            return b""
        return piece[position - index * member.metainfo.piece_length :]

    async def _first(self, member: Member, index: int) -> bytes:
        """The piece that the reader begins with; the engine counts the time until its first byte."""
        self._begun = True
        if index in await member.handle.have_pieces():
            return await member.handle.read_piece(index)
        failure, piece = None, b""
        async with asyncio.TaskGroup() as group:
            helping = group.create_task(self._help(member, index))
            try:
                piece = await member.handle.read_piece(index)
            except Failure as raised:  # out of the group as itself
                failure = raised
            helping.cancel()
        if failure is not None:
            raise failure
        return piece

    async def _help(self, member: Member, index: int) -> None:
        await self.bring(member, index)

    def _check(self) -> None:
        if not self.wanted():
            raise StreamBroken(f"{self.content.digest} is no longer assigned to this host")
        if self._from is not None and self.flight.member is not self._from:
            raise StreamBroken(f"the swarm of {self.content.digest} was false", action="ask again")
        self.watch.check(self.content)

    def _window(self, member: Member, index: int) -> range:
        ahead = max(_AHEAD_PIECES, _AHEAD_BYTES // member.metainfo.piece_length)
        return range(index, min(index + ahead, member.metainfo.piece_count))

    def _want(self, pieces: range) -> None:
        if self._from is not None:
            self._from.urgency.want(self, pieces)
            self._from.handle.want_soon(self._from.urgency.pieces)
