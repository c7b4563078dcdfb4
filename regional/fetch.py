"""One content's way over the WAN into the cache: only what is missing, verified before anybody may read it.

With metainfo every piece is checked as it arrives, written, and offered to the swarms at once (cut-through); a restart
re-verifies the partial file and fetches the rest. What other contents of the tenant hold of it does not cross (see
`reuse`). Without metainfo (small contents) the whole is checked before it counts.

Invariant: `run` returns only after the digest over the whole content was verified and published; every byte that
crossed the WAN was counted, also those of attempts that failed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain

import structlog

from common import byte_parts
from common.backoff import Backoff
from common.bittorrent import metainfo as torrents
from common.bittorrent import recheck
from common.bittorrent.metainfo import Metainfo
from common.bittorrent.reuse_files import Composer
from common.byte_ranges import Span
from common.digest import Digest, DigestMismatch
from common.errors import TooLarge
from regional.abreast import abreast, portions
from regional.centre import BodyCut, Centre, CentreBody, CentreRefused
from regional.crossings import Crossings
from regional.directory import ContentDirectory, DiskFailed
from regional.links import RegionalLinks
from regional.model import ContentKey
from regional.pieces import OfferLine, Spawn, append_all, assembled, read_ahead
from regional.progress import Progress
from regional.reuse import Reuse
from regional.rights import Rights
from regional.seeding import Seeding

log = structlog.get_logger()

# Tries in a row that bring nothing new; after them the caller's longer delays take over.
_FRUITLESS_TRIES = 3
# What has no swarm is small (1 MiB by default); this bound only stops a centre that lies about it.
_WHOLE_BYTES = 1 << 30
# Asking for parts costs twelve bytes each on the way up, so nearly everything that is here is worth it.
_MOST_ABSENT = 0.9


class PieceFalse(BodyCut):
    """The centre sent a piece that is not the content's; it was dropped."""

    code = "piece_false"


@dataclass(frozen=True, slots=True)
class FetchParts:
    """What every fetch works with. `admit` makes room in the cache for so many bytes or raises; `moved` hears of every
    verified piece. `reuse` None: everything is fetched.
    """

    directory: ContentDirectory
    centre: Centre
    seeding: Seeding
    crossings: Crossings
    random: Callable[[], float]
    admit: Callable[[Digest, int], Awaitable[None]]
    moved: Callable[[Digest], None]
    spawn: Spawn
    links: RegionalLinks
    reuse: Reuse | None = None


@dataclass
class Fetch:
    """State of one content while it is not held; lives over several runs, so that nothing is verified twice."""

    digest: Digest
    parts: FetchParts
    rights: Rights = field(default_factory=Rights)
    progress: Progress = field(default_factory=Progress)
    swarms: dict[ContentKey, Metainfo] = field(default_factory=dict)
    expected_bytes: int = 0
    # The partial file was made by this process; what is laid into it at first is not offered piece by piece.
    _fresh: bool = False
    _offered: bool = False

    def expect(self, key: ContentKey, metainfo: Metainfo) -> None:
        """A tenant's swarm wants the pieces. Raises `MetainfoInvalid` if it speaks of other bytes than the first."""
        for other in self.swarms.values():
            if (other.pieces_root, other.length) != (metainfo.pieces_root, metainfo.length):
                raise torrents.MetainfoInvalid(f"the tenants' metainfo of {self.digest} disagree")
            break
        self.swarms[key] = metainfo

    async def seed(self, key: ContentKey) -> None:
        """Offer what there is in a tenant's swarm, if the file exists; `run` does it for those expected before."""
        if self._offered and key in self.swarms:
            await self.parts.seeding.join(key, self.swarms[key], self.progress.verified)

    async def run(self) -> None:
        """Returns when the content is held. Raises what hinders it; what was verified until then is kept."""
        metainfo = next(iter(self.swarms.values()), None)
        if metainfo is None:
            await self._persist(self._whole)
        else:
            await self._begin(metainfo)
            async with self._reusing(metainfo) as composer:
                self._offered = True
                for key in list(self.swarms):
                    await self.seed(key)
                while self.progress.missing():
                    await self._persist(lambda: self._round(metainfo, composer))
            await self._publish(metainfo)

    async def _persist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Repeat `attempt` while it brings something new or another token may do better."""
        backoff = Backoff(self.parts.random, initial_seconds=0.2, cap_seconds=2.0)
        while True:
            before = self.progress.held_bytes
            key, token = self.rights.best()
            try:
                await attempt()
                return
            except CentreRefused:
                self.rights.refuse(token)
            except BodyCut as failure:
                fruitful = self.progress.held_bytes > before
                log.warning("fetch interrupted", digest=str(self.digest), tenant=key.tenant_id, error=str(failure))
                if fruitful:
                    backoff.reset()
                elif backoff.failures + 1 >= _FRUITLESS_TRIES:
                    raise
                await asyncio.sleep(backoff.next_delay())
            finally:
                await self.parts.crossings.save(key)

    async def _begin(self, metainfo: Metainfo) -> None:
        """Reserve the file, and learn what of it is good."""
        if self.progress.size is None:
            self.expected_bytes = metainfo.length
            await self.parts.admit(self.digest, metainfo.length)
            existed = await asyncio.to_thread(self.parts.directory.reserve, self.digest, metainfo.length)
            have: frozenset[int] = frozenset()
            if existed:
                have = await self._recheck(metainfo)
                log.info("fetch resumed", digest=str(self.digest), pieces=metainfo.piece_count, held=len(have))
            self._fresh = not existed
            self.progress.begin(metainfo.length, metainfo.piece_length, have)

    @asynccontextmanager
    async def _reusing(self, metainfo: Metainfo) -> AsyncIterator[Composer | None]:
        """With what is here already laid into the file."""
        if self.parts.reuse is None or not self.progress.missing():
            yield None
            return
        key, token = self.rights.best()
        async with self.parts.reuse.of(key, token, metainfo, fresh=self._fresh) as composer:
            if composer is not None:
                before = self.progress.held_bytes
                try:
                    await self._lay(metainfo, composer)
                except OSError as error:
                    log.warning("no more reused", digest=str(self.digest), error=str(error))
                self.parts.reuse.reused_bytes += self.progress.held_bytes - before
            yield composer

    async def _lay(self, metainfo: Metainfo, composer: Composer) -> None:
        for index in await asyncio.to_thread(composer.local, chain(*self.progress.missing())):
            if not self._offered:
                if await asyncio.to_thread(composer.copy, index):
                    self._mark(index)
            elif (piece := await asyncio.to_thread(composer.compose, index, b"")) and await self._keep(
                metainfo, index, piece
            ):
                await self.parts.seeding.offer_piece(self.digest, index, piece)
        log.info("pieces reused", digest=str(self.digest), held_bytes=self.progress.held_bytes)

    async def _recheck(self, metainfo: Metainfo) -> frozenset[int]:
        try:
            return await recheck.verify_file(self.parts.directory.partial_path(self.digest), metainfo)
        except OSError as error:
            raise DiskFailed(f"the partial file of {self.digest} cannot be read: {error.strerror}") from error

    async def _round(self, metainfo: Metainfo, composer: Composer | None) -> None:
        """Ask once for the parts of pieces that are here in part, and for each run of missing pieces."""
        key, token = self.rights.best()
        if composer is not None:
            for batch in await asyncio.to_thread(composer.batches, chain(*self.progress.missing()), _MOST_ABSENT):
                await self._complete(metainfo, composer, batch, key, token)
        requests = portions(self.progress.missing(), metainfo.piece_length)
        false_pieces = await abreast(requests, lambda run: self._run(metainfo, run, key, token))
        if false_pieces:
            raise PieceFalse(f"the centre sent {false_pieces} false pieces of {self.digest}; they were dropped")

    async def _run(self, metainfo: Metainfo, run: range, key: ContentKey, token: str) -> int:
        """Fetch adjacent pieces with one request; how many of them were false. Raises `BodyCut` and the centre's."""
        span = Span(run.start * metainfo.piece_length, min(run.stop * metainfo.piece_length, metainfo.length))
        sizes = [(index, metainfo.piece_size(index)) for index in run]
        content = self.parts.centre.content(self.digest, token, span)
        return await self._receive(metainfo, content, sizes, key, lambda _, piece: piece)

    async def _complete(
        self, metainfo: Metainfo, composer: Composer, batch: list[int], key: ContentKey, token: str
    ) -> None:
        """Fetch what these pieces lack with one request. Those that are false all the same are fetched whole after."""
        absent = [(index, composer.absent(index)) for index in batch]
        sizes = [(index, byte_parts.total(spans)) for index, spans in absent]
        parts = self.parts.centre.parts(self.digest, token, [span for _, spans in absent for span in spans])
        await self._receive(metainfo, parts, sizes, key, composer.compose)

    async def _receive(
        self,
        metainfo: Metainfo,
        answer: AbstractAsyncContextManager[CentreBody],
        sizes: list[tuple[int, int]],
        key: ContentKey,
        compose: Callable[[int, bytes], bytes | None],
    ) -> int:
        """Keep the pieces that `compose` makes of the answer's bytes; how many were false."""
        false_pieces = taken = 0
        offer = functools.partial(self.parts.seeding.offer_piece, self.digest)
        async with OfferLine(self.parts.spawn, f"offer {self.digest}", offer) as line, answer as body:
            with self.parts.crossings.metering(key, body.received) as metered:
                pieces = assembled(
                    sizes, read_ahead(self.parts.spawn, f"read {self.digest}", self.parts.links.paced(key, body.chunks))
                )
                async with aclosing(pieces):
                    async for index, data in pieces:
                        metered()
                        await self.parts.crossings.save(key)
                        piece = await asyncio.to_thread(compose, index, data)
                        if piece is not None and await self._keep(metainfo, index, piece):
                            await line.put(index, piece)
                            if self.parts.reuse is not None:
                                self.parts.reuse.reused_bytes += len(piece) - len(data)
                        else:
                            false_pieces += 1
                        taken += 1
        if taken < len(sizes):
            raise BodyCut(f"the centre's answer for {self.digest} ended early")
        return false_pieces

    async def _keep(self, metainfo: Metainfo, index: int, piece: bytes) -> bool:
        """Verify and write one piece; whether it was true."""
        if not await asyncio.to_thread(self._verify_and_write, metainfo, index, piece):
            log.warning("false piece dropped", digest=str(self.digest), piece=index)
            return False
        self._mark(index)
        return True

    def _mark(self, index: int) -> None:
        self.progress.mark(index)
        self.parts.moved(self.digest)

    def _verify_and_write(self, metainfo: Metainfo, index: int, piece: bytes) -> bool:
        if not torrents.verify_piece(metainfo, index, piece):
            return False
        self.parts.directory.write(self.digest, index * metainfo.piece_length, piece)
        return True

    async def _publish(self, metainfo: Metainfo) -> None:
        """The pieces are the metainfo's; whether they are the digest's is decided here."""
        actual = await asyncio.to_thread(self.parts.directory.hash_partial, self.digest)
        try:
            self.digest.verify(actual)
        except DigestMismatch:
            await self._start_over()
            raise
        await asyncio.to_thread(self.parts.directory.publish, self.digest)

    async def _whole(self) -> None:
        """Fetch everything, with no pieces to check on the way."""
        key, token = self.rights.best()
        hasher = self.digest.hasher()
        async with self.parts.centre.content(self.digest, token) as body:
            if body.total > _WHOLE_BYTES:
                raise TooLarge(f"{self.digest} has {body.total} bytes and no metainfo", action="let the centre make it")
            self.expected_bytes = body.total
            await self.parts.admit(self.digest, body.total)
            await asyncio.to_thread(self.parts.directory.reserve, self.digest, body.total)
            self.progress.begin(body.total, body.total, ())
            with self.parts.crossings.metering(key, body.received):
                chunks = self.parts.links.paced(key, body.chunks)
                await append_all(functools.partial(self.parts.directory.write, self.digest), hasher, chunks)
        try:
            self.digest.verify(hasher.digest())
        except DigestMismatch:
            await self._start_over()
            raise
        await asyncio.to_thread(self.parts.directory.publish, self.digest)
        self.progress.mark(0)

    async def _start_over(self) -> None:
        log.error("content is not what its digest says, discarded", digest=str(self.digest))
        self.progress.restart()
        self._offered = False
        await self.parts.seeding.leave(self.digest)
        await asyncio.to_thread(self.parts.directory.discard_partial, self.digest)
