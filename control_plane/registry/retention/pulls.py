"""When each manifest was pulled last: noted in memory on the hottest path, written every few seconds.

Invariant: a pull costs one dictionary look-up and no SQL. Memory is bounded; what does not fit is counted and left out.
A manifest pulled again and again is written at most once in `RESOLUTION`: retention counts days. kill -9 loses at most
one period.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.registry.model import Manifest
from control_plane.registry.participants import Participant
from control_plane.registry.retention import images_store
from control_plane.tenants.access import Principal

log = structlog.get_logger()
RESOLUTION = timedelta(minutes=10)
_MOST = 100_000
_LAST_FLUSH_SECONDS = 5.0


class PullTimes(Participant):
    def __init__(self, database: Database, clock: Clock, *, period_seconds: float = 5.0) -> None:
        self._database = database
        self._clock = clock
        self._period_seconds = period_seconds
        self._pending: dict[tuple[str, Digest], datetime] = {}
        self._written: dict[tuple[str, Digest], datetime] = {}
        self.left_out = 0

    def pulled(self, repository: str, manifest: Manifest, by: Principal) -> None:
        key, now = (repository, manifest.digest), self._clock.now()
        written = self._written.get(key)
        if written is not None and now - written < RESOLUTION:
            return
        if len(self._pending) < _MOST or key in self._pending:
            self._pending[key] = now
        else:
            self.left_out += 1

    async def flush(self) -> None:
        """Make what was noted durable. It stays pending if the database is away (`Unavailable`)."""
        if not self._pending:
            return
        noted, self._pending = self._pending, {}
        try:
            async with self._database.transaction() as unit:
                await images_store.note_pulls(unit.connection, noted)
        except BaseException:
            self._pending = noted | self._pending
            raise
        if len(self._written) + len(noted) > _MOST:
            self._written.clear()
        self._written |= noted

    async def run(self) -> None:
        """Flush every period until cancelled, and once more then."""
        try:
            while True:
                await self._clock.sleep(self._period_seconds)
                try:
                    await self.flush()
                except Unavailable as failure:
                    log.warning("times of pulls kept for later", error=str(failure))
        finally:
            async with asyncio.timeout(_LAST_FLUSH_SECONDS):
                await self.flush()
