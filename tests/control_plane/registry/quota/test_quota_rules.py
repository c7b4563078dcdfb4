"""What an account permits; pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from common.errors import QuotaExceeded
from control_plane.registry.quota.model import Account, Change, Kind, Limits, Subject
from control_plane.registry.quota.rules import STEP_BYTES, granted, settled, warning

ACME = Subject(Kind.TENANT, "t-acme")
SIZES = some.integers(0, 1 << 40)


def account(limit: int | None = 100, used: int = 0, reserved: int = 0, warned: int = 0) -> Account:
    return Account(ACME, Limits(limit), True, used, reserved, 0, warned)


def test_the_last_byte_fits_and_one_more_does_not() -> None:
    assert settled(account(used=60, reserved=30), Change(used_bytes=10), "acme").used_bytes == 70
    with pytest.raises(QuotaExceeded) as refused:
        settled(account(used=60, reserved=30), Change(used_bytes=11), "acme")
    assert refused.value.facts == {
        "quota": "storage_bytes", "subject": "tenant", "tenant": "acme",
        "limit": 100, "used": 60, "reserved": 30, "needed": 11,
    }  # fmt: skip
    assert refused.value.detail == (
        "the storage quota of tenant acme is exceeded: 11 bytes more are needed, 60 of 100 are used, "
        "30 reserved by uploads"
    )


def test_what_was_reserved_is_settled_although_the_limit_came_down() -> None:
    after = settled(account(limit=10, used=60, reserved=30), Change(used_bytes=30, reserved_bytes=-30), "acme")
    assert (after.used_bytes, after.reserved_bytes) == (90, 0)


def test_what_is_given_back_for_something_larger_counts_as_room() -> None:
    change = Change(used_bytes=20, reserved_bytes=-10)
    assert settled(account(used=80, reserved=10), change, "acme").used_bytes == 100
    with pytest.raises(QuotaExceeded) as refused:
        settled(account(used=81, reserved=10), change, "acme")
    assert (refused.value.facts["reserved"], refused.value.facts["needed"]) == (0, 20)


def test_deleting_is_never_refused() -> None:
    assert settled(account(limit=10, used=60), Change(used_bytes=-1, images=-1), "acme").used_bytes == 59


def test_an_image_too_many_or_too_large_is_refused() -> None:
    full = Account(ACME, Limits(None, 2, 50), True, images=2)
    with pytest.raises(QuotaExceeded, match="2 of 2 images are there"):
        settled(full, Change(images=1), "acme")
    with pytest.raises(QuotaExceeded, match="51 bytes or more, 50 are allowed"):
        settled(full, Change(largest_image=51), "acme")
    assert settled(full, Change(largest_image=50), "acme") == full


def test_an_upload_gets_ahead_as_far_as_there_is_plenty() -> None:
    assert granted([account(limit=None)], 0, 1, STEP_BYTES, "acme") == STEP_BYTES
    assert granted([account(limit=1 << 40)], 0, 1, STEP_BYTES, "acme") == STEP_BYTES
    assert granted([account(limit=800)], 0, 1, STEP_BYTES, "acme") == 100
    assert granted([account(limit=800), account(limit=80)], 0, 1, STEP_BYTES, "acme") == 10
    assert granted([account(limit=800)], 0, 700, STEP_BYTES, "acme") == 700


def test_a_blob_that_no_image_may_be_as_large_as_is_refused() -> None:
    with pytest.raises(QuotaExceeded, match="too large"):
        granted([Account(ACME, Limits(None, None, 50))], 40, 51, 51, "acme")


@given(SIZES, SIZES, SIZES, SIZES, SIZES, SIZES)
def test_what_is_granted_always_fits_and_always_suffices(
    limit: int, used: int, reserved: int, have: int, more: int, ahead: int
) -> None:
    holder = account(limit, used, reserved)
    need = have + more
    try:
        got = granted([holder], have, need, need + ahead, "acme")
    except QuotaExceeded:
        assert used + reserved + more > limit
        return
    assert more <= got <= more + ahead
    after = settled(holder, Change(reserved_bytes=got), "acme")
    assert after.used_bytes + after.reserved_bytes <= limit or got == 0


def test_a_warning_comes_once_per_crossing() -> None:
    assert warning(account(used=79)) == (0, False)
    assert warning(account(used=80)) == (80, True)
    assert warning(account(used=85, warned=80)) == (80, False)
    assert warning(account(used=91, warned=80)) == (90, True)
    assert warning(account(used=95)) == (90, True)
    # A little less is no new crossing; much less is.
    assert warning(account(used=89, warned=90)) == (90, False)
    assert warning(account(used=84, warned=90)) == (80, False)
    assert warning(account(used=10, warned=90)) == (0, False)
    assert warning(replace(account(used=95, warned=90), limits=Limits())) == (0, False)
