"""A new content put together from contents that this host holds already, before it takes part in the swarm: whole
pieces are copied, and of those that are here for the greater part the rest is fetched in small parts from the regional,
or from the centre when no regional answers.

Invariants: only contents of the same tenant are looked at, so that nobody learns from a fast fetch what others have
here; whose a held content is, is kept on disk, because it outlives its assignment. A piece counts after it was read
back and matched its Merkle root. Whatever fails here is fetched like any other piece.

Every host takes its parts from the regional, as no other host can give a part of a piece: with a share s absent and n
hosts that is n*s copies, where the swarm would take one and give every host the whole.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import structlog

from agent.cache import ContentCache
from agent.content_http import (
    BodyBroken,
    ContentAbsent,
    ContentHttp,
    Source,
    SourceAway,
    SourceBusy,
    SourceFetching,
    TokenRejected,
)
from agent.desired import DesiredBook
from agent.journal import Journal, failed_write_is_logged
from agent.ledger import ContentKey, Ledger
from common import byte_parts
from common.backoff import Backoff
from common.bittorrent import reuse, reuse_files
from common.bittorrent.merkle import zeros_root
from common.bittorrent.metainfo import Metainfo
from common.bittorrent.reuse_donors import Candidate, Stopped
from common.bittorrent.reuse_files import Composer
from common.clock import Clock
from common.digest import Digest
from common.errors import Failure

log = structlog.get_logger()

_RECORD = "owners"
# Of a piece: with more than this absent the swarm, which brings it whole, is the cheaper way.
_MOST_ABSENT = 0.5
# A regional that starts again needs some seconds.
_FRUITLESS_TRIES = 5
_FETCHING_TRIES = 20
# Contents remembered that are not held (yet).
_MOST_AWAITED = 256


class Reuse:
    """`http`: the routes for one content, as fast as its line and effort allow. `sources`: asked anew each time,
    because they change while a fetch goes on.
    """

    def __init__(
        self,
        cache: ContentCache,
        http: Callable[[ContentKey], ContentHttp],
        ledger: Ledger,
        journal: Journal,
        clock: Clock,
        random: Callable[[], float],
        sources: Callable[[], Sequence[Source]],
        book: DesiredBook,
    ) -> None:
        self._cache = cache
        self._http = http
        self._ledger = ledger
        self._journal = journal
        self._clock = clock
        self._random = random
        self._sources = sources
        self._book = book
        self._owners: dict[Digest, set[str]] = {}
        self._filling: dict[ContentKey, int] = {}

    async def load(self) -> None:
        """Call once, before anything else."""
        document = await self._journal.load_document(_RECORD)
        self._owners = {Digest.parse(digest): set(tenants) for digest, tenants in document.get("owners", {}).items()}

    async def fill(
        self, key: ContentKey, metainfo: Metainfo, path: Path, have: frozenset[int] | None
    ) -> frozenset[int] | None:
        """Which pieces the file at `path` holds afterwards; None, as in `have`: there is no file. Failures of sources
        and of the disk end it early, and are logged.
        """
        held = set(have or ())
        stop = threading.Event()
        self._filling[key] = sum(metainfo.piece_size(index) for index in held)
        try:
            await self._own(key)
            await self._fill(key, metainfo, path, held, stop, fresh=have is None)
        except (Failure, OSError, TimeoutError, Stopped) as error:
            log.warning("no more reused", digest=str(key[1]), error=str(error) or type(error).__name__)
        finally:
            stop.set()
            self._filling.pop(key, None)
        return have if not held else frozenset(held)

    def held_bytes(self, key: ContentKey) -> int | None:
        """Of the content that is put together now; None: it is not."""
        return self._filling.get(key)

    def _hold(self, key: ContentKey, metainfo: Metainfo, held: set[int], index: int) -> int:
        """The piece is in the file; its size."""
        held.add(index)
        size = metainfo.piece_size(index)
        self._filling[key] = self._filling.get(key, 0) + size
        return size

    async def _fill(
        self, key: ContentKey, metainfo: Metainfo, path: Path, held: set[int], stop: threading.Event, *, fresh: bool
    ) -> None:
        composer = await self._find(key, metainfo, path, stop, fresh=fresh)
        if composer is None:
            return
        try:
            await asyncio.to_thread(_reserve, path, metainfo.length)
            await self._copy(key, metainfo, composer, held)
            for batch in await asyncio.to_thread(composer.batches, _missing(metainfo, held), _MOST_ABSENT):
                await self._complete(key, metainfo, composer, batch, held)
        finally:
            composer.close()
        log.info("pieces reused", digest=str(key[1]), pieces=metainfo.piece_count, held=len(held))

    async def _own(self, key: ContentKey) -> None:
        """The tenant has, or will have, this content here."""
        tenant_id, digest = key
        if tenant_id not in self._owners.get(digest, ()):
            self._owners.setdefault(digest, set()).add(tenant_id)
            self._bound()
            with failed_write_is_logged("owners of contents"):
                await self._journal.save_document(_RECORD, self._document)

    def _bound(self) -> None:
        """Forget contents that are not here; the newest may be on their way."""
        gone = [digest for digest in self._owners if digest not in self._cache.held]
        for digest in gone[:-_MOST_AWAITED]:
            del self._owners[digest]

    def _document(self) -> dict[str, object]:
        return {"owners": {str(digest): sorted(tenants) for digest, tenants in self._owners.items()}}

    async def _find(
        self, key: ContentKey, metainfo: Metainfo, path: Path, stop: threading.Event, *, fresh: bool
    ) -> Composer | None:
        """None: nothing of it is here."""
        candidates = self._candidates(key)
        sparse = zeros_root(metainfo.piece_length) in metainfo.piece_layer
        if metainfo.length < reuse.SMALLEST_CONTENT or not (candidates or sparse):
            return None
        encoded = await self._blocks(key)
        if encoded is None:
            return None

        def find() -> Composer:
            target = reuse.parse(encoded, metainfo.length)
            return reuse_files.find(metainfo, target, candidates, path, fresh=fresh, stop=stop)

        composer = await asyncio.to_thread(find)
        return composer if composer.missing_bytes < metainfo.length else None

    def _candidates(self, key: ContentKey) -> list[Candidate]:
        """The tenant's other contents here, the newest first."""
        tenant_id, wanted = key
        mine = [digest for digest, tenants in reversed(self._owners.items()) if tenant_id in tenants]
        return [
            Candidate(digest, path)
            for digest, path, size in self._cache.held_files(mine)
            if digest != wanted and size >= reuse.SMALLEST_CONTENT
        ]

    async def _copy(self, key: ContentKey, metainfo: Metainfo, composer: Composer, held: set[int]) -> None:
        for index in await asyncio.to_thread(composer.local, _missing(metainfo, held)):
            if await asyncio.to_thread(composer.copy, index):
                self._ledger.count(key, reused=self._hold(key, metainfo, held, index))

    async def _complete(
        self, key: ContentKey, metainfo: Metainfo, composer: Composer, batch: Sequence[int], held: set[int]
    ) -> None:
        async def attempt(source: Source) -> None:
            missing = [index for index in batch if index not in held]
            await self._fetch(source, key, metainfo, composer, missing, held)

        await self._persist(attempt, lambda: len(held))

    async def _persist(self, attempt: Callable[[Source], Awaitable[None]], progress: Callable[[], int]) -> None:
        """Try the nearest source until some tries in a row brought nothing, then the next. Raises the last failure.

        A regional that is fetching the content is waited for: the centre would send the same over the WAN once more.
        """
        failure: Failure | None = None
        for source in self._sources():
            backoff, fetching = Backoff(self._random, initial_seconds=0.5, cap_seconds=5.0), 0
            while backoff.failures < _FRUITLESS_TRIES and fetching < _FETCHING_TRIES:
                before = progress()
                try:
                    await attempt(source)
                    return
                except SourceFetching as busy:
                    failure, fetching = busy, fetching + 1
                    await self._clock.sleep(busy.retry_after_seconds)
                except (SourceBusy, SourceAway, BodyBroken) as broken:
                    failure = broken
                    if progress() > before:
                        backoff.reset()
                    await self._clock.sleep(max(broken.retry_after_seconds, backoff.next_delay()))
                except (ContentAbsent, TokenRejected) as refused:
                    failure = refused
                    break
        if failure is not None:
            raise failure

    async def _blocks(self, key: ContentKey) -> bytes | None:
        found: list[bytes | None] = []

        async def attempt(source: Source) -> None:
            found.append(await self._http(key).blocks(source, key[1], self._book.token(*key)))

        await self._persist(attempt, lambda: 0)
        return found[0] if found else None

    async def _fetch(
        self,
        source: Source,
        key: ContentKey,
        metainfo: Metainfo,
        composer: Composer,
        missing: Sequence[int],
        held: set[int],
    ) -> None:
        """Ask for what these pieces lack. A piece that is false all the same is left to the swarm."""
        absent = {index: composer.absent(index) for index in missing}
        spans = [span for index in missing for span in absent[index]]
        waiting, buffer = list(reversed(missing)), bytearray()
        async with aclosing(self._http(key).parts(source, key[1], self._book.token(*key), spans)) as chunks:
            async for chunk in chunks:
                centre = len(chunk) if source.kind == "centre" else 0
                self._ledger.count(key, centre=centre, regional=len(chunk) - centre)
                buffer += chunk
                while waiting and len(buffer) >= (size := byte_parts.total(absent[waiting[-1]])):
                    index, fetched = waiting.pop(), bytes(buffer[:size])
                    del buffer[:size]
                    if await asyncio.to_thread(_keep, composer, index, fetched):
                        self._ledger.count(key, reused=self._hold(key, metainfo, held, index) - size)


def _missing(metainfo: Metainfo, held: set[int]) -> list[int]:
    return [index for index in range(metainfo.piece_count) if index not in held]


def _keep(composer: Composer, index: int, fetched: bytes) -> bool:
    piece = composer.compose(index, fetched)
    if piece is not None:
        composer.write(index, piece)
    return piece is not None


def _reserve(path: Path, length: int) -> None:
    """Zeros up to the end, that take no room."""
    with path.open("ab") as file:
        os.truncate(file.fileno(), length)
