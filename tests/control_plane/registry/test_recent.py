from __future__ import annotations

from common.clock import ManualClock
from control_plane.registry.recent import Recent


def kept(recent: Recent[str, int], key: str, value: int, weight: int = 1) -> None:
    recent.keep(key, value, recent.begin(), weight)


def test_it_remembers_for_a_while() -> None:
    clock = ManualClock()
    recent: Recent[str, int] = Recent(clock, 10, ttl_seconds=5)
    kept(recent, "a", 1)
    assert recent.get("a") == 1
    clock.tick(4.9)
    assert recent.get("a") == 1
    clock.tick(0.2)
    assert recent.get("a") is None


def test_the_one_used_longest_ago_goes_first() -> None:
    recent: Recent[str, int] = Recent(ManualClock(), 3)
    for key in ("a", "b", "c"):
        kept(recent, key, 1)
    recent.get("a")
    kept(recent, "d", 1)
    assert [recent.get(key) for key in ("a", "b", "c", "d")] == [1, None, 1, 1]


def test_weights_are_bounded_and_replaced() -> None:
    recent: Recent[str, int] = Recent(ManualClock(), 10)
    kept(recent, "huge", 1, 11)
    assert recent.get("huge") is None
    kept(recent, "a", 1, 6)
    kept(recent, "a", 2, 6)
    kept(recent, "b", 3, 4)
    assert (recent.get("a"), recent.get("b")) == (2, 3)


def test_a_read_that_began_before_a_deletion_is_not_kept() -> None:
    recent: Recent[str, int] = Recent(ManualClock(), 10)
    begun = recent.begin()
    recent.forget("a")
    recent.keep("a", 1, begun)
    assert recent.get("a") is None
