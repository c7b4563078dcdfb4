"""A cache between its water marks: emptied in the background, in order of use, and never of what is ordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.water_marks import WaterMarks, WaterMarksInvalid, leaving, limit_of
from regional.model import ContentKey

from .conftest import PIECE, FakeCentre, Rigs, read_all, sample, until

CONTENTS = [sample(4 * PIECE, seed=seed) for seed in range(20, 26)]
SIZE = 4 * PIECE


@given(st.integers(0, 1000), st.integers(0, 1500), st.integers(0, 1500), st.integers(1, 100), st.integers(1, 100))
def test_between_the_marks_nothing_leaves_and_above_all_down_to_the_low_one(
    limit: int, used: int, pinned: int, one: int, other: int
) -> None:
    low, high = sorted((one, other))
    marks = WaterMarks(limit, high, low)
    pinned = min(pinned, used)
    surplus, room, loose = marks.surplus(used, pinned), max(limit - pinned, 0), used - pinned
    if not limit or loose <= room * high / 100:
        assert surplus == 0
    else:
        assert loose - surplus == int(room * low / 100)
    assert marks.over_limit(used) == (max(used - limit, 0) if limit else 0)


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(-5, 200))
def test_the_fewest_of_the_oldest_leave(sizes: list[int], needed: int) -> None:
    chosen = leaving(sizes, lambda size: size, needed)
    assert chosen == sizes[: len(chosen)]
    assert sum(chosen) >= needed or chosen == sizes
    assert not chosen or sum(chosen[:-1]) < needed


def test_the_narrower_limit_counts_and_marks_must_make_sense() -> None:
    assert limit_of(0, 0, 1000) == 0
    assert limit_of(300, 0, 1000) == limit_of(0, 30, 1000) == limit_of(300, 90, 1000) == limit_of(900, 30, 1000) == 300
    for wrong in ((1, 80, 90), (1, 101, 50), (-1, 90, 80), (1, 90, 0)):
        with pytest.raises(WaterMarksInvalid):
            WaterMarks(*wrong)


async def test_above_the_high_mark_the_least_recently_used_leaves_without_anybody_waiting(
    rigs: Rigs, centre: FakeCentre
) -> None:
    centre.publish(CONTENTS[0], "acme")
    for each in CONTENTS:
        centre.publish(each, "acme")
    async with rigs(limit_bytes=10 * SIZE, high=50, low=30) as rig:
        for each in CONTENTS[:5]:
            await rig.hold(each)
        assert len(rig.shelf.held()) == 5
        reader = await rig.edge.open(CONTENTS[0].key(), rig.token(CONTENTS[0]))
        rig.shelf._entries[CONTENTS[0].digest].used_at -= 1000
        await rig.hold(CONTENTS[5])
        await until(lambda: rig.shelf.used_bytes <= 3 * SIZE)
        assert set(rig.shelf.held()) == {each.digest for each in CONTENTS[3:]}
        assert rig.shelf.evicted_bytes == 3 * SIZE
        async with reader:
            assert await read_all(reader) == CONTENTS[0].data
        assert not rig.directory.content_path(CONTENTS[0].digest).exists()


async def test_what_is_ordered_stays_until_the_order_goes(rigs: Rigs, centre: FakeCentre) -> None:
    for each in CONTENTS:
        centre.publish(each, "acme")
    async with rigs(limit_bytes=6 * SIZE, high=50, low=20) as rig:
        for each in CONTENTS[:3]:
            rig.shelf.order(each.key())
            rig.shelf.order(ContentKey(each.digest, "globex"))
        for each in CONTENTS[:5]:
            await rig.hold(each)
        await until(lambda: CONTENTS[3].digest not in rig.shelf.held())
        assert rig.shelf.pinned_bytes == 3 * SIZE
        await rig.hold(CONTENTS[5])
        assert {each.digest for each in (*CONTENTS[:3], CONTENTS[5])} <= set(rig.shelf.held())
        rig.shelf.order(CONTENTS[5].key())
        for each in CONTENTS[:3]:
            rig.shelf.withdraw(each.key())
        assert rig.shelf.pinned_bytes == 4 * SIZE
        for each in CONTENTS[:3]:
            rig.shelf.withdraw(ContentKey(each.digest, "globex"))
        await until(lambda: rig.shelf.used_bytes <= 2 * SIZE)
        assert set(rig.shelf.held()) == {CONTENTS[2].digest, CONTENTS[5].digest}


async def test_reads_are_counted_and_the_order_of_use_survives_a_restart(rigs: Rigs, centre: FakeCentre) -> None:
    for each in CONTENTS:
        centre.publish(each, "acme")
    async with rigs() as rig:
        for each in CONTENTS[:4]:
            assert await rig.read(each) == each.data
        assert await rig.read(CONTENTS[0]) == CONTENTS[0].data
        assert (rig.shelf.hits, rig.shelf.misses) == (1, 4)
        # Who reads along is done before what was read is published.
        await until(lambda: len(rig.shelf.held()) == 4)
        for age, each in enumerate(reversed(CONTENTS[:4])):
            rig.directory.touch(each.digest, 1e9 - age)
        rig.shelf._entries[CONTENTS[0].digest].used_at -= 1000
        await rig.edge.used(CONTENTS[0].digest)
    async with rigs(limit_bytes=4 * SIZE, high=90, low=60) as rig:
        await until(lambda: rig.shelf.used_bytes <= 2.4 * SIZE)
        assert set(rig.shelf.held()) == {CONTENTS[0].digest, CONTENTS[3].digest}
