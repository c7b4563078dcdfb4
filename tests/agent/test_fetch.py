"""A content's way to this host, with everything that can go wrong on it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.cache import DiskFull
from agent.content_http import TokenRejected
from agent.ledger import ContentKey
from agent.model import Content, DesiredState, Image, Provenance
from agent.whole_download import FetchFailed, RightExpired
from common.bittorrent import Torrent
from common.bittorrent.memory import Fault
from common.digest import Digest
from common.errors import Unavailable
from tests.agent.lab import HASTE, PIECE, Agent, FakeSource, Lab, metainfo_of
from tests.agent.samples import assignment, content, noise
from tests.pace import BUSY_SECONDS

SMALL = noise(300_000, "small")
LARGE = noise(40 * PIECE + 12_345, "large")
TENANT = "tenant-1"


@pytest.fixture
async def centre() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(SMALL, LARGE)
        yield source


@pytest.fixture
async def regional() -> AsyncIterator[FakeSource]:
    async with FakeSource() as source:
        source.hold(SMALL, LARGE)
        yield source


@pytest.fixture
def lab(tmp_path: Path, centre: FakeSource, regional: FakeSource) -> Lab:
    return Lab(tmp_path, centre, regionals=[regional])


def held(*contents: Content) -> Image:
    return Image("acme/web", "1.4", contents[0], tuple(contents[1:]))


async def want(agent: Agent, *data: bytes, token: str = "token") -> list[Content]:
    contents = [content(one, token=token) for one in data]
    await agent.assign(assignment(held(*contents), DesiredState.HELD))
    await agent.introduce_regionals()
    return contents


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BUSY_SECONDS):
        while not condition():  # noqa: ASYNC110  a number is looked at, it cannot be awaited
            await asyncio.sleep(0.001)


def without_leases(lab: Lab) -> None:
    """What is left then is help: peers that are dialled, missing pieces by range."""
    for source in (lab.centre, *lab.regionals):
        source.leases = False


def key(data: bytes) -> ContentKey:
    return TENANT, Digest.of(data)


def origin(agent: Agent, data: bytes) -> Provenance:
    return agent.ledger.provenance(*key(data))


async def fetch(agent: Agent, one: Content) -> bytes:
    async with asyncio.timeout(20):
        await agent.fetcher.fetch(one, TENANT)
    path = agent.cache.find(one.digest)
    assert path is not None
    return path.read_bytes()


async def test_a_small_content_comes_from_the_regional(lab: Lab, centre: FakeSource) -> None:
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        assert await fetch(agent, small) == SMALL
        assert origin(agent, SMALL) == Provenance(from_regional_bytes=len(SMALL))
        assert not centre.sent


async def test_what_is_held_is_not_fetched_again(lab: Lab, regional: FakeSource) -> None:
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        await asyncio.gather(*(fetch(agent, small) for _ in range(5)))
        await fetch(agent, small)
        assert regional.sent[str(small.digest)] == len(SMALL)


async def test_a_large_content_comes_in_leased_pieces(lab: Lab, regional: FakeSource) -> None:
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE) == Provenance(from_regional_bytes=len(LARGE))
        assert regional.sent[str(large.digest)] == len(LARGE)
        assert lab.centre.tokens == set()


async def test_when_nobody_leases_the_regionals_peer_helps(lab: Lab, regional: FakeSource) -> None:
    without_leases(lab)
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE) == Provenance(from_regional_bytes=len(LARGE))
        assert not regional.sent
        assert lab.centre.tokens == set()


async def test_bytes_of_other_hosts_are_counted_as_theirs(lab: Lab) -> None:
    without_leases(lab)
    await lab.regional_seed()
    other = lab.swarm.session()
    await lab.seed(other, LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        lab.regional_peers[0] = other  # the address that the agent is told leads to a host
        await agent.introduce_regionals()
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE) == Provenance(from_peers_bytes=len(LARGE))


async def test_a_verified_content_is_seeded_from_the_caches_own_bytes(lab: Lab, tmp_path: Path) -> None:
    without_leases(lab)
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        await fetch(agent, large)
        cached = agent.cache.find(large.digest)
        assert cached is not None
        assert cached.samefile(agent.swarms.path(metainfo_of(LARGE)))
        lab.regional_peers.clear()
        neighbour = Lab(tmp_path / "other", lab.centre, lab.swarm, regionals=lab.regionals)
        async with neighbour.open() as second:
            neighbour.regional_peers.append(agent.session)
            (again,) = await want(second, LARGE)
            assert await fetch(second, again) == LARGE
            assert origin(second, LARGE).from_peers_bytes == len(LARGE)


async def test_a_dead_swarm_is_filled_by_range_from_the_regional(lab: Lab, centre: FakeSource) -> None:
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE) == Provenance(from_regional_bytes=len(LARGE))
        assert not centre.sent


async def test_without_the_regional_the_centre_serves(lab: Lab, regional: FakeSource, centre: FakeSource) -> None:
    async with lab.open() as agent:
        small, large = await want(agent, SMALL, LARGE)
        await regional.stop()
        assert await fetch(agent, small) == SMALL
        assert await fetch(agent, large) == LARGE
        assert origin(agent, SMALL) == Provenance(from_centre_bytes=len(SMALL))
        assert origin(agent, LARGE) == Provenance(from_centre_bytes=len(LARGE))
        assert centre.sent[str(large.digest)] == len(LARGE)


async def test_an_idc_without_regionals_goes_to_the_centre_at_once(lab: Lab, centre: FakeSource) -> None:
    lab = dataclasses.replace(lab, regionals=[])
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE) == Provenance(from_centre_bytes=len(LARGE))


async def test_what_a_dying_swarm_gave_is_kept_and_only_the_rest_comes_from_the_centre(
    lab: Lab, regional: FakeSource, centre: FakeSource, tmp_path: Path
) -> None:
    without_leases(lab)
    half = frozenset(range(20))
    session = lab.swarm.session()
    metainfo = metainfo_of(LARGE)
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / metainfo.name).write_bytes(LARGE)
    await session.add(Torrent(metainfo, folder, have=half, upload_only=True))
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        lab.regional_peers.append(session)
        await agent.introduce_regionals()
        regional.contents.clear()
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE) == Provenance(
            from_centre_bytes=len(LARGE) - 20 * PIECE, from_peers_bytes=20 * PIECE
        )
        assert centre.sent[str(large.digest)] == len(LARGE) - 20 * PIECE


async def test_a_regional_that_is_still_fetching_is_waited_for(
    lab: Lab, regional: FakeSource, centre: FakeSource
) -> None:
    regional.busy = 6
    async with lab.open() as agent:
        small, large = await want(agent, SMALL, LARGE)
        assert await fetch(agent, small) == SMALL
        regional.busy = 6
        assert await fetch(agent, large) == LARGE
        assert not centre.sent


async def test_a_regional_that_cannot_reach_the_centre_is_passed_over(lab: Lab, regional: FakeSource) -> None:
    regional.busy, regional.busy_code = 1000, "centre_away"
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        assert await fetch(agent, small) == SMALL
        assert origin(agent, SMALL) == Provenance(from_centre_bytes=len(SMALL))


async def test_corrupted_bytes_are_discarded_and_the_next_source_is_asked(lab: Lab, regional: FakeSource) -> None:
    regional.corrupt = True
    async with lab.open() as agent:
        small, large = await want(agent, SMALL, LARGE)
        assert await fetch(agent, small) == SMALL
        assert await fetch(agent, large) == LARGE
        assert origin(agent, SMALL).from_centre_bytes == len(SMALL)


async def test_when_every_source_lies_nothing_is_shown(lab: Lab, regional: FakeSource, centre: FakeSource) -> None:
    regional.corrupt = centre.corrupt = True
    async with lab.open() as agent:
        small, large = await want(agent, SMALL, LARGE)
        for one in (small, large):
            with pytest.raises(FetchFailed) as failure:
                await fetch(agent, one)
            assert str(one.digest) in failure.value.detail
        assert agent.cache.held == frozenset()
        assert not list((lab.directory / "content" / "sha256").glob("*/*"))


async def test_a_corrupt_peer_is_not_believed(lab: Lab) -> None:
    liar = lab.swarm.session(fault=Fault.CORRUPT)
    await lab.seed(liar, LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        lab.regional_peers.append(liar)
        await agent.introduce_regionals()
        assert await fetch(agent, large) == LARGE
        assert origin(agent, LARGE).from_regional_bytes == len(LARGE)


async def test_metainfo_of_other_bytes_leads_to_no_wrong_content(lab: Lab, regional: FakeSource) -> None:
    other = noise(len(LARGE), "other")
    for source in (regional, lab.centre):
        source.metainfos[str(Digest.of(LARGE))] = metainfo_of(other).encoded
    session = lab.swarm.session()
    await lab.seed(session, other)
    async with lab.open() as agent:
        lab.regional_peers.append(session)
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        assert agent.swarms.member(key(LARGE)) is None


async def test_metainfo_of_another_size_is_not_used(lab: Lab, regional: FakeSource) -> None:
    regional.metainfos[str(Digest.of(LARGE))] = metainfo_of(LARGE[:-1]).encoded
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        known = agent.swarms.metainfo(key(LARGE))
        assert known is not None
        assert known.length == len(LARGE)


async def test_a_content_without_swarm_comes_whole(lab: Lab, regional: FakeSource) -> None:
    regional.metainfos.clear()
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        assert agent.swarms.member(key(LARGE)) is None


async def test_a_body_that_is_cut_is_continued_not_begun_again(lab: Lab, regional: FakeSource) -> None:
    regional.cut = 100_000
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        assert await fetch(agent, small) == SMALL
        assert regional.sent[str(small.digest)] == len(SMALL)


async def test_an_expired_token_is_named_and_new_ones_are_asked_for(
    lab: Lab, regional: FakeSource, centre: FakeSource
) -> None:
    regional.refuse = centre.refuse = 401
    asked = asyncio.Event()
    async with lab.open() as agent:
        agent.fetcher.token_rejected = asked.set
        small, large = await want(agent, SMALL, LARGE)
        for one in (small, large):
            asked.clear()
            with pytest.raises(RightExpired, match="the content token expired at"):
                await fetch(agent, one)
            assert asked.is_set()
        regional.refuse = 0
        await want(agent, SMALL, LARGE, token="renewed")
        assert await fetch(agent, small) == SMALL
        assert await fetch(agent, large) == LARGE
        assert "renewed" in regional.tokens


async def test_a_full_disk_is_said_and_recovered_from(lab: Lab) -> None:
    room = [100_000]
    lab = dataclasses.replace(lab, free=lambda _: room[0])
    async with lab.open() as agent:
        small, large = await want(agent, SMALL, LARGE)
        for one in (small, large):
            with pytest.raises(DiskFull, match="is full"):
                await fetch(agent, one)
        room[0] = 1 << 30
        assert await fetch(agent, small) == SMALL
        assert await fetch(agent, large) == LARGE


async def test_a_disk_that_fills_while_the_swarm_writes_loses_nothing(lab: Lab) -> None:
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        folder = agent.swarms.path(metainfo_of(LARGE)).parent
        lab.swarm.fill_disk(folder, 10 * PIECE)
        with pytest.raises(Unavailable, match="no space") as failure:
            await fetch(agent, large)
        assert failure.value.code == "disk_full"
        lab.swarm.empty_disk(folder)
        assert await fetch(agent, large) == LARGE


async def test_room_is_made_by_dropping_what_nobody_wants(lab: Lab) -> None:
    unwanted, wanted = noise(2 << 20, "unwanted"), noise(2 << 20, "wanted")
    lab = dataclasses.replace(lab, limit_bytes=5 << 20)
    for source in (lab.centre, *lab.regionals):
        source.hold(unwanted, wanted)
    async with lab.open() as agent:
        old, kept = await want(agent, unwanted, wanted)
        await fetch(agent, old)
        await fetch(agent, kept)
        folder = agent.swarms.path(metainfo_of(unwanted)).parent
        assert folder.exists()
        kept, large = await want(agent, wanted, LARGE)
        assert await fetch(agent, large) == LARGE
        assert agent.cache.held == {kept.digest, large.digest}
        assert not folder.exists()


async def test_what_is_assigned_is_never_dropped(lab: Lab) -> None:
    lab = dataclasses.replace(lab, limit_bytes=len(LARGE) + 1000)
    async with lab.open() as agent:
        small, large = await want(agent, SMALL, LARGE)
        await fetch(agent, small)
        with pytest.raises(DiskFull):
            await fetch(agent, large)
        assert agent.cache.held == {small.digest}


async def test_a_restart_goes_on_where_the_swarm_was(lab: Lab, tmp_path: Path, regional: FakeSource) -> None:
    without_leases(lab)
    half = lab.swarm.session()
    metainfo = metainfo_of(LARGE)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / metainfo.name).write_bytes(LARGE)
    await half.add(Torrent(metainfo, tmp_path / "half", have=frozenset(range(20)), upload_only=True))
    lab.regional_peers.append(half)
    patient = dataclasses.replace(lab, patience=dataclasses.replace(HASTE, regional_peer_seconds=60, range_seconds=60))
    async with patient.open() as agent:
        (large,) = await want(agent, LARGE)
        fetching = asyncio.ensure_future(fetch(agent, large))
        await eventually(lambda: agent.fetcher.held_bytes(large, TENANT) >= 20 * PIECE)
        fetching.cancel()
    await half.close()
    lab.regional_peers.clear()
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        assert await fetch(agent, large) == LARGE
        found = origin(agent, LARGE)
        assert found.from_peers_bytes == 20 * PIECE
        assert found.from_regional_bytes == len(LARGE) - 20 * PIECE
        assert not regional.sent


async def test_a_restart_goes_on_where_http_was(lab: Lab, regional: FakeSource, centre: FakeSource) -> None:
    regional.cut = 100_000
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        fetching = asyncio.ensure_future(fetch(agent, small))
        await eventually(lambda: agent.fetcher.held_bytes(small, TENANT) >= 100_000)
        fetching.cancel()
    regional.cut = 0
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        assert await fetch(agent, small) == SMALL
    assert regional.sent[str(small.digest)] == len(SMALL)


async def test_a_damaged_partial_file_does_not_blame_the_source(lab: Lab, centre: FakeSource) -> None:
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        agent.cache.partial(small.digest).write_bytes(b"x" * 1000)
        assert await fetch(agent, small) == SMALL
        assert not centre.sent


async def test_after_a_restart_held_contents_are_seeded_again(lab: Lab, tmp_path: Path) -> None:
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        await fetch(agent, large)
    for source in (lab.centre, *lab.regionals):
        await source.stop()
    async with lab.open() as agent:
        await agent.seeding.round()
        member = agent.swarms.member(key(LARGE))
        assert member is not None
        assert member.handle.status().complete


async def test_a_content_that_came_whole_is_seeded_too_once_it_has_a_swarm(lab: Lab, regional: FakeSource) -> None:
    metainfos, regional.metainfos = regional.metainfos, {}
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        await fetch(agent, large)
        regional.metainfos = metainfos
        await agent.seeding.round()
        assert agent.swarms.member(key(LARGE)) is not None


async def test_what_is_no_longer_assigned_is_no_longer_seeded(lab: Lab) -> None:
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        await fetch(agent, large)
        folder = agent.swarms.path(metainfo_of(LARGE)).parent
        await agent.assign()
        await agent.seeding.round()
        assert agent.swarms.member(key(LARGE)) is None
        assert not folder.exists()
        assert large.digest in agent.cache.held


async def test_renewed_tokens_reach_the_trackers(lab: Lab, regional: FakeSource) -> None:
    await lab.regional_seed(LARGE)
    async with lab.open() as agent:
        (large,) = await want(agent, LARGE)
        await fetch(agent, large)
        await want(agent, LARGE, token="renewed")
        await agent.seeding.round()
        member = agent.swarms.member(key(LARGE))
        assert member is not None
        assert list(member.trackers) == [f"{regional.url}/announce?token=renewed&digest={large.digest}"]


async def test_a_fetch_that_nobody_waits_for_ends(lab: Lab, regional: FakeSource) -> None:
    regional.gate.clear()
    async with lab.open() as agent:
        (small,) = await want(agent, SMALL)
        waiting = asyncio.ensure_future(agent.fetcher.fetch(small, TENANT))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0.05)
        regional.gate.set()
        assert await fetch(agent, small) == SMALL


def test_a_rejected_token_is_no_reason_to_try_the_same_source_again() -> None:
    assert not issubclass(TokenRejected, FetchFailed)
