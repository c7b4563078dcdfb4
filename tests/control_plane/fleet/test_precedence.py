"""Reports wait while hosts are being told what to do, and not for ever."""

from __future__ import annotations

import asyncio

from control_plane.fleet.precedence import Precedence
from tests.pace import BUSY_SECONDS


async def test_while_nobody_is_told_a_report_does_not_wait() -> None:
    await asyncio.wait_for(Precedence().stand_back(60), BUSY_SECONDS)


async def test_a_report_waits_until_the_last_of_those_who_are_told_has_been() -> None:
    precedence = Precedence()
    with precedence.telling():
        with precedence.telling():
            report = asyncio.ensure_future(precedence.stand_back(60))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = not report.done()

    await asyncio.wait_for(report, BUSY_SECONDS)
    assert waiting


async def test_a_report_does_not_wait_longer_than_its_bound() -> None:
    precedence = Precedence()
    with precedence.telling():
        await asyncio.wait_for(precedence.stand_back(0.01), BUSY_SECONDS)


async def test_a_telling_that_fails_is_over() -> None:
    precedence = Precedence()
    try:
        with precedence.telling():
            raise ValueError
    except ValueError:
        pass

    await asyncio.wait_for(precedence.stand_back(60), BUSY_SECONDS)
