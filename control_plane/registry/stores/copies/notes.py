"""What the stores' readers and writers notice, kept in memory and written every few seconds.

Invariant: a read costs one dictionary look-up and no SQL. Memory is bounded: what does not fit is counted and left out.
kill -9 loses at most one period; the census finds the copies, and reads count by days.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.registry.stores.copies import store
from control_plane.registry.stores.copies.model import CopyState

log = structlog.get_logger()
# A blob that is read again and again is written at most once in so long.
RESOLUTION = timedelta(hours=1)
_STALE = timedelta(days=1)
_MOST = 100_000
_BATCH = 500
_LAST_FLUSH_SECONDS = 5.0


class CopyNotes:
    """A `Watcher` of the stores."""

    def __init__(self, database: Database, clock: Clock, *, period_seconds: float = 5.0) -> None:
        self._database = database
        self._clock = clock
        self._period_seconds = period_seconds
        self._committed: dict[tuple[Digest, str], int] = {}
        self._reads: set[Digest] = set()
        self._failed: dict[tuple[Digest, str], CopyState] = {}
        self._written: dict[Digest, datetime] = {}
        self.left_out = 0

    def committed(self, digest: Digest, size: int, store: str) -> None:
        if self._has_room(len(self._committed)):
            self._committed[digest, store] = size
            self._failed.pop((digest, store), None)

    def read(self, digest: Digest) -> None:
        written = self._written.get(digest)
        if written is not None and self._clock.now() - written < RESOLUTION:
            return
        if self._has_room(len(self._reads)):
            self._reads.add(digest)

    def failed(self, digest: Digest, store: str, *, missing: bool) -> None:
        if self._has_room(len(self._failed)):
            self._failed[digest, store] = CopyState.MISSING if missing else CopyState.DAMAGED

    async def flush(self) -> None:
        """Make what was noted durable. It stays pending if the database is away (`Unavailable`)."""
        committed, failed, reads = self._committed, self._failed, self._reads
        if not committed and not failed and not reads:
            return
        self._committed, self._failed, self._reads = {}, {}, set()
        try:
            await self._write(committed, failed, reads)
        except BaseException:
            self._committed, self._failed = committed | self._committed, failed | self._failed
            self._reads |= reads
            raise
        if len(self._written) + len(reads) > _MOST:
            self._written.clear()
        self._written |= dict.fromkeys(reads, self._clock.now())

    async def _write(
        self, committed: dict[tuple[Digest, str], int], failed: dict[tuple[Digest, str], CopyState], reads: set[Digest]
    ) -> None:
        copies = sorted((digest, name, size) for (digest, name), size in committed.items())
        ordered = sorted(reads)
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            for start in range(0, len(copies), _BATCH):
                batch = copies[start : start + _BATCH]
                await store.put_good(unit.connection, batch, now)
                await store.review_soon(unit.connection, [digest for digest, _, _ in batch], now)
            for start in range(0, len(ordered), _BATCH):
                await store.note_reads(unit.connection, ordered[start : start + _BATCH], now, _STALE)
            for (digest, name), state in sorted(failed.items()):
                await store.mark(unit.connection, digest, name, state)

    async def run(self) -> None:
        """Flush every period until cancelled, and once more then."""
        try:
            while True:
                await self._clock.sleep(self._period_seconds)
                try:
                    await self.flush()
                except Unavailable as failure:
                    log.warning("notes of copies kept for later", error=str(failure))
        finally:
            async with asyncio.timeout(_LAST_FLUSH_SECONDS):
                await self.flush()

    def _has_room(self, noted: int) -> bool:
        if noted < _MOST:
            return True
        self.left_out += 1
        return False
