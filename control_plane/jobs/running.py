"""One attempt at a job, as its handler sees it, and the lease that is kept while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import structlog

from common.clock import Clock
from common.errors import Unavailable
from control_plane.database import Database
from control_plane.jobs import store
from control_plane.jobs.model import Job, printable

log = structlog.get_logger()
# A handler may report progress as often as it likes; the row is written at most this often.
_REPORT_SECONDS = 1.0


class RunningJob(Protocol):
    """What a handler gets. A cancelled job's handler is cancelled (`asyncio.CancelledError`) like any task."""

    @property
    def id(self) -> str: ...

    @property
    def payload(self) -> Mapping[str, Any]: ...

    @property
    def attempt(self) -> int:
        """1 at the first try."""
        ...

    async def report(self, progress: float, note: str = "") -> None:
        """`progress` is a share of 1. Cheap: most calls write nothing."""
        ...


Handler = Callable[[RunningJob], Awaitable[Mapping[str, Any] | None]]


class LeasedJob:
    """Implements `RunningJob`. `keep` prolongs the lease beside the handler; `must_stop` is set when the lease is lost
    or cancelling was asked for.
    """

    def __init__(self, job: Job, owner: str, database: Database, clock: Clock, lease_seconds: float) -> None:
        self.job = job
        self.owner = owner
        self.cancel_requested = job.cancel_requested
        self.lost = False
        self.must_stop = asyncio.Event()
        self._database = database
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._held_until = clock.monotonic() + lease_seconds
        self._written_at = float("-inf")
        self._progress, self._note = job.progress, job.progress_note
        self._writing = asyncio.Lock()

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def payload(self) -> Mapping[str, Any]:
        return self.job.payload

    @property
    def attempt(self) -> int:
        return self.job.attempts

    async def report(self, progress: float, note: str = "") -> None:
        self._progress, self._note = min(1.0, max(0.0, progress)), printable(note, 255)
        if self._clock.monotonic() - self._written_at >= _REPORT_SECONDS:
            self._written_at = self._clock.monotonic()
            await self._renew()

    async def keep(self) -> None:
        """Never returns."""
        while True:
            await self._clock.sleep(min(self._lease_seconds / 3, 10.0))
            await self._renew()

    async def _renew(self) -> None:
        async with self._writing:
            began = self._clock.monotonic()
            until = self._clock.now() + timedelta(seconds=self._lease_seconds)
            try:
                async with self._database.transaction() as unit:
                    job = await store.renew(unit.connection, self.id, self.owner, until, self._progress, self._note)
            except Unavailable as error:
                # Until the lease lapses nobody else may run it; after that somebody may, so we must not.
                log.warning("lease not prolonged", job=self.id, error=str(error))
                if self._clock.monotonic() >= self._held_until:
                    self._stop(lost=True)
                return
            if job is None:
                self._stop(lost=True)
                return
            self._held_until = began + self._lease_seconds
            if job.cancel_requested:
                self._stop(lost=False)

    def _stop(self, *, lost: bool) -> None:
        self.lost = lost
        self.cancel_requested = not lost
        self.must_stop.set()
