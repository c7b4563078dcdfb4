"""What goes wrong between peers, and what is refused: the suite of `PeerSession`, second half."""

from __future__ import annotations

import asyncio

import pytest

from common.bittorrent import Torrent
from common.bittorrent.recheck import verify_file
from common.errors import Conflict, Invalid, Stale, Unavailable
from tests.conformance.peer_network import (
    PeerPlaces,
    connect,
    content,
    eventually,
    metainfo_of,
    outcome,
    piece,
    received,
)
from tests.pace import BUSY_SECONDS


class PeerFaults(PeerPlaces):
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

    async def test_what_is_no_peer_is_refused(self, lab, place):
        metainfo = metainfo_of(content())
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        for port in (0, -1, 65536):
            with pytest.raises(Invalid):
                await leecher.connect_peer("127.0.0.1", port)

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
            waiting = group.create_task(outcome(leecher.complete()))
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
            waiting = group.create_task(outcome(leecher.complete()))
            await asyncio.sleep(0)
            async with asyncio.timeout(BUSY_SECONDS):
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
