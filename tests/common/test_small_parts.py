"""Clock, backoff, identifiers, durable writes and lifecycle: small parts that everything leans on."""

import asyncio
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import durable
from common.backoff import Backoff, jittered
from common.clock import ManualClock, SystemClock
from common.errors import Failure, Unavailable
from common.identifiers import is_id, new_id
from common.lifecycle import Lifecycle


async def test_sleepers_of_a_manual_clock_wake_in_order_of_their_deadline() -> None:
    clock, woken = ManualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0, 2.0):
            group.create_task(sleeper(seconds))
        await clock.advance(10)
    assert woken == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert clock.monotonic() == 10


@given(st.integers(0, 2**32), st.integers(0, 5000))
def test_a_backoff_never_waits_longer_than_its_cap_nor_shorter_than_its_floor(seed: int, failures: int) -> None:
    backoff = Backoff(random.Random(seed).random, initial_seconds=0.5, cap_seconds=60, failures=failures)
    assert 0.05 <= backoff.next_delay() <= 60


def test_a_backoff_grows_until_it_is_reset() -> None:
    backoff = Backoff(lambda: 1.0, initial_seconds=1, cap_seconds=10)
    assert [backoff.next_delay() for _ in range(5)] == [1, 2, 4, 8, 10]
    backoff.reset()
    assert backoff.next_delay() == 1


@given(st.floats(0.1, 100), st.floats(0, 1, exclude_max=True))
def test_a_jittered_period_stays_within_its_share(period: float, chance: float) -> None:
    assert 0.9 * period - 1e-9 <= jittered(period, 0.1, lambda: chance) <= 1.1 * period + 1e-9


def test_identifiers_sort_by_time_and_are_uuids() -> None:
    clock = ManualClock()
    made = []
    for _ in range(50):
        made.append(new_id(clock))
        clock.tick(0.002)
    assert made == sorted(made)
    assert len(set(made)) == 50
    assert all(is_id(one) and one[14] == "7" for one in made)
    assert not is_id("east-1")


def test_a_durable_write_replaces_the_file_and_sets_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    durable.write_file(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_a_write_that_fails_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["journal"]


async def test_a_failing_task_stops_the_process_with_its_own_error() -> None:
    async def fail() -> None:
        raise Unavailable("the disk is gone")

    async def process() -> None:
        async with Lifecycle() as lifecycle:
            lifecycle.spawn("doomed", fail())
            await lifecycle.run_until_stopped()

    with pytest.raises(Unavailable, match="the disk is gone"):
        await process()


async def test_parts_are_closed_in_reverse_order_after_the_tasks_have_ended() -> None:
    order: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> "Part":
            order.append(f"{self.name} started")
            return self

        async def __aexit__(self, *_: object) -> None:
            order.append(f"{self.name} closed")

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            order.append("task ended")

    async with Lifecycle() as lifecycle:
        await lifecycle.enter(Part("database"))
        await lifecycle.enter(Part("server"))
        lifecycle.spawn("work", work())
        await asyncio.sleep(0)
    assert order == ["database started", "server started", "task ended", "server closed", "database closed"]


def test_a_failure_says_what_happened_and_what_to_do() -> None:
    assert str(Failure("the disk is full", action="free some space")) == "the disk is full (free some space)"
    assert SystemClock().now().tzinfo is not None
