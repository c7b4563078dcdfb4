"""How fast bytes may move between peers: the limits of `PeerSession`, run on libtorrent and on the memory swarm."""

from __future__ import annotations

import asyncio

import pytest

from common.bittorrent import RateLimits, Torrent
from tests.conformance.peer_network import PeerPlaces, connect, content, metainfo_of
from tests.pace import BUSY_SECONDS

RATE = 4_000_000
SECONDS = 3.0
LENGTH = int(RATE * SECONDS)


class PeerLimits(PeerPlaces):
    @pytest.mark.parametrize("where", ["session that receives", "torrent that sends"])
    async def test_a_limit_of_4_mb_a_second_is_never_passed_by_15_percent(self, lab, place, where):
        """That it comes near its limit from below is the machine's affair too: it must come, and not faster."""
        data = content(LENGTH)
        metainfo = metainfo_of(data)
        origin, session = await lab.session(), await lab.session()
        seeder = await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        if where == "torrent that sends":
            seeder.set_limits(RateLimits(upload=RATE))
        else:
            session.set_limits(RateLimits(download=RATE), lower_effort=True)
        leecher = await session.add(Torrent(metainfo, place()))
        began = asyncio.get_running_loop().time()
        await connect(leecher, origin)
        await leecher.complete()
        took = asyncio.get_running_loop().time() - began
        assert SECONDS / 1.15 < took < SECONDS * 4 + BUSY_SECONDS

    async def test_a_limit_that_is_taken_away_holds_no_more(self, lab, place):
        data = content(LENGTH)
        metainfo = metainfo_of(data)
        origin, session = await lab.session(), await lab.session()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        session.set_limits(RateLimits(download=100_000))
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, origin)
        session.set_limits(RateLimits())
        async with asyncio.timeout(BUSY_SECONDS):
            await leecher.complete()
