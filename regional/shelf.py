"""What the cache holds and has reserved, counted in bytes, and what has to leave so that something new fits.

Invariant: bytes held and reserved stay within the limit; ordered contents and those being fetched never leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Unavailable
from regional.directory import ContentDirectory
from regional.eviction import Cached, victims
from regional.model import ContentKey

log = structlog.get_logger()

_TOUCH_SECONDS = 60.0


class CacheFull(Unavailable):
    code = "cache_full"


@dataclass(slots=True)
class _Entry:
    size: int
    used_at: float
    held: bool


class Shelf:
    """`limit_bytes` 0: as much as the disk takes. `evict` removes everything of a content, wherever it is known.

    `fetching` tells whether a digest is being fetched now.
    """

    def __init__(self, directory: ContentDirectory, clock: Clock, limit_bytes: int = 0) -> None:
        self._directory = directory
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._entries: dict[Digest, _Entry] = {}
        self._ordered: dict[Digest, set[str]] = {}
        self._lock = asyncio.Lock()
        self.evict: Callable[[Digest], Awaitable[None]] = self._evict_files
        self.fetching: Callable[[Digest], bool] = lambda _: False
        self.evictions = 0

    async def load(self) -> None:
        """What earlier processes left."""
        for found in await asyncio.to_thread(self._directory.partials):
            self._entries[found.digest] = _Entry(found.size, found.used_at, held=False)
        for found in await asyncio.to_thread(self._directory.held):
            self._entries[found.digest] = _Entry(found.size, found.used_at, held=True)

    def size(self, digest: Digest) -> int | None:
        """Of a held content; None if it is not held."""
        entry = self._entries.get(digest)
        return entry.size if entry is not None and entry.held else None

    def held(self) -> list[Digest]:
        return [digest for digest, entry in self._entries.items() if entry.held]

    @property
    def used_bytes(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    def order(self, key: ContentKey) -> None:
        self._ordered.setdefault(key.digest, set()).add(key.tenant_id)

    def withdraw(self, key: ContentKey) -> None:
        """The content may leave once no tenant's order names it."""
        tenants = self._ordered.get(key.digest, set())
        tenants.discard(key.tenant_id)
        if not tenants:
            self._ordered.pop(key.digest, None)

    async def used(self, digest: Digest) -> None:
        """It was read; the order of reading survives a restart in the file's time, to the minute."""
        entry, now = self._entries.get(digest), self._clock.now().timestamp()
        if entry is None or now - entry.used_at < _TOUCH_SECONDS:
            return
        entry.used_at = now
        await asyncio.to_thread(self._directory.touch, digest)

    async def admit(self, digest: Digest, size: int) -> None:
        """Count `size` bytes for a content that is about to be reserved. Raises `CacheFull`; then nothing left."""
        async with self._lock:
            present = self._entries[digest].size if digest in self._entries else 0
            if self._limit_bytes and not await self._free(self.used_bytes - present + size - self._limit_bytes):
                raise CacheFull(
                    f"{digest} with {size} bytes does not fit into the cache: what is ordered fills it",
                    action="raise LONGSHORE_REGIONAL_CACHE_LIMIT_BYTES or order less for this IDC",
                    retry_after_seconds=30,
                    limit_bytes=self._limit_bytes,
                )
            self._entries[digest] = _Entry(size, self._clock.now().timestamp(), held=False)

    async def make_room(self, size: int) -> bool:
        """The disk is full: give up as much as is missing; whether that was possible."""
        async with self._lock:
            return await self._free(size)

    def published(self, digest: Digest, size: int) -> None:
        self._entries[digest] = _Entry(size, self._clock.now().timestamp(), held=True)

    def discarded(self, digest: Digest) -> None:
        self._entries.pop(digest, None)

    async def _free(self, needed_bytes: int) -> bool:
        chosen = victims(
            (
                Cached(digest, entry.size, entry.used_at, digest in self._ordered or self.fetching(digest))
                for digest, entry in self._entries.items()
            ),
            needed_bytes,
        )
        if chosen is None:
            return False
        for digest in chosen:
            entry = self._entries.pop(digest)
            self.evictions += 1
            log.info("content evicted", digest=str(digest), bytes=entry.size, held=entry.held)
            await self.evict(digest)
        return True

    async def _evict_files(self, digest: Digest) -> None:
        await asyncio.to_thread(self._directory.remove, digest)
