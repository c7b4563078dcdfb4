"""The pure rules about how an attempt ends and when a schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid, NotFound, RateLimited, Unavailable
from control_plane.jobs.model import Done, Failed, Job, JobState, Retry, done, ending, judged
from control_plane.jobs.periodic import tick_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(attempts: int, max_attempts: int = 10) -> Job:
    return Job(
        *("id", "kind", {}, JobState.RUNNING, None, attempts, max_attempts, NOW, "owner", NOW, False, 0.0, ""),
        *(None, None, None, NOW, None),
    )


def test_what_the_caller_must_mend_is_not_tried_again() -> None:
    assert not judged(Invalid("no such format")).passing
    assert not judged(NotFound("no such image")).passing


def test_what_may_pass_is_tried_again_no_sooner_than_it_says() -> None:
    outcome = judged(Unavailable("away", retry_after_seconds=30))
    end = ending(job(1), outcome, NOW, 0.0)
    assert isinstance(end, Retry)
    assert end.due_at == NOW + timedelta(seconds=30)
    assert judged(RateLimited("slow down", retry_after_seconds=5)).wait_seconds == 5


def test_an_unforeseen_error_is_tried_again_and_named() -> None:
    outcome = judged(ZeroDivisionError("by zero"))
    assert outcome.passing
    assert outcome.error == "ZeroDivisionError: by zero"


def test_the_last_attempt_is_the_last() -> None:
    outcome = Failed("unavailable", "away", passing=True)
    assert ending(job(10), outcome, NOW, 0.5) is outcome
    assert isinstance(ending(job(9), outcome, NOW, 0.5), Retry)


def test_success_ends_whatever_the_attempt() -> None:
    assert ending(job(10), Done({"a": 1}), NOW, 0.5) == Done({"a": 1})


@given(attempts=st.integers(1, 99), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_never_under_a_second_nor_over_ten_minutes(attempts: int, chance: float) -> None:
    end = ending(job(attempts, 100), Failed("x", "x", passing=True), NOW, chance)
    assert isinstance(end, Retry)
    assert timedelta(seconds=1) <= end.due_at - NOW <= timedelta(seconds=600)


@pytest.mark.parametrize("result", [{"a": object()}, {"a": float("nan")}, {"a": "nul \0"}, {"\0": 1}])
def test_a_result_that_cannot_be_kept_is_refused(result: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        done(result)


@given(missed=st.integers(0, 10**6), every=st.integers(1, 86400))
def test_a_schedule_keeps_its_grid_and_makes_up_only_one_missed_tick(missed: int, every: int) -> None:
    period, now = timedelta(seconds=every), NOW + timedelta(seconds=missed)
    following = tick_after(NOW, period, now)
    assert now < following <= now + period
    assert (following - NOW) % period == timedelta(0)
