"""Payload bytes of content that left the centre, per IDC, tenant and digest.

Counting is memory only, because it happens once per chunk sent; every few seconds and at stop one statement adds the
counts to their rows, which is right for any number of replicas. A kill -9 loses at most one period of counts, never
content.
"""

from __future__ import annotations

import asyncio

import structlog

from common.clock import Clock
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.swarm import contents_store
from control_plane.swarm.model import EgressKey

log = structlog.get_logger()
_LAST_FLUSH_SECONDS = 5.0


class EgressCounter:
    def __init__(self, database: Database, clock: Clock, *, period_seconds: float = 5.0) -> None:
        self._database = database
        self._clock = clock
        self._period_seconds = period_seconds
        self._pending: dict[EgressKey, int] = {}

    def add(self, key: EgressKey, payload_bytes: int) -> None:
        self._pending[key] = self._pending.get(key, 0) + payload_bytes

    async def flush(self) -> None:
        """Make what was counted durable. Counts stay pending if the database is away (`Unavailable`)."""
        if not self._pending:
            return
        counted, self._pending = self._pending, {}
        try:
            async with self._database.transaction() as unit:
                await contents_store.add_egress(unit.connection, counted)
        except BaseException:
            for key, payload_bytes in counted.items():
                self.add(key, payload_bytes)
            raise

    async def run(self) -> None:
        """Flush every period until cancelled, and once more then."""
        try:
            while True:
                await self._clock.sleep(self._period_seconds)
                try:
                    await self.flush()
                except Unavailable as failure:
                    log.warning("egress counts kept for later", error=str(failure))
        finally:
            async with asyncio.timeout(_LAST_FLUSH_SECONDS):
                await self.flush()
