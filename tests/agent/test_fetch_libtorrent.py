"""The way of a large content over real BitTorrent: from a regional's peer to one host, from that host to the next."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.ledger import Ledger
from agent.model import Content, DesiredState, Image, Provenance
from common.bittorrent import REGIONAL_FINGERPRINT, Torrent
from common.bittorrent.libtorrent import LibtorrentSession
from common.digest import Digest
from proto.agent.v1 import agent_pb2
from tests.agent.lab import HASTE, PIECE, Agent, FakeSource, Lab, message_of, metainfo_of
from tests.agent.samples import assignment, content, noise

LARGE = noise(6 << 20, "large")
TENANT = "tenant-1"
KEY = (TENANT, Digest.of(LARGE))
# Real peers need fractions of a second to find each other; help must not come before.
PATIENCE = dataclasses.replace(HASTE, regional_peer_seconds=20, range_seconds=20, give_up_seconds=60)


async def seeding(directory: Path) -> LibtorrentSession:
    session = LibtorrentSession("127.0.0.1", 0, REGIONAL_FINGERPRINT)
    await session.start()
    metainfo = metainfo_of(LARGE)
    await asyncio.to_thread(directory.mkdir)
    await asyncio.to_thread((directory / metainfo.name).write_bytes, LARGE)
    await session.add(Torrent(metainfo, directory, seed=True))
    return session


@pytest.fixture
async def regional(tmp_path: Path) -> AsyncIterator[LibtorrentSession]:
    session = await seeding(tmp_path / "regional")
    yield session
    await session.close()


@pytest.fixture
async def source() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(LARGE)
        yield source


async def want(agent: Agent, source: FakeSource, peer_port: int) -> Content:
    large = content(LARGE)
    wished = assignment(Image("acme/web", "1.4", large, ()), DesiredState.HELD)
    await agent.book.replace(agent_pb2.AssignmentSet(results_in=1, assignments=[message_of(wished)]))
    endpoint = agent_pb2.RegionalEndpoint(
        regional_id="r", content_url=source.url, swarm_url=source.url, peer_address=f"127.0.0.1:{peer_port}"
    )
    await agent.book.regionals(agent_pb2.Regionals(endpoints=[endpoint]))
    return large


def origin(ledger: Ledger) -> Provenance:
    return ledger.provenance(*KEY)


async def test_from_regional_to_host_to_host_and_after_a_restart(
    tmp_path: Path, regional: LibtorrentSession, source: FakeSource
) -> None:
    first = Lab(tmp_path / "first", source, patience=PATIENCE, libtorrent=True)
    second = Lab(tmp_path / "second", source, patience=PATIENCE, libtorrent=True)
    source.leases = False
    async with first.open() as one:
        large = await want(one, source, regional.listen_port)
        async with asyncio.timeout(30):
            await one.fetcher.fetch(large, TENANT)
        assert origin(one.ledger) == Provenance(from_regional_bytes=len(LARGE))
        async with second.open() as two:
            again = await want(two, source, one.session.listen_port)
            async with asyncio.timeout(30):
                await two.fetcher.fetch(again, TENANT)
            assert origin(two.ledger) == Provenance(from_peers_bytes=len(LARGE))
    async with first.open() as one:
        await one.seeding.round()
        member = one.swarms.member(KEY)
        assert member is not None
        assert member.handle.status().complete
    assert not source.sent


async def test_pieces_that_a_killed_process_had_are_not_fetched_again(
    tmp_path: Path, regional: LibtorrentSession, source: FakeSource
) -> None:
    lab = Lab(tmp_path / "host", source, patience=PATIENCE, libtorrent=True)
    metainfo = metainfo_of(LARGE)
    held = 40 * PIECE
    async with lab.open() as agent:
        large = await want(agent, source, regional.listen_port)
        await agent.swarms.remember(KEY, metainfo)
        path = agent.swarms.path(metainfo)
        path.parent.mkdir(parents=True)
        path.write_bytes(LARGE[:held] + bytes(len(LARGE) - held))  # as kill -9 leaves it: good pieces, and holes
        async with asyncio.timeout(30):
            await agent.fetcher.fetch(large, TENANT)
        assert origin(agent.ledger) == Provenance(from_regional_bytes=len(LARGE) - held)


async def test_a_swarm_that_dies_half_way_is_filled_from_the_regional(tmp_path: Path, source: FakeSource) -> None:
    lab = Lab(tmp_path / "host", source, patience=dataclasses.replace(HASTE, range_seconds=0.3), libtorrent=True)
    async with lab.open() as agent:
        large = await want(agent, source, 9)
        async with asyncio.timeout(30):
            await agent.fetcher.fetch(large, TENANT)
        assert origin(agent.ledger).from_regional_bytes == len(LARGE)
        assert source.sent[str(large.digest)] == len(LARGE)
