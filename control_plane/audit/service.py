"""Recording: in the transaction of a change, or through a bounded buffer where nothing changes.

Invariants: a change and its entry commit together. `note` never waits, never raises and touches no database, so that a
pull pays microseconds for it; what the buffer cannot take is counted and logged (`audit.lost`), never silently gone. A
kill -9 loses at most what was noted in the last `flush_seconds`; with `strict`, denials and failed logins are not noted
but written before they are answered.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from common.backoff import Backoff
from common.clock import Clock
from common.errors import Unavailable
from common.identifiers import new_id
from control_plane.audit import store
from control_plane.audit.flood import Flood
from control_plane.audit.model import Act, Entry, entry_of
from control_plane.database import Database, UnitOfWork
from control_plane.web.origin import Origin, current_origin

log = structlog.get_logger()
_LAST_FLUSH_SECONDS = 5.0
# One host pulls an image's manifest several times within seconds; writing and sealing an entry costs 300 us of CPU.
_REPEATED_SECONDS = 10.0
_REPEATED_KEYS = 20_000


@dataclass(frozen=True, slots=True)
class TrailOptions:
    """`capacity` bounds what waits in memory (about 1 KB each), `batch` is written by one transaction."""

    capacity: int = 50_000
    batch: int = 500
    flush_seconds: float = 1.0
    strict: bool = False


@dataclass(frozen=True, slots=True)
class _Noted:
    act: Act
    origin: Origin
    moment: datetime


class _Gathered(list[Entry]):
    """What one transaction records."""


class AuditTrail:
    """`run` flushes until cancelled; call `drain` after the last request was answered."""

    def __init__(self, database: Database, clock: Clock, options: TrailOptions = TrailOptions()) -> None:
        self.lost = 0
        self._database = database
        self._clock = clock
        self._options = options
        self._noted: deque[_Noted] = deque()
        self._writing: list[Entry] = []  # taken from the buffer, not known to be written
        self._full = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._flood: Flood[_Noted] = Flood()
        self._repeated: Flood[_Noted] = Flood(limit=1, seconds=_REPEATED_SECONDS, keys=_REPEATED_KEYS)
        self._told_lost = 0

    def record(self, unit: UnitOfWork, *acts: Act) -> None:
        """With the change: the entries exist if and only if the transaction commits. Written together, right before
        the commit.
        """
        origin, moment = current_origin(), self._clock.now()

        async def write(gathered: _Gathered) -> None:
            await store.add_to_inbox(unit.connection, gathered)

        entries = [self._entry(_Noted(act, origin, moment)) for act in acts]
        unit.gather(_Gathered, write).extend(entries)

    def note(self, act: Act) -> None:
        """For what changes nothing and may be lost with the process."""
        self._keep(_Noted(act, current_origin(), self._clock.now()))

    def note_repeated(self, act: Act) -> None:
        """`note` for what one client does again and again: the first time is an entry at once, the same within ten
        seconds is counted in a second one.
        """
        noted = _Noted(act, current_origin(), self._clock.now())
        key = (act.operation, noted.origin.client, act.operator.id, act.repository, act.digest)
        if self._repeated.full or self._repeated.admits(key, noted, self._clock.monotonic()):
            self._keep(noted)

    async def refused(self, act: Act) -> None:
        """A denial or a failed login. With `strict` written when this returns: raises `Unavailable` if that fails. The
        same from one client again and again is counted instead (`flood`).
        """
        noted = _Noted(act, current_origin(), self._clock.now())
        key = (act.operation, noted.origin.client, act.operator.id, act.repository)
        if not self._flood.admits(key, noted, self._clock.monotonic()):
            return
        if not self._options.strict:
            self._keep(noted)
            return
        async with self._database.transaction() as unit:
            await store.add_to_inbox(unit.connection, [self._entry(noted)])

    @property
    def waiting(self) -> int:
        """How many entries are not written yet."""
        return len(self._noted) + len(self._writing)

    async def flush(self, *, to_the_end: bool = False) -> None:
        """Write what was noted before this call; `to_the_end`, also what is still being counted. Raises `Unavailable`;
        nothing is lost then.
        """
        async with self._flushing:
            now = math.inf if to_the_end else self._clock.monotonic()
            for noted, withheld in (*self._flood.ended(now), *self._repeated.ended(now)):
                act = replace(noted.act, details={**noted.act.details, "further_times": withheld})
                self._keep(replace(noted, act=act))
            self._tell_lost()
            left = self.waiting
            while left > 0:
                left -= await self._write_batch()

    async def run(self, chance: Callable[[], float]) -> None:
        """Never returns. Waits out an outage of the database."""
        backoff = Backoff(chance, initial_seconds=self._options.flush_seconds, cap_seconds=30)
        while True:
            try:
                await self.flush()
                backoff.reset()
            except Unavailable as error:
                log.warning("audit entries delayed", waiting=self.waiting, error=str(error))
                await self._clock.sleep(backoff.next_delay())
                continue
            await self._until_due()

    async def drain(self) -> None:
        """The last flush; what cannot be written within seconds is logged as lost."""
        try:
            async with asyncio.timeout(_LAST_FLUSH_SECONDS):
                await self.flush(to_the_end=True)
        except (Unavailable, TimeoutError) as error:
            self.lost += self.waiting
            log.warning("the audit trail could not be written at the end", error=str(error))
            self._tell_lost()

    async def _write_batch(self) -> int:
        if not self._writing:
            # Made once: if the answer to a commit is lost they are written again under the same ids, and sealed once.
            count = min(self._options.batch, len(self._noted))
            self._writing = [self._entry(self._noted.popleft()) for _ in range(count)]
        async with self._database.transaction() as unit:
            await store.add_to_inbox(unit.connection, self._writing)
        written, self._writing = len(self._writing), []
        return max(1, written)

    async def _until_due(self) -> None:
        self._full.clear()
        async with asyncio.TaskGroup() as group:
            waits: Sequence[asyncio.Task[object]] = (
                group.create_task(self._clock.sleep(self._options.flush_seconds)),
                group.create_task(self._full.wait()),
            )
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _keep(self, noted: _Noted) -> None:
        if len(self._noted) >= self._options.capacity:
            self.lost += 1
            return
        self._noted.append(noted)
        if len(self._noted) == self._options.batch:
            self._full.set()

    def _tell_lost(self) -> None:
        if self.lost > self._told_lost:
            log.error("audit.lost", entries=self.lost - self._told_lost, since_start=self.lost)
            self._told_lost = self.lost

    def _entry(self, noted: _Noted) -> Entry:
        origin = noted.origin
        return entry_of(
            noted.act, new_id(self._clock), noted.moment, origin.client, origin.user_agent, origin.request_id
        )
