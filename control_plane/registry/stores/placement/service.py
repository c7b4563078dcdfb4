"""Carrying out what the planner says, blob by blob.

Every step is harmless to repeat, so a pass that is killed anywhere is gone on with by the next one: the review of a
blob is put off only after its steps were taken. Several replicas may do the same; what is at stake, dropping a copy,
happens under the lock of the blob's row, after a look at the copies that stay.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from common.clock import Clock
from common.digest import Digest
from common.errors import Failure, Unavailable
from control_plane.blobs.store_set.members import Member, Tier
from control_plane.blobs.store_set.store import StoreSet
from control_plane.database import Database
from control_plane.registry.stores.copies import store as copies
from control_plane.registry.stores.copies.checking import Finding, check_copy
from control_plane.registry.stores.copies.copying import SourceDamaged, copy_blob
from control_plane.registry.stores.copies.model import BlobCopy, BlobNeeds, CopyState
from control_plane.registry.stores.copies.pace import ByteBudget
from control_plane.registry.stores.placement import store
from control_plane.registry.stores.placement.planner import (
    BlobPicture,
    Copy,
    Drop,
    PlacementPolicy,
    Reach,
    Step,
    StorePicture,
    Verify,
    plan,
)

_BATCH = 50
_AT_ONCE = 2
_RETRY = timedelta(minutes=10)
_PROBE_SECONDS = 5.0
_LOST_AFTER = timedelta(hours=1)
# Below the 10 s that others wait for the database's writer on SQLite.
_DROP_SECONDS = 8.0
_RANK = {Tier.HOT: 0, Tier.WARM: 1, Tier.COLD: 2}
_EMPTY = Digest.of(b"")
log = structlog.get_logger()


@dataclass(slots=True)
class Placed:
    """What a pass did."""

    reviewed: int = 0
    copied: int = 0
    verified: int = 0
    dropped: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Seen:
    digest: Digest
    read_at: datetime
    needs: BlobNeeds | None
    copies: Sequence[BlobCopy]


class PlacementService:
    """`budget`: of the copying, in this process."""

    def __init__(
        self, database: Database, stores: StoreSet, policy: PlacementPolicy, budget: ByteBudget, clock: Clock
    ) -> None:
        self._database = database
        self._stores = stores
        self._policy = policy
        self._budget = budget
        self._clock = clock

    async def place(self, seconds: float = 600.0) -> Placed:
        """Everything that is due, or as much as fits into the time."""
        total, until = Placed(), self._clock.monotonic() + seconds
        while self._clock.monotonic() < until:
            async with self._database.reading() as connection:
                batch = await store.due(connection, self._clock.now(), _BATCH)
                needs = await copies.needs_of(connection, list(batch))
                held = await copies.copies_of(connection, list(batch))
            if not batch:
                break
            pictures, turns = await self.pictures(), asyncio.Semaphore(_AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for digest, read_at in batch.items():
                    seen = _Seen(digest, read_at, needs.get(digest), held[digest])
                    group.create_task(self._review(turns, seen, pictures, total))
        return total

    async def pictures(self) -> Sequence[StorePicture]:
        """Asks every store whether it is there, and the file systems for their room."""
        return await asyncio.gather(*(self._picture(member) for member in self._stores.members.all))

    async def census(self, page: int = 1000) -> int:
        """Compare every store with the rows; returns how many copies were not known."""
        before = await self._known()
        for member in self._stores.members.all:
            after = ""
            while True:
                listed = await member.store.list(after, page)
                last = str(listed[-1].digest) if len(listed) == page else "~"
                await self._count(member, {each.digest: each.size for each in listed}, after, last)
                if last == "~":
                    break
                after = last
        async with self._database.transaction() as unit:
            now, primary = unit.clock.now(), self._stores.members.primary.name
            await copies.sweep_gone(unit.connection, now)
            for digest, size in await copies.blobs_without_copies(unit.connection, now, 1000):
                await copies.put_missing(unit.connection, digest, primary, size, now)
        return await self._known() - before

    async def _count(self, member: Member, listed: dict[Digest, int], after: str, last: str) -> None:
        async with self._database.transaction() as unit:
            unlisted = await copies.take_census(unit.connection, member.name, listed, after, last, unit.clock.now())
        gone = [digest for digest in unlisted if await member.store.stat(digest) is None]
        async with self._database.transaction() as unit:
            for digest in gone:
                await copies.mark(unit.connection, digest, member.name, CopyState.MISSING)

    async def _known(self) -> int:
        async with self._database.reading() as connection:
            return sum(count for count, _ in (await copies.counts(connection)).values())

    async def _picture(self, member: Member) -> StorePicture:
        members, free = self._stores.members, None
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await member.store.stat(_EMPTY)
            if member.directory is not None:
                usage = await asyncio.to_thread(os.statvfs, member.directory)
                free = usage.f_bavail * usage.f_frsize
        except (Unavailable, TimeoutError, OSError):
            members.failed(member)
        else:
            members.answered(member)
        since = members.away_since(member)
        reach = Reach.UP if since is None else Reach.AWAY
        if since is not None and self._clock.now() - since >= _LOST_AFTER:
            reach = Reach.LOST
        return StorePicture(member.name, _RANK[member.tier], member.location, reach, free)

    async def _review(
        self, turns: asyncio.Semaphore, seen: _Seen, pictures: Sequence[StorePicture], total: Placed
    ) -> None:
        async with turns:
            total.reviewed += 1
            digest, needs, now = seen.digest, seen.needs, self._clock.now()
            if needs is None or not needs.linked:
                # On its way in, or out. What is collected is swept with its rows.
                await self._decided(digest, now + timedelta(hours=1), 0)
                return
            picture = BlobPicture(needs.size, needs.public, seen.read_at, seen.copies)
            decision = plan(picture, pictures, self._policy, now)
            if not decision.steps:
                await self._decided(digest, decision.review_after, decision.short)
                return
            done = [await self._tried(step, digest, needs.size, total) for step in decision.steps]
            # What is to be dropped shows in the next look, which is at once if all went well.
            await self._decided(digest, now if all(done) else now + _RETRY, decision.short)

    async def _tried(self, step: Step, digest: Digest, size: int, total: Placed) -> bool:
        try:
            await self._take(step, digest, size, total)
        except Failure as failure:
            total.failures += 1
            log.warning("a copy waits", digest=str(digest), step=repr(step), error=str(failure))
            return False
        return True

    async def _decided(self, digest: Digest, review_after: datetime, short: int) -> None:
        async with self._database.transaction() as unit:
            await store.decided(unit.connection, digest, review_after, short)

    async def _take(self, step: Step, digest: Digest, size: int, total: Placed) -> None:
        if isinstance(step, Copy):
            await self._copy(step, digest, size)
            total.copied += 1
        elif isinstance(step, Verify):
            await self._verify(step, digest, size)
            total.verified += 1
        else:
            await self._drop(step, digest, size)
            total.dropped += 1

    async def _copy(self, step: Copy, digest: Digest, size: int) -> None:
        target = self._member(step.target)
        failure: Failure = Unavailable(f"no copy of {digest} can be read", action="the scrub looks for one")
        for name in step.sources:
            try:
                await copy_blob(digest, size, self._member(name), target, self._budget)
            except SourceDamaged as damaged:
                failure = damaged
                async with self._database.transaction() as unit:
                    await copies.doubt(unit.connection, digest, name)
                continue
            async with self._database.transaction() as unit:
                await copies.put_good(unit.connection, [(digest, step.target, size)], unit.clock.now())
            return
        raise failure

    async def _verify(self, step: Verify, digest: Digest, size: int) -> None:
        finding = await check_copy(self._member(step.store), digest, size, self._budget)
        async with self._database.transaction() as unit:
            now = unit.clock.now()
            if finding is Finding.GOOD:
                copy = BlobCopy(digest, step.store, size, CopyState.PRESENT, now, now)
                await copies.found_good(unit.connection, copy, now)
            else:
                state = CopyState.MISSING if finding is Finding.MISSING else CopyState.DAMAGED
                await copies.mark(unit.connection, digest, step.store, state)

    async def _drop(self, step: Drop, digest: Digest, size: int) -> None:
        """Only while all that shall stay is there, as of now and under the lock."""
        for name in step.kept:
            if await self._member(name).store.stat(digest) != size:
                raise _changed(digest)
        async with self._database.transaction() as unit:
            if not await copies.hold_blob(unit.connection, digest):
                raise _changed(digest)
            held = (await copies.copies_of(unit.connection, [digest]))[digest]
            if not step.kept or not {copy.store for copy in held if copy.good} >= set(step.kept):
                raise _changed(digest)
            await copies.forget(unit.connection, digest, step.store)
            try:
                async with asyncio.timeout(_DROP_SECONDS):
                    await self._member(step.store).store.delete(digest)
            except TimeoutError:
                raise Unavailable(f"store {step.store} does not delete {digest}", action="tried again") from None

    def _member(self, name: str) -> Member:
        member = self._stores.members.find(name)
        if member is None:
            raise Unavailable(f"there is no store {name} any more", action="look at the setting `stores`")
        return member


def _changed(digest: Digest) -> Unavailable:
    return Unavailable(f"the copies of {digest} are not what they were", action="planned anew")
