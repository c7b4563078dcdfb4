"""One crossing of the WAN, verified, whoever asks and whatever breaks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from common.byte_ranges import Span
from common.digest import Digest, DigestMismatch
from common.errors import Unavailable
from regional.centre import BodyCut, CentreAway, CentreBusy, CentreUnknown
from regional.directory import ContentDirectory, DiskFull
from regional.rights import NoRight
from regional.shelf import CacheFull

from .conftest import PIECE, FakeCentre, Rigs, read_all, sample, until

LARGE = sample(5 * PIECE + 1000)
SMALL = sample(3000, seed=2)


async def test_a_large_content_crosses_once_and_is_verified(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
        assert rig.directory.content_path(LARGE.digest).read_bytes() == LARGE.data
        assert await rig.read(LARGE) == LARGE.data
        assert rig.edge.crossings.count(LARGE.key()) == len(LARGE.data)
    assert len(centre.gets) == 1
    assert centre.sent[LARGE.digest] == len(LARGE.data)


async def test_a_small_content_needs_no_swarm(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(SMALL)
    async with rigs() as rig:
        assert await rig.read(SMALL) == SMALL.data
        assert not rig.seeding.seeds(SMALL.key())


async def test_an_empty_content_is_a_content(rigs: Rigs, centre: FakeCentre) -> None:
    empty = sample(0)
    centre.publish(empty)
    async with rigs() as rig:
        await rig.hold(empty)
        assert await rig.read(empty) == b""


async def test_twenty_readers_cost_one_crossing(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.publish(SMALL)
    async with rigs() as rig:
        answers = await asyncio.gather(*(rig.read(LARGE) for _ in range(20)), *(rig.read(SMALL) for _ in range(20)))
    assert answers == [LARGE.data] * 20 + [SMALL.data] * 20
    assert [digest for digest, _ in centre.gets].count(LARGE.digest) == 1
    assert [digest for digest, _ in centre.gets].count(SMALL.digest) == 1


async def test_two_tenants_share_one_crossing_and_one_inode(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme", "globex")
    async with rigs() as rig:
        await asyncio.gather(rig.hold(LARGE, "acme"), rig.hold(LARGE, "globex"))
        inodes = {
            (rig.directory.swarm_path(LARGE.metainfo(tenant).info_hash) / LARGE.digest.hex).stat().st_ino
            for tenant in ("acme", "globex")
        }
        assert inodes == {rig.directory.content_path(LARGE.digest).stat().st_ino}
        assert rig.edge.crossings.count(LARGE.key("acme")) + rig.edge.crossings.count(LARGE.key("globex")) == len(
            LARGE.data
        )
    assert centre.sent[LARGE.digest] == len(LARGE.data)


async def test_bytes_are_read_while_the_rest_is_still_on_its_way(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.pause_at = 3 * PIECE
    async with rigs() as rig:
        async with await rig.edge.open(LARGE.key(), rig.token(LARGE)) as reader:
            fetch = rig.edge._fetches[LARGE.digest]
            await fetch.progress.wait_readable(2 * PIECE, 10)
            assert reader.size == len(LARGE.data)
            assert rig.shelf.size(LARGE.digest) is None
            centre.resume.set()
        assert await rig.read(LARGE) == LARGE.data


async def test_a_cut_answer_is_continued_where_it_broke(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.cut_after = [2 * PIECE + 17, PIECE]
    async with rigs() as rig:
        await rig.hold(LARGE)
        assert rig.edge.crossings.count(LARGE.key()) == centre.sent[LARGE.digest]
    starts = [header.split("=")[1].split("-")[0] for _, header in centre.gets if header]
    assert starts[:2] == ["0", str(2 * PIECE)]
    # Nothing was fetched twice but the piece that was in flight at each cut.
    assert centre.sent[LARGE.digest] <= len(LARGE.data) + 2 * PIECE


async def test_a_cut_small_answer_is_fetched_again_and_never_served_short(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(SMALL)
    centre.cut_after = [1000]
    async with rigs() as rig:
        assert await rig.read(SMALL) == SMALL.data
        assert rig.edge.crossings.count(SMALL.key()) == 1000 + len(SMALL.data)


async def test_an_answer_that_is_always_cut_fails_and_counts_every_byte(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(SMALL)
    centre.cut_after = [1000] * 50
    async with rigs() as rig:
        with pytest.raises(BodyCut):
            await rig.hold(SMALL)
        assert rig.edge.crossings.count(SMALL.key()) == 3000
        assert rig.shelf.size(SMALL.digest) is None


async def test_a_false_piece_is_dropped_and_fetched_again(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.corrupt = lambda get: PIECE + 5 if get == 1 else None
    async with rigs() as rig:
        assert await rig.read(LARGE) == LARGE.data
        await rig.hold(LARGE)
        assert rig.edge.crossings.count(LARGE.key()) == len(LARGE.data) + PIECE
    assert centre.gets[1] == (LARGE.digest, f"bytes={PIECE}-{2 * PIECE - 1}")


async def test_a_false_small_content_publishes_nothing(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(SMALL)
    centre.corrupt = lambda _: 7
    async with rigs() as rig:
        with pytest.raises(DigestMismatch):
            await rig.hold(SMALL)
        assert not rig.directory.content_path(SMALL.digest).exists()
        assert not rig.directory.partial_path(SMALL.digest).exists()
        centre.corrupt = lambda _: None
        rig.edge.retry_now()
        assert await rig.read(SMALL) == SMALL.data


async def test_a_metainfo_of_other_bytes_publishes_nothing(rigs: Rigs, centre: FakeCentre) -> None:
    other = sample(len(LARGE.data), seed=9)
    centre.contents[LARGE.digest] = other.data
    centre.metainfos[LARGE.key()] = other.metainfo("acme")
    async with rigs() as rig:
        with pytest.raises(DigestMismatch):
            await rig.hold(LARGE)
        assert not rig.directory.content_path(LARGE.digest).exists()
        assert not rig.seeding.seeds(LARGE.key())
        # With the true one it works: the false metainfo was not kept.
        centre.publish(LARGE, "acme")
        rig.edge.retry_now()
        await rig.hold(LARGE)


async def test_after_a_kill_only_missing_pieces_are_fetched(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.pause_at = 3 * PIECE
    async with rigs() as rig:
        asking = asyncio.ensure_future(rig.hold(LARGE))
        await until(lambda: rig.edge.held_bytes(LARGE.digest) >= 3 * PIECE)
        held = rig.edge.held_bytes(LARGE.digest)
        asking.cancel()
    # A piece that rotted meanwhile is found out; what is whole is not fetched again.
    damage(rig.directory, LARGE.digest, PIECE + 1)
    centre.pause_at = None
    before = centre.sent[LARGE.digest]
    async with rigs() as rig:
        await rig.hold(LARGE)
        assert rig.directory.content_path(LARGE.digest).read_bytes() == LARGE.data
        assert rig.edge.crossings.count(LARGE.key()) >= len(LARGE.data) + PIECE
    assert centre.sent[LARGE.digest] - before == len(LARGE.data) - held + PIECE


async def test_what_is_held_is_served_and_seeded_while_the_centre_is_away(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
    async with rigs() as rig:
        rig.centre.base_url = "http://127.0.0.1:1"
        assert await rig.read(LARGE) == LARGE.data
        assert rig.seeding.seeds(LARGE.key())
        assert all(status.complete for status in rig.seeding.statuses())
        await rig.hold(LARGE)
        with pytest.raises(CentreAway):
            await rig.hold(SMALL)


async def test_verified_pieces_are_served_while_the_centre_is_away(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.cut_after = [2 * PIECE] + [0] * 50
    async with rigs() as rig:
        with pytest.raises(Unavailable):
            await rig.hold(LARGE)
    async with rigs() as rig:
        rig.centre.base_url = "http://127.0.0.1:1"
        async with await rig.edge.open(LARGE.key(), rig.token(LARGE)) as reader:
            await reader.ready(Span(PIECE, 2 * PIECE))
            with pytest.raises(CentreAway):
                await reader.ready(Span(3 * PIECE, 4 * PIECE))
        assert rig.edge.held_bytes(LARGE.digest) == 2 * PIECE


async def test_a_busy_centre_is_left_alone_for_as_long_as_it_says(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(SMALL)
    centre.busy = 503, "30"
    async with rigs() as rig:
        for _ in range(5):
            with pytest.raises(CentreBusy) as caught:
                await rig.hold(SMALL)
            assert caught.value.retry_after_seconds == 30
        assert len(centre.gets) == 1
        centre.busy = None
        rig.edge.retry_now()
        await rig.hold(SMALL)


async def test_a_metainfo_that_is_still_computed_is_asked_for_once(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    centre.metainfo_busy = 503, "30"
    async with rigs() as rig:
        failures = await asyncio.gather(*(rig.hold(LARGE) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(failure, CentreBusy) for failure in failures)
    assert centre.metainfo_gets == 1


async def test_a_refused_token_gives_way_to_another(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme", "globex")
    async with rigs() as rig:
        spent = rig.token(LARGE, "acme")
        # Its metainfo was still given, the content no more.
        await rig.metainfos.get(LARGE.key("acme"), spent)
        centre.refuse.add(spent)
        for _ in range(3):
            with pytest.raises(NoRight):
                await rig.edge.hold(LARGE.key("acme"), spent)
        assert len(centre.gets) == 1, "a refused token is not shown to the centre again"
        await rig.hold(LARGE, "globex")
        assert rig.edge.crossings.count(LARGE.key("acme")) == 0
        assert rig.edge.crossings.count(LARGE.key("globex")) == len(LARGE.data)


async def test_an_unknown_content_is_said_to_be_unknown(rigs: Rigs) -> None:
    async with rigs() as rig:
        with pytest.raises(CentreUnknown):
            await rig.hold(SMALL)


async def test_least_recently_used_contents_leave_and_ordered_ones_stay(rigs: Rigs, centre: FakeCentre) -> None:
    contents = [sample(3 * PIECE, seed=seed) for seed in range(4)]
    for each in contents:
        centre.publish(each, "acme")
    async with rigs(limit_bytes=7 * PIECE) as rig:
        rig.shelf.order(contents[0].key())
        for each in contents[:3]:
            await rig.hold(each)
        assert rig.shelf.size(contents[0].digest) is not None
        assert rig.shelf.size(contents[1].digest) is None
        assert rig.shelf.size(contents[2].digest) is not None
        assert not rig.seeding.seeds(contents[1].key())
        assert not rig.directory.swarm_path(contents[1].metainfo().info_hash).exists()
        assert rig.shelf.used_bytes == 6 * PIECE
        # A content of everything that is left over fits; with two orders nothing else does.
        rig.shelf.order(contents[2].key())
        with pytest.raises(CacheFull):
            await rig.hold(contents[3])
        rig.shelf.withdraw(contents[0].key())
        rig.edge.retry_now()
        await rig.hold(contents[3])
        assert rig.shelf.size(contents[0].digest) is None


async def test_the_limit_counts_what_an_earlier_process_left(rigs: Rigs, centre: FakeCentre) -> None:
    first, second = sample(3 * PIECE, seed=1), sample(3 * PIECE, seed=2)
    for each in (first, second):
        centre.publish(each, "acme")
    async with rigs() as rig:
        await rig.hold(first)
    async with rigs(limit_bytes=4 * PIECE) as rig:
        await rig.hold(second)
        assert rig.shelf.held() == [second.digest]
        assert not rig.directory.content_path(first.digest).exists()


class SmallDisk(ContentDirectory):
    """A directory whose disk has `room` bytes."""

    room = 0

    def reserve(self, digest: Digest, size: int) -> bool:
        if size > self.room:
            raise DiskFull("the disk is full: could not reserve", retry_after_seconds=0.1)
        return super().reserve(digest, size)

    def remove(self, digest: Digest) -> None:
        path = self.content_path(digest)
        self.room += path.stat().st_size if path.exists() else 0
        super().remove(digest)


async def test_a_full_disk_is_said_before_a_byte_crosses_and_recovers(
    rigs: Rigs, centre: FakeCentre, tmp_path: Path
) -> None:
    centre.publish(LARGE, "acme")
    disk = SmallDisk(tmp_path / "small")
    async with rigs(directory=disk) as rig:
        with pytest.raises(DiskFull):
            await rig.hold(LARGE)
        assert centre.gets == []
        disk.room = 100 * PIECE
        rig.edge.retry_now()
        assert await rig.read(LARGE) == LARGE.data


async def test_a_full_disk_gives_up_what_nobody_ordered(rigs: Rigs, centre: FakeCentre, tmp_path: Path) -> None:
    old = sample(8 * PIECE, seed=5)
    centre.publish(old, "acme")
    centre.publish(LARGE, "acme")
    disk = SmallDisk(tmp_path / "small")
    disk.room = 100 * PIECE
    async with rigs(directory=disk) as rig:
        await rig.hold(old)
        disk.room = 0
        await rig.hold(LARGE)
        assert rig.shelf.held() == [LARGE.digest]


async def test_a_reader_finishes_what_is_evicted_under_it(rigs: Rigs, centre: FakeCentre) -> None:
    centre.publish(LARGE, "acme")
    async with rigs() as rig:
        await rig.hold(LARGE)
        async with await rig.edge.open(LARGE.key(), rig.token(LARGE)) as reader:
            assert await rig.shelf.make_room(1)
            assert rig.shelf.held() == []
            assert await read_all(reader) == LARGE.data


def damage(directory: ContentDirectory, digest: Digest, offset: int) -> None:
    with directory.partial_path(digest).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
