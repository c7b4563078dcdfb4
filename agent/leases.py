"""Pieces fetched from a source under leases: each what no other host has or fetches (common/spreading says how).

Two lines work at once, so that the link is busy while one asks for more; only one asks at a time, and names what the
other fetches. Pieces go to the torrent, which verifies them and tells the peers.

Invariant: while a regional answers, nobody further away is asked; a source whose piece was false or that failed rests
for some seconds. Kill -9 at any point costs the pieces in flight: whoever asks says what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import structlog

from agent.content_http import ContentHttp, Source, SourceFetching
from agent.ledger import ContentKey, Ledger
from agent.swarms import Member
from common.backoff import Backoff
from common.bittorrent.failures import PieceRejected
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from common.spreading import masks
from common.spreading.exchange import Grant, Question

log = structlog.get_logger()

_LINES = 2
# After a false piece: its disk is bad, or it lies.
_FALSE_SECONDS = 30.0
_RATE_SECONDS = 0.5
# Beyond the lease's own time: by then its pieces were leased to somebody else.
_LATE_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0


class LeaseLate(Unavailable):
    code = "lease_late"


@dataclass
class _Gauge:
    """Bytes per second of a growing number, over at least half a second."""

    value: float = 0.0
    _bytes: int | None = None
    _at: float = 0.0

    def see(self, total: int, now: float) -> None:
        if self._bytes is None:
            self._bytes, self._at = total, now
        elif now - self._at >= _RATE_SECONDS:
            self.value = max(total - self._bytes, 0) / (now - self._at)
            self._bytes, self._at = total, now


@dataclass
class _Rest:
    """A source that failed, until when it is left alone, and since when it fails."""

    backoff: Backoff
    since: float
    until: float


@dataclass
class LeasedFetch:
    """`sources`, `token`: asked anew each time. `peer`: `address:port` of our BitTorrent peer, for other hosts.

    centre_seconds: how long regionals fail before the centre is asked: most are back before a WAN carried much.
    helpless: no source leases us anything, so that other help is due. gained_bytes: what leases brought so far.
    """

    digest: Digest
    key: ContentKey
    member: Member
    http: ContentHttp
    ledger: Ledger
    clock: Clock
    random: Callable[[], float]
    sources: Callable[[], Sequence[Source]]
    token: Callable[[ContentKey], str]
    peer: str = ""
    centre_seconds: float = 2.0
    helpless: bool = False
    gained_bytes: int = 0
    _fetching: dict[int, range] = field(default_factory=dict)
    _resting: dict[str, _Rest] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _gauge: _Gauge = field(default_factory=_Gauge)
    _source_rate: float = 0.0
    _last: Source | None = None

    async def run(self) -> None:
        """Until nothing is missing, or cancelled."""
        async with asyncio.TaskGroup() as group:
            for line in range(_LINES):
                group.create_task(self._line(line))

    async def finished(self) -> None:
        """Tell a source without a tracker that we hold everything now."""
        if self._last is not None and self._last.kind == "centre":
            with suppress(Failure, TimeoutError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._lease(self._last, await self._question())

    async def _line(self, line: int) -> None:
        backoff = Backoff(self.random, initial_seconds=0.5, cap_seconds=5.0)
        while True:
            async with self._asking:
                question = await self._question()
                if question.held == masks.full(self.member.metainfo.piece_count):
                    return
                source, grant = await self._ask(question)
                if source is not None and grant.run is not None:
                    self._fetching[line] = grant.run
                elif source is not None:
                    await self.clock.sleep(grant.seconds * (0.75 + 0.5 * self.random()))
                else:
                    await self.clock.sleep(backoff.next_delay())
            if source is not None and grant.run is not None:
                backoff.reset()
                await self._fetch(line, source, grant.run, grant.seconds)

    async def _ask(self, question: Question) -> tuple[Source | None, Grant]:
        """None: nobody answers. A grant without a run: wait."""
        for source in self.sources():
            now, rest = self.clock.monotonic(), self._resting.get(str(source))
            if rest is not None and rest.until > now:
                continue
            if source.kind == "centre" and self._regionals_may_return(now):
                return source, Grant(None, self.centre_seconds / 10)
            try:
                grant = await self._lease(source, question)
            except SourceFetching as failure:
                grant = Grant(None, failure.retry_after_seconds)
            except Failure as failure:
                self._rest(source, failure)
                continue
            self._last, self.helpless = source, False
            return source, grant
        self.helpless = True
        return None, Grant(None, 0.0)

    def _regionals_may_return(self, now: float) -> bool:
        """Whether some regional began to fail only just now."""
        failing = (self._resting.get(str(source)) for source in self.sources() if source.kind == "regional")
        return any(rest is not None and now - rest.since < self.centre_seconds for rest in failing)

    async def _lease(self, source: Source, question: Question) -> Grant:
        grant = await self.http.lease(
            source, self.digest, self.token(self.key), question, self.member.metainfo.piece_count
        )
        for peer in grant.peers:
            host, _, port = peer.rpartition(":")
            if peer not in self._met and host and port.isdecimal():
                self._met.add(peer)
                with suppress(Failure):
                    await self.member.handle.connect_peer(host.strip("[]"), int(port))
        return grant

    async def _question(self) -> Question:
        status = self.member.handle.status()
        self._gauge.see(status.held_bytes, self.clock.monotonic())
        held = await self.member.handle.have_pieces()
        return Question(
            held=masks.of(held, self.member.metainfo.piece_count),
            fetching=tuple(self._fetching.values()),
            rate=self._gauge.value,
            source_rate=self._source_rate,
            peer_bytes=max(status.from_agents_bytes - status.failed_bytes, 0),
            soon=self.member.urgency.pieces,
            peer=self.peer,
        )

    async def _fetch(self, line: int, source: Source, run: range, seconds: float) -> None:
        """Whatever becomes of it, the next question says what we hold."""
        try:
            async with asyncio.timeout(2 * seconds + _LATE_SECONDS):
                await self._take(source, run)
        except PieceRejected as failure:
            log.warning("false piece from a source", source=str(source), digest=str(self.digest), error=str(failure))
            self._rest(source, failure, _FALSE_SECONDS)
        except TimeoutError:
            self._rest(source, LeaseLate(f"{source} was too slow for a lease of {self.digest}"))
        except Failure as failure:
            self._rest(source, failure)
        finally:
            del self._fetching[line]

    async def _take(self, source: Source, run: range) -> None:
        metainfo, started = self.member.metainfo, self.clock.monotonic()
        taken = 0
        async with aclosing(self._pieces(source, run)) as pieces:
            async for index, piece in pieces:
                await self.member.handle.add_piece(index, piece)
                self.gained_bytes += len(piece)
                taken += len(piece)
                self._resting.pop(str(source), None)
        seconds = max(self.clock.monotonic() - started, 1e-3)
        rate = taken / seconds
        self._source_rate = rate if not self._source_rate else (self._source_rate + rate) / 2
        log.debug("lease done", digest=metainfo.name, first=run.start, pieces=len(run), seconds=round(seconds, 3))

    async def _pieces(self, source: Source, run: range) -> AsyncGenerator[tuple[int, bytes], None]:
        metainfo = self.member.metainfo
        start = run.start * metainfo.piece_length
        end = min(run.stop * metainfo.piece_length, metainfo.length)
        chunks = self.http.read(source, self.digest, self.token(self.key), start, end)
        async with aclosing(assembled(metainfo, run, counted(self.ledger, self.key, source, chunks))) as pieces:
            async for index, piece in pieces:
                yield index, piece

    def _rest(self, source: Source, failure: Failure, least_seconds: float = 0.0) -> None:
        """The longer, the more often it fails in a row."""
        now, rest = self.clock.monotonic(), self._resting.get(str(source))
        if rest is None:
            backoff = Backoff(self.random, initial_seconds=0.5, cap_seconds=5.0)
            rest = self._resting[str(source)] = _Rest(backoff, now, now)
        rest.until = now + max(rest.backoff.next_delay(), least_seconds)
        log.info("source leases nothing", source=str(source), digest=str(self.digest), error=str(failure))


async def counted(
    ledger: Ledger, key: ContentKey, source: Source, chunks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The same bytes, put into the ledger as they come, whatever becomes of them."""
    async with aclosing(chunks):
        async for chunk in chunks:
            centre = len(chunk) if source.kind == "centre" else 0
            ledger.count(key, centre=centre, regional=len(chunk) - centre)
            yield chunk


async def assembled(
    metainfo: Metainfo, run: range, chunks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[tuple[int, bytes], None]:
    """The whole pieces of a stream that begins with the first of `run`."""
    buffer, index = bytearray(), run.start
    async with aclosing(chunks):
        async for chunk in chunks:
            buffer += chunk
            while index < run.stop and len(buffer) >= (size := metainfo.piece_size(index)):
                yield index, bytes(memoryview(buffer)[:size])
                del buffer[:size]
                index += 1
