"""What each replica takes of the limits of channels, told to the others.

Invariant: a channel is written down before its host is asked, and counted with those of all replicas in the transaction
that does so, while its tenant is held; so two replicas never both take the last one of a tenant. Nothing is written for
a frame. Who ended is taken off within a second, and a replica that dies counts for `_LAPSE` more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from datetime import timedelta

import structlog

from common.clock import Clock
from common.errors import Failure
from control_plane.channels import store
from control_plane.channels.exchange import LimitKind, too_many
from control_plane.channels.store import Whose
from control_plane.database import Database

log = structlog.get_logger()

_SEEN_SECONDS = 30.0
_LAPSE = timedelta(seconds=90)
_TOGETHER_SECONDS = 0.5


class Shares:
    """`replica_id`: new at each start. `alone`: there are no other replicas, and nothing is written."""

    def __init__(self, database: Database, clock: Clock, replica_id: str, *, alone: bool) -> None:
        self._database = database
        self._clock = clock
        self._replica_id = replica_id
        self._alone = alone
        self._ended: set[str] = set()
        self._wake = asyncio.Event()

    async def take(self, channel_id: str, whose: Whose, here: Mapping[LimitKind, tuple[int, int]]) -> None:
        """`here`: how many this replica has with this one, and the limit. Raises `TooManyChannels`, `Unavailable`."""
        if self._alone:
            return
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            await store.add(unit.connection, channel_id, self._replica_id, whose, now)
            others = await store.elsewhere(unit.connection, self._replica_id, whose, now - _LAPSE)
            counts: Mapping[LimitKind, int] = {
                "host": others.of_host,
                "tenant on this host": others.of_tenant_on_host,
                "tenant": others.of_tenant,
                "user": others.of_user,
            }
            for kind, (count, limit) in here.items():
                if count + counts[kind] > limit:
                    raise too_many(kind, limit)

    @contextlib.contextmanager
    def held(self, channel_id: str) -> Iterator[None]:
        """What is taken inside for this channel is given back after the block, soon: nothing is waited for, so also
        when the block is cancelled. Harmless for one that was never taken.
        """
        try:
            yield
        finally:
            if not self._alone:
                self._ended.add(channel_id)
                self._wake.set()

    async def run(self) -> None:
        """For the whole life of the process."""
        if self._alone:
            return
        due = self._clock.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self._clock.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self._clock.monotonic() >= due:
                    due = self._clock.monotonic() + _SEEN_SECONDS
                    await self._seen()
                await self.flush()
            except Failure as failure:
                log.warning("open channels not written", error=str(failure))
                self._wake.set()
            await self._clock.sleep(_TOGETHER_SECONDS)

    async def flush(self) -> None:
        """Take off those that ended. Raises `Unavailable`; they are kept for the next time."""
        ended = frozenset(self._ended)
        if ended:
            async with self._database.transaction() as unit:
                await store.remove(unit.connection, ended)
            self._ended -= ended

    async def close(self) -> None:
        """This replica has none any more."""
        if self._alone:
            return
        try:
            async with self._database.transaction() as unit:
                await store.remove_of(unit.connection, self._replica_id)
        except Failure as failure:
            log.warning("open channels are counted until they lapse", error=str(failure))

    async def _seen(self) -> None:
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            await store.seen(unit.connection, self._replica_id, now)
            await store.remove_lapsed(unit.connection, now - _LAPSE)
