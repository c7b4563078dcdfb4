"""Leases to the disk by groups: while one fsync runs, the next group gathers.

Invariant: `done(True)` is called only after the lease is durable; each `done` is called once, in the order of asking,
unless the process stops. The queue is bounded: beyond it the client asks again, as DHCP's clients do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from regional.dhcp.lease_store import LeasesNotStored, LeaseStore
from regional.dhcp.leases import Lease

log = structlog.get_logger()
_LONGEST_QUEUE = 8192

Done = Callable[[bool], None]


class Committer:
    """`trouble`: why nothing is stored at this moment; empty: it is."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store
        self._waiting: list[tuple[Lease, Done]] = []
        self._some = asyncio.Event()
        self.trouble = ""

    def submit(self, lease: Lease, done: Done) -> bool:
        """False: the queue is full, and `done` is not called."""
        if len(self._waiting) >= _LONGEST_QUEUE:
            return False
        self._waiting.append((lease, done))
        self._some.set()
        return True

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            group, self._waiting = self._waiting, []
            stored = await self._store_group([lease for lease, _ in group])
            for _, done in group:
                done(stored)

    async def _store_group(self, leases: list[Lease]) -> bool:
        try:
            await asyncio.to_thread(self._store.append, leases)
        except LeasesNotStored as failure:
            if not self.trouble:
                log.error("no lease is granted until leases can be stored", error=str(failure))
            self.trouble = failure.detail
            return False
        if self.trouble:
            log.info("leases are stored again")
        self.trouble = ""
        return True
