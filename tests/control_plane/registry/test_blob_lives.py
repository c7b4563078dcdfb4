"""A push that races the collection of its blob wins, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs import UploadUnknown
from control_plane.blobs.memory import MemoryBlobStore
from control_plane.database import Database
from control_plane.registry import blob_lives
from control_plane.registry.service import RegistryService
from tests.control_plane.registry.people import ADA, Directory
from tests.control_plane.registry.pushing import WEB, chunks_of, push_blob

DATA = b"a layer"
DIGEST = Digest.of(DATA)
LONG = blob_lives.REPRIEVE + timedelta(minutes=1)


async def condemned(database: Database) -> bool:
    async with database.transaction() as unit:
        return await blob_lives.condemn(unit.connection, DIGEST, database.clock.now())


async def collected(database: Database, blobs: MemoryBlobStore) -> bool:
    """As the collection does it: bytes and row go while the row is held."""
    async with database.transaction() as unit:
        if not await blob_lives.claim(unit.connection, DIGEST, database.clock.now()):
            return False
        await blobs.delete(DIGEST)
        await blob_lives.bury(unit.connection, DIGEST)
    return True


class Interrupted(MemoryBlobStore):
    """Lets somebody act right before or right after the bytes are published."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.before: Callable[[], object] | None = None
        self.after: Callable[[], object] | None = None

    async def commit(self, upload_id: str, digest: Digest) -> int:
        await self._let(self.before)
        size = await super().commit(upload_id, digest)
        await self._let(self.after)
        return size

    async def _let(self, act: Callable[[], object] | None) -> None:
        if act is not None:
            self.before = self.after = None
            await act()  # type: ignore[misc]


@pytest.fixture
def store(clock: ManualClock) -> Interrupted:
    return Interrupted(clock)


@pytest.fixture
def served(database: Database, store: Interrupted, clock: ManualClock) -> RegistryService:
    return RegistryService(database, store, Directory("acme", "birch"), clock)


async def dead_blob(registry: RegistryService) -> None:
    await push_blob(registry, DATA)
    await registry.contents.unlink_blob(ADA, WEB, DIGEST)


async def is_whole(registry: RegistryService, store: MemoryBlobStore) -> bool:
    return await registry.contents.blob_size(ADA, WEB, DIGEST) == len(DATA) == await store.stat(DIGEST)


async def test_a_blob_that_somebody_links_is_not_condemned(
    served: RegistryService, database: Database, store: Interrupted, clock: ManualClock
) -> None:
    await push_blob(served, DATA)
    assert not await condemned(database)
    await served.contents.unlink_blob(ADA, WEB, DIGEST)
    assert await condemned(database)
    assert not await collected(database, store)
    clock.tick(LONG.total_seconds())
    assert await collected(database, store)
    assert not await condemned(database)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_blob_condemned_while_it_is_pushed_survives(
    served: RegistryService, database: Database, store: Interrupted, clock: ManualClock, moment: str
) -> None:
    await dead_blob(served)

    async def condemn_and_try() -> None:
        assert await condemned(database)
        clock.tick(60)
        assert not await collected(database, store)

    setattr(store, moment, condemn_and_try)
    await push_blob(served, DATA)
    clock.tick(LONG.total_seconds())
    assert not await collected(database, store)
    assert await is_whole(served, store)


async def test_an_old_sentence_is_lifted_before_the_bytes_are_published(
    served: RegistryService, database: Database, store: Interrupted, clock: ManualClock
) -> None:
    await dead_blob(served)
    assert await condemned(database)
    clock.tick(LONG.total_seconds())

    async def try_to_collect() -> None:
        assert not await collected(database, store)

    store.after = try_to_collect
    await push_blob(served, DATA)
    assert await is_whole(served, store)


async def test_a_push_that_slept_until_its_bytes_were_collected_links_nothing(
    served: RegistryService, database: Database, store: Interrupted, clock: ManualClock
) -> None:
    await dead_blob(served)

    async def sleep_through_it() -> None:
        assert await condemned(database)
        clock.tick(LONG.total_seconds())
        assert await collected(database, store)

    store.after = sleep_through_it
    with pytest.raises(UploadUnknown):
        await push_blob(served, DATA)
    async with database.transaction() as unit:
        assert await blob_lives.revive(unit.connection, DIGEST) is None
    await push_blob(served, DATA)
    assert await is_whole(served, store)


async def test_mounting_lifts_a_sentence_and_finds_nothing_after_the_deletion(
    served: RegistryService, database: Database, store: Interrupted, clock: ManualClock
) -> None:
    await push_blob(served, DATA)
    async with database.transaction() as unit:
        await blob_lives.condemn(unit.connection, DIGEST, clock.now())
        assert await blob_lives.revive(unit.connection, DIGEST) == len(DATA)
    await served.contents.unlink_blob(ADA, WEB, DIGEST)
    assert await condemned(database)
    clock.tick(LONG.total_seconds())
    assert await collected(database, store)
    assert await served.uploads.mount(ADA, "acme/api", DIGEST, WEB) is None


async def test_bytes_without_a_row_are_adopted_and_a_push_of_them_wins(
    served: RegistryService, database: Database, store: Interrupted, clock: ManualClock
) -> None:
    store.damage(DIGEST, DATA)
    async with database.transaction() as unit:
        assert await blob_lives.adopt(unit.connection, DIGEST, len(DATA), clock.now())
        assert not await blob_lives.adopt(unit.connection, DIGEST, len(DATA), clock.now())
    await push_blob(served, DATA)
    clock.tick(LONG.total_seconds())
    assert not await collected(database, store)
    assert await is_whole(served, store)


async def test_replicas_that_push_one_blob_and_collect_it_at_once_never_lose_it(
    database: Database, open_replica: Callable[[], Database], blobs: MemoryBlobStore, clock: ManualClock
) -> None:
    replicas = [database, open_replica()]
    registries = [RegistryService(each, blobs, Directory("acme", "birch"), clock) for each in replicas]
    await dead_blob(registries[0])
    stop = asyncio.Event()

    async def collect() -> int:
        deleted = 0
        while not stop.is_set():
            await condemned(replicas[1])
            clock.tick(100)  # far less than a push may take, again and again
            deleted += await collected(replicas[1], blobs)
            await asyncio.sleep(0)
        return deleted

    async def push_and_look(number: int) -> None:
        registry, repository = registries[number % 2], f"acme/r{number}"
        for _ in range(6):
            upload = await registry.uploads.start(ADA, repository)
            await registry.uploads.append(ADA, repository, upload.upload_id, chunks_of(DATA))
            try:
                await registry.uploads.finish(ADA, repository, upload.upload_id, DIGEST)
            except UploadUnknown:
                continue  # the clock ran away from it: told so, and nothing linked
            assert await blobs.stat(DIGEST) == len(DATA)
            assert await registry.contents.present_blob_size(ADA, repository, DIGEST) == len(DATA)
            await registry.contents.unlink_blob(ADA, repository, DIGEST)

    collecting = asyncio.create_task(collect())  # noqa: TID251
    try:
        await asyncio.gather(*map(push_and_look, range(6)))
    finally:
        stop.set()
        await collecting
