"""A new version on a host that holds the old one: only what is new comes over the line, and the sources add up."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from agent.content_http import ContentHttp
from agent.ledger import ContentKey
from agent.model import DesiredState, Effort, Image, Provenance
from agent.reuse import Reuse
from common import byte_parts
from common.bittorrent.reuse import SMALLEST_BLOCK, BlockMapBuilder
from common.clock import SystemClock
from common.digest import Digest
from common.effort import EFFORT_HEADER
from common.limits import LinkRates
from tests.agent.lab import HASTE, PIECE, Agent, FakeSource, Lab, metainfo_of
from tests.agent.samples import assignment, content, noise
from tests.pace import BUSY_SECONDS

SIZE = 96 * PIECE
OLD = noise(SIZE, "old")
TENANT = "tenant-1"


def changed(data: bytes, share: float, run: int) -> bytes:
    chance, made = random.Random(7), bytearray(data)
    for place in chance.sample(range(len(data) // run), int(len(data) * share / run)):
        made[place * run : (place + 1) * run] = chance.randbytes(run)
    return bytes(made)


NEW = changed(OLD, 0.1, 4096)


class PartSource(FakeSource):
    """A regional with block maps and parts. cut_parts: bytes of the next answers, then the line breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts_sent = 0
        self.maps = 0
        self.false_map = b""
        self.cut_parts: list[int] = []
        self.lower: list[bool] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/content/v1/{digest}/blocks", self._blocks)
        router.add_post("/content/v1/{digest}/parts", self._parts)

    async def _blocks(self, request: web.Request) -> web.Response:
        self.maps += 1
        self.lower.append(EFFORT_HEADER in request.headers)
        builder = BlockMapBuilder(SMALLEST_BLOCK)
        builder.update(self.contents[request.match_info["digest"]])
        return web.Response(body=self.false_map or builder.finish().encode())

    async def _parts(self, request: web.Request) -> web.StreamResponse:
        self.lower.append(EFFORT_HEADER in request.headers)
        self.meanwhile()
        data = self.contents[request.match_info["digest"]]
        spans = byte_parts.parse(await request.read(), len(data))
        body = b"".join(data[span.start : span.end] for span in spans)
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        sent = body[: self.cut_parts.pop(0)] if self.cut_parts else body
        self.parts_sent += len(sent)
        await response.write(sent)
        if len(sent) < len(body):
            assert request.transport is not None
            request.transport.close()
        return response


@pytest.fixture
async def regional() -> AsyncIterator[PartSource]:
    async with PartSource() as source:
        source.hold(OLD, NEW)
        yield source


@pytest.fixture
async def lab(tmp_path: Path, regional: PartSource) -> AsyncIterator[Lab]:
    async with FakeSource() as centre:
        yield Lab(tmp_path, centre, regionals=[regional], patience=HASTE)


async def reusing(agent: Agent) -> None:
    """Wire it as the daemon does."""
    http: ContentHttp = agent.fetcher._http
    reuse = Reuse(
        agent.cache,
        lambda key: agent.links.paced(http, key),
        agent.ledger,
        agent.journal,
        SystemClock(),
        lambda: 0.1,
        agent.fetcher.sources,
        agent.book,
    )
    await reuse.load()
    agent.swarms.fill, agent.fetcher.filling = reuse.fill, reuse.held_bytes


async def fetch(agent: Agent, data: bytes, tenant: str = TENANT, effort: Effort = Effort.ORDINARY) -> Provenance:
    """Assign it alone, so that what was there before is assigned no more, and hold it."""
    wished = assignment(Image("acme/disk", "1", content(data), ()), DesiredState.HELD, effort=effort)
    await agent.assign(dataclasses.replace(wished, tenant_id=tenant))
    await agent.introduce_regionals()
    await agent.fetcher.fetch(content(data), tenant)
    path = agent.cache.find(Digest.of(data))
    assert path is not None
    assert path.read_bytes() == data
    return agent.ledger.provenance(*key(data, tenant))


def key(data: bytes, tenant: str = TENANT) -> ContentKey:
    return tenant, Digest.of(data)


def total(origin: Provenance) -> int:
    return sum(dataclasses.astuple(origin))


async def test_a_tenth_changed_comes_as_a_tenth_and_the_sources_add_up(lab: Lab, regional: PartSource) -> None:
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        before = regional.sent.total()
        origin = await fetch(agent, NEW)
        assert total(origin) == SIZE
        assert origin.from_regional_bytes == regional.parts_sent < 0.11 * SIZE
        assert regional.sent.total() == before


async def test_whose_a_content_is_survives_a_restart(lab: Lab, regional: PartSource) -> None:
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        await agent.assign()
        await agent.seeding.round()
    async with lab.open() as agent:
        await reusing(agent)
        assert (await fetch(agent, NEW)).reused_bytes > 0.89 * SIZE


async def test_what_another_tenant_has_here_is_not_looked_at(lab: Lab, regional: PartSource) -> None:
    async with lab.open() as agent:
        await reusing(agent)
        regional.tenant_id = "tenant-2"
        await fetch(agent, OLD, "tenant-2")
        regional.tenant_id = TENANT
        assert await fetch(agent, NEW) == Provenance(from_regional_bytes=SIZE)
        assert regional.maps == 0


async def test_answers_that_break_off_are_asked_for_again(lab: Lab, regional: PartSource) -> None:
    regional.cut_parts = [200_000]
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        origin = await fetch(agent, NEW)
        assert origin.reused_bytes > 0.89 * SIZE
        assert origin.from_regional_bytes < 0.2 * SIZE


async def test_a_line_that_always_breaks_leaves_the_rest_to_the_swarm(
    lab: Lab, regional: PartSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    regional.cut_parts = [10] * 100
    monkeypatch.setattr("agent.reuse._FRUITLESS_TRIES", 1)
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        assert (await fetch(agent, NEW)).from_regional_bytes >= 0.5 * SIZE


@pytest.mark.parametrize("lie", [b"nonsense", OLD[PIECE:] + OLD[:PIECE]])
async def test_a_false_map_costs_bytes_and_nothing_else(lab: Lab, regional: PartSource, lie: bytes) -> None:
    if len(lie) == SIZE:
        builder = BlockMapBuilder(SMALLEST_BLOCK)
        builder.update(lie)
        lie = builder.finish().encode()
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        regional.false_map = lie
        await fetch(agent, NEW)


async def test_a_killed_process_goes_on_with_what_is_good(lab: Lab, regional: PartSource) -> None:
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        metainfo = metainfo_of(NEW)
        await agent.swarms.remember(key(NEW), metainfo)
        path = agent.swarms.path(metainfo)
        path.parent.mkdir(parents=True)
        path.write_bytes(NEW[: 40 * PIECE] + b"half a piece" + bytes(SIZE - 40 * PIECE - 12))
    async with lab.open() as agent:
        await reusing(agent)
        origin = await fetch(agent, NEW)
        assert origin.from_regional_bytes < 0.11 * (SIZE - 40 * PIECE)


async def test_large_runs_are_found_as_whole_pieces_and_zeros_without_any_donor(lab: Lab, regional: PartSource) -> None:
    sparse = OLD[: 4 * PIECE] + bytes(SIZE - 4 * PIECE)
    runs = changed(OLD, 0.1, PIECE)
    regional.hold(sparse, runs)
    async with lab.open() as agent:
        await reusing(agent)
        assert (await fetch(agent, sparse)).reused_bytes == SIZE - 4 * PIECE
        await fetch(agent, OLD)
        parts = regional.parts_sent
        assert (await fetch(agent, runs)).from_regional_bytes <= 0.1 * SIZE
        assert regional.parts_sent == parts  # pieces that are wholly new are the swarm's


async def test_parts_and_maps_keep_the_limits_and_say_that_nobody_waits(lab: Lab, regional: PartSource) -> None:
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        assert not any(regional.lower)
        regional.lower.clear()
        agent.links.down.set_rates(LinkRates(tenants={TENANT: SIZE // 10}))
        began = asyncio.get_running_loop().time()
        await fetch(agent, NEW, effort=Effort.LOWER)
        assert 0.7 < asyncio.get_running_loop().time() - began < 4 + BUSY_SECONDS
        assert len(regional.lower) >= 2
        assert all(regional.lower)


async def test_a_content_that_is_put_together_is_seen_to_grow(lab: Lab, regional: PartSource) -> None:
    seen: list[int] = []
    mixed = changed(NEW[: SIZE // 2], 0.1, 4096) + OLD[SIZE // 2 :]
    regional.hold(mixed)
    async with lab.open() as agent:
        await reusing(agent)
        await fetch(agent, OLD)
        regional.meanwhile = lambda: seen.append(agent.fetcher.held_bytes(content(mixed), TENANT))
        await fetch(agent, mixed)
    assert SIZE // 2 <= seen[0] < SIZE
