"""The planner's promises, for any stores, copies and times: no good copy goes before its successors are there, plans
end, and nothing flaps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from common.digest import Digest
from control_plane.registry.stores.copies.model import BlobCopy, CopyState
from control_plane.registry.stores.placement.planner import (
    BlobPicture,
    Copy,
    Drop,
    PlacementPolicy,
    Plan,
    Reach,
    Step,
    StorePicture,
    Verify,
    plan,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DIGEST = Digest.of(b"x")
POLICY = PlacementPolicy(reserve_bytes=0)
HOT, WARM, COLD = (StorePicture(name, rank) for rank, name in enumerate(("hot", "warm", "cold")))


def copy(store: str, *, state: CopyState = CopyState.PRESENT, read: bool = True, age: timedelta = 10 * DAY) -> BlobCopy:
    return BlobCopy(DIGEST, store, 10, state, NOW - age, NOW if read else None)


def blob(*copies: BlobCopy, idle: timedelta = timedelta(0), public: bool = False) -> BlobPicture:
    return BlobPicture(10, public, NOW - idle, copies)


NAMES = [f"s{number}" for number in range(5)]
stores = st.lists(
    st.builds(
        StorePicture,
        name=st.sampled_from(NAMES),
        rank=st.integers(0, 2),
        location=st.sampled_from(["", "east", "west"]),
        reach=st.sampled_from([Reach.UP, Reach.UP, Reach.UP, Reach.AWAY, Reach.LOST]),
        free_bytes=st.sampled_from([None, 0, 1000]),
    ),
    unique_by=lambda each: each.name,
    min_size=1,
)
copies = st.lists(
    st.builds(
        BlobCopy,
        digest=st.just(DIGEST),
        store=st.sampled_from(NAMES),
        size=st.just(10),
        state=st.sampled_from(CopyState),
        copied_at=st.integers(0, 100).map(lambda days: NOW - days * DAY),
        verified_at=st.sampled_from([None, NOW]),
    ),
    unique_by=lambda each: each.store,
)
blobs = st.builds(
    BlobPicture,
    size=st.just(10),
    public=st.booleans(),
    last_read_at=st.integers(0, 200).map(lambda days: NOW - days * DAY),
    copies=copies,
)


def good(picture: BlobPicture) -> set[str]:
    return {each.store for each in picture.copies if each.good}


def carried_out(step: Step, picture: BlobPicture, now: datetime) -> BlobPicture:
    others = [each for each in picture.copies if each.store != step_store(step)]
    if isinstance(step, Drop):
        return replace(picture, copies=others)
    kept = next((each for each in picture.copies if each.store == step_store(step)), None)
    came = kept.copied_at if isinstance(step, Verify) and kept is not None else now
    return replace(picture, copies=[*others, BlobCopy(DIGEST, step_store(step), 10, CopyState.PRESENT, came, now)])


def step_store(step: Step) -> str:
    return step.target if isinstance(step, Copy) else step.store


def settled(
    picture: BlobPicture, there: list[StorePicture], now: datetime = NOW
) -> tuple[BlobPicture, Plan, list[Step]]:
    """Carry out plans until one has no steps."""
    taken: list[Step] = []
    for _ in range(10):
        decision = plan(picture, there, POLICY, now)
        if not decision.steps:
            return picture, decision, taken
        for step in decision.steps:
            picture = carried_out(step, picture, now)
            taken.append(step)
    raise AssertionError(f"it does not end: {taken}")


@settings(max_examples=300, deadline=None)
@given(blobs, stores)
def test_no_copy_goes_before_all_that_are_wanted_are_good(picture: BlobPicture, there: list[StorePicture]) -> None:
    before = good(picture)
    decision = plan(picture, there, POLICY, NOW)
    dropped = {step.store for step in decision.steps if isinstance(step, Drop)}
    if not dropped:
        return
    assert all(isinstance(step, Drop) for step in decision.steps)
    left = before - dropped
    wanted = POLICY.public_copies if picture.public else POLICY.copies
    for step in decision.steps:
        assert isinstance(step, Drop)
        assert step.kept
        assert set(step.kept) <= left
    up = {store.name for store in there if store.reach is Reach.UP}
    assert len(left) >= min(wanted, len(before | dropped & up), len(there))


@settings(max_examples=300, deadline=None)
@given(blobs, stores)
def test_carrying_plans_out_ends_and_never_leaves_fewer_than_wanted(
    picture: BlobPicture, there: list[StorePicture]
) -> None:
    wanted = POLICY.public_copies if picture.public else POLICY.copies
    before = len(good(picture))
    after, _, _ = settled(picture, there)
    assert len(good(after)) >= min(wanted, before)


@settings(max_examples=200, deadline=None)
@given(blobs, stores, st.integers(1, 6 * 24))
def test_what_was_settled_stays_so_while_only_hours_pass(
    picture: BlobPicture, there: list[StorePicture], hours: int
) -> None:
    after, decision, _ = settled(picture, there)
    later = min(NOW + timedelta(hours=hours), decision.review_after - timedelta(seconds=1))
    assert plan(after, there, POLICY, later).steps == ()


@settings(max_examples=200, deadline=None)
@given(blobs, stores, st.data())
def test_a_store_that_is_away_for_a_moment_moves_nothing(
    picture: BlobPicture, there: list[StorePicture], data: st.DataObject
) -> None:
    there = [replace(store, reach=Reach.UP) for store in there]
    after, _, _ = settled(picture, there)
    away = data.draw(st.sampled_from(there))
    if away.name not in {each.store for each in after.copies}:
        return
    shaken = [replace(store, reach=Reach.AWAY) if store is away else store for store in there]
    assert plan(after, shaken, POLICY, NOW).steps == ()


def test_a_public_blob_has_three_copies_and_others_two() -> None:
    there = [HOT, WARM, COLD, StorePicture("more", 0)]
    for public, count in ((False, 2), (True, 3)):
        after, decision, _ = settled(blob(copy("hot"), public=public), there)
        assert (len(good(after)), decision.short) == (count, 0)


def test_fewer_stores_than_copies_are_reported() -> None:
    assert plan(blob(copy("hot"), public=True), [HOT], POLICY, NOW).short == 2
    assert plan(blob(copy("hot")), [HOT], POLICY, NOW).steps == ()


def test_copies_go_to_different_locations_first() -> None:
    there = [replace(HOT, location="east"), StorePicture("hot2", 0, "east"), StorePicture("far", 2, "west")]
    after, _, _ = settled(blob(copy("hot")), there)
    assert good(after) == {"hot", "far"}


def test_what_nobody_reads_wanders_to_the_cold_and_comes_back_when_it_is_read() -> None:
    policy_of = {0: {"hot", "warm"}, 8: {"warm", "cold"}, 100: {"cold", "warm"}}
    picture = blob(copy("hot"), copy("warm"))
    for idle, held in policy_of.items():
        picture, _, _ = settled(replace(picture, last_read_at=NOW - idle * DAY), [HOT, WARM, COLD], NOW + 2 * DAY)
        picture = replace(picture, copies=[replace(each, copied_at=NOW - 10 * DAY) for each in picture.copies])
        assert good(picture) == held
    back, _, steps = settled(replace(picture, last_read_at=NOW), [HOT, WARM, COLD])
    assert good(back) == {"hot", "warm"}
    assert isinstance(steps[0], Copy)


def test_a_copy_stays_for_its_time_after_it_came() -> None:
    young = blob(copy("hot", age=timedelta(hours=1)), copy("warm"), copy("cold"), idle=20 * DAY)
    assert plan(young, [HOT, WARM, COLD], POLICY, NOW).steps == ()
    old = blob(copy("hot", age=2 * DAY), copy("warm"), copy("cold"), idle=20 * DAY)
    assert plan(old, [HOT, WARM, COLD], POLICY, NOW).steps == (Drop("hot", ("warm", "cold")),)


def test_a_store_that_is_gone_for_long_is_replaced() -> None:
    there = [HOT, replace(WARM, reach=Reach.LOST), COLD]
    after, _, _ = settled(blob(copy("hot"), copy("warm")), there)
    assert good(after) == {"hot", "warm", "cold"}
    again, _, _ = settled(
        replace(after, copies=[replace(e, copied_at=NOW - 2 * DAY) for e in after.copies]), [HOT, WARM, COLD]
    )
    assert good(again) == {"hot", "warm"}


def test_a_full_store_gets_no_more() -> None:
    decision = plan(blob(copy("hot")), [HOT, replace(WARM, free_bytes=5), COLD], POLICY, NOW)
    assert decision.steps == (Copy("cold", ("hot",)),)
