"""Passes over the copies.

The cursor is `verified_at`: a pass takes the copy that was read longest ago, so it can be killed anywhere and the next
one goes on. Every step is recorded after it was taken in the store; repeating it finds the same and is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from control_plane.audit.service import AuditTrail
from control_plane.blobs.store_set.members import Member, Members
from control_plane.database import Database, UnitOfWork
from control_plane.registry.stores.copies import store as copies
from control_plane.registry.stores.copies.checking import Finding, check_copy
from control_plane.registry.stores.copies.model import BlobCopy, CopyState
from control_plane.registry.stores.copies.pace import ByteBudget
from control_plane.registry.stores.scrubbing import store
from control_plane.registry.stores.scrubbing.healing import Healing
from control_plane.registry.stores.scrubbing.messages import BlobLost, CopyDamaged, CopyHealed
from control_plane.tenants.acting import act_of

_BATCH = 20
log = structlog.get_logger()


@dataclass(slots=True)
class Scrubbed:
    """What a pass did. `away`: copies whose store could not be asked, left as they are."""

    read: int = 0
    read_bytes: int = 0
    damaged: int = 0
    healed: int = 0
    lost: int = 0
    away: int = 0


class ScrubMetrics:
    """Of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters = {
            name: Counter(f"longshore_scrub_{name}_total", text, registry=registry)
            for name, text in {
                "read": "Copies read from their first byte to their last.",
                "read_bytes": "Bytes of those.",
                "damaged": "Copies found wrong, cut or missing.",
                "healed": "Copies made good again.",
                "lost": "Blobs of which nobody had the bytes, each time they were looked for.",
                "away": "Copies whose store could not be asked.",
            }.items()
        }

    def count(self, done: Scrubbed) -> None:
        for name, counter in self._counters.items():
            counter.inc(getattr(done, name))


class Scrubber:
    """`every`: so often each copy is read. `budget`: of the reading, in this process."""

    def __init__(
        self,
        database: Database,
        members: Members,
        healing: Healing,
        trail: AuditTrail,
        metrics: ScrubMetrics,
        budget: ByteBudget,
        every: timedelta,
        clock: Clock,
    ) -> None:
        self._database = database
        self._members = members
        self._healing = healing
        self._trail = trail
        self._metrics = metrics
        self._budget = budget
        self._every = every
        self._clock = clock
        self._away: set[str] = set()

    async def run(self, seconds: float = 600.0) -> Scrubbed:
        """First what is known to be damaged, then what is due; ends after `seconds` with the rest still due."""
        total, until = Scrubbed(), self._clock.monotonic() + seconds
        after = ("", "")
        self._away.clear()
        while self._clock.monotonic() < until:
            async with self._database.reading() as connection:
                batch = await store.unhealed(connection, self._asked(), after, _BATCH)
            if not batch:
                break
            await self.look_at(batch, total)
            after = (str(batch[-1].digest), batch[-1].store)
        seen: set[tuple[Digest, str]] = set()
        while self._clock.monotonic() < until:
            async with self._database.reading() as connection:
                batch = await store.due(connection, self._asked(), self._clock.now() - self._every, _BATCH)
            fresh = [copy for copy in batch if (copy.digest, copy.store) not in seen]
            if not fresh:
                break
            seen |= {(copy.digest, copy.store) for copy in fresh}
            await self.look_at(fresh, total)
        return total

    async def look_at(self, batch: Sequence[BlobCopy], total: Scrubbed) -> None:
        """Each of the copies, now."""
        async with self._database.reading() as connection:
            needs = await copies.needs_of(connection, sorted({copy.digest for copy in batch}))
        for copy in batch:
            member, done = self._members.find(copy.store), Scrubbed()
            blob = needs.get(copy.digest)
            if blob is None or member is None:
                await self._forget(copy)
                continue
            try:
                await self._look(copy, member, blob.size, done)
            except Unavailable as failure:
                done.away += 1
                log.warning("a copy is not looked at", digest=str(copy.digest), store=copy.store, error=str(failure))
            except Failure as failure:
                log.error("a copy cannot be healed", digest=str(copy.digest), store=copy.store, error=str(failure))
            self._metrics.count(done)
            _add(total, done)

    async def _look(self, copy: BlobCopy, member: Member, size: int, done: Scrubbed) -> None:
        try:
            finding = await check_copy(member, copy.digest, size, self._budget)
        except Unavailable:
            self._members.failed(member)
            self._away.add(member.name)
            raise
        self._members.answered(member)
        if finding is not Finding.MISSING:
            done.read += 1
            done.read_bytes += size
        if finding is Finding.GOOD:
            async with self._database.transaction() as unit:
                await copies.found_good(unit.connection, copy, unit.clock.now())
            return
        if await self._damaged(copy, size, finding):
            done.damaged += 1
        async with self._database.reading() as connection:
            repositories = await store.needing(connection, copy.digest)
        source = await self._healing.heal(copy.digest, size, member, repositories)
        if source is not None:
            await self._healed(copy, size, source)
            done.healed += 1
        elif repositories:
            await self._lost(copy, size, finding, repositories)
            done.lost += 1

    async def _damaged(self, copy: BlobCopy, size: int, finding: Finding) -> bool:
        """Whether it was not known."""
        state = CopyState.MISSING if finding is Finding.MISSING else CopyState.DAMAGED
        async with self._database.transaction() as unit:
            fresh = await copies.mark(unit.connection, copy.digest, copy.store, state)
            if fresh:
                await copies.review_soon(unit.connection, [copy.digest], unit.clock.now())
                await unit.announce(CopyDamaged(str(copy.digest), size, copy.store, finding))
                self._record(unit, "registry.copy_damaged", copy, finding=finding.value)
        log.error("a copy is damaged", digest=str(copy.digest), store=copy.store, finding=finding)
        return fresh

    async def _healed(self, copy: BlobCopy, size: int, source: str) -> None:
        async with self._database.transaction() as unit:
            await copies.put_good(unit.connection, [(copy.digest, copy.store, size)], unit.clock.now())
            await unit.announce(CopyHealed(str(copy.digest), size, copy.store, source))
            self._record(unit, "registry.copy_healed", copy, source=source)
        log.info("a copy is healed", digest=str(copy.digest), store=copy.store, source=source)

    async def _lost(self, copy: BlobCopy, size: int, finding: Finding, repositories: Sequence[str]) -> None:
        async with self._database.transaction() as unit:
            reason = f"{finding} in {copy.store}, and nobody else has it"
            if await store.note_lost(unit.connection, copy.digest, size, reason, unit.clock.now()):
                await unit.announce(BlobLost(str(copy.digest), size, list(repositories)))
                self._record(unit, "registry.blob_lost", copy, repositories=list(repositories))
        log.error("a blob is lost", digest=str(copy.digest), repositories=list(repositories))

    async def _forget(self, copy: BlobCopy) -> None:
        """The blob was collected, or its store is not configured any more."""
        if self._clock.now() - copy.copied_at < timedelta(hours=1):
            return
        async with self._database.transaction() as unit:
            await copies.forget(unit.connection, copy.digest, copy.store)

    def _record(self, unit: UnitOfWork, operation: str, copy: BlobCopy, **details: object) -> None:
        told = {"store": copy.store, **details}
        self._trail.record(unit, act_of(None, operation, digest=str(copy.digest), details=told))

    def _asked(self) -> list[str]:
        """Not those that failed in this pass; the next one finds their copies still due."""
        return [member.name for member in self._members.all if member.name not in self._away]


def _add(total: Scrubbed, done: Scrubbed) -> None:
    for name in Scrubbed.__slots__:
        setattr(total, name, getattr(total, name) + getattr(done, name))
