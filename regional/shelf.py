"""What the cache holds and has reserved, counted in bytes, and what has to leave so that something new fits.

Above the high water mark what is not ordered leaves in the background, least recently used first, until the low mark is
reached (common/water_marks.py). Who reads a content while it leaves goes on reading: an open file outlives its name.

Invariant: bytes held and reserved stay within the limit; ordered contents and those being fetched never leave. An order
is a pin: whoever wants a content to stay lets it be ordered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from common.water_marks import WaterMarks
from regional.directory import ContentDirectory
from regional.eviction import Cached, oldest, victims
from regional.model import ContentKey

log = structlog.get_logger()

_TOUCH_SECONDS = 60.0
NO_LIMIT = WaterMarks()


class CacheFull(Unavailable):
    code = "cache_full"


@dataclass(slots=True)
class _Entry:
    size: int
    used_at: float
    held: bool


class Shelf:
    """`evict` removes everything of a content, wherever it is known.

    `fetching` tells whether a digest is being fetched now. `hits` and `misses` count reads.
    """

    def __init__(self, directory: ContentDirectory, clock: Clock, marks: WaterMarks = NO_LIMIT) -> None:
        self._directory = directory
        self._clock = clock
        self.marks = marks
        self._entries: dict[Digest, _Entry] = {}
        self._ordered: dict[Digest, set[str]] = {}
        self._lock = asyncio.Lock()
        self.evict: Callable[[Digest], Awaitable[None]] = self._evict_files
        self.fetching: Callable[[Digest], bool] = lambda _: False
        self._full = asyncio.Event()
        self.evictions = 0
        self.evicted_bytes = 0
        self.hits = 0
        self.misses = 0

    async def load(self) -> None:
        """What earlier processes left."""
        for found in await asyncio.to_thread(self._directory.partials):
            self._entries[found.digest] = _Entry(found.size, found.used_at, held=False)
        for found in await asyncio.to_thread(self._directory.held):
            self._entries[found.digest] = _Entry(found.size, found.used_at, held=True)
        self._look()

    async def keep_low(self) -> None:
        """Until cancelled: empty down to the low mark whenever the high one is crossed."""
        while True:
            await self._full.wait()
            self._full.clear()
            try:
                async with self._lock:
                    await self._leave(oldest(self._cached(), self.marks.surplus(self.used_bytes, self.pinned_bytes)))
            except Failure as failure:
                # The disk; whoever fetches next meets it too, and says so.
                log.error("content not evicted", error=str(failure))

    def size(self, digest: Digest) -> int | None:
        """Of a held content; None if it is not held."""
        entry = self._entries.get(digest)
        return entry.size if entry is not None and entry.held else None

    def recent(self) -> list[Digest]:
        """Held contents nobody ordered, in order of use, the newest last."""
        loose = [
            (entry.used_at, digest)
            for digest, entry in self._entries.items()
            if entry.held and digest not in self._ordered
        ]
        return [digest for _, digest in sorted(loose)]

    def held(self) -> list[Digest]:
        return [digest for digest, entry in self._entries.items() if entry.held]

    @property
    def used_bytes(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    @property
    def pinned_bytes(self) -> int:
        return sum(entry.size for digest, entry in self._entries.items() if digest in self._ordered)

    def order(self, key: ContentKey) -> None:
        self._ordered.setdefault(key.digest, set()).add(key.tenant_id)

    def withdraw(self, key: ContentKey) -> None:
        """The content may leave once no tenant's order names it."""
        tenants = self._ordered.get(key.digest, set())
        tenants.discard(key.tenant_id)
        if not tenants:
            self._ordered.pop(key.digest, None)
            self._look()

    async def used(self, digest: Digest) -> None:
        """It was read; the order of reading survives a restart in the file's time, to the minute."""
        entry, now = self._entries.get(digest), self._clock.now().timestamp()
        if entry is None or now - entry.used_at < _TOUCH_SECONDS:
            return
        entry.used_at = now
        await asyncio.to_thread(self._directory.touch, digest, now)

    async def admit(self, digest: Digest, size: int) -> None:
        """Count `size` bytes for a content that is about to be reserved. Raises `CacheFull`; then nothing left."""
        async with self._lock:
            present = self._entries[digest].size if digest in self._entries else 0
            if not await self._free(self.marks.over_limit(self.used_bytes - present + size)):
                raise CacheFull(
                    f"{digest} with {size} bytes does not fit into the cache: what is ordered fills it",
                    action="raise LONGSHORE_REGIONAL_CACHE_LIMIT_BYTES or order less for this IDC",
                    retry_after_seconds=30,
                    limit_bytes=self.marks.limit_bytes,
                )
            self._entries[digest] = _Entry(size, self._clock.now().timestamp(), held=False)
            self._look()

    async def make_room(self, size: int) -> bool:
        """The disk is full: give up as much as is missing; whether that was possible."""
        async with self._lock:
            return await self._free(size)

    def published(self, digest: Digest, size: int) -> None:
        self._entries[digest] = _Entry(size, self._clock.now().timestamp(), held=True)
        # It was on its way and could not leave; now it may.
        self._look()

    def discarded(self, digest: Digest) -> None:
        self._entries.pop(digest, None)

    async def _free(self, needed_bytes: int) -> bool:
        chosen = victims(self._cached(), needed_bytes)
        if chosen is None:
            return False
        await self._leave(chosen)
        return True

    def _cached(self) -> Iterator[Cached]:
        for digest, entry in self._entries.items():
            yield Cached(digest, entry.size, entry.used_at, digest in self._ordered or self.fetching(digest))

    async def _leave(self, chosen: Iterable[Digest]) -> None:
        for digest in chosen:
            # An order or a fetch may have come while another one left.
            if digest in self._ordered or self.fetching(digest) or digest not in self._entries:
                continue
            entry = self._entries.pop(digest)
            self.evictions += 1
            self.evicted_bytes += entry.size
            log.info("content evicted", digest=str(digest), bytes=entry.size, held=entry.held)
            await self.evict(digest)

    def _look(self) -> None:
        if self.marks.surplus(self.used_bytes, self.pinned_bytes):
            self._full.set()

    async def _evict_files(self, digest: Digest) -> None:
        await asyncio.to_thread(self._directory.remove, digest)
