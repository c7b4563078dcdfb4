"""A set of stores against a model: pushes, damage, stores that go and come back, deletions, in any order.

What is promised: while a whole copy lies in a store that answers, the blob is read, and right; what is read is never
of another length than recorded; a deletion that succeeded leaves no copy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.clock import ManualClock
from common.digest import Digest
from common.errors import Unavailable
from control_plane.blobs import BlobDamaged, BlobMissing, BlobReader, StorageFailed
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.blobs.store_set.members import Member, Tier
from control_plane.blobs.store_set.store import StoreSet
from tests.conformance.blob_store import stored, whole

T = TypeVar("T")
CONTENTS = [bytes([number]) * (number + 3) for number in range(4)]
contents = st.sampled_from(CONTENTS)
names = st.sampled_from(["hot", "spare", "cold"])


class FickleStore(MemoryBlobStore):
    away = False

    def held(self, digest: Digest) -> bytes | None:
        return self._blobs.get(digest)

    def lose(self, digest: Digest) -> None:
        del self._blobs[digest]

    def ask(self) -> None:
        if self.away:
            raise StorageFailed("away", action="wait")

    async def create_upload(self, upload_id: str) -> None:
        self.ask()
        await super().create_upload(upload_id)

    async def stat(self, digest: Digest) -> int | None:
        self.ask()
        return await super().stat(digest)

    def open(self, digest: Digest, size: int) -> contextlib.AbstractAsyncContextManager[BlobReader]:  # type: ignore[override]
        self.ask()
        return super().open(digest, size)

    async def delete(self, digest: Digest) -> None:
        self.ask()
        await super().delete(digest)


class StoreSetLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        clock = self.clock = ManualClock()
        self.disks = {name: FickleStore(clock) for name in ("hot", "spare", "cold")}
        tiers = {"hot": Tier.HOT, "spare": Tier.HOT, "cold": Tier.COLD}
        self.set = StoreSet([Member(name, disk, tiers[name]) for name, disk in self.disks.items()], clock)

    def teardown(self) -> None:
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(data=contents)
    def push(self, data: bytes) -> None:
        try:
            self.run(stored(self.set, data))
        except Unavailable:
            assert self.disks["hot"].away
            assert self.disks["spare"].away
        else:
            assert data in (self._holds("hot", data), self._holds("spare", data))

    @rule(data=contents, name=names)
    def copy(self, data: bytes, name: str) -> None:
        """What placement does."""
        if not self.disks[name].away:
            self.run(stored(self.disks[name], data))

    @rule(data=contents, name=names, how=st.sampled_from(["cut", "gone"]))
    def damage(self, data: bytes, name: str, how: str) -> None:
        if self._holds(name, data) is None:
            return
        if how == "cut":
            self.disks[name].damage(Digest.of(data), data[:1])
        else:
            self.disks[name].lose(Digest.of(data))

    @rule(name=names)
    def go_or_come_back(self, name: str) -> None:
        self.disks[name].away = not self.disks[name].away

    @rule(seconds=st.sampled_from([1.0, 20.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.tick(seconds)

    @rule(data=contents)
    def delete(self, data: bytes) -> None:
        try:
            self.run(self.set.delete(Digest.of(data)))
        except Unavailable:
            assert any(disk.away for disk in self.disks.values())
        else:
            assert all(self._holds(name, data) is None for name in self.disks)

    @rule(data=contents)
    def read(self, data: bytes) -> None:
        reachable = any(self._holds(name, data) == data and not disk.away for name, disk in self.disks.items())
        try:
            assert self.run(whole(self.set, Digest.of(data), len(data))) == data
        except (BlobMissing, BlobDamaged):
            assert not reachable
            assert not any(disk.away for disk in self.disks.values())
        except Unavailable:
            assert not reachable
            assert any(disk.away for disk in self.disks.values())

    @invariant()
    def what_any_store_has_is_listed_once(self) -> None:
        page = self.run(self.set.list())
        listed = {each.digest for each in page}
        assert len(page) == len(listed)
        assert listed == {Digest.of(data) for data in CONTENTS if any(self._holds(name, data) for name in self.disks)}

    def _holds(self, name: str, data: bytes) -> bytes | None:
        return self.disks[name].held(Digest.of(data))


TestStoreSetLife = StoreSetLife.TestCase
TestStoreSetLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
