"""Lines: what a limit lets pass, how it is divided, and who gives way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.limits import DailyWindow, LimitRule, Link, LinkRates, rates_at
from common.links import Line
from common.rates import BURST_SECONDS, UNLIMITED, TokenBucket, engine_rate, lower_rate

MB = 1_000_000


@given(st.integers(1, 10 * MB), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 4 * MB)), max_size=60))
def test_a_bucket_never_lets_more_pass_than_its_rate_and_one_burst(rate: int, asked: list[tuple[float, int]]) -> None:
    bucket, now, total, last = TokenBucket(rate), 0.0, 0, 0.0
    for pause, amount in asked:
        now += pause
        may_pass_at = now + bucket.reserve(now, amount)
        assert may_pass_at >= last - 1e-6  # first come, first served
        last = may_pass_at
        total += amount
        assert total <= rate * may_pass_at + rate * BURST_SECONDS + 1


def test_what_is_owed_stays_owed_when_the_rate_changes() -> None:
    bucket = TokenBucket(MB)
    assert bucket.reserve(0.0, 2 * MB) == pytest.approx(1.9)
    bucket.set_rate(2 * MB, 0.0)
    assert bucket.delay(0.0) == pytest.approx(1.9)
    bucket.set_rate(UNLIMITED, 0.0)
    assert bucket.reserve(0.0, 10 * MB) == 0


def test_lower_effort_gets_what_is_left_and_never_nothing() -> None:
    assert lower_rate(100.0, 0.0) == 100
    assert lower_rate(100.0, 70.0) == 30
    assert lower_rate(100.0, 100.0) == 5
    assert lower_rate(UNLIMITED, 100.0 * MB) == pytest.approx(100 * MB / 19)


def test_an_engine_and_http_that_both_want_all_end_at_half_each() -> None:
    assert engine_rate(100.0, 0.0, others_wait=False) == 100
    http = 0.0
    for _ in range(20):
        http = 100 - engine_rate(100.0, http, others_wait=True)
    assert http == pytest.approx(50)


class Taker:
    """Takes as much as it can, 64 KiB at a time."""

    def __init__(self, line: Line, tenant: str = "", *, lower: bool = False) -> None:
        self.line, self._tenant, self._lower = line, tenant, lower
        self.got = 0

    async def run(self) -> None:
        with self.line.flow(lambda: self._lower):
            while True:
                await self.line.take(64 << 10, self._tenant, lower=self._lower)
                self.got += 64 << 10
                await asyncio.sleep(0)


async def run_for(clock: ManualClock, seconds: float, *takers: Taker, engine_takes: int = 0) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(taker.run()) for taker in takers]
        for _ in range(int(seconds * 100)):
            await clock.advance(0.01)
            if engine_takes:
                takers[0].line.charge(engine_takes)
        for task in tasks:
            task.cancel()


async def test_equal_takers_get_equal_shares_of_a_limited_line() -> None:
    clock = ManualClock()
    line = Line(clock)
    line.set_rates(LinkRates(4 * MB))
    takers = [Taker(line) for _ in range(4)]
    await run_for(clock, 3, *takers)
    assert sum(taker.got for taker in takers) == pytest.approx(12 * MB, rel=0.1)
    assert all(taker.got == pytest.approx(3 * MB, rel=0.15) for taker in takers)


async def test_a_tenant_keeps_to_its_limit_and_others_take_the_rest() -> None:
    clock = ManualClock()
    line = Line(clock)
    line.set_rates(LinkRates(8 * MB, {"small": 2 * MB}))
    small, other = Taker(line, "small"), Taker(line, "other")
    await run_for(clock, 3, small, other)
    assert small.got == pytest.approx(6 * MB, rel=0.1)
    assert other.got == pytest.approx(18 * MB, rel=0.1)


async def test_a_preheat_gives_way_to_a_fetch_that_somebody_waits_for() -> None:
    clock = ManualClock()
    line = Line(clock)
    line.set_rates(LinkRates(4 * MB))
    alone, preheat, fetch = Taker(line, lower=True), Taker(line, lower=True), Taker(line)
    await run_for(clock, 2, alone)
    assert alone.got == pytest.approx(8 * MB, rel=0.1)
    await run_for(clock, 4, preheat, fetch)
    assert fetch.got > 0.88 * 16 * MB
    assert 0 < preheat.got < 0.1 * 16 * MB
    await clock.advance(5)
    again = Taker(line, lower=True)
    await run_for(clock, 2, again)
    assert again.got == pytest.approx(8 * MB, rel=0.1)


async def test_what_an_engine_moved_is_no_more_there_for_http() -> None:
    clock = ManualClock()
    line = Line(clock)
    line.set_rates(LinkRates(4 * MB))
    taker = Taker(line)
    await run_for(clock, 3, taker, engine_takes=30_000)
    # What is left, and one burst of a tenth of a second.
    assert 2.8 * MB < taker.got < 3.8 * MB


def test_windows_of_the_day_stand_before_what_always_holds() -> None:
    night = DailyWindow(22 * 60, 6 * 60, "Europe/Berlin")
    rules = (
        LimitRule(Link.WAN_DOWN, 9, window=night),
        LimitRule(Link.WAN_DOWN, 5),
        LimitRule(Link.WAN_DOWN, 2, "t-acme"),
        LimitRule(Link.HOST_UP, 1),
    )
    noon, midnight = datetime(2026, 7, 1, 12, tzinfo=UTC), datetime(2026, 7, 1, 22, tzinfo=UTC)
    assert rates_at(rules, Link.WAN_DOWN, noon) == LinkRates(5, {"t-acme": 2})
    assert rates_at(rules, Link.WAN_DOWN, midnight).whole == 9
    assert rates_at(rules, Link.HOST_DOWN, noon) == LinkRates(0, {})
    # 05:30 in Berlin's summer is 03:30 UTC; in winter it is 04:30.
    assert rates_at(rules, Link.WAN_DOWN, datetime(2026, 7, 1, 3, 30, tzinfo=UTC)).whole == 9
    assert rates_at(rules, Link.WAN_DOWN, datetime(2026, 7, 1, 4, 30, tzinfo=UTC)).whole == 5
    assert rates_at(rules, Link.WAN_DOWN, datetime(2026, 1, 1, 4, 30, tzinfo=UTC)).whole == 9
