"""What every `PeerSession` must do; `tests/common/bittorrent/` runs it on libtorrent and on the memory swarm.

A subclass supplies the fixture `lab`: sessions of one network, a tracker, web seeds and a disk that can be full.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from common.bittorrent import AGENT_FINGERPRINT, REGIONAL_FINGERPRINT, PeerSession, Torrent, TorrentHandle
from common.bittorrent.merkle import MerkleBuilder
from common.bittorrent.metainfo import Metainfo, build
from common.bittorrent.recheck import verify_file
from common.errors import Conflict, Failure, Invalid, Stale, Unavailable

PIECE = 64 << 10
LENGTH = 40 * PIECE + 12_345
SALT = b"a tenant's secret salt"
PATIENCE_SECONDS = 30


class WebSeed(Protocol):
    url: str
    ranges: list[tuple[int, int]]


class SmallDisk(Protocol):
    path: Path

    def grow(self) -> None: ...


class PeerLab(Protocol):
    async def session(self, fingerprint: bytes = AGENT_FINGERPRINT) -> PeerSession: ...

    async def tracker(self) -> str: ...

    async def web_seed(self, name: str, data: bytes) -> WebSeed: ...

    def small_disk(self, size: int) -> SmallDisk: ...


def content(length: int = LENGTH, seed: bytes = b"") -> bytes:
    return hashlib.shake_128(seed + length.to_bytes(8)).digest(length)


def metainfo_of(data: bytes, salt: bytes = SALT, piece_length: int = PIECE) -> Metainfo:
    builder = MerkleBuilder(piece_length)
    builder.update(data)
    return build(hashlib.sha256(data).hexdigest(), *builder.finish(), piece_length, salt)


def piece(metainfo: Metainfo, data: bytes, index: int) -> bytes:
    return data[index * metainfo.piece_length :][: metainfo.piece_size(index)]


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  a status is looked at, it cannot be awaited
        await asyncio.sleep(0.01)


async def connect(handle: TorrentHandle, *sessions: PeerSession) -> None:
    for session in sessions:
        await handle.connect_peer("127.0.0.1", session.listen_port)


async def all_complete(handles: Sequence[TorrentHandle]) -> None:
    await asyncio.gather(*(handle.complete() for handle in handles))


def received(handle: TorrentHandle) -> int:
    status = handle.status()
    return status.from_agents_bytes + status.from_regionals_bytes + status.from_web_seeds_bytes


class PeerSessionConformance:
    @pytest.fixture(autouse=True)
    async def patience(self):
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield

    @pytest.fixture
    def place(self, tmp_path):
        """A new folder, with bytes of a torrent's file if given."""
        count = 0

        def make(metainfo: Metainfo | None = None, data: bytes | None = None) -> Path:
            nonlocal count
            count += 1
            folder = tmp_path / f"place{count}"
            folder.mkdir()
            if metainfo is not None and data is not None:
                (folder / metainfo.name).write_bytes(data)
            return folder

        return make

    async def test_a_seeder_and_three_leechers_complete_with_equal_bytes(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin = await lab.session(REGIONAL_FINGERPRINT)
        seeder = await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        folders, leechers, sessions = [place() for _ in range(3)], [], []
        for folder in folders:
            sessions.append(await lab.session())
            leechers.append(await sessions[-1].add(Torrent(metainfo, folder)))
        for leecher, session in zip(leechers, sessions, strict=True):
            await connect(leecher, origin, *(other for other in sessions if other is not session))
        await all_complete([seeder, *leechers])
        assert all((folder / metainfo.name).read_bytes() == data for folder in folders)
        for leecher in leechers:
            status = leecher.status()
            assert status.complete
            assert status.held_bytes == metainfo.length
            assert status.failed_bytes == 0
            assert status.from_web_seeds_bytes == 0
            assert received(leecher) >= metainfo.length
            assert await leecher.have_pieces() == frozenset(range(metainfo.piece_count))
        given = sum(leecher.status().from_regionals_bytes for leecher in leechers)
        await eventually(lambda: seeder.status().sent_bytes >= given)

    @pytest.mark.parametrize("length", [1, PIECE - 1, PIECE, PIECE + 1, 8 * PIECE])
    async def test_a_file_of_any_length_arrives(self, lab, place, length):
        data = content(length)
        metainfo = metainfo_of(data)
        origin, session, folder = await lab.session(), await lab.session(), place()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, folder))
        await connect(leecher, origin)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        assert leecher.status().from_agents_bytes == length

    async def test_bytes_are_attributed_to_agents_and_regionals(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        regional, agent, session = await lab.session(REGIONAL_FINGERPRINT), await lab.session(), await lab.session()
        half = frozenset(range(0, metainfo.piece_count, 2))
        rest = frozenset(range(metainfo.piece_count)) - half
        await regional.add(Torrent(metainfo, place(metainfo, data), have=half, upload_only=True))
        await agent.add(Torrent(metainfo, place(metainfo, data), have=rest, upload_only=True))
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, regional, agent)
        await leecher.complete()
        status = leecher.status()
        assert status.from_regionals_bytes == sum(metainfo.piece_size(index) for index in half)
        assert status.from_agents_bytes == sum(metainfo.piece_size(index) for index in rest)

    async def test_a_peer_that_sends_false_bytes_is_banned_and_the_copy_is_right(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        false = bytes(byte ^ 1 for byte in data)
        liar, honest, session, folder = await lab.session(), await lab.session(), await lab.session(), place()
        lying = await liar.add(Torrent(metainfo, place(metainfo, false), seed=True))
        await honest.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, folder))
        await connect(leecher, liar)
        await eventually(lambda: leecher.status().failed_bytes > 0)
        await connect(leecher, honest)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        assert not await verify_file(folder / metainfo.name, metainfo) ^ frozenset(range(metainfo.piece_count))
        assert lying.status().sent_bytes < metainfo.length * 3

    async def test_pieces_given_one_by_one_spread_at_once(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        regional = await lab.session(REGIONAL_FINGERPRINT)
        source = await regional.add(Torrent(metainfo, place(), upload_only=True))
        leechers = []
        for _ in range(2):
            session = await lab.session()
            leechers.append(await session.add(Torrent(metainfo, place())))
            await connect(leechers[-1], regional)
        half = metainfo.piece_count // 2
        for index in range(half):
            await source.add_piece(index, piece(metainfo, data, index))
        # Cut-through: what was given is at the leechers before the rest exists anywhere.
        await eventually(lambda: all(leecher.status().held_bytes == half * PIECE for leecher in leechers))
        assert await leechers[0].have_pieces() == frozenset(range(half))
        for index in reversed(range(half, metainfo.piece_count)):
            await source.add_piece(index, piece(metainfo, data, index))
        await all_complete([source, *leechers])
        assert source.status().held_bytes == metainfo.length
        assert received(source) == 0

    async def test_who_only_uploads_asks_nobody(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin, regional, session, folder = await lab.session(), await lab.session(), await lab.session(), place()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        source = await regional.add(Torrent(metainfo, folder, upload_only=True))
        await source.add_piece(0, piece(metainfo, data, 0))
        await connect(source, origin)
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, regional, origin)
        await leecher.complete()
        assert source.status().held_bytes == PIECE
        assert received(source) == 0
        assert await source.have_pieces() == {0}

    async def test_false_pieces_are_refused_and_announced_to_nobody(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        session = await lab.session()
        source = await session.add(Torrent(metainfo, place(), upload_only=True))
        for index, false in (
            (0, piece(metainfo, data, 1)),
            (0, piece(metainfo, data, 0)[:-1]),
            (0, b""),
            (metainfo.piece_count, b"x"),
            (-1, piece(metainfo, data, metainfo.piece_count - 1)),
        ):
            with pytest.raises(Invalid):
                await source.add_piece(index, false)
        assert await source.have_pieces() == frozenset()
        await source.add_piece(0, piece(metainfo, data, 0))
        await source.add_piece(0, piece(metainfo, data, 0))
        assert await source.have_pieces() == {0}

    async def test_pieces_that_the_caller_has_are_not_fetched_again(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        missing = frozenset({0, 7, metainfo.piece_count - 1})
        partial = bytearray(data)
        for index in missing:
            partial[index * PIECE :][: metainfo.piece_size(index)] = b""
            start = index * PIECE
            partial[start : start + metainfo.piece_size(index)] = bytes(metainfo.piece_size(index))
        folder = place(metainfo, bytes(partial[: len(data)]))
        have = await verify_file(folder / metainfo.name, metainfo)
        assert have == frozenset(range(metainfo.piece_count)) - missing
        origin, session = await lab.session(), await lab.session()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, folder, have=have))
        assert await leecher.have_pieces() == have
        await connect(leecher, origin)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        assert received(leecher) == sum(metainfo.piece_size(index) for index in missing)

    async def test_a_file_that_is_there_is_not_believed_without_have(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin, session, folder = await lab.session(), await lab.session(), place(metainfo, b"x" * len(data))
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, folder))
        assert await leecher.have_pieces() == frozenset()
        await connect(leecher, origin)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data

    @pytest.mark.parametrize("length", [LENGTH, 16 * PIECE])
    async def test_a_web_seed_alone_completes_where_no_peer_is(self, lab, place, length):
        data = content(length)
        metainfo = metainfo_of(data)
        seed = await lab.web_seed(metainfo.name, data)
        session, folder = await lab.session(), place()
        leecher = await session.add(Torrent(metainfo, folder, web_seeds=[seed.url]))
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        assert leecher.status().from_web_seeds_bytes == metainfo.length
        assert leecher.status().from_agents_bytes == 0

    async def test_a_web_seed_can_be_added_and_removed(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        seed = await lab.web_seed(metainfo.name, data)
        session, origin, folder = await lab.session(), await lab.session(), place()
        leecher = await session.add(Torrent(metainfo, folder))
        await leecher.add_web_seed(seed.url)
        await leecher.add_web_seed(seed.url)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        other = await origin.add(Torrent(metainfo, place(), web_seeds=[seed.url]))
        await other.remove_web_seed(seed.url)
        await other.remove_web_seed(seed.url)
        await connect(other, session)
        await other.complete()

    async def test_what_is_no_web_seed_or_peer_is_refused(self, lab, place):
        metainfo = metainfo_of(content())
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        for url in (
            f"ftp://127.0.0.1/{metainfo.name}",
            "http://127.0.0.1/other",
            f"http://127.0.0.1/{metainfo.name}?token=x",
            f"http:///{metainfo.name}",
        ):
            with pytest.raises(Invalid):
                await leecher.add_web_seed(url)
        for port in (0, -1, 65536):
            with pytest.raises(Invalid):
                await leecher.connect_peer("127.0.0.1", port)

    async def test_first_pieces_are_asked_for_before_all_others(self, lab, place):
        length = 256 << 10
        data = content(64 * length)
        metainfo = metainfo_of(data, piece_length=length)
        seed = await lab.web_seed(metainfo.name, data)
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place(), web_seeds=[seed.url], first_pieces=range(40, 44)))
        await leecher.complete()
        # A range may begin before the slice, never miss it.
        first, behind = seed.ranges[0]
        assert first < 44 * length
        assert behind > 40 * length

    async def test_peers_find_each_other_through_the_tracker(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        tracker = await lab.tracker()
        origin, session, late, folder = await lab.session(), await lab.session(), await lab.session(), place()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True, trackers=[tracker]))
        leecher = await session.add(Torrent(metainfo, folder, trackers=[tracker]))
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data
        last = await late.add(Torrent(metainfo, place()))
        await last.set_trackers([tracker])
        await last.complete()

    async def test_a_full_disk_is_told_and_space_lets_it_go_on(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        disk = lab.small_disk(metainfo.length // 2)
        origin, session = await lab.session(), await lab.session()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, disk.path))
        await connect(leecher, origin)
        with pytest.raises(Unavailable) as full:
            await leecher.complete()
        assert full.value.code == "disk_full"
        assert not leecher.status().complete
        with pytest.raises(Unavailable) as still:
            await leecher.complete()
        assert still.value.code == "disk_full"
        before = received(leecher)
        disk.grow()
        await leecher.complete()
        assert (disk.path / metainfo.name).read_bytes() == data
        assert leecher.status().complete
        assert received(leecher) >= before

    async def test_a_torrent_removed_and_added_again_seeds_at_once(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin, session, folder = await lab.session(), await lab.session(), place(metainfo, data)
        seeder = await origin.add(Torrent(metainfo, folder, seed=True))
        await seeder.complete()
        await seeder.remove()
        await seeder.remove()
        again = await origin.add(Torrent(metainfo, folder, seed=True))
        await again.complete()
        assert again.status().held_bytes == metainfo.length
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, origin)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data

    async def test_the_same_bytes_under_another_salt_are_another_swarm(self, lab, place):
        data = content()
        ours, theirs = metainfo_of(data), metainfo_of(data, salt=b"another tenant's salt")
        origin, stranger, session, folder = await lab.session(), await lab.session(), await lab.session(), place()
        await origin.add(Torrent(ours, place(ours, data), seed=True))
        foreign = await stranger.add(Torrent(theirs, place(theirs, data), seed=True))
        leecher = await session.add(Torrent(ours, folder))
        await connect(leecher, stranger)
        await connect(leecher, origin)
        await leecher.complete()
        assert received(leecher) == ours.length
        assert foreign.status().sent_bytes == 0
        # One session may hold both.
        await session.add(Torrent(theirs, place(theirs, data), seed=True))

    async def test_adding_what_is_there_is_a_conflict(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        session, folder = await lab.session(), place(metainfo, data)
        await session.add(Torrent(metainfo, folder, seed=True))
        with pytest.raises(Conflict):
            await session.add(Torrent(metainfo, folder, seed=True))

    async def test_a_file_that_cannot_hold_what_is_said_is_refused(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        session = await lab.session()
        for torrent in (
            Torrent(metainfo, place(), seed=True),
            Torrent(metainfo, place(metainfo, data[:-1]), seed=True),
            Torrent(metainfo, place(metainfo, data + b"x"), seed=True),
            Torrent(metainfo, place(metainfo, data + b"x")),
            Torrent(metainfo, place(), have=frozenset({1})),
            Torrent(metainfo, place() / "nowhere"),
        ):
            with pytest.raises(Invalid):
                await session.add(torrent)
        await session.add(Torrent(metainfo, place(metainfo, data), seed=True))

    async def test_removing_ends_those_who_wait(self, lab, place):
        metainfo = metainfo_of(content())
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_outcome(leecher.complete()))
            await asyncio.sleep(0)
            await leecher.remove()
        assert isinstance(waiting.result(), Stale)
        with pytest.raises(Stale):
            await leecher.add_piece(0, b"")
        with pytest.raises(Stale):
            await leecher.connect_peer("127.0.0.1", 1)

    async def test_a_closed_session_is_closed(self, lab, place):
        metainfo = metainfo_of(content())
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_outcome(leecher.complete()))
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await session.close()
        assert isinstance(waiting.result(), Stale)
        await session.close()
        with pytest.raises(Unavailable):
            await session.add(Torrent(metainfo, place()))

    async def test_a_cancelled_wait_changes_nothing(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin, session, folder = await lab.session(), await lab.session(), place()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, folder))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await leecher.complete()
        await connect(leecher, origin)
        await leecher.complete()
        assert (folder / metainfo.name).read_bytes() == data


async def _outcome(waiting) -> Failure | None:
    try:
        await waiting
    except Failure as failure:
        return failure
    return None
