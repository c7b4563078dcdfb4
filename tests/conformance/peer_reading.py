"""Pieces read before the torrent is complete, and asked for first: a part of the suite of `PeerSession`."""

from __future__ import annotations

import asyncio

import pytest

from common.bittorrent import REGIONAL_FINGERPRINT, Torrent
from common.errors import Stale
from tests.conformance.peer_network import PIECE, PeerPlaces, connect, content, metainfo_of, outcome, piece


class PeerReading(PeerPlaces):
    async def test_a_piece_is_read_as_soon_as_it_is_there_and_not_before(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        readers = [asyncio.ensure_future(leecher.read_piece(3)) for _ in range(2)]
        await leecher.add_piece(2, piece(metainfo, data, 2))
        assert await leecher.read_piece(2) == piece(metainfo, data, 2)
        assert not any(reader.done() for reader in readers)
        await leecher.add_piece(3, piece(metainfo, data, 3))
        assert await asyncio.gather(*readers) == [piece(metainfo, data, 3)] * 2

    async def test_every_piece_can_be_read_while_it_comes_and_afterwards(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        origin, session = await lab.session(), await lab.session()
        await origin.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, place()))
        await connect(leecher, origin)
        assert b"".join([await leecher.read_piece(index) for index in range(metainfo.piece_count)]) == data
        await leecher.complete()
        last = metainfo.piece_count - 1
        assert await leecher.read_piece(last) == piece(metainfo, data, last)

    async def test_a_reader_that_leaves_disturbs_no_other(self, lab, place):
        data = content()
        metainfo = metainfo_of(data)
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        leaving, staying = (asyncio.ensure_future(leecher.read_piece(5)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await leecher.add_piece(5, piece(metainfo, data, 5))
        assert await staying == piece(metainfo, data, 5)

    async def test_who_waits_for_a_piece_hears_that_the_torrent_is_gone(self, lab, place):
        metainfo = metainfo_of(content())
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        waiting = asyncio.ensure_future(leecher.read_piece(0))
        await asyncio.sleep(0)
        await leecher.remove()
        assert isinstance(await outcome(waiting), Stale)
        assert isinstance(await outcome(leecher.read_piece(0)), Stale)
        leecher.want_soon([1, 2])

    async def test_there_is_no_piece_outside_the_file(self, lab, place):
        metainfo = metainfo_of(content())
        session = await lab.session()
        leecher = await session.add(Torrent(metainfo, place()))
        for index in (-1, metainfo.piece_count):
            with pytest.raises(IndexError):
                await leecher.read_piece(index)

    async def test_what_is_wanted_soon_comes_before_the_rest(self, lab, place):
        data = content(64 * PIECE)
        metainfo = metainfo_of(data)
        regional, session = await lab.session(REGIONAL_FINGERPRINT), await lab.session()
        await regional.add(Torrent(metainfo, place(metainfo, data), seed=True))
        leecher = await session.add(Torrent(metainfo, place()))
        leecher.want_soon([9, 8])
        leecher.want_soon([50, 51, 52, 53])
        await connect(leecher, regional)
        await leecher.read_piece(53)
        # A slow start would show fewer; a picker that did not know of the wish would have taken half of all first.
        assert len(await leecher.have_pieces()) <= 40
        leecher.want_soon([])
        await leecher.complete()
