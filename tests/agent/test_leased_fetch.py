"""Several hosts and one source that leases: what leaves the source, and what remains when somebody dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import Content, DesiredState, Image
from common.bittorrent.memory import MemorySwarm
from common.digest import Digest
from tests.agent.lab import HASTE, PIECE, Agent, FakeSource, Lab
from tests.agent.samples import assignment, content, noise
from tests.pace import BUSY_SECONDS

LARGE = noise(60 * PIECE + 12_345, "large")
TENANT = "tenant-1"
# Help that is not by lease comes too late to be what a test sees.
PATIENT = replace(HASTE, regional_peer_seconds=60, range_seconds=60, give_up_seconds=120)


@pytest.fixture
async def regional() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(LARGE)
        yield source


@pytest.fixture
async def centre() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(LARGE)
        yield source


async def hosts(
    stack: AsyncExitStack, folder: Path, count: int, centre: FakeSource, regional: FakeSource | None
) -> list[tuple[Agent, Content]]:
    """In one swarm, each with the content assigned."""
    swarm, started = MemorySwarm(), []
    for number in range(count):
        regionals = [regional] if regional else []
        lab = Lab(folder / str(number), centre, swarm, regionals=regionals, patience=PATIENT)
        agent = await stack.enter_async_context(lab.open())
        await agent.assign(assignment(Image("acme/web", "1", content(LARGE), ()), DesiredState.HELD))
        await agent.introduce_regionals()
        started.append((agent, content(LARGE)))
    return started


async def fetch(agent: Agent, one: Content) -> None:
    async with asyncio.timeout(20):
        await agent.fetcher.fetch(one, TENANT)


def sent(source: FakeSource) -> float:
    return source.sent[str(Digest.of(LARGE))] / len(LARGE)


async def test_one_copy_leaves_the_regional_for_many_hosts(
    tmp_path: Path, centre: FakeSource, regional: FakeSource
) -> None:
    async with AsyncExitStack() as stack:
        agents = await hosts(stack, tmp_path, 4, centre, regional)
        await asyncio.gather(*(fetch(*agent) for agent in agents))
        assert 1 <= sent(regional) <= 1.3  # loopback is faster than the hosts can say what they have
        assert not centre.sent
        origins = [agent.ledger.provenance(TENANT, Digest.of(LARGE)) for agent, _ in agents]
        assert all(one.from_regional_bytes + one.from_peers_bytes >= len(LARGE) for one in origins)
        assert sum(one.from_peers_bytes for one in origins) > 2 * len(LARGE)


async def test_hosts_without_a_regional_lease_from_the_centre(tmp_path: Path, centre: FakeSource) -> None:
    async with AsyncExitStack() as stack:
        ((agent, large),) = await hosts(stack, tmp_path, 1, centre, None)
        await fetch(agent, large)
        assert sent(centre) == 1
        assert agent.ledger.provenance(TENANT, Digest.of(LARGE)).from_centre_bytes == len(LARGE)


async def test_when_the_regional_dies_the_centre_leases_the_rest(
    tmp_path: Path, centre: FakeSource, regional: FakeSource
) -> None:
    regional.cut = 2 * PIECE
    async with AsyncExitStack() as stack:
        ((agent, large),) = await hosts(stack, tmp_path, 1, centre, regional)
        fetching = asyncio.ensure_future(fetch(agent, large))
        async with asyncio.timeout(BUSY_SECONDS):
            while sent(regional) < 0.02:  # noqa: ASYNC110  a number is looked at, it cannot be awaited
                await asyncio.sleep(0.001)
        await regional.stop()
        await fetching
        assert sent(regional) + sent(centre) <= 1.1


async def test_a_host_that_dies_takes_nothing_with_it(tmp_path: Path, centre: FakeSource, regional: FakeSource) -> None:
    regional.haste = 20.0
    async with AsyncExitStack() as stack:
        agents = await hosts(stack, tmp_path, 3, centre, regional)
        dying, *others = agents
        doomed = asyncio.ensure_future(fetch(*dying))
        fetching = [asyncio.ensure_future(fetch(*agent)) for agent in others]
        async with asyncio.timeout(BUSY_SECONDS):
            while sent(regional) < 0.3:  # noqa: ASYNC110  a number is looked at, it cannot be awaited
                await asyncio.sleep(0.001)
        doomed.cancel()
        await dying[0].session.close()
        await asyncio.gather(*fetching)
        assert all(agent.cache.find(large.digest) for agent, large in others)


async def test_a_source_that_sends_false_pieces_rests_and_the_next_one_leases(
    tmp_path: Path, centre: FakeSource, regional: FakeSource
) -> None:
    regional.corrupt = True
    async with AsyncExitStack() as stack:
        ((agent, large),) = await hosts(stack, tmp_path, 1, centre, regional)
        await fetch(agent, large)
        assert sent(regional) < 0.6, "two lines have a first lease each"
        assert sent(centre) >= 0.9
