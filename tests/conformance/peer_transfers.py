"""How bytes move between peers: the suite of `PeerSession`, first half."""

from __future__ import annotations

import pytest

from common.bittorrent import REGIONAL_FINGERPRINT, Torrent
from common.bittorrent.recheck import verify_file
from tests.conformance.peer_network import (
    PIECE,
    PeerPlaces,
    all_complete,
    connect,
    content,
    eventually,
    metainfo_of,
    piece,
    received,
)


class PeerTransfers(PeerPlaces):
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
