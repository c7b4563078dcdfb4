"""Who is named to whom."""

from __future__ import annotations

import ipaddress
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from common.bittorrent import bencode
from regional.tracker import INTERVAL_SECONDS, Announce, Endpoint, Tracker, TrackerFull, failure_answer

OWN = Endpoint(ipaddress.ip_address("10.0.0.1"), 6881)
SWARM, OTHER = b"a" * 20, b"b" * 20


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tracker(time: Time | None = None, **bounds: int) -> Tracker:
    return Tracker((OWN,), time or Time(), random.Random(7).random, **bounds)


def endpoint(number: int) -> Endpoint:
    return Endpoint(ipaddress.ip_address(f"10.1.{number // 256}.{number % 256}"), 7000)


def announce(number: int, swarm: bytes = SWARM, left: int = 1, **more: object) -> Announce:
    return Announce(swarm, f"host/{number}", endpoint(number), left, **more)  # type: ignore[arg-type]


def test_the_regional_is_named_only_to_whoever_has_been_alone_for_some_seconds() -> None:
    time = Time()
    subject = tracker(time)
    assert subject.announce(announce(1)).peers == ()
    time.now = 11
    assert subject.announce(announce(1)).peers == (OWN,)
    assert subject.announce(announce(2)).peers == (endpoint(1),)
    time.now = 22
    assert subject.announce(announce(1)).peers == (endpoint(2),)


def test_who_has_everything_is_known() -> None:
    subject = tracker()
    subject.announce(announce(1, left=0))
    subject.announce(announce(2, left=5))
    assert subject.seeds(SWARM) == {"host/1"}
    subject.announce(announce(1, left=0, stopped=True))
    assert subject.seeds(SWARM) == frozenset()
    assert subject.seeds(OTHER) == frozenset()


def test_peers_of_one_swarm_are_named_to_each_other_and_to_nobody_else() -> None:
    subject = tracker()
    subject.announce(announce(1))
    subject.announce(announce(2, swarm=OTHER))
    answer = subject.announce(announce(3))
    assert set(answer.peers) == {endpoint(1)}
    assert answer.leechers == 2


def test_a_seed_is_named_no_seeds() -> None:
    subject = tracker()
    subject.announce(announce(1, left=0))
    subject.announce(announce(2, left=5))
    answer = subject.announce(announce(3, left=0))
    assert set(answer.peers) == {endpoint(2)}
    assert (answer.seeds, answer.leechers) == (2, 1)


def test_a_restarted_agent_replaces_its_old_port() -> None:
    subject = tracker()
    subject.announce(announce(1))
    moved = Endpoint(endpoint(1).address, 9999)
    subject.announce(Announce(SWARM, "host/1", moved, 1))
    assert set(subject.announce(announce(2)).peers) == {moved}


def test_a_dual_stack_agent_is_named_by_both_addresses() -> None:
    subject = tracker()
    six = Endpoint(ipaddress.ip_address("fd00::1"), 7000)
    subject.announce(announce(1))
    subject.announce(Announce(SWARM, "host/1", six, 1))
    answer = subject.announce(announce(2))
    assert set(answer.peers) == {endpoint(1), six}
    decoded = bencode.decode(answer.encode())
    assert isinstance(decoded, dict)
    assert decoded[b"peers6"] == six.compact()
    assert decoded[b"peers"] == endpoint(1).compact()
    assert len(six.compact()) == 18


def test_a_peer_that_stops_is_named_no_more() -> None:
    subject = tracker()
    subject.announce(announce(1))
    assert subject.announce(announce(1, stopped=True)).peers == ()
    assert subject.announce(announce(2)).peers == ()


def test_a_silent_peer_is_forgotten() -> None:
    time = Time()
    subject = tracker(time)
    subject.announce(announce(1))
    time.now = 3 * INTERVAL_SECONDS + 1
    assert subject.announce(announce(2)).peers == ()
    assert subject.peer_count() == 1


def test_only_as_many_peers_are_named_as_are_wanted() -> None:
    subject = tracker()
    for number in range(300):
        subject.announce(announce(number))
    assert len(subject.announce(announce(1000, wanted=7)).peers) == 7
    assert len(subject.announce(announce(1000, wanted=100_000)).peers) == 100
    assert subject.announce(announce(1000, wanted=0)).peers == ()


def test_a_full_swarm_serves_whom_it_knows_and_refuses_newcomers() -> None:
    subject = tracker(maximum_peers=2)
    subject.announce(announce(1))
    subject.announce(announce(2))
    with pytest.raises(TrackerFull):
        subject.announce(announce(3))
    assert endpoint(2) in subject.announce(announce(1)).peers


def test_a_full_tracker_makes_room_by_forgetting_silent_swarms() -> None:
    time = Time()
    subject = tracker(time, maximum_swarms=1)
    subject.announce(announce(1))
    with pytest.raises(TrackerFull):
        subject.announce(announce(2, swarm=OTHER))
    time.now = 1000
    assert subject.announce(announce(2, swarm=OTHER)).peers == ()
    assert subject.swarm_count() == 1


def test_a_failure_is_a_reason_and_no_peers() -> None:
    assert bencode.decode(failure_answer("no")) == {b"failure reason": b"no"}


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1), st.booleans()), max_size=60))
def test_an_asker_is_never_named_to_itself(steps: list[tuple[int, int, bool]]) -> None:
    subject = tracker()
    for number, left, stopped in steps:
        answer = subject.announce(announce(number, left=left, stopped=stopped))
        assert endpoint(number) not in answer.peers
        assert OWN not in answer.peers
        assert len(set(answer.peers)) == len(answer.peers)


class Swarms(RuleBasedStateMachine):
    """Against a model: sets of peers per swarm."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.subject = tracker(self.time, maximum_peers=8)
        self.model: dict[bytes, dict[int, float]] = {SWARM: {}, OTHER: {}}
        self.steps = itertools.count()

    @rule(number=st.integers(0, 20), swarm=st.sampled_from([SWARM, OTHER]))
    def announces(self, number: int, swarm: bytes) -> None:
        alive = self.alive(swarm)
        try:
            answer = self.subject.announce(announce(number, swarm=swarm))
        except TrackerFull:
            assert number not in alive
            assert len(alive) == 8
            return
        others = {endpoint(other) for other in alive if other != number}
        assert set(answer.peers) == others or (not others and answer.peers == (OWN,))
        self.model[swarm][number] = self.time.now

    @rule(number=st.integers(0, 20), swarm=st.sampled_from([SWARM, OTHER]))
    def stops(self, number: int, swarm: bytes) -> None:
        self.subject.announce(announce(number, swarm=swarm, stopped=True))
        self.model[swarm].pop(number, None)

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.time.now += seconds

    @invariant()
    def counts_agree(self) -> None:
        assert self.subject.peer_count() == len(self.alive(SWARM)) + len(self.alive(OTHER))

    def alive(self, swarm: bytes) -> set[int]:
        oldest = self.time.now - 3 * INTERVAL_SECONDS
        return {number for number, seen in self.model[swarm].items() if seen >= oldest}


TestSwarms = Swarms.TestCase
TestSwarms.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
