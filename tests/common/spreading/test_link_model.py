"""What the links allow, and which one binds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.spreading.model import (
    UNKNOWN_GATES,
    Bound,
    Host,
    Site,
    copies_budget,
    efficiency,
    gate_count,
    lease_copies,
    minimum_seconds,
)

MBIT = 125_000.0
SIZE = 256 << 20
EIGHT = [Host(100 * MBIT, 1000 * MBIT)] * 8


def site(name: str = "east", **rates: float | None) -> Site:
    return Site(name, EIGHT, **rates)  # type: ignore[arg-type]


def test_eight_equal_hosts_are_bound_by_their_source() -> None:
    bound = minimum_seconds(SIZE, 100 * MBIT, [Site("east", EIGHT, regional=False, wan=1000 * MBIT)])
    assert bound.binding == "source uplink"
    assert bound.seconds == pytest.approx(21.47, abs=0.01)


def test_each_link_can_be_the_one_that_binds() -> None:
    slow = Site("east", [*EIGHT, Host(100 * MBIT, 5 * MBIT)])
    thin = Site("east", [Host(1 * MBIT, None)] * 100, regional_up=100 * MBIT)
    found = [
        minimum_seconds(SIZE, None, [site(wan=50 * MBIT), site("west", wan=20 * MBIT)]).binding,
        minimum_seconds(SIZE, 1000 * MBIT, [site(regional_up=10 * MBIT)]).binding,
        minimum_seconds(SIZE, 1000 * MBIT, [slow]).binding,
        minimum_seconds(SIZE, 1000 * MBIT, [thin]).binding,
    ]
    assert found == ["WAN west", "regional uplink east", "slowest host east", "aggregate upload east"]


def test_what_is_not_known_binds_nothing() -> None:
    assert minimum_seconds(SIZE, None, [Site("east", [Host()] * 3)]) == Bound(0.0, "")
    assert efficiency(SIZE, None, [], 3.0) is None
    assert minimum_seconds(SIZE, None, [Site("east", [], wan=1.0)]).seconds == 0.0


def test_a_dead_link_takes_for_ever() -> None:
    assert minimum_seconds(SIZE, 0.0, [site()]).seconds == float("inf")


def test_efficiency_is_the_bound_over_what_it_took() -> None:
    assert efficiency(SIZE, 100 * MBIT, [], 25.23) == pytest.approx(0.851, abs=0.001)


def test_gates_together_send_twice_the_wan() -> None:
    ups = [100 * MBIT] * 8
    assert gate_count(50 * MBIT, ups) == 1
    assert gate_count(100 * MBIT, ups) == 2
    assert gate_count(800 * MBIT, ups) == 8
    assert gate_count(100 * MBIT, [10 * MBIT, 300 * MBIT, None]) == 1
    assert gate_count(None, ups * 10) == UNKNOWN_GATES
    assert gate_count(50 * MBIT, [None] * 3) == 3


def test_a_source_that_is_not_the_slowest_may_send_more_copies() -> None:
    assert copies_budget(SIZE, 100 * MBIT, 21.47, 8) == pytest.approx(1.0, abs=0.01)
    assert copies_budget(SIZE, 400 * MBIT, SIZE / (150 * MBIT), 8) == pytest.approx(2.67, abs=0.01)
    assert copies_budget(SIZE, 1e12, 100.0, 8) == 8
    assert copies_budget(SIZE, None, 100.0, 8) == 1


@given(st.lists(st.floats(1e5, 1e9), min_size=1, max_size=20), st.floats(1e5, 1e9), st.integers(1, 1 << 40))
def test_no_plan_can_beat_the_bound(ups: list[float], source_up: float, size: int) -> None:
    hosts = [Host(up, 1e9) for up in ups]
    bound = minimum_seconds(size, source_up, [Site("x", hosts, regional_up=source_up)]).seconds
    assert bound * source_up >= size * 0.999
    assert bound * (source_up + sum(ups)) >= len(ups) * size * 0.999
    fewer = minimum_seconds(size, source_up, [Site("x", hosts[:-1], regional_up=source_up)]).seconds
    assert 1 <= copies_budget(size, source_up, bound, len(ups)) <= len(ups)
    assert fewer <= bound * 1.001 or len(ups) == 1 or fewer * (source_up + sum(ups[:-1])) <= len(ups) * size


def test_hosts_need_copies_as_far_as_they_cannot_give_them_to_each_other() -> None:
    thin, wide = Host(50 * MBIT, 1000 * MBIT), Host(200 * MBIT, 200 * MBIT)
    assert lease_copies(1000 * MBIT, thin, 8) == pytest.approx(8 * 1000 / 1400)
    assert lease_copies(1000 * MBIT, wide, 8) == 1, "however fat the source"
    assert lease_copies(100 * MBIT, wide, 8) == 1
    assert lease_copies(1000 * MBIT, thin, 1) == 1
    assert lease_copies(None, thin, 8) is lease_copies(1e9, Host(None, 1e6), 8) is lease_copies(1e9, thin, 0) is None


@given(st.floats(1e5, 1e9), st.floats(1e5, 1e9), st.none() | st.floats(1e5, 1e9), st.integers(1, 500))
def test_copies_and_what_hosts_give_are_enough_in_the_least_time_and_the_source_can_send_them(
    source_up: float, up: float, down: float | None, count: int
) -> None:
    bound = minimum_seconds(SIZE, source_up, [Site("x", [Host(up, down)] * count, regional_up=source_up)]).seconds
    copies = lease_copies(source_up, Host(up, down), count)
    assert copies is not None
    assert 1 <= copies <= count
    assert copies * SIZE <= source_up * bound * 1.001
    assert copies * SIZE + count * up * bound >= count * SIZE * 0.999
