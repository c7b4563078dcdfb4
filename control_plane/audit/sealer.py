"""Moving entries from the inbox into the chain, one sealer at a time.

Invariant: one transaction takes entries out of the inbox, gives them the next numbers and moves the head, so that a
crash leaves the chain as it was or longer, never with a gap or a double. Of several replicas one holds the head's row
(SKIP LOCKED on PostgreSQL, the one writer on SQLite); the others find nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from common.backoff import Backoff, jittered
from common.clock import Clock
from common.errors import Unavailable
from control_plane.audit import store
from control_plane.audit.chain import link_of, sealed_after
from control_plane.audit.model import Entry, Link, Sealed
from control_plane.database import Database

log = structlog.get_logger()


class Sealer:
    """`run` until cancelled, in every server and worker."""

    def __init__(self, database: Database, clock: Clock, *, batch: int = 500, period_seconds: float = 1.0) -> None:
        self._database = database
        self._clock = clock
        self._batch = batch
        self._period = period_seconds

    async def seal_once(self) -> int:
        """How many entries left the inbox; 0 if there are none or another sealer is at work. Raises `Unavailable`."""
        async with self._database.reading() as connection:  # an idle trail must not take SQLite's writer's turn
            if not await store.is_waiting(connection):
                return 0
        async with self._database.transaction() as unit:
            at = await store.hold_head(unit.connection)
            if at is None:
                return 0
            rows = await store.waiting(unit.connection, self._batch)
            if not rows:
                return 0
            known = await store.known_ids(unit.connection, [entry.id for _, entry in rows])
            sealed = _chained(at, [entry for _, entry in rows], known)
            if sealed:
                await store.append(unit.connection, sealed)
                await store.move_head(unit.connection, link_of(sealed[-1]))
            await store.leave_inbox(unit.connection, [row_id for row_id, _ in rows])
        return len(rows)

    async def seal_all(self) -> int:
        """Until the inbox is empty or another sealer is at work; returns how many entries."""
        total = 0
        while count := await self.seal_once():
            total += count
        return total

    async def run(self, chance: Callable[[], float]) -> None:
        """Never returns. Waits out an outage of the database."""
        backoff = Backoff(chance, initial_seconds=self._period, cap_seconds=30)
        while True:
            try:
                await self.seal_all()
                backoff.reset()
                await self._clock.sleep(jittered(self._period, 0.2, chance))
            except Unavailable as error:
                log.warning("sealing of the audit trail put off", error=str(error))
                await self._clock.sleep(backoff.next_delay())


def _chained(at: Link, entries: Sequence[Entry], known: frozenset[str]) -> list[Sealed]:
    """A flush whose commit was not heard of is repeated, so that an entry may lie in the inbox twice."""
    sealed: list[Sealed] = []
    seen = set(known)
    for entry in entries:
        if entry.id not in seen:
            seen.add(entry.id)
            sealed.append(sealed_after(link_of(sealed[-1]) if sealed else at, entry))
    return sealed
