"""A thread that asks libtorrent about a torrent has ended before the session may be destroyed."""

from __future__ import annotations

import asyncio
import threading

from common.bittorrent.libtorrent_meter import Meter


class SlowHandle:
    """Answers as libtorrent does for a torrent that has gone, but only when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()

    def status(self, _: int) -> None:
        self.asked.set()
        self.answer.wait(5.0)
        raise RuntimeError("invalid torrent handle used")


async def test_idle_waits_for_the_thread_that_asks_libtorrent():
    handle, meter = SlowHandle(), Meter(lambda: None)
    meter.sample(handle)
    await asyncio.to_thread(handle.asked.wait, 5.0)
    meter.end()
    idle = asyncio.ensure_future(meter.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    handle.answer.set()
    await asyncio.wait_for(idle, 5.0)


async def test_idle_returns_at_once_when_nobody_asks():
    await asyncio.wait_for(Meter(lambda: None).idle(), 1.0)
