"""Two hosts must say the same before the tracker acts, and only in the swarm that they speak of."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.offenders import SHUN_SECONDS, Offenders
from regional.tracker import INTERVAL_SECONDS, Announce, Endpoint, Tracker

SWARM, OTHER = b"s" * 20, b"o" * 20


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def offenders(now: Now) -> Offenders:
    return Offenders(now)


def test_one_host_alone_shuns_nobody(offenders: Offenders) -> None:
    for _ in range(100):
        assert not offenders.accuse(SWARM, "host/a", "host/liar")
    assert not offenders.shuns(SWARM, "host/liar")


def test_two_hosts_have_a_peer_shunned_in_that_swarm_for_some_time(offenders: Offenders, now: Now) -> None:
    offenders.accuse(SWARM, "host/a", "host/liar")
    assert offenders.accuse(SWARM, "host/b", "host/liar")
    assert not offenders.accuse(SWARM, "host/c", "host/liar")  # it is shunned already
    assert offenders.shuns(SWARM, "host/liar")
    assert not offenders.shuns(OTHER, "host/liar")
    assert offenders.count() == 1
    now.seconds += SHUN_SECONDS
    assert not offenders.shuns(SWARM, "host/liar")
    assert offenders.count() == 0


def test_old_words_do_not_add_up_with_new_ones(offenders: Offenders, now: Now) -> None:
    offenders.accuse(SWARM, "host/a", "host/x")
    now.seconds += SHUN_SECONDS
    assert not offenders.accuse(SWARM, "host/b", "host/x")


def test_nobody_accuses_itself(offenders: Offenders) -> None:
    offenders.accuse(SWARM, "host/a", "host/a")
    assert not offenders.accuse(SWARM, "host/b", "host/a")


@given(
    words=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.floats(0, 400)),
        max_size=40,
    )
)
def test_a_liar_never_has_anybody_shunned(words: list[tuple[str, str, float]]) -> None:
    """`b` is a liar and accuses anybody; `a` is honest and only ever accuses z. Nobody but z is shunned."""
    now = Now()
    offenders = Offenders(now)
    for accuser, accused, pause in words:
        now.seconds += pause
        offenders.accuse(SWARM, accuser, "z" if accuser == "a" else accused)
        assert not offenders.shuns(SWARM, "x")
        assert not offenders.shuns(SWARM, "y")


def test_the_book_is_bounded(offenders: Offenders) -> None:
    for number in range(5000):
        offenders.accuse(SWARM, "host/a", f"host/{number}")
        offenders.accuse(SWARM, "host/b", f"host/{number}")
    assert offenders.count() == 2000
    assert offenders.shuns(SWARM, "host/4999")


def endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(ipaddress.ip_address(address), port)


@pytest.fixture
def tracker(now: Now, offenders: Offenders) -> Tracker:
    tracker = Tracker((endpoint("10.0.0.1", 1),), now, lambda: 0.5)
    tracker.shuns = offenders.shuns
    for name, address in (("a", "10.0.0.2"), ("b", "10.0.0.3"), ("liar", "10.0.0.4")):
        tracker.announce(Announce(SWARM, f"host/{name}", endpoint(address, 6881), 10))
    return tracker


def test_an_address_is_whose_announced_from_it(tracker: Tracker) -> None:
    assert tracker.bearer_at(SWARM, endpoint("10.0.0.4", 6881)) == "host/liar"
    assert tracker.bearer_at(SWARM, endpoint("10.0.0.4", 50_000)) == "host/liar"  # it called from another port
    assert tracker.bearer_at(SWARM, endpoint("10.0.0.9", 6881)) is None
    assert tracker.bearer_at(OTHER, endpoint("10.0.0.4", 6881)) is None


def test_of_several_hosts_behind_one_address_the_port_decides(tracker: Tracker) -> None:
    tracker.announce(Announce(SWARM, "host/neighbour", endpoint("10.0.0.4", 6882), 10))
    assert tracker.bearer_at(SWARM, endpoint("10.0.0.4", 6882)) == "host/neighbour"
    assert tracker.bearer_at(SWARM, endpoint("10.0.0.4", 50_000)) is None


def test_whom_two_hosts_accuse_is_named_to_nobody_and_told_of_nobody(
    tracker: Tracker, offenders: Offenders, now: Now
) -> None:
    liar, honest = endpoint("10.0.0.4", 6881), endpoint("10.0.0.3", 6881)

    def named(name: str, address: str) -> tuple[Endpoint, ...]:
        return tracker.announce(Announce(SWARM, f"host/{name}", endpoint(address, 6881), 10)).peers

    assert liar in named("a", "10.0.0.2")
    offenders.accuse(SWARM, "host/a", "host/liar")
    assert liar in named("a", "10.0.0.2")
    offenders.accuse(SWARM, "host/b", "host/liar")
    assert named("a", "10.0.0.2") == (honest,)
    tracker.announce(Announce(SWARM, "host/liar", liar, 0))
    assert tracker.seeds(SWARM) == frozenset()  # nobody's lease waits for what it says it has
    now.seconds += INTERVAL_SECONDS
    assert named("liar", "10.0.0.4") == (endpoint("10.0.0.1", 1),)
