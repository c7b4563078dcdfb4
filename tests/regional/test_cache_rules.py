"""The small rules of the cache: what leaves, when to ask again, whose token, which file name."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.digest import Digest, DigestInvalid
from common.errors import NotFound, RateLimited, Unavailable
from regional.centre import Centre
from regional.cooldown import Cooldown
from regional.eviction import Cached, victims
from regional.model import ContentKey, TenantInvalid
from regional.rights import NoRight, Rights


def digest(number: int) -> Digest:
    return Digest.of(str(number).encode())


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.booleans()), max_size=20),
    st.integers(-10, 400),
)
def test_the_fewest_oldest_unpinned_contents_leave(entries: list[tuple[int, int, bool]], needed: int) -> None:
    cached = [Cached(digest(number), size, at, pinned) for number, (size, at, pinned) in enumerate(entries)]
    chosen = victims(cached, needed)
    loose = [entry for entry in cached if not entry.pinned]
    if chosen is None:
        assert sum(entry.size for entry in loose) < needed
        return
    left = {entry.digest: entry for entry in cached}
    gone = [left.pop(each) for each in chosen]
    assert not any(entry.pinned for entry in gone)
    assert sum(entry.size for entry in gone) >= needed
    assert sum(entry.size for entry in gone[:-1]) < max(needed, 1)
    stayed = [entry.used_at for entry in left.values() if not entry.pinned]
    assert not gone or not stayed or max(entry.used_at for entry in gone) <= min(stayed)


def test_a_failure_is_repeated_until_its_time_is_up() -> None:
    clock = ManualClock()
    subject: Cooldown[str] = Cooldown(clock, lambda: 0.5)
    subject.check("a")
    assert subject.failed("a", Unavailable("away", retry_after_seconds=20)) == pytest.approx(21)
    with pytest.raises(Unavailable, match="away"):
        subject.check("a")
    subject.check("b")
    clock.tick(20.9)
    assert 0 < subject.remaining("a") < 0.2
    with pytest.raises(Unavailable):
        subject.check("a")
    clock.tick(0.2)
    subject.check("a")


def test_delays_of_a_thing_that_keeps_failing_grow_and_are_capped() -> None:
    clock = ManualClock()
    subject: Cooldown[str] = Cooldown(clock, lambda: 0.999)
    delays = [subject.failed("a", NotFound("no")) for _ in range(12)]
    assert delays == sorted(delays)
    assert delays[0] < 1.1
    assert delays[-1] <= 60
    assert subject.failed("b", RateLimited("slow", retry_after_seconds=10_000)) <= 66
    subject.succeeded("a")
    subject.check("a")
    subject.clear()
    subject.check("b")


def test_a_refused_token_is_not_tried_again_and_a_renewed_one_is() -> None:
    rights, key, other = Rights(), ContentKey(digest(1), "acme"), ContentKey(digest(1), "globex")
    with pytest.raises(NoRight):
        rights.best()
    rights.offer(key, "old", ordered=True)
    rights.offer(other, "theirs")
    assert rights.best() == (key, "old")
    rights.refuse("old")
    rights.offer(key, "old", ordered=True)
    assert rights.best() == (other, "theirs")
    rights.offer(key, "new", ordered=True)
    assert rights.best() == (key, "new")


def test_an_order_s_token_is_not_replaced_by_a_reader_s() -> None:
    rights, key = Rights(), ContentKey(digest(1), "acme")
    rights.offer(key, "host")
    rights.offer(key, "order", ordered=True)
    rights.offer(key, "other host")
    assert rights.best() == (key, "order")
    rights.refuse("order")
    assert rights.best() == (key, "other host")


def test_rights_are_bounded() -> None:
    rights = Rights()
    for number in range(1000):
        rights.offer(ContentKey(digest(1), f"t{number}"), f"token{number}")
        rights.refuse(f"token{number - 500}")
    assert rights.best() == (ContentKey(digest(1), "t999"), "token999")
    assert len(rights._demanded) <= 16
    assert len(rights._refused) <= 16


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.isprintable))
def test_a_key_survives_its_file_name(tenant: str) -> None:
    key = ContentKey(digest(1), tenant)
    name = key.file_name()
    assert ContentKey.parse_file_name(name) == key
    assert "/" not in name
    assert len(name) < 255
    assert name not in (".", "..")


@pytest.mark.parametrize("tenant", ["", "a" * 101, "a\nb", "a\0b"])
def test_what_is_no_tenant_id_is_refused(tenant: str) -> None:
    with pytest.raises(TenantInvalid):
        ContentKey(digest(1), tenant)


@pytest.mark.parametrize("name", ["", "sha256-00.t", "../x.t", "sha256-" + "0" * 64, "sha256-" + "0" * 64 + "."])
def test_a_stray_file_is_no_key(name: str) -> None:
    with pytest.raises((DigestInvalid, TenantInvalid)):
        ContentKey.parse_file_name(name)


def test_retry_after_is_read_in_both_forms() -> None:
    clock = ManualClock()
    subject = Centre(None, "http://x", clock)  # type: ignore[arg-type]  no request is made
    later = (clock.now() + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert subject._retry_after("7") == 7
    assert subject._retry_after(later) == 90
    assert subject._retry_after("99999") == 3600
    assert subject._retry_after("soon") == subject._retry_after(None) == 2
