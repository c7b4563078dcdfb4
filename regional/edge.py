"""The IDC's content cache: one crossing of the WAN per content, whoever asks and however many.

Orders and on-demand reads meet here: the first to want a content starts its fetch, all others join it. What is held is
served until it is evicted, also while the centre is away.

Invariants: at most one fetch per digest runs; nothing is read before it was verified; a content that fails is asked of
the centre again only after its delay (see `cooldown`), with what is verified kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import BinaryIO

import structlog

from common.bittorrent import SMALLEST_SWARM_BYTES
from common.bittorrent.metainfo import Metainfo, MetainfoInvalid
from common.clock import Clock
from common.content_statement import StatementInvalid
from common.digest import Digest, DigestMismatch
from common.errors import Failure, Internal
from common.turns import Turns
from regional.centre import Centre
from regional.cooldown import Cooldown
from regional.crossings import Crossings
from regional.directory import ContentDirectory, DiskFull
from regional.fetch import Fetch, FetchParts
from regional.links import RegionalLinks
from regional.metainfos import Metainfos
from regional.model import ContentKey
from regional.pieces import Spawn
from regional.progress import StillFetching
from regional.reader import WAIT_SECONDS, Reader
from regional.reuse import Reuse
from regional.rights import NoRight
from regional.seeding import Seeding
from regional.shelf import Shelf

log = structlog.get_logger()

# A few streams fill a WAN link; more would only spread it over contents that all end later.
_LARGE_AT_ONCE = 4
_SMALL_AT_ONCE = 16


class FetchBroken(Internal):
    """A defect of ours ended a fetch; the log has its trace."""

    code = "fetch_broken"


class Edge:
    """`swarm_bytes`: contents known to be smaller have no swarm, as the centre says.

    `changed` is told each digest whose state moved; `evicted` each metainfo whose content left; `arrived` each digest
    of which more may be read, for leases.
    """

    def __init__(
        self,
        directory: ContentDirectory,
        shelf: Shelf,
        centre: Centre,
        metainfos: Metainfos,
        seeding: Seeding,
        clock: Clock,
        random: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        self._directory = directory
        self._shelf = shelf
        self._metainfos = metainfos
        self._seeding = seeding
        self._spawn = spawn
        self.swarm_bytes = SMALLEST_SWARM_BYTES
        self.crossings = Crossings(directory)
        self.changed: Callable[[Digest], None] = lambda _: None
        self.evicted: Callable[[Metainfo], None] = lambda _: None
        self.arrived: Callable[[Digest], None] = lambda _: None
        self.reuse = Reuse(directory, centre, self.crossings, shelf, metainfos)
        self.links = RegionalLinks(clock)
        self._parts = FetchParts(
            directory, centre, seeding, self.crossings, random, shelf.admit, self._moved, spawn, self.links, self.reuse
        )
        self._cooldown: Cooldown[Digest] = Cooldown(clock, random)
        self._fetches: dict[Digest, Fetch] = {}
        self._running: dict[Digest, asyncio.Task[None]] = {}
        self._demanded: set[ContentKey] = set()
        self._turns = Turns(_LARGE_AT_ONCE, _SMALL_AT_ONCE)
        shelf.evict = self._evict
        shelf.fetching = self._running.__contains__

    async def start(self) -> None:
        """Take over what earlier processes left, and seed what is whole. Call once, before anything else."""
        await asyncio.to_thread(self._directory.prepare)
        await asyncio.to_thread(self._directory.clear_swarms)
        await self._shelf.load()
        self._spawn("water marks", self._shelf.keep_low())
        await self._metainfos.load()
        for key, metainfo in self._metainfos.known().items():
            if metainfo is not None and self._shelf.size(key.digest) is not None:
                await self._seeding.join(key, metainfo, None)

    def held_bytes(self, digest: Digest) -> int:
        """Verified bytes, of the whole or of what is there."""
        size = self._shelf.size(digest)
        if size is not None:
            return size
        fetch = self._fetches.get(digest)
        return fetch.progress.held_bytes if fetch else 0

    def holds(self, digest: Digest) -> bool:
        return self._shelf.size(digest) is not None

    def readable(self, digest: Digest) -> tuple[int | None, Failure | None]:
        """The mask of verified pieces, None for all; and why no more are coming, if they are not."""
        if self._shelf.size(digest) is not None:
            return None, None
        fetch = self._fetches.get(digest)
        return (0, None) if fetch is None else (fetch.progress.mask, fetch.progress.failure)

    async def open_held(self, digest: Digest) -> BinaryIO | None:
        """The whole content's file, to be closed by the caller; None if it is not held."""
        if not self.holds(digest):
            return None
        return await asyncio.to_thread(self._directory.open, digest)

    def is_fetching(self, digest: Digest) -> bool:
        return digest in self._running

    async def hold(self, key: ContentKey, token: str, size_bytes: int | None = None, *, ordered: bool = False) -> None:
        """Returns when the content is held and, where it has a swarm, offered in its tenant's. Raises what hinders."""
        metainfo = await self._metainfo(key, token, size_bytes)
        while (fetch := await self._seek(key, token, metainfo, ordered=ordered)) is not None:
            if (task := self._running.get(key.digest)) is not None:
                # Waiting for the set, not for the task: whoever stops waiting must not stop the fetch of the others.
                await asyncio.wait({task})
            if fetch.progress.failure is not None:
                raise fetch.progress.failure
            if fetch.progress.complete:
                break  # also if it has left already: it is not worth a second crossing of the WAN
        if metainfo is not None:
            await self._seeding.join(key, metainfo, None)

    async def open(self, key: ContentKey, token: str) -> Reader:
        """Read it: whole if it is held, else as it arrives; starts its fetch if need be. Close the reader.

        Raises what hinders, unless the bytes that are there already may be what is asked for.
        """
        fetch = None
        if self._shelf.size(key.digest) is None:
            self._shelf.misses += 1
            try:
                fetch = await self._seek(key, token, await self._metainfo(key, token, None))
            except Failure:
                fetch = self._fetches.get(key.digest)
                if fetch is None or fetch.progress.size is None:
                    raise
        if fetch is not None:
            return await self._reader(key.digest, await fetch.progress.wait_begun(WAIT_SECONDS), fetch)
        self._shelf.hits += 1
        await self._shelf.used(key.digest)
        return await self._reader(key.digest, self._shelf.size(key.digest), None)

    def demand(self, key: ContentKey, token: str) -> None:
        """Somebody in the IDC looks for it: begin to hold it, waiting for nothing. Harmless to repeat."""
        seeded = self._shelf.size(key.digest) is not None and self._seeding.seeds(key)
        if seeded or key in self._demanded:
            return
        self._demanded.add(key)
        self._spawn(f"demand {key.digest}", self._hold_quietly(key, token))

    async def used(self, digest: Digest) -> None:
        """Its swarm is alive: not a content to evict first."""
        await self._shelf.used(digest)

    def stand_still(self, digest: Digest) -> None:
        """End its fetch if nobody wants it now; what is verified stays. Whoever waits for it is not disturbed, for then
        somebody wants it.
        """
        if digest in self._running and self.links.paused(digest):
            self._running[digest].cancel()

    def retry_now(self) -> None:
        """The centre is back, or tokens are new: forget all delays."""
        self._cooldown.clear()
        self._metainfos.retry_now()
        self._seeding.retry_now()

    async def _hold_quietly(self, key: ContentKey, token: str) -> None:
        try:
            await self.hold(key, token)
        except Failure as failure:
            log.info("demand not met", digest=str(key.digest), tenant=key.tenant_id, error=str(failure))
        finally:
            self._demanded.discard(key)

    async def _metainfo(self, key: ContentKey, token: str, size_bytes: int | None) -> Metainfo | None:
        if size_bytes is not None and size_bytes < self.swarm_bytes:
            return None
        self._seeding.permit(key, token)
        try:
            return await self._metainfos.get(key, token)
        except (StatementInvalid, MetainfoInvalid):
            # It is said already (metainfos.py): nothing may be swarmed, and the whole digest decides on the bytes.
            return None

    async def _seek(
        self, key: ContentKey, token: str, metainfo: Metainfo | None, *, ordered: bool = False
    ) -> Fetch | None:
        """The running fetch of a content, started if need be; None if it is held.

        Raises the last failure while it is too soon to try again.
        """
        await self.crossings.load(key)
        # From here to the running task nothing awaits, so of many callers one starts it and all find it.
        if self._shelf.size(key.digest) is not None:
            return None
        fetch = self._fetches.get(key.digest)
        if fetch is None:
            fetch = self._fetches[key.digest] = Fetch(key.digest, self._parts)
        fetch.rights.offer(key, token, ordered=ordered)
        if metainfo is not None:
            fetch.expect(key, metainfo)
        self._run(fetch)
        await fetch.seed(key)
        return fetch

    def _run(self, fetch: Fetch) -> None:
        if fetch.digest not in self._running:
            self._cooldown.check(fetch.digest)
            fetch.progress.attempting()
            self._running[fetch.digest] = self._spawn(f"fetch {fetch.digest}", self._attempt(fetch))

    async def _attempt(self, fetch: Fetch) -> None:
        digest = fetch.digest
        try:
            async with self._turns.turn(lambda: self.links.lower(digest), large=bool(fetch.swarms)):
                self._moved(digest)
                with self.links.fetching(digest):
                    await self._fetch(fetch)
            self._cooldown.succeeded(digest)
            self._fetches.pop(digest, None)
            log.info("content held", digest=str(digest), bytes=fetch.progress.size)
        except Failure as failure:
            # A refused token says nothing of the next one, and it is not shown to the centre again.
            if not isinstance(failure, NoRight):
                self._cooldown.failed(digest, failure)
            fetch.progress.fail(failure)
            log.warning("fetch failed", digest=str(digest), error=str(failure))
        except Exception:
            log.exception("fetch broke", digest=str(digest))
            broken = FetchBroken(f"a defect ended the fetch of {digest}", action="report it with the regional's log")
            self._cooldown.failed(digest, broken)
            fetch.progress.fail(broken)
        finally:
            self._running.pop(digest, None)
            self._moved(digest)

    async def _fetch(self, fetch: Fetch) -> None:
        digest = fetch.digest
        try:
            try:
                await fetch.run()
            except DiskFull:
                # What nobody ordered goes first; then once more.
                if not await self._shelf.make_room(fetch.expected_bytes):
                    raise
                await fetch.run()
        except DigestMismatch:
            # The metainfo led to false bytes, so it is false as well.
            self._shelf.discarded(digest)
            self._forget_metainfos(digest)
            self._fetches.pop(digest, None)
            await asyncio.to_thread(self._directory.remove, digest)
            raise
        self._shelf.published(digest, fetch.expected_bytes)

    async def _reader(self, digest: Digest, size: int | None, fetch: Fetch | None) -> Reader:
        file = await asyncio.to_thread(self._directory.open, digest)
        if file is None or size is None:
            raise StillFetching(f"{digest} has just left the cache", action="ask again", retry_after_seconds=1)
        return Reader(file, size, fetch.progress if fetch else None)

    async def _evict(self, digest: Digest) -> None:
        await self._seeding.leave(digest)
        self._forget_metainfos(digest)
        self._fetches.pop(digest, None)
        self.crossings.forget(digest)
        await asyncio.to_thread(self._directory.remove, digest)
        self._moved(digest)

    def _forget_metainfos(self, digest: Digest) -> None:
        for metainfo in self._metainfos.forget(digest):
            self.evicted(metainfo)

    def _moved(self, digest: Digest) -> None:
        self.changed(digest)
        self.arrived(digest)
