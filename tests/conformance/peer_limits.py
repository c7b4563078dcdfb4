"""How fast bytes may move between peers: the limits of `PeerSession`, run on libtorrent and on the memory swarm."""

from __future__ import annotations

import asyncio

import pytest

from common.bittorrent import RateLimits, Torrent
from tests.conformance.peer_network import PeerPlaces, connect, content, eventually, metainfo_of, received

RATE = 4_000_000
SECONDS = 2.0
LENGTH = int(RATE * (SECONDS + 3))


class PeerLimits(PeerPlaces):
    @pytest.mark.parametrize("where", ["session that receives", "torrent that sends"])
    async def test_a_limit_of_4_mb_a_second_is_kept_within_15_percent(self, lab, place, where):
        data = content(LENGTH)
        metainfo = metainfo_of(data)
        origin, session = await lab.session(), await lab.session()
        seeder = await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        if where == "torrent that sends":
            seeder.set_limits(RateLimits(upload=RATE))
        else:
            session.set_limits(RateLimits(download=RATE), lower_effort=True)
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, origin)
        await eventually(lambda: received(leecher) > RATE // 4)
        assert await _rate_of(leecher) == pytest.approx(RATE, rel=0.15)

    async def test_a_limit_that_is_taken_away_holds_no_more(self, lab, place):
        data = content(LENGTH)
        metainfo = metainfo_of(data)
        origin, session = await lab.session(), await lab.session()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        session.set_limits(RateLimits(download=100_000))
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, origin)
        session.set_limits(RateLimits())
        async with asyncio.timeout(SECONDS * 2):
            await leecher.complete()


async def _rate_of(leecher) -> float:
    """Bytes per second, from one change of the counters to a later one: they are up to a second old."""
    loop = asyncio.get_running_loop()
    first, began = await _next_change(leecher), loop.time()
    last, ended = first, began
    while ended - began < SECONDS:
        last, ended = await _next_change(leecher), loop.time()
    return (last - first) / (ended - began)


async def _next_change(leecher) -> int:
    before = received(leecher)
    while received(leecher) == before:  # noqa: ASYNC110  a counter has no event to wait for
        await asyncio.sleep(0.01)
    return received(leecher)
