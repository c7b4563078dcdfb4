"""A content on this host: from the cache, else from the swarm, else from a regional, else from the centre.

Invariants: one fetch per digest runs, whoever waits for it; nobody sees a content before its whole digest matched; what
was gathered survives failures and restarts and is not fetched again; a full disk is made room on (least recently used
first, never what is assigned) before it is a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any, Protocol

import structlog

from agent.cache import ContentCache, DiskFull
from agent.content_http import ContentHttp, Source, SourceBusy
from agent.desired import DesiredBook
from agent.eviction import Eviction
from agent.flights import Flight
from agent.ledger import ContentKey, Ledger
from agent.links import HostLinks
from agent.model import Content, Effort
from agent.swarm_download import Patience, SwarmDownload
from agent.swarms import Member, Swarms
from agent.urgent_piece import bring_piece
from agent.whole_download import RightExpired, WholeDownload
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.content_statement import ClaimedMetainfo
from common.digest import Digest, DigestMismatch
from common.errors import Failure, Internal, Invalid, Unavailable
from common.turns import Turns

log = structlog.get_logger()

_LARGE_AT_ONCE = 4
_SMALL_AT_ONCE = 8
# How long a content's metainfo is waited for while it is computed; then the content goes by HTTP.
_METAINFO_SECONDS = 10.0


class Spawn(Protocol):
    """`Lifecycle.spawn`."""

    def __call__(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class FetchAbandoned(Unavailable):
    """Nobody waits for it any more."""

    code = "fetch_abandoned"


class FetchBroken(Internal):
    code = "fetch_broken"


class Fetcher:
    """`token_rejected` is called when every source rejected a content's token: new ones come with a new full set.
    `metainfo_refused` when a source sent one that is not the content's, or has no valid statement. `filling` tells what
    there is of a content that is put together from others (`Reuse.held_bytes`).
    """

    def __init__(
        self,
        cache: ContentCache,
        swarms: Swarms,
        http: ContentHttp,
        book: DesiredBook,
        ledger: Ledger,
        clock: Clock,
        random: Callable[[], float],
        spawn: Spawn,
        *,
        patience: Patience | None = None,
        peer: str = "",
        links: HostLinks | None = None,
    ) -> None:
        """`peer`: where other hosts reach our BitTorrent peer, `address:port`. `links` None: nothing is limited."""
        self._cache = cache
        self._swarms = swarms
        self._http = http
        self._book = book
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._spawn = spawn
        self._patience = patience or Patience()
        self._peer = peer
        self._flights: dict[Digest, Flight] = {}
        self.eviction = Eviction(cache, self._kept, swarms.leave_content)
        self._false_swarms: set[ContentKey] = set()
        self._links = links
        self._turns = Turns(_LARGE_AT_ONCE, _SMALL_AT_ONCE)
        self._whole = WholeDownload(cache, http, ledger, clock, random, self.sources, self._token)
        self.filling: Callable[[ContentKey], int | None] = lambda key: None
        self.token_rejected: Callable[[], None] = lambda: None
        self.metainfo_refused: Callable[[ContentKey, Source, Failure], None] = lambda key, source, failure: None

    def sources(self) -> Sequence[Source]:
        """Who can be asked over HTTP, best first."""
        regionals = [Source("regional", one.content_url) for one in self._book.endpoints if one.content_url]
        return [*regionals, Source("centre", self._book.centre_url)]

    def held_bytes(self, content: Content, tenant_id: str) -> int:
        member = self._swarms.member((tenant_id, content.digest))
        if member is not None:
            return member.handle.status().held_bytes
        filling = self.filling((tenant_id, content.digest))
        if filling is not None:
            return min(filling, content.size_bytes)
        try:
            return min(self._cache.partial(content.digest).stat().st_size, content.size_bytes)
        except FileNotFoundError:
            return 0

    async def fetch(self, content: Content, tenant_id: str) -> None:
        """Returns when the content is verified in the cache. Raises `FetchFailed`, `RightExpired` or `DiskFull`."""
        if self._cache.find(content.digest) is not None:
            return
        async with self.aboard(content, tenant_id) as flight:
            await asyncio.shield(flight.landed)

    @asynccontextmanager
    async def aboard(self, content: Content, tenant_id: str) -> AsyncIterator[Flight]:
        """The fetch of a content, begun if there is none; it goes on while anybody is aboard."""
        flight = self._flights.get(content.digest)
        if flight is None:
            flight = self._flights[content.digest] = Flight()
            work = self._fly(content, (tenant_id, content.digest), flight)
            flight.task = self._spawn(f"fetch {content.digest}", work)
        flight.aboard += 1
        try:
            yield flight
        finally:
            flight.aboard -= 1
            if not flight.aboard and flight.task is not None and not flight.landed.done():
                flight.task.cancel()

    async def bring(self, content: Content, tenant_id: str, member: Member, index: int) -> None:
        """One piece that a reader waits for, beside the swarm."""
        key = (tenant_id, content.digest)
        await bring_piece(self._paced(key), self._ledger, self.sources(), key, self._token(key), member, index)

    async def _fly(self, content: Content, key: ContentKey, flight: Flight) -> None:
        try:
            large = content.size_bytes >= self._book.swarm_bytes
            async with self._turns.turn(lambda: self._lower(key), large=large):
                began = self._clock.monotonic()
                with self._links.flow(key) if self._links is not None else nullcontext():
                    await self._obtain(content, key, flight)
            flight.landed.set_result(None)
            took = round(self._clock.monotonic() - began, 4)
            origin = asdict(self._ledger.provenance(*key))
            log.info("content held", digest=str(content.digest), bytes=content.size_bytes, seconds=took, **origin)
        except (Failure, OSError, TimeoutError) as error:
            if isinstance(error, RightExpired):
                self.token_rejected()
            flight.fail(error)
        except Exception:
            # A defect that one content brings to light must not end the work on all others.
            log.exception("fetch broken", digest=str(content.digest))
            flight.fail(FetchBroken(f"a defect ended the fetch of {content.digest}", action="report it; see the log"))
        finally:
            if self._flights.get(content.digest) is flight:
                del self._flights[content.digest]
            if not flight.landed.done():
                flight.fail(FetchAbandoned(f"the fetch of {content.digest} was given up"))

    async def _obtain(self, content: Content, key: ContentKey, flight: Flight) -> None:
        if content.digest in self._cache.held:
            return
        metainfo = await self._metainfo(content, key)
        await self._make_room(content, metainfo)
        if metainfo is not None and await self._from_swarm(content, key, metainfo, flight):
            return
        await replace(self._whole, http=self._paced(key)).run(content, key)

    def _lower(self, key: ContentKey) -> bool:
        return self._book.effort(*key) is not Effort.ORDINARY

    def _paced(self, key: ContentKey) -> ContentHttp:
        return self._http if self._links is None else self._links.paced(self._http, key)

    async def _from_swarm(self, content: Content, key: ContentKey, metainfo: Metainfo, flight: Flight) -> bool:
        """False: there is no way through the swarm, or its bytes are not the content's; it must come another way."""
        try:
            member = await self._swarms.join(key, metainfo, self.trackers(key))
        except (Failure, TimeoutError) as error:
            if isinstance(error, Failure) and error.code == DiskFull.code:
                raise
            log.error("swarm not joined", digest=str(key[1]), error=str(error))
            return False
        flight.comes_from(member)
        await SwarmDownload(
            content=content,
            key=key,
            member=member,
            http=self._paced(key),
            ledger=self._ledger,
            clock=self._clock,
            random=self._random,
            endpoints=lambda: self._book.endpoints,
            sources=self.sources,
            token=self._token,
            patience=self._patience,
            peer=self._peer,
        ).run()
        try:
            await self._cache.publish(content.digest, content.size_bytes, self._swarms.path(metainfo))
        except DigestMismatch as failure:
            log.error("the swarm's bytes are not the content's, discarded", digest=str(key[1]), error=str(failure))
            self._false_swarms.add(key)
            flight.comes_from(None)
            await self._swarms.leave(key)
            return False
        return True

    async def _metainfo(self, content: Content, key: ContentKey) -> Metainfo | None:
        """None: by HTTP. What earlier processes knew is used without asking."""
        if content.size_bytes < self._book.swarm_bytes or key in self._false_swarms:
            return None
        # Without a regional too: the centre leases pieces, and the hosts share them.
        return self._swarms.metainfo(key) or await self.find_metainfo(content, key)

    async def find_metainfo(self, content: Content, key: ContentKey) -> Metainfo | None:
        """Ask for it, and keep it if its statement holds. None if there is none, or nobody can tell in time."""
        for source in self.sources():
            try:
                async with asyncio.timeout(_METAINFO_SECONDS):
                    claimed = await self._ask(source, key)
                if claimed is None:
                    return None
                accept = self._book.statements.accept
                signed = await asyncio.to_thread(accept, claimed, *key, content.size_bytes)
            except Invalid as failure:
                self.metainfo_refused(key, source, failure)
                continue
            except (Failure, TimeoutError) as error:
                log.warning("no metainfo from", source=str(source), digest=str(key[1]), error=str(error))
                continue
            await self._swarms.remember(key, signed.metainfo)
            return signed.metainfo
        return None

    async def _ask(self, source: Source, key: ContentKey) -> ClaimedMetainfo | None:
        while True:
            try:
                return await self._paced(key).metainfo(source, key[1], self._token(key))
            except SourceBusy as failure:
                await self._clock.sleep(failure.retry_after_seconds * (0.5 + 0.5 * self._random()))

    async def _make_room(self, content: Content, metainfo: Metainfo | None) -> None:
        """Raises `DiskFull` when evicting all that nobody wants is not enough."""
        path = self._swarms.path(metainfo) if metainfo is not None else self._cache.partial(content.digest)
        try:
            gathered = path.stat().st_blocks * 512
        except FileNotFoundError:
            gathered = 0
        needed = max(content.size_bytes - gathered, 0)
        await self.eviction.make_room(needed)

    def _kept(self) -> frozenset[Digest] | None:
        """What must not leave the cache; None while it is not known."""
        if not self._book.current.known:
            return None
        return frozenset({digest for _, digest in self._book.assigned()} | self._flights.keys())

    def trackers(self, key: ContentKey) -> list[str]:
        query = f"token={self._token(key)}&digest={key[1]}"
        return [f"{one.swarm_url}/announce?{query}" for one in self._book.endpoints if one.swarm_url]

    def _token(self, key: ContentKey) -> str:
        return self._book.token(*key)
