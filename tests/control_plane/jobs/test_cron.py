"""Times of a crontab, also where the clocks change."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.jobs.cron import CronInvalid, next_time

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def test_the_next_time_is_later_than_now() -> None:
    assert next_time("0 12 * * *", "UTC", NOON) == at(2026, 3, 5, 12)
    assert next_time("*/15 * * * *", "UTC", NOON) == at(2026, 3, 4, 12, 15)
    assert next_time("30 2 * * 1-5", "UTC", at(2026, 3, 6, 3)) == at(2026, 3, 9, 2, 30)


def test_it_is_the_time_of_the_zone() -> None:
    assert next_time("30 2 * * *", "Asia/Shanghai", NOON) == at(2026, 3, 4, 18, 30)


def test_what_the_clocks_skip_runs_once_and_what_they_repeat_runs_once() -> None:
    spring = next_time("30 2 * * *", "Europe/Berlin", at(2026, 3, 28, 12))
    assert spring == at(2026, 3, 29, 1), "02:30 is skipped: at 03:00 summer time"
    assert next_time("30 2 * * *", "Europe/Berlin", spring) == at(2026, 3, 30, 0, 30)
    autumn = next_time("30 2 * * *", "Europe/Berlin", at(2026, 10, 24, 12))
    assert next_time("30 2 * * *", "Europe/Berlin", autumn).date() == at(2026, 10, 26).date()


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 31 2 *", "@daily", "a b c d e"])
def test_what_is_no_time_or_never_comes_is_refused(text: str) -> None:
    with pytest.raises(CronInvalid):
        next_time(text, "UTC", NOON)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\x00b"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(CronInvalid):
        next_time("0 0 * * *", zone, NOON)


@given(st.text(alphabet="0123456789*/,- LW#JANMO", max_size=40))
def test_nothing_that_is_written_breaks_it(text: str) -> None:
    with contextlib.suppress(CronInvalid):
        assert next_time(text, "Europe/Berlin", NOON) > NOON
