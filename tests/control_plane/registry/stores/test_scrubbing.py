"""What is damaged is found, never served again, and healed from whoever has it; on both engines."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from common.clock import ManualClock
from common.digest import Digest
from control_plane.blobs import BlobMissing
from control_plane.database import Database
from control_plane.database.outbox import outbox
from control_plane.registry.stores.copies.model import CopyState
from control_plane.registry.stores.scrubbing import store as scrubs
from tests.conformance.blob_store import content, whole
from tests.control_plane.registry.pushing import WEB, push_blob
from tests.control_plane.registry.stores.sites import LentHealer, Site

DATA = content(200_000)
DIGEST = Digest.of(DATA)
WEEK = timedelta(days=7, seconds=1).total_seconds()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {"flipped": flip, "zeroed": zero, "cut": cut, "gone": Path.unlink}


async def topics(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list((await connection.execute(select(outbox.c.topic).order_by(outbox.c.id))).scalars())


async def lost(site: Site) -> list[scrubs.LostBlob]:
    async with site.database.reading() as connection:
        return (await scrubs.lost(connection, 0, 10))[0]


@pytest.mark.parametrize("store", ["primary", "second"])
@pytest.mark.parametrize("damage", list(DAMAGES))
async def test_a_damaged_copy_is_healed_from_another_one(site: Site, store: str, damage: str) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    assert site.holders(DIGEST) == {"primary", "second"}
    DAMAGES[damage](site.path(store, DIGEST))
    site.clock.tick(WEEK)
    done = await site.parts.scrubber.run()
    assert (done.damaged, done.healed, done.lost) == (1, 1, 0)
    assert site.path(store, DIGEST).read_bytes() == DATA
    assert await whole(site.disks[store], DIGEST, len(DATA)) == DATA
    assert (await site.known(DIGEST))[store].good
    assert [each for each in await topics(site.database) if each.startswith("registry.copy")] == [
        "registry.copy_damaged",
        "registry.copy_healed",
    ]
    aside = list((site.root / store / "damaged").iterdir())
    assert len(aside) == (damage != "gone")


async def test_what_was_read_and_right_is_not_read_again_before_its_time(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    assert (await site.parts.scrubber.run()).read == 0
    site.clock.tick(WEEK)
    assert (await site.parts.scrubber.run()).read == 2
    assert (await site.parts.scrubber.run()).read == 0


async def test_readers_never_get_what_is_cut_or_gone_while_another_copy_is_whole(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    cut(site.path("primary", DIGEST))
    assert await whole(site.stores, DIGEST, len(DATA)) == DATA
    await site.parts.notes.flush()
    assert (await site.known(DIGEST))["primary"].state is CopyState.DAMAGED
    assert (await site.parts.scrubber.run()).healed == 1  # at once: it is known to be damaged
    assert site.path("primary", DIGEST).read_bytes() == DATA


async def test_a_lost_blob_is_reported_with_who_needs_it_until_a_push_brings_it_back(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.parts.notes.flush()
    flip(site.path("primary", DIGEST))
    site.clock.tick(WEEK)
    assert (await site.parts.scrubber.run()).lost == 1
    [report] = await lost(site)
    assert (report.digest, report.repositories) == (DIGEST, (WEB,))
    with pytest.raises(BlobMissing):
        await whole(site.stores, DIGEST, len(DATA))
    await site.parts.scrubber.run()
    assert (await topics(site.database)).count("registry.blob_lost") == 1
    await push_blob(site.registry, DATA)
    await site.parts.notes.flush()
    assert await lost(site) == []
    assert (await site.known(DIGEST))["primary"].good


async def test_what_no_store_has_comes_from_a_healer(database: Database, clock: ManualClock, tmp_path: Path) -> None:
    site = Site(database, clock, tmp_path, [LentHealer(DATA, lies=True), LentHealer(DATA)])
    await push_blob(site.registry, DATA)
    await site.parts.notes.flush()
    site.path("primary", DIGEST).unlink()
    site.clock.tick(WEEK)
    done = await site.parts.scrubber.run()
    assert (done.healed, done.lost) == (1, 0)
    assert site.path("primary", DIGEST).read_bytes() == DATA
    assert await lost(site) == []
    await site.stores.close()


async def test_a_store_that_is_away_loses_nothing_and_is_looked_at_when_it_is_back(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    flip(site.path("primary", DIGEST))
    site.clock.tick(WEEK)
    site.disks["second"].away = True
    done = await site.parts.scrubber.run()
    assert (done.healed, done.lost, await lost(site)) == (0, 0, [])
    assert (await site.known(DIGEST))["primary"].state is CopyState.DAMAGED
    assert (await site.known(DIGEST))["second"].state is CopyState.PRESENT
    site.disks["second"].away = False
    assert (await site.parts.scrubber.run()).healed == 1
    assert site.path("primary", DIGEST).read_bytes() == DATA


async def test_two_damaged_copies_are_never_taken_for_each_others_healing(site: Site) -> None:
    await push_blob(site.registry, DATA)
    await site.placed()
    for name in ("primary", "second"):
        flip(site.path(name, DIGEST))
    site.clock.tick(WEEK)
    done = await site.parts.scrubber.run()
    assert done.healed == 0
    assert site.holders(DIGEST) == set()
    assert len(await lost(site)) == 1


async def test_the_census_finds_copies_and_losses_that_nobody_noted(site: Site) -> None:
    await push_blob(site.registry, DATA)
    other = await push_blob(site.registry, b"another")
    site.path("primary", other).unlink()
    site.clock.tick(2 * 3600)
    await site.parts.placement.census()
    assert (await site.known(DIGEST))["primary"].verified_at is None
    assert (await site.known(other))["primary"].state is CopyState.MISSING
    done = await site.parts.scrubber.run()
    assert (done.read, done.lost) == (1, 1)
