"""The suite of the port on the memory swarm, and what simulations rely on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.bittorrent import AGENT_FINGERPRINT, Torrent
from common.bittorrent.memory import Fault, MemorySession, MemorySwarm
from tests.conformance.peer_network import (
    PIECE,
    all_complete,
    content,
    metainfo_of,
)
from tests.conformance.peer_session import PeerSessionConformance


@dataclass
class FilledFolder:
    swarm: MemorySwarm
    path: Path

    def grow(self) -> None:
        self.swarm.empty_disk(self.path)


class MemoryLab:
    def __init__(self, scratch: Path) -> None:
        self.swarm = MemorySwarm()
        self._scratch = scratch

    async def session(self, fingerprint: bytes = AGENT_FINGERPRINT, *, tls: bool = False) -> MemorySession:
        return self.swarm.session(fingerprint)

    async def attempted(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    async def tracker(self) -> str:
        return "http://tracker/announce"

    def small_disk(self, size: int) -> FilledFolder:
        folder = self._scratch / "small"
        folder.mkdir()
        self.swarm.fill_disk(folder, size)
        return FilledFolder(self.swarm, folder)


class TestMemorySession(PeerSessionConformance):
    @pytest.fixture
    def lab(self, tmp_path):
        return MemoryLab(tmp_path)


async def spread(folder: Path, faults: dict[int, Fault]) -> list[tuple[int, ...]]:
    """Six agents and a seed on one tracker; what each got from whom, in the order of their ports."""
    data = content()
    metainfo = metainfo_of(data)
    swarm = MemorySwarm()
    (folder / metainfo.name).write_bytes(data)
    await swarm.session().add(Torrent(metainfo, folder, seed=True, trackers=["tracker"]))
    agents = []
    for number in range(6):
        place = folder / str(number)
        place.mkdir()
        session = swarm.session(fault=faults.get(number))
        agents.append(await session.add(Torrent(metainfo, place, trackers=["tracker"])))
    async with asyncio.timeout(20):
        await all_complete(agents)
    return [
        (agent.status().from_agents_bytes, agent.status().sent_bytes, agent.status().failed_bytes) for agent in agents
    ]


@pytest.mark.parametrize("faults", [{}, {2: Fault.CORRUPT}, {1: Fault.SILENT, 4: Fault.CORRUPT}])
async def test_a_simulation_repeats_itself_exactly(tmp_path, faults):
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        runs.append(await spread(tmp_path / name, faults))
    assert runs[0] == runs[1]


async def test_peers_exchange_pieces_among_themselves(tmp_path):
    assert all(sent > 0 for _, sent, _ in await spread(tmp_path, {}))


async def test_a_silent_peer_gives_nothing_and_stops_nobody(tmp_path):
    spread_to = await spread(tmp_path, {3: Fault.SILENT})
    assert spread_to[3][1] == 0


async def test_a_liar_is_asked_once_by_each(tmp_path):
    spread_to = await spread(tmp_path, {0: Fault.CORRUPT})
    assert spread_to[0][2] == 0
    assert all(failed <= PIECE for _, _, failed in spread_to[1:])
    assert any(failed for _, _, failed in spread_to[1:])
