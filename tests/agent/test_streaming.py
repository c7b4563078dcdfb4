"""The mirror gives a content to the engine while it is still on its way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from agent.mirror import Mirror
from agent.model import Content, DesiredState, Image
from agent.streaming import Streams, StreamStalled
from agent.swarm_download import Patience
from common.bittorrent import REGIONAL_FINGERPRINT, Torrent, TorrentHandle
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo, build
from common.byte_ranges import Span
from common.clock import ManualClock, SystemClock
from common.digest import Digest
from tests.agent.lab import PIECE, SALT, Agent, FakeSource, Lab
from tests.agent.samples import assignment, content, noise
from tests.agent.slow_source import SlowSource
from tests.pace import BUSY_SECONDS

DATA = noise(20 * PIECE + 12_345, "large")
SMALL = noise(300_000, "small")
PIECES = 21
# Nothing comes but what a test gives to the swarm.
PATIENT = Patience(
    poll_seconds=0.01, regional_peer_seconds=0.02, range_seconds=60, give_up_seconds=60, reconnect_seconds=0.02
)


@dataclass
class Stage:
    """An agent whose swarm has one peer, which holds what `give` gave it."""

    agent: Agent
    mirror: Mirror
    http: aiohttp.ClientSession
    peer: TorrentHandle
    regional: SlowSource
    wanted: Content

    def get(self, method: str = "GET", content: Content | None = None, **headers: str):
        digest = (content or self.wanted).digest
        return self.http.request(method, f"http://{self.mirror.address}/v2/acme/web/blobs/{digest}", headers=headers)

    async def give(self, *indices: int) -> None:
        for index in indices:
            await self.peer.add_piece(index, DATA[index * PIECE : (index + 1) * PIECE])

    async def give_all(self) -> None:
        await self.give(*range(PIECES))

    @property
    def held(self) -> bool:
        return self.wanted.digest in self.agent.cache.held

    @property
    def urgent(self) -> tuple[int, ...]:
        member = self.agent.swarms.member(("tenant-1", self.wanted.digest))
        return member.urgency.pieces if member else ()


def metainfo_under(digest: Digest, data: bytes) -> Metainfo:
    """As a control plane would sign it, if its own copy were damaged."""
    builder = MerkleBuilder(PIECE)
    builder.update(data)
    return build(digest.hex, *builder.finish(), PIECE, SALT)


@contextlib.asynccontextmanager
async def staged(directory: Path, data: bytes = DATA, told: bytes = DATA) -> AsyncIterator[Stage]:
    """`told`: what the metainfo speaks of."""
    wanted, metainfo = content(data), metainfo_under(Digest.of(data), told)
    async with SlowSource(wanted.digest) as regional:
        regional.leases = False
        regional.hold(data, SMALL)
        regional.metainfos[str(wanted.digest)] = metainfo.encoded
        lab = Lab(directory, regional, regionals=[regional], patience=PATIENT)
        session = lab.swarm.session(REGIONAL_FINGERPRINT)
        lab.regional_peers.append(session)
        (directory / "peer").mkdir()
        peer = await session.add(Torrent(metainfo, directory / "peer", upload_only=True))
        async with lab.open() as agent, aiohttp.ClientSession() as http:
            streams = Streams(agent.fetcher, agent.cache, SystemClock())
            async with Mirror(lambda: agent.book.current, agent.cache, streams=streams) as mirror:
                small = content(SMALL)
                image = Image("acme/web", "1.4", small, (small, wanted))
                await agent.assign(assignment(image, DesiredState.HELD))
                await agent.introduce_regionals()
                yield Stage(agent, mirror, http, peer, regional, wanted)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as made:
        yield made


async def until_cut(response: aiohttp.ClientResponse) -> bytes:
    got = bytearray()

    async def read() -> None:
        while chunk := await response.content.readany():
            got.extend(chunk)

    with pytest.raises(aiohttp.ClientError):
        await read()
    return bytes(got)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while not condition():  # noqa: ASYNC110  a state is looked at, it cannot be awaited
            await asyncio.sleep(0.005)


async def test_the_first_bytes_are_out_while_the_rest_exists_nowhere(stage: Stage) -> None:
    await stage.give(0, 1)
    async with stage.get() as response:
        assert (response.status, response.content_length) == (200, len(DATA))
        assert await response.content.readexactly(2 * PIECE) == DATA[: 2 * PIECE]
        assert not stage.held
        await stage.give_all()
        assert await response.read() == DATA[2 * PIECE :]
    assert stage.held


async def test_headers_and_head_are_answered_before_any_byte_is_there(stage: Stage) -> None:
    async with stage.get("HEAD") as response:
        assert (response.status, response.content_length) == (200, len(DATA))
        assert response.headers["Docker-Content-Digest"] == str(stage.wanted.digest)
    async with stage.get() as response:
        assert response.content_length == len(DATA)
        assert not stage.held


async def test_a_range_is_answered_without_what_lies_before_it(stage: Stage) -> None:
    await stage.give(7, 8)
    async with stage.get(Range=f"bytes={7 * PIECE + 5}-{9 * PIECE - 1}") as response:
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {7 * PIECE + 5}-{9 * PIECE - 1}/{len(DATA)}"
        assert await response.read() == DATA[7 * PIECE + 5 : 9 * PIECE]
    async with stage.get(Range=f"bytes={len(DATA)}-") as response:
        assert response.status == 416


async def test_the_last_piece_waits_for_the_whole_digest(stage: Stage) -> None:
    await stage.give(*range(1, PIECES))
    async with stage.get(Range="bytes=-10") as response:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await response.content.read(1)
        assert not stage.held
        await stage.give(0)
        assert await response.read() == DATA[-10:]
        assert stage.held


async def test_a_false_swarm_gives_nobody_a_whole_content(tmp_path: Path) -> None:
    false = noise(len(DATA), "another")
    async with staged(tmp_path, told=false) as stage:
        stage.regional.let_go.set()
        async with stage.get() as response:
            for index in range(PIECES):
                await stage.peer.add_piece(index, false[index * PIECE : (index + 1) * PIECE])
            assert len(await until_cut(response)) <= (PIECES - 1) * PIECE
        # The true bytes come by HTTP, and whoever asks again gets them.
        async with stage.get() as response:
            assert await response.read() == DATA


async def test_readers_share_one_fetch_and_one_that_leaves_disturbs_no_other(stage: Stage) -> None:
    await stage.give(0)
    async with stage.get() as staying:
        async with stage.get() as leaving:
            assert await leaving.content.readexactly(PIECE) == DATA[:PIECE]
        await stage.give_all()
        assert await staying.read() == DATA
    assert stage.regional.sent[str(stage.wanted.digest)] == 0


async def test_what_a_reader_waits_for_is_wanted_first_until_it_leaves(stage: Stage) -> None:
    await stage.give(4)
    async with stage.get(Range=f"bytes={4 * PIECE}-{15 * PIECE}") as one:
        await one.content.readexactly(PIECE)
        await eventually(lambda: stage.urgent[:2] == (5, 6))
        async with stage.get(Range=f"bytes={12 * PIECE}-{15 * PIECE}"):
            await eventually(lambda: stage.urgent[:4] == (5, 12, 6, 13))
        await eventually(lambda: 12 not in stage.urgent[:2])
        one.close()
    # Nobody is left who wants it, so the fetch ends too.
    await eventually(lambda: stage.urgent == ())


async def test_the_piece_that_a_reader_begins_with_is_brought_beside_the_swarm(stage: Stage) -> None:
    stage.regional.let_go.set()
    async with stage.get(Range=f"bytes={3 * PIECE + 7}-") as response:
        assert await response.content.readexactly(PIECE - 7) == DATA[3 * PIECE + 7 : 4 * PIECE]
        assert stage.regional.sent[str(stage.wanted.digest)] == PIECE
        assert stage.agent.ledger.provenance("tenant-1", stage.wanted.digest).from_regional_bytes == PIECE
        await stage.give_all()
        assert await response.read() == DATA[4 * PIECE :]
    assert stage.regional.sent[str(stage.wanted.digest)] == PIECE


async def test_a_small_content_is_given_once_it_is_whole(stage: Stage) -> None:
    stage.regional.gate.clear()
    async with stage.get(content=content(SMALL)) as response:
        assert response.content_length == len(SMALL)
        stage.regional.gate.set()
        assert await response.read() == SMALL


async def test_a_reader_is_cut_off_when_the_content_is_no_longer_assigned(stage: Stage) -> None:
    await stage.give(0)
    async with stage.get() as response:
        await response.content.readexactly(PIECE)
        await stage.agent.assign()
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_reader_is_cut_off_when_the_fetch_fails(stage: Stage) -> None:
    stage.regional.refuse = 403
    async with stage.get(content=content(SMALL)) as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_reader_for_whom_nothing_comes_is_given_up(stage: Stage) -> None:
    clock = ManualClock()
    streams = Streams(stage.agent.fetcher, stage.agent.cache, clock, stall_seconds=30)

    class Nowhere:
        async def write(self, data: bytes) -> None: ...

        async def send_file(self, path: Path, span: Span) -> None: ...

    copying = asyncio.ensure_future(streams.copy(stage.wanted, "tenant-1", Span(0, len(DATA)), Nowhere(), lambda: True))
    await eventually(lambda: stage.urgent != ())
    await clock.advance(60)
    with pytest.raises(StreamStalled):
        await copying


async def test_a_stream_over_real_bittorrent_is_whole_and_right(tmp_path: Path) -> None:
    async with FakeSource() as regional:
        regional.hold(DATA)
        lab = Lab(tmp_path, regional, regionals=[regional], libtorrent=True)
        async with lab.open() as seeder:
            wanted = content(DATA)
            image = Image("acme/web", "1.4", wanted, (wanted,))
            await seeder.assign(assignment(image, DesiredState.HELD))
            await seeder.introduce_regionals()
            streams = Streams(seeder.fetcher, seeder.cache, SystemClock())
            async with (
                Mirror(lambda: seeder.book.current, seeder.cache, streams=streams) as mirror,
                aiohttp.ClientSession() as http,
                http.get(f"http://{mirror.address}/v2/acme/web/blobs/{wanted.digest}") as response,
            ):
                assert await response.read() == DATA
