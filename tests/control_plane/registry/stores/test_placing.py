"""Copies by class, wandering by age, dropping under the lock; on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from sqlalchemy import update

from common.digest import Digest
from control_plane.database import Database
from control_plane.registry.stores.copies import store
from control_plane.registry.stores.copies.copying import upload_id_of
from control_plane.registry.stores.copies.model import CopyState
from control_plane.registry.stores.placement.planner import Drop
from control_plane.registry.stores.placement.service import Placed
from control_plane.registry.tables import repositories
from tests.conformance.blob_store import content, whole
from tests.control_plane.registry.pushing import push_blob
from tests.control_plane.registry.stores.sites import Site

DATA = content(100_000)
DIGEST = Digest.of(DATA)
DAY = timedelta(days=1).total_seconds()


async def publish(site: Site) -> None:
    async with site.database.transaction() as unit:
        await unit.connection.execute(update(repositories).values(visibility="public"))


async def test_blobs_of_public_repositories_get_three_copies_and_others_two(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    assert site.holders(DIGEST) == {"primary", "second"}
    assert all(copy.good for copy in (await site.known(DIGEST)).values())
    await publish(site)
    site.clock.tick(2 * DAY)
    await site.placed()
    assert site.holders(DIGEST) == {"primary", "second", "third"}


async def test_what_nobody_reads_leaves_the_hot_store_and_comes_back_when_it_is_read(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    site.clock.tick(8 * DAY)
    await site.placed()
    assert site.holders(DIGEST) == {"second", "third"}
    assert await whole(site.stores, DIGEST, len(DATA)) == DATA
    await site.placed()
    assert site.holders(DIGEST) == {"primary", "second", "third"}
    site.clock.tick(2 * DAY)
    await site.placed()
    assert site.holders(DIGEST) == {"primary", "second"}
    assert (await site.parts.placement.place()) == Placed()
    site.clock.tick(2 * DAY)
    assert (await site.parts.placement.place()).dropped == 0


async def test_the_last_good_copy_is_never_dropped_whatever_the_plan_says(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    drop = site.parts.placement._tried
    done = Placed()
    assert not await drop(Drop("primary", ("third",)), DIGEST, len(DATA), done)
    assert not await drop(Drop("primary", ()), DIGEST, len(DATA), done)
    async with site.database.transaction() as unit:
        await store.mark(unit.connection, DIGEST, "second", CopyState.DAMAGED)
    assert not await drop(Drop("primary", ("second",)), DIGEST, len(DATA), done)
    assert (done.dropped, site.holders(DIGEST)) == (0, {"primary", "second"})


async def test_a_damaged_source_is_not_copied_and_is_read_by_the_scrub(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.parts.notes.flush()
    site.path("primary", DIGEST).write_bytes(bytes(len(DATA)))
    done = await site.parts.placement.place()
    assert (done.copied, done.failures, site.holders(DIGEST)) == (0, 1, {"primary"})
    assert (await site.known(DIGEST))["primary"].verified_at is None
    assert (await site.parts.scrubber.run()).damaged == 1
    assert site.holders(DIGEST) == set()


async def test_a_copy_that_was_broken_off_goes_on_where_it_was(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.parts.notes.flush()
    second = site.stores.members.find("second")
    assert second is not None
    upload_id = upload_id_of(DIGEST, second)
    await second.store.create_upload(upload_id)

    async def beginning() -> AsyncIterator[bytes]:
        yield DATA[:40_000]

    await second.store.append(upload_id, 0, beginning())
    await site.parts.placement.place()
    assert site.path("second", DIGEST).read_bytes() == DATA


async def test_collecting_removes_every_copy_and_their_rows(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    await site.stores.delete(DIGEST)
    assert site.holders(DIGEST) == set()


async def test_two_replicas_place_at_once_and_end_with_what_is_wanted(
    site: Site, open_replica: Callable[[], Database]
) -> None:
    digests = [await push_blob(site.registry, content(5000, seed)) for seed in range(12)]
    await site.parts.notes.flush()
    other = Site(open_replica(), site.clock, site.root)
    await asyncio.gather(site.parts.placement.place(), other.parts.placement.place())
    await site.placed()
    site.clock.tick(3600)
    await site.placed()
    for digest in digests:
        assert site.holders(digest) == {"primary", "second"}
        assert all(copy.good for copy in (await site.known(digest)).values())
    await other.stores.close()
