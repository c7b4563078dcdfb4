"""Watching one torrent until it is whole: leased pieces from a source, everything else from peers.

A source (the regional, or the centre of an IDC without one) leases each host pieces that nobody else has or fetches
(agent/leases.py); hosts give them to each other. Measured with 4 hosts whose regional has the narrow uplink: its
BitTorrent peer sent duplicates, 24.7 s where 16.1 s were possible. Help for a swarm that stands still comes in steps:
after some seconds without a byte the regional's own peer is dialled, after more, or at once when no source
leases anything, missing pieces are fetched by range, from the regionals and then from the centre.

Invariant: while a regional says that it is fetching the content itself, the centre is not asked: a slow WAN is no
reason to cross it twice. Nothing that is held is fetched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from agent.content_http import ContentHttp, Source, SourceFetching
from agent.leases import LeasedFetch, assembled, counted
from agent.ledger import ContentKey, Ledger
from agent.model import Content, RegionalEndpoint
from agent.swarms import Member
from agent.whole_download import summary
from common.bittorrent import TorrentStatus
from common.clock import Clock
from common.errors import Failure

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a byte until each kind of help, and until giving up for the caller to retry.

    fetching_seconds: how long a regional that is fetching the content itself is waited for. centre_seconds: how long
    regionals fail before the centre leases.
    """

    poll_seconds: float = 0.5
    regional_peer_seconds: float = 5.0
    range_seconds: float = 20.0
    give_up_seconds: float = 90.0
    fetching_seconds: float = 600.0
    reconnect_seconds: float = 1.0
    centre_seconds: float = 2.0
    batch_bytes: int = 8 << 20


@dataclass
class SwarmDownload:
    """`endpoints`, `sources`, `token`: asked anew each time, because all of them change while a download goes on.

    peer: where our BitTorrent peer listens, `address:port`.
    """

    content: Content
    key: ContentKey
    member: Member
    http: ContentHttp
    ledger: Ledger
    clock: Clock
    random: Callable[[], float]
    endpoints: Callable[[], Sequence[RegionalEndpoint]]
    sources: Callable[[], Sequence[Source]]
    token: Callable[[ContentKey], str]
    patience: Patience = Patience()
    peer: str = ""
    _leased: LeasedFetch = field(init=False)
    _delivered: int = 0
    _delivered_at: float = 0.0
    _filled_at: float = 0.0
    _connected_at: float = float("-inf")

    def __post_init__(self) -> None:
        self._leased = LeasedFetch(
            self.content.digest,
            self.key,
            self.member,
            self.http,
            self.ledger,
            self.clock,
            self.random,
            self.sources,
            self.token,
            self.peer,
            self.patience.centre_seconds,
        )

    async def run(self) -> None:
        """Returns when every piece is in the file. Raises `FetchFailed`, `RightExpired`, or what the torrent raises
        (a full disk); the torrent stays, for the next try to go on from.
        """
        self._delivered_at = self._filled_at = self.clock.monotonic()
        self._delivered = self._arrived()
        try:
            async with asyncio.TaskGroup() as group:
                leasing = group.create_task(self._leased.run())
                ends = [group.create_task(self._complete()), group.create_task(self._tend())]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in (leasing, *ends):
                    task.cancel()
        finally:
            self.count()
        failures = [task.result() for task in ends if not task.cancelled()]
        if failures and failures[0] is not None:
            raise failures[0]
        await self._leased.finished()

    def count(self) -> None:
        """Put what came since the last time into the ledger."""
        status = self.member.handle.status()
        before = self.member.counted
        self.member.counted = status
        self.ledger.count(
            self.key,
            regional=_from_regionals(status) - (_from_regionals(before) if before else 0),
            peers=status.from_agents_bytes - (before.from_agents_bytes if before else 0),
        )

    async def _complete(self) -> Failure | None:
        try:
            await self.member.handle.complete()
        except Failure as failure:
            return failure
        return None

    async def _tend(self) -> Failure | None:
        """Never returns None."""
        while True:
            self.count()
            silent = self._silent_seconds()
            if silent >= self.patience.regional_peer_seconds or self._leased.helpless:
                await self._dial_regionals()
            if silent >= self.patience.range_seconds or (self._leased.helpless and not self.endpoints()):
                failure = await self._fill()
                if failure is not None:
                    return failure
            await self.clock.sleep(self.patience.poll_seconds)

    def _silent_seconds(self) -> float:
        """Since anything came. Bytes of false pieces do not count."""
        now = self.clock.monotonic()
        arrived = self._arrived()
        if arrived > self._delivered:
            self._delivered, self._delivered_at = arrived, now
        return now - self._delivered_at

    def _arrived(self) -> int:
        return _from_swarm(self.member.handle.status()) + self._leased.gained_bytes

    async def _dial_regionals(self) -> None:
        """Peers that have everything, of which we make no use while leases and hosts serve us."""
        now = self.clock.monotonic()
        if now - self._connected_at < self.patience.reconnect_seconds:
            return
        self._connected_at = now
        for endpoint in self.endpoints():
            host, _, port = endpoint.peer_address.rpartition(":")
            if host and port.isdecimal():
                await self._try(self.member.handle.connect_peer(host.strip("[]"), int(port)), endpoint.peer_address)

    async def _try(self, call: Awaitable[None], where: str) -> None:
        try:
            await call
        except Failure as failure:
            log.info("swarm help not usable", digest=str(self.content.digest), where=where, error=str(failure))

    async def _fill(self) -> Failure | None:
        """Fetch one batch of missing pieces by range; a failure only when it is time to give up."""
        batch = await self._next_batch()
        if not batch:
            return None  # everything was given; the torrent is writing
        reasons: list[Failure] = []
        for source in self.sources():
            try:
                got = await self._fill_from(source, batch, reasons)
            except SourceFetching as failure:
                reasons.append(failure)
                if self.clock.monotonic() - self._last_progress() < self.patience.fetching_seconds:
                    return None
                continue
            if got:
                self._filled_at = self.clock.monotonic()
                return None
        if self.clock.monotonic() - self._last_progress() >= self.patience.give_up_seconds:
            return summary(self.content, reasons)
        await self.clock.sleep(self.patience.poll_seconds * (1 + 4 * self.random()))
        return None

    async def _fill_from(self, source: Source, batch: range, reasons: list[Failure]) -> int:
        """How many pieces it gave. Raises `SourceFetching` when it gave none for that reason."""
        got = 0
        try:
            async with aclosing(self._pieces(source, batch)) as pieces:
                async for index, piece in pieces:
                    await self.member.handle.add_piece(index, piece)
                    got += 1
        except SourceFetching:
            if not got:
                raise
        except Failure as failure:
            log.warning("source failed", source=str(source), digest=str(self.content.digest), error=str(failure))
            reasons.append(failure)
        return got

    async def _pieces(self, source: Source, batch: range) -> AsyncGenerator[tuple[int, bytes], None]:
        metainfo = self.member.metainfo
        start = batch.start * metainfo.piece_length
        end = min(batch.stop * metainfo.piece_length, metainfo.length)
        chunks = self.http.read(source, self.content.digest, self.token(self.key), start, end)
        async with aclosing(assembled(metainfo, batch, counted(self.ledger, self.key, source, chunks))) as pieces:
            async for index, piece in pieces:
                yield index, piece

    async def _next_batch(self) -> range:
        """Adjacent missing pieces from a random place on, so that hosts that fill at once fill different ones."""
        metainfo = self.member.metainfo
        held = await self.member.handle.have_pieces()
        missing = [index for index in range(metainfo.piece_count) if index not in held]
        if not missing:
            return range(0)
        first = missing[int(self.random() * len(missing))]
        last = first
        most = max(1, self.patience.batch_bytes // metainfo.piece_length)
        while last + 1 < metainfo.piece_count and last + 1 not in held and last + 1 - first < most:
            last += 1
        return range(first, last + 1)

    def _last_progress(self) -> float:
        return max(self._delivered_at, self._filled_at)


def _from_peers(status: TorrentStatus) -> int:
    return status.from_agents_bytes + status.from_regionals_bytes


def _from_regionals(status: TorrentStatus) -> int:
    return status.from_regionals_bytes


def _from_swarm(status: TorrentStatus) -> int:
    return _from_peers(status) - status.failed_bytes
