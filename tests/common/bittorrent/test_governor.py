"""An engine kept within the lines that it shares with HTTP, on the memory swarm."""

from __future__ import annotations

import asyncio
from pathlib import Path

from common.bittorrent import PeerSession, Torrent, TorrentHandle
from common.bittorrent.governor import Governed, Governor
from common.bittorrent.memory import MemorySwarm
from common.clock import SystemClock
from common.limits import LinkRates
from common.links import Line
from tests.conformance.peer_network import content, metainfo_of, received

MB = 1_000_000
SECONDS = 2.0


class Bench:
    """Two peers: one gives, one takes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        swarm, clock = MemorySwarm(), SystemClock()
        self.giving, self.taking = swarm.session(), swarm.session()
        self.down, self.up = Line(clock), Line(clock)
        self.governed: list[Governed] = []
        self.governor = Governor(self.taking, lambda: self.governed, self.down, self.up)

    async def torrent(self, name: str, *, lower: bool = False, tenant: str = "") -> TorrentHandle:
        data = content(16 * MB, name.encode())
        metainfo = metainfo_of(data)
        for part in ("full", "empty"):
            (self._folder / name / part).mkdir(parents=True)
        (self._folder / name / "full" / metainfo.name).write_bytes(data)
        await self.giving.add(Torrent(metainfo, self._folder / name / "full", seed=True, trackers=["http://t/"]))
        taken = await self.taking.add(Torrent(metainfo, self._folder / name / "empty"))
        self.governed.append(Governed(taken, tenant, lower))
        return taken

    async def begin(self, *handles: TorrentHandle, peer: PeerSession) -> None:
        for handle in handles:
            await handle.connect_peer("127.0.0.1", peer.listen_port)

    async def run(self) -> None:
        for _ in range(int(SECONDS / 0.1)):
            self.governor.round()
            await asyncio.sleep(0.1)


async def test_a_torrent_that_somebody_waits_for_goes_before_a_preheat(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.down.set_rates(LinkRates(4 * MB))
    wanted, warm = await bench.torrent("wanted"), await bench.torrent("warm", lower=True)
    bench.governor.round()
    with bench.down.flow():
        bench.governor.round()
        await bench.begin(wanted, warm, peer=bench.giving)
        await bench.run()
    assert received(wanted) > 0.75 * 4 * MB * SECONDS
    assert received(warm) < 0.2 * 4 * MB * SECONDS
    assert received(wanted) + received(warm) < 1.25 * 4 * MB * SECONDS


async def test_http_and_the_engine_share_a_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.down.set_rates(LinkRates(4 * MB))
    torrent = await bench.torrent("one")
    bench.governor.round()
    http = 0

    async def read() -> None:
        nonlocal http
        while True:
            await bench.down.take(64 << 10)
            http += 64 << 10

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        await bench.begin(torrent, peer=bench.giving)
        await bench.run()
        reading.cancel()
    assert http + received(torrent) < 1.25 * 4 * MB * SECONDS
    assert http > 0.15 * 4 * MB * SECONDS
    assert received(torrent) > 0.15 * 4 * MB * SECONDS


async def test_a_tenants_torrents_keep_to_its_limit_together(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.down.set_rates(LinkRates(0, {"small": 2 * MB}))
    mine = [await bench.torrent(f"mine-{number}", tenant="small") for number in range(2)]
    bench.governor.round()
    await bench.begin(*mine, peer=bench.giving)
    await bench.run()
    assert 0.7 * 2 * MB * SECONDS < sum(received(one) for one in mine) < 1.25 * 2 * MB * SECONDS
