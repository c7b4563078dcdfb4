from __future__ import annotations

import pytest

from agent.attempts import Attempts
from agent.steps import PullImage, StartContainer
from common.clock import ManualClock
from common.errors import Invalid, Unavailable
from tests.agent.samples import INSTANCE, assignment, sample

IMAGE = sample(b"layer").image
WISHED = assignment(IMAGE)
STEP = PullImage("acme/web", IMAGE.manifest.digest)
START = StartContainer("id", WISHED.spec_hash, 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def attempts(clock: ManualClock) -> Attempts:
    return Attempts(clock, lambda: 1.0)


def test_a_failure_delays_its_instance_longer_each_time(attempts: Attempts, clock: ManualClock) -> None:
    delays = []
    for _ in range(10):
        attempts.failed(INSTANCE, Invalid("no"))
        assert not attempts.is_due(INSTANCE, STEP)
        assert attempts.is_due("another", STEP)
        waiting = attempts.seconds_to_next()
        assert waiting is not None
        delays.append(waiting)
        clock.tick(waiting)
        assert attempts.is_due(INSTANCE, STEP)
    assert delays[:4] == [1, 2, 4, 8]
    assert max(delays) == 60


def test_a_wish_to_wait_is_heeded_within_reason(attempts: Attempts) -> None:
    attempts.failed(INSTANCE, Unavailable("busy", retry_after_seconds=30))
    assert attempts.seconds_to_next() == 30
    attempts.failed("other", Unavailable("busy", retry_after_seconds=86_400))
    attempts.forget_all_but({"other"})
    assert attempts.seconds_to_next() == 60


def test_success_forgets_what_went_wrong(attempts: Attempts) -> None:
    attempts.failed(INSTANCE, Invalid("no"))
    assert attempts.failure(INSTANCE, WISHED.spec_hash) == "no"
    attempts.succeeded(INSTANCE, STEP)
    assert attempts.failure(INSTANCE, WISHED.spec_hash) == ""
    assert attempts.is_due(INSTANCE, STEP)


def test_a_container_that_dies_is_not_started_in_a_hurry(attempts: Attempts, clock: ManualClock) -> None:
    delays = []
    for _ in range(4):
        attempts.succeeded(INSTANCE, START)
        assert not attempts.is_due(INSTANCE, START)
        assert attempts.is_due(INSTANCE, STEP)
        delays.append(attempts.seconds_to_next())
        clock.tick(delays[-1] or 0)
    assert delays == [1, 2, 4, 8]
    clock.tick(121)
    attempts.succeeded(INSTANCE, START)
    assert attempts.seconds_to_next() == 1


def test_a_refused_spec_waits_longer_each_time_and_says_why(attempts: Attempts, clock: ManualClock) -> None:
    for expected in (10, 20, 40):
        attempts.refuse(INSTANCE, "spec", "port taken")
        assert attempts.refused == {INSTANCE: "spec"}
        assert attempts.failure(INSTANCE, "spec") == "port taken"
        assert attempts.failure(INSTANCE, "another") == ""
        clock.tick(expected)
        assert attempts.refused == {}
    attempts.settled(INSTANCE, "another")
    assert attempts.failure(INSTANCE, "spec") == "port taken"
    attempts.settled(INSTANCE, "spec")
    assert attempts.failure(INSTANCE, "spec") == ""


def test_what_failed_is_over_when_nothing_is_left_to_do(attempts: Attempts) -> None:
    for instance_id in (INSTANCE, "another"):
        attempts.failed(instance_id, Unavailable("no source had it"))
    attempts.need_nothing({INSTANCE, "unknown"})
    assert attempts.failure(INSTANCE, "spec") == ""
    assert attempts.failure("another", "spec") != ""
